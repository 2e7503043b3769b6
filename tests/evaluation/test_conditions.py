import pytest

from duetgen.evaluation import OWN, ZERO, Condition, default_conditions
from duetgen.evaluation.errors import InvalidConditionError
from duetgen.wire.limits import MAX_STALENESS


def test_names() -> None:
    names = [Condition("own").name, Condition("own", 5).name, ZERO.name, Condition("another", 1).name]
    assert names == ["own", "own+5", "zero", "another+1"]
    assert Condition("own", part="bias").name == "own-bias"
    assert Condition("own", 5, "weights").name == "own-weights+5"


def test_defaults_are_four_ages_the_global_model_and_both_controls() -> None:
    names = [condition.name for condition in default_conditions()]
    assert names == ["own", "own+1", "own+5", "own+20", "zero", "another", "random"]
    assert default_conditions()[0] == OWN


def test_each_part_alone_is_measured_at_the_same_ages() -> None:
    names = [condition.name for condition in default_conditions((0, 5), parts=True)]
    parts = ["own-weights", "own-weights+5", "own-bias", "own-bias+5"]
    assert names == ["own", "own+5", *parts, "zero", "another", "random"]


def test_oldest_that_is_allowed() -> None:
    assert Condition("own", MAX_STALENESS).staleness == MAX_STALENESS


@pytest.mark.parametrize(
    ("kind", "staleness", "what"),
    [
        ("mine", 0, "no condition 'mine'"),
        ("own", -1, "staleness -1"),
        ("own", MAX_STALENESS + 1, "out of range"),
        ("zero", 1, "no age"),
    ],
)
def test_refusals(kind: str, staleness: int, what: str) -> None:
    with pytest.raises(InvalidConditionError, match=what):
        Condition(kind, staleness)  # type: ignore[arg-type]


def test_a_lone_device_has_no_other_to_borrow_from() -> None:
    assert [condition.name for condition in default_conditions((0,), lone=True)] == ["own", "zero", "random"]
