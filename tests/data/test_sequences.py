"""Orders and pieces of events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import sequences
from duetgen.data.sequences import pieces, sort_by

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


def test_pieces_leave_a_mapped_array_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "PIECE", 4)
    np.save(tmp_path / "a.npy", np.arange(9))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    found = [mapped[events].tolist() for _, events in pieces(np.array([0, 3, 4, 9]), mapped, None)]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert mapped.tolist() == list(range(9))
