"""From a runtime and the log to scores and rankings. Touches no network, no disk and no lock that a request holds.

Shapes: C candidates, V item indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Final

import numpy as np

from duetgen.device.config import Clock
from duetgen.device.counts import Counts
from duetgen.device.errors import InvalidItemsError
from duetgen.device.items import FIRST_ITEM, LAST, PADDING, UNKNOWN, item_values
from duetgen.device.loaded import Float32
from duetgen.device.log import EventLog
from duetgen.device.met import MetItems
from duetgen.device.model import DeviceModel, Int64
from duetgen.device.ranking import Ranking, best_first
from duetgen.device.runtime import Runtime

NOTHING: Final = np.zeros(0, dtype=np.int64)
BOOLS: Final = (bool, np.bool_)


@dataclass(frozen=True)
class _Candidates:
    model: DeviceModel
    ids: tuple[Any, ...] | Int64
    index_C: Int64
    unknown_C: Int64
    """Positions of those that the version does not know."""

    def same(self, values: object) -> bool:
        """Whether values are these very ids. Texts are compared by where they lie first, a fraction of a look-up."""
        try:
            return isinstance(values, tuple) and self.ids == values
        except Exception:  # values that are no ids compare as they like, and are refused later
            return False


class Ranker:
    """Ranks.

    Args:
        log: what the device has seen.
        counts: what it counts.
        clock: wall clock in seconds.
    """

    def __init__(self, log: EventLog, counts: Counts, clock: Clock) -> None:
        self.log, self.counts, self.clock = log, counts, clock
        self.met = MetItems(log)
        self._last: _Candidates | None = None
        """What was ranked last: an application mostly ranks the same candidates again as events come."""

    def rank(self, runtime: Runtime, candidates: Iterable[object], hide: bool) -> Ranking:
        """See `Device.rank`."""
        found = self._find(runtime.ranking, candidates)
        scores_C = self.scores(runtime, found.index_C)
        if len(found.unknown_C):
            self.counts.unknown(candidates=len(found.unknown_C))
            scores_C[found.unknown_C] = LAST
        hidden_C = np.flatnonzero(self.met.among(runtime.ranking, found.index_C)) if hide else NOTHING
        scores_C[hidden_C] = -np.inf
        order_C = best_first(scores_C)[: len(scores_C) - len(hidden_C)]
        return Ranking(found.ids, order_C, scores_C.take(order_C))

    def _find(self, model: DeviceModel, candidates: Iterable[object]) -> _Candidates:
        values, last = item_values(candidates), self._last
        if last is not None and last.model is model and last.same(values):
            return last
        ids, index_C = model.items.find(values)
        found = _Candidates(model, ids, index_C, np.flatnonzero(index_C == UNKNOWN))
        if isinstance(ids, tuple):
            self._last = found
        return found

    def recommend(self, runtime: Runtime, k: int, hide: bool) -> Ranking:
        """See `Device.recommend`."""
        model = runtime.ranking
        scores_V = self.scores(runtime, model.catalogue_V)
        scores_V[:FIRST_ITEM] = -np.inf
        if hide:
            scores_V[self.met.of(model)] = -np.inf
        try:
            wanted = index(k)
        except TypeError as cause:
            raise InvalidItemsError(f"k is {type(k).__name__}, not a whole number", "as in recommend(10)") from cause
        count = min(max(wanted, 0), int(np.isfinite(scores_V).sum()))
        best = NOTHING
        if count:
            # All that tie for the last place, so that it goes to the one of the lowest index.
            best = np.flatnonzero(scores_V >= np.partition(scores_V, -count)[-count])
            best = best[best_first(scores_V[best])[:count]]
        return Ranking(model.ids, best, scores_V[best])

    def score(self, runtime: Runtime, candidates_C: Sequence[int] | Int64 | None, personal: bool) -> Float32:
        """See `Device.score`."""
        model = runtime.ranking
        index_C = model.catalogue_V if candidates_C is None else check_indices(candidates_C, model.vocabulary)
        scores_C = self.scores(runtime, index_C, personal)
        scores_C[index_C == PADDING] = -np.inf
        return scores_C

    def scores(self, runtime: Runtime, index_C: Int64, personal: bool = True) -> Float32:
        """Scores of item indices, with theta if there is one to use: float32 [C], a fresh array."""
        model = runtime.ranking
        names, events = self.log.snapshot(model.window)
        window = model.indices(names)
        theta = runtime.store.usable(int(self.clock() * 1000)) if personal else None
        if theta is not None:
            aged = theta.at(model, events)
            scores_C = model.score(aged.values_P, window, index_C)
            if aged.bias_V is not None:
                scores_C += aged.bias_V.take(index_C)
            if np.isfinite(scores_C).all():
                return scores_C
            self.counts.refuse("non-finite-scores")
            runtime.store.drop(theta)
        return model.score(model.zeros_P, window, index_C)

    def forget(self) -> None:
        """Keep nothing of what was ranked or met."""
        self._last, self.met = None, MetItems(self.log)


def check_indices(candidates_C: Sequence[int] | Int64, vocabulary: int) -> Int64:
    """Item indices as an array: int64 [C].

    Raises:
        InvalidItemsError: they are no whole numbers, or a version of so many indices does not have them.
    """
    hint = "give item indices of the version in use; `rank` takes ids"
    try:
        found_C = np.asarray(candidates_C)
    except (ValueError, TypeError, OverflowError):
        found_C = np.asarray(None)
    if found_C.ndim == 1 and not found_C.size:
        return NOTHING
    whole = found_C.ndim == 1 and found_C.dtype.kind in "iu"
    if whole and found_C is not candidates_C:
        # numpy makes a number of a truth among numbers.
        whole = not any(isinstance(value, BOOLS) for value in candidates_C)
    if not whole:
        raise InvalidItemsError("the candidates are no list of whole numbers", hint)
    least, most = int(found_C.min()), int(found_C.max())
    if least < 0 or most >= vocabulary:
        raise InvalidItemsError(f"the item index {least if least < 0 else most} is out of 0 to {vocabulary - 1}", hint)
    return found_C.astype(np.int64)
