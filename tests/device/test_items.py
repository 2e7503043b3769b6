"""What an id is: the same in every call."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duetgen.device import Device, DeviceModel, InvalidItemsError, load_model
from duetgen.device.items import LAST, ItemIndex, item_id, item_values
from duetgen.wire.bundle import Items

from .conftest import Tiny, describe, make_tiny


class Kind(str, enum.Enum):  # noqa: UP042 - StrEnum hashes by its text
    """Hashes by its name, not by its text."""

    SEVEN = "7"


class Number(enum.IntEnum):
    SEVEN = 7


def make_numbered(tiny: Tiny) -> Tiny:
    ids = ["", "", *map(str, range(2, 30))]
    (tiny.root / "items.json").write_bytes(msgspec.json.encode(Items(ids, [])))
    describe(tiny.root, vocabulary=30)
    return tiny


@pytest.fixture
def numbered(new_tiny: Any) -> Tiny:
    """A bundle whose ids are numbers: index i has the id i."""
    return make_numbered(new_tiny())


@pytest.fixture(scope="module")
def numbered_model(tmp_path_factory: pytest.TempPathFactory) -> DeviceModel:
    """The same, loaded."""
    return load_model(make_numbered(make_tiny(tmp_path_factory.mktemp("numbered") / "bundle")).root)


SEVENS = ["7", 7, 7.0, np.int64(7), np.int8(7), np.uint64(7), np.float32(7), np.str_("7"), Kind.SEVEN, Number.SEVEN]
NONE = [None, True, False, np.bool_(True), 1.5, float("nan"), float("inf"), 2.0**60, b"7", ["7"], ("7",), {}, object()]
NONE += [Decimal(7), 10**400, np.array(7), np.array([7]), np.datetime64("2020-01-01"), 7j]
NONE += ["\ud800", "7\udfff", np.str_("\ud800")]


@pytest.mark.parametrize("value", SEVENS)
def test_one_item_however_it_is_written(numbered: Tiny, value: Any) -> None:
    assert item_id(value) == "7"
    with Device(numbered.root) as device:
        device.observe(value)
        assert device._log.last(1) == ["7"]
        assert device.rank([3, value, "9"]) == device.rank(["3", "7", "9"])
        assert "7" not in device.recommend(28).ids
        assert device.status().unknown_events == device.status().unknown_candidates == 0


@pytest.mark.parametrize("value", NONE)
def test_what_is_no_id_is_refused_and_nothing_is_noted(numbered: Tiny, value: Any) -> None:
    with Device(numbered.root) as device:
        for call in (
            lambda: device.observe("3", value),
            lambda: device.rank([value]),
            lambda: device.rank(["3", value, "4"]),
            lambda: device.rank([3, value, 4]),
            lambda: device.observe(value),
        ):
            with pytest.raises(InvalidItemsError) as refused:
                call()
            assert refused.value.hint
        assert device.status().events == 0


@pytest.mark.parametrize("values", ["i25", "123", "", b"123", bytearray(b"1"), memoryview(b"1"), 7, None, 1.5])
def test_what_is_no_list_of_ids_is_refused(numbered: Tiny, values: Any) -> None:
    with Device(numbered.root) as device, pytest.raises(InvalidItemsError):
        device.rank(values)


@pytest.mark.parametrize(
    "values",
    [
        ["2", "3", "4"],
        [2, 3, 4],
        (2, "3", 4.0),
        np.array([2, 3, 4]),
        np.array(["2", "3", "4"]),
        iter(["2", "3", "4"]),
        {"2": "a", "3": "b", "4": "c"},
        range(2, 5),
    ],
)
def test_lists_of_every_kind(numbered: Tiny, values: Iterable[Any]) -> None:
    with Device(numbered.root) as device:
        device.observe(5)
        assert device.rank(values) == device.rank(["2", "3", "4"])


def test_the_case_of_numbers_that_ranked_as_unknown(numbered: Tiny) -> None:
    with Device(numbered.root) as device:
        device.observe(3, 7, 11)
        assert device.rank([1, 2, 3, 4]) == device.rank(["1", "2", "3", "4"])
        assert device.rank([1, 2, 3, 4])[-1] == ("1", LAST)
        with pytest.raises(InvalidItemsError):
            device.rank("123")
        with pytest.raises(InvalidItemsError):
            device.observe(["1", "2"])  # type: ignore[arg-type]
        assert device.status().events == 3


def test_an_id_that_no_item_can_have_is_not_cut_into_one_that_there_is(new_tiny: Any) -> None:
    tiny = new_tiny()
    long = "x" * 512
    ids = ["", "", long, "?", *(f"item-{i}" for i in range(4, 30))]
    (tiny.root / "items.json").write_bytes(msgspec.json.encode(Items(ids, [])))
    describe(tiny.root, vocabulary=30)
    with Device(tiny.root) as device:
        device.observe(long + "x")
        assert device.model.indices(device._log.last(5)).tolist() == [1]
        assert [score for _, score in device.rank([long + "x"])] == [LAST]
        assert device.status().unknown_events == 1


def test_a_list_that_changes_between_two_calls_is_read_anew(tiny: Tiny) -> None:
    ids: list[Any] = tiny.ids([3, 4, 5])
    with Device(tiny.root) as device:
        device.observe("item-9")
        first = device.rank(ids)
        before = list(first)
        assert device.rank(ids) == before
        ids[0] = "item-6"
        assert device.rank(ids) == device.rank(tuple(ids)) != before
        assert first == before
        ids[1] = np.array([1, 2])
        with pytest.raises(InvalidItemsError):
            device.rank(ids)


def found(index: ItemIndex, values: Iterable[Any]) -> tuple[list[str], list[int]]:
    ids, index_N = index.find(item_values(values))
    assert index_N.dtype == np.int64
    return list(map(str, ids)), index_N.tolist()


def test_items_are_found_by_text_and_what_stands_for_it() -> None:
    index = ItemIndex(["", "", "a", "7"])
    assert found(index, ["a", "x", 7]) == (["a", "x", "7"], [2, 1, 3])
    assert found(index, ["a", "7"]) == (["a", "7"], [2, 3])
    assert found(index, []) == ([], [])
    assert found(index, ["x"]) == (["x"], [1])
    assert found(index, [7.0]) == (["7"], [3])
    assert found(index, np.array([7, 2**62, 8, -(2**63)])) == (["7", str(2**62), "8", str(-(2**63))], [3, 1, 1, 1])
    with pytest.raises(InvalidItemsError):
        index.find(("a", ["a"]))


def test_a_number_stands_for_its_digits_alone() -> None:
    index = ItemIndex(["", "", "007", "-5", "0", "-0", "+1", "٣", "1"])
    assert found(index, [7, -5, 0, 1, 3]) == (["7", "-5", "0", "1", "3"], [1, 3, 4, 8, 1])
    assert found(index, ["007", "-0", "+1", "٣"])[1] == [2, 5, 6, 7]


@pytest.mark.parametrize("first", [0, -(2**63), 2**53, 2**63 - 3, 2**63, 2**64 - 3, 10**30])
@pytest.mark.parametrize("step", [1, 1000])
def test_numbers_near_the_ends_of_every_kind_of_whole_number(first: int, step: int) -> None:
    numbers = [first + step * place for place in range(5)]
    index = ItemIndex(["", "", *map(str, numbers)])
    near = [number + shift for number in numbers for shift in (-1, 0, 1, 2**63, -(2**63), 2**64, -(2**64))]
    assert found(index, near)[1] == [2 + numbers.index(number) if number in numbers else 1 for number in near]
    for kind in (np.int8, np.int64, np.uint64):
        held = np.array([number for number in near if np.iinfo(kind).min <= number <= np.iinfo(kind).max], dtype=kind)
        assert found(index, held)[1] == [2 + numbers.index(n) if n in numbers else 1 for n in held.tolist()]


WHOLE = st.integers(0, 34)
FORMS: list[Callable[[list[int]], Iterable[Any]]] = [
    lambda numbers: list(map(str, numbers)),
    lambda numbers: numbers,
    lambda numbers: np.array(numbers, dtype=np.int16),
    lambda numbers: np.array(numbers, dtype=np.uint64),
    lambda numbers: np.array(numbers, dtype=str) if numbers else [],
    lambda numbers: np.array(numbers, dtype=object),
    lambda numbers: (number if number % 2 else str(number) for number in numbers),
    lambda numbers: [np.int32(number) if number % 3 else float(number) for number in numbers],
]


@settings(deadline=None, max_examples=40)
@given(candidates=st.lists(WHOLE, max_size=60), events=st.lists(WHOLE, max_size=12), hide=st.booleans())
def test_every_form_of_candidates_ranks_as_a_plain_loop_does(
    numbered_model: DeviceModel, candidates: list[int], events: list[int], hide: bool
) -> None:
    with Device(numbered_model) as device:
        device.observe(*events)
        whole_V = device.score()
        known = range(2, 30)
        shown = [number for number in candidates if not (hide and number in events and number in known)]
        scored = [(str(number), float(whole_V[number]) if number in known else float(LAST)) for number in shown]
        want = sorted(scored, key=lambda pair: -pair[1])
        for form in FORMS:
            before = device.status().unknown_candidates
            ranking = device.rank(form(candidates), met="hide" if hide else "show")
            assert ranking.ids == [name for name, _ in ranking] == [name for name, _ in want]
            np.testing.assert_allclose(ranking.scores_C, [score for _, score in want], rtol=1e-5, atol=1e-6)
            unknown = sum(number not in known for number in candidates)
            assert device.status().unknown_candidates - before == unknown


def test_an_array_that_changes_afterwards_changes_no_ranking(numbered: Tiny) -> None:
    numbers = np.array([2, 3, 4])
    with Device(numbered.root) as device:
        ranking = device.rank(numbers)
        before = list(ranking)
        numbers[:] = 9
        assert ranking == before
        assert (ranking[0], ranking[-1], ranking[1:]) == (before[0], before[-1], before[1:])
        with pytest.raises(IndexError):
            ranking[3]


@pytest.mark.parametrize(
    "indices",
    [
        [-1],
        [30],
        [2, 10**9],
        [2**70],
        np.array([2**63], dtype=np.uint64),
        [1.5],
        ["2"],
        [True],
        [2, True],
        (3, np.bool_(False)),
        [2.0, float("nan")],
        np.array([True, False]),
        [None],
        2,
        2.5,
        np.int64(2),
        {2, 3},
        "23",
        np.array([2, 3], dtype=object),
        [[2, 3]],
        [[2], [3, 4]],
    ],
)
def test_scores_of_indices_that_are_none_are_refused(tiny: Tiny, indices: Any) -> None:
    with Device(tiny.root) as device, pytest.raises(InvalidItemsError):
        device.score(indices)


def test_scores_of_indices(tiny: Tiny, tmp_path: Path) -> None:
    with Device(tiny.root) as device:
        device.observe("item-3")
        whole = device.score()
        found = device.score(np.array([29, 0, 1, 2], dtype=np.uint8))
        np.testing.assert_allclose(found[[0, 2, 3]], tiny.scores([3], [29, 1, 2], None), atol=1e-5)
        assert np.isneginf(found[1])
        assert np.isneginf(whole[0])
        assert device.score([]).shape == (0,)
        assert device.score((5,)).shape == (1,)
