import pytest
import torch

from duetgen.core import ParameterLayout
from duetgen.core.layout import LayoutMismatchError

LAYOUT = ParameterLayout.of([("0", "weight", (2, 3)), ("0", "bias", (2,)), ("2", "weight", (1, 2))])


def test_offsets_follow_one_another() -> None:
    assert [(e.name, e.offset, e.size) for e in LAYOUT.entries] == [
        ("0.weight", 0, 6),
        ("0.bias", 6, 2),
        ("2.weight", 8, 2),
    ]
    assert LAYOUT.size == 10
    assert LAYOUT.layers == {"0": (0, 8), "2": (8, 2)}


def test_split_takes_row_major_slices() -> None:
    parts = LAYOUT.split(torch.arange(10.0))
    assert parts["0.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert parts["0.bias"].tolist() == [6, 7]
    assert parts["2.weight"].tolist() == [[8, 9]]


@pytest.mark.parametrize("lead", [(), (4,), (4, 7)])
def test_flatten_is_the_inverse_of_split(lead: tuple[int, ...]) -> None:
    theta = torch.randn(*lead, 10)
    assert torch.equal(LAYOUT.flatten(LAYOUT.split(theta)), theta)


def test_digest_tells_names_and_shapes_apart() -> None:
    same = ParameterLayout.of([("0", "weight", (2, 3)), ("0", "bias", (2,)), ("2", "weight", (1, 2))])
    turned = ParameterLayout.of([("0", "weight", (3, 2)), ("0", "bias", (2,)), ("2", "weight", (1, 2))])
    renamed = ParameterLayout.of([("1", "weight", (2, 3)), ("0", "bias", (2,)), ("2", "weight", (1, 2))])
    assert same.digest == LAYOUT.digest
    assert len({LAYOUT.digest, turned.digest, renamed.digest}) == 3


def test_a_module_that_is_itself_the_layer_has_plain_names() -> None:
    assert ParameterLayout.of([("", "weight", (1, 1))]).entries[0].name == "weight"


@pytest.mark.parametrize("size", [0, 9, 11])
def test_theta_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(LayoutMismatchError, match="this layout 10"):
        LAYOUT.split(torch.zeros(size))


def test_missing_unknown_and_misshapen_parameters_are_refused() -> None:
    parts = LAYOUT.split(torch.zeros(10))
    with pytest.raises(LayoutMismatchError, match="both sides"):
        LAYOUT.flatten({name: part for name, part in parts.items() if name != "0.bias"})
    with pytest.raises(LayoutMismatchError, match="both sides"):
        LAYOUT.flatten(parts | {"9.bias": torch.zeros(1)})
    with pytest.raises(LayoutMismatchError, match="the layout says"):
        LAYOUT.flatten(parts | {"0.weight": torch.zeros(3, 2)})
