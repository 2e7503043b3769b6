"""A ranking: items with their scores, best first.

Shapes: C items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, overload

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Pair = tuple[str, float]

MAGNITUDE: Final = np.int32(2**31 - 1)
POSITION: Final = np.int64(2**32 - 1)


def best_first(scores_C: Float32) -> Int64:
    """Positions of scores from the highest to the lowest, equal ones in their order: int64 [C]. None may be NaN."""
    # One sort of whole numbers, which numpy does with vector instructions: the bits of a score, turned so that they
    # rise as it falls, and below them its position. 0 - x makes no negative zero.
    bits_C = (np.float32(0) - scores_C).view(np.int32)
    key_C = (bits_C ^ ((bits_C >> 31) & MAGNITUDE)).astype(np.int64)
    key_C <<= 32
    key_C |= np.arange(len(key_C), dtype=np.int64)
    key_C.sort()
    key_C &= POSITION
    return key_C


class Ranking(Sequence[Pair]):
    """Pairs of id and score, best first. A sequence like a list of them; a pair is made when it is looked at.

    Args:
        ids: of the items that were ranked, in any order, or the whole numbers that stand for them; not to be changed
            afterwards.
        order_C: positions in `ids`, best first.
        scores_C: the scores in that order.
    """

    __slots__ = ("_ids", "_order_C", "scores_C")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, ids: Sequence[str] | Int64, order_C: Int64, scores_C: Float32) -> None:
        self._ids, self._order_C, self.scores_C = ids, order_C, scores_C

    @property
    def ids(self) -> list[str]:
        """The ids alone."""
        return self._named(self._order_C)

    def _named(self, order_C: Int64) -> list[str]:
        if isinstance(self._ids, np.ndarray):
            return list(map(str, self._ids[order_C].tolist()))
        return list(map(self._ids.__getitem__, order_C.tolist()))

    def __len__(self) -> int:
        return len(self._order_C)

    @overload
    def __getitem__(self, at: int) -> Pair: ...

    @overload
    def __getitem__(self, at: slice) -> Ranking: ...

    def __getitem__(self, at: int | slice) -> Pair | Ranking:
        if isinstance(at, slice):
            return Ranking(self._ids, self._order_C[at], self.scores_C[at])
        (name,) = self._named(self._order_C[[at]])
        return name, float(self.scores_C[at])

    def __iter__(self) -> Iterator[Pair]:
        return zip(self.ids, self.scores_C.tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple, Ranking)):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other))

    def __repr__(self) -> str:
        return repr(list(self))
