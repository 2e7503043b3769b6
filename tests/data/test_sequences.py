"""Orders and pieces of events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import sequences
from duetgen.data.places import sort_by
from duetgen.data.sequences import Sequences, order, pieces

Event = tuple[int, int, int]

KEYS = st.one_of(
    st.lists(st.integers(0, 3), min_size=20, max_size=20).map(lambda some: np.array(some, dtype=np.uint32)),
    st.lists(st.integers(-(2**60), 2**60), min_size=20, max_size=20).map(np.array),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=20, max_size=20).map(np.array),
    st.lists(st.floats(-1, 1), min_size=20, max_size=20).map(np.array),
)


class TestSort:
    @given(st.lists(KEYS, min_size=1, max_size=3))
    def test_is_that_of_numpy(self, keys: list[np.ndarray]) -> None:
        assert sort_by(*keys).tolist() == np.lexsort(keys).tolist()

    def test_of_nothing(self) -> None:
        assert sort_by(np.zeros(0, dtype=np.int64)).tolist() == []


EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), max_size=20)


class TestJoin:
    @given(EVENTS, EVENTS, st.booleans())
    def test_is_the_order_of_both(self, one: list[Event], other: list[Event], timed: bool) -> None:
        """Events of users, items and times, those of `other` behind those of `one`."""
        found = sequences_of(one, timed=timed).join(sequences_of(other, len(one), timed=timed))
        whole = sequences_of([*one, *other], timed=timed)
        for name in ("users", "offsets", "item_E", "time_E", "row_E"):
            assert np.array_equal(getattr(found, name), getattr(whole, name)), name

    def test_within_a_time_the_first_come_first(self) -> None:
        found = sequences_of([(7, 0, 1), (7, 1, 3)]).join(sequences_of([(7, 2, 1), (7, 3, 0), (7, 4, 9)], first=2))
        assert found.item_E.tolist() == [3, 0, 2, 1, 4]
        assert found.row_E.tolist() == [3, 0, 2, 1, 4]


def sequences_of(events: list[Event], first: int = 0, timed: bool = True) -> Sequences:
    """Sequences of events, whose rows begin at `first`."""
    user, item, time = np.array(events, dtype=np.int64).reshape(-1, 3).T
    table = {"user": user, "item": item, "row": first + np.arange(len(events))}
    return order(table | ({"timestamp": time} if timed else {}))


def test_pieces_leave_a_mapped_array_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "PIECE", 4)
    np.save(tmp_path / "a.npy", np.arange(9))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    found = [mapped[events].tolist() for _, events in pieces(np.array([0, 3, 4, 9]), mapped, None)]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert mapped.tolist() == list(range(9))
