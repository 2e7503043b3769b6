"""What an id is: the same in every call."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from duetgen.device import Device, InvalidItemsError
from duetgen.device.items import LAST, find_items, item_id
from duetgen.wire.bundle import Items

from .conftest import Tiny, describe


class Kind(str, enum.Enum):  # noqa: UP042 - StrEnum hashes by its text
    """Hashes by its name, not by its text."""

    SEVEN = "7"


class Number(enum.IntEnum):
    SEVEN = 7


@pytest.fixture
def numbered(new_tiny: Any) -> Tiny:
    """A bundle whose ids are numbers: index i has the id i."""
    tiny = new_tiny()
    ids = ["", "", *map(str, range(2, 30))]
    (tiny.root / "items.json").write_bytes(msgspec.json.encode(Items(ids, [])))
    describe(tiny.root, vocabulary=30)
    return tiny


SEVENS = ["7", 7, 7.0, np.int64(7), np.int8(7), np.uint64(7), np.float32(7), np.str_("7"), Kind.SEVEN, Number.SEVEN]
NONE = [None, True, False, np.bool_(True), 1.5, float("nan"), float("inf"), 2.0**60, b"7", ["7"], ("7",), {}, object()]
NONE += [Decimal(7), 10**400, np.array(7), np.array([7]), np.datetime64("2020-01-01"), 7j]


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
        ):
            with pytest.raises(InvalidItemsError):
                call()
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
        device.observe(long + "x", "\ud800")
        assert device.model.indices(device._log.last(5)).tolist() == [1, 1]
        assert [score for _, score in device.rank([long + "x", "\ud800"])] == [LAST, LAST]
        assert device.status().unknown_events == 2


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


def test_items_are_found_by_text_and_what_stands_for_it() -> None:
    index_of = {"a": 2, "7": 3}
    ids, found = find_items(index_of, ["a", "x", 7])
    assert (ids, found.tolist(), found.dtype) == (["a", "x", "7"], [2, 1, 3], np.int64)
    assert find_items(index_of, ["a", "7"])[1].tolist() == [2, 3]
    assert find_items(index_of, [])[1].tolist() == []
    assert find_items(index_of, ["x"])[1].tolist() == [1]
    assert find_items(index_of, [7.0])[0] == ["7"]
    with pytest.raises(InvalidItemsError):
        find_items(index_of, ["a", ["a"]])


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
