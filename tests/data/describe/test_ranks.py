"""Numbers at ranks, counted in pieces: the same as sorting all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data.describe import ranks
from duetgen.data.describe.ranks import Values, at_ranks, median
from duetgen.data.store import Int64


def in_pieces(numbers: list[int]) -> Values:
    def values() -> Iterator[Int64]:
        for at in range(0, len(numbers), 3):
            yield np.array(numbers[at : at + 3], dtype=np.int64)
        yield np.zeros(0, dtype=np.int64)

    return values


@given(st.lists(st.integers(-(2**40), 2**40) | st.integers(0, 4), min_size=1), st.integers(1, 16))
def test_are_those_of_the_sorted_list(numbers: list[int], bits: int) -> None:
    ordered = sorted(numbers)
    expected = [(number, ordered.index(number)) for number in ordered]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "BITS", bits)
        assert at_ranks(in_pieces(numbers), range(len(numbers))) == expected
        assert median(in_pieces(numbers)) == pytest.approx(np.median(numbers))


def test_of_none() -> None:
    assert median(in_pieces([])) is None


def test_by_hand() -> None:
    values = in_pieces([700_000, 5, 5, 1, 70_000])
    assert at_ranks(values, (0, 2, 4)) == [(1, 0), (5, 1), (700_000, 4)]
    assert median(in_pieces([1, 70_000])) == 70_001 / 2
