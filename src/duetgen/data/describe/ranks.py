"""Numbers at given places of their order, where there are more than are to be sorted: counted, span by span.

Shapes: S spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from duetgen.data.places import count_spans
from duetgen.data.store import Int64

Values = Callable[[], Iterator[Int64]]
"""Gives whole numbers in pieces, as often as it is called."""

BITS: Final = 16
"""A span is divided into two to the power of so many at once."""


def at_ranks(values: Values, ranks: Iterable[int]) -> list[tuple[int, int]]:
    """The numbers that stand at some ranks of their order, the first at rank 0, and how many are smaller than each."""
    ends = [end for piece in values() if len(piece) for end in (int(piece.min()), int(piece.max()))]
    bits = (max(ends) - min(ends)).bit_length()
    # The span that holds the number: where it begins, and how many numbers are before it.
    spans = [(min(ends), 0, rank) for rank in ranks]
    while bits:
        shift = max(bits - BITS, 0)
        counts = {first: np.zeros(1 << (bits - shift), dtype=np.int64) for first, _, _ in spans}
        for piece in values():
            for first, counts_S in counts.items():
                count_spans(counts_S, piece, first, first + (1 << bits) - 1, shift)
        ends_of = {first: np.cumsum(counts_S) for first, counts_S in counts.items()}
        spans = [
            (first + (span << shift), before + int(ends_of[first][span] - counts[first][span]), rank)
            for first, before, rank in spans
            for span in [int(np.searchsorted(ends_of[first], rank - before, side="right"))]
        ]
        bits = shift
    return [(first, before) for first, before, _ in spans]


def median(values: Values) -> float | None:
    """The median; None of no numbers."""
    count = sum(map(len, values()))
    if not count:
        return None
    return sum(number for number, _ in at_ranks(values, ((count - 1) // 2, count // 2))) / 2
