"""The same ranking for everybody: by how often an item was met, ever or of late.

Shapes: B devices, L window length, V items, E events.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from duetgen.baselines.counting import Counting
from duetgen.data.store import UNKNOWN, Dataset, Int64

RECENT_SHARE: Final = 0.1
"""Share of the training part that `recent_counts` looks at."""


class Popularity(Counting):
    """Scores are the log of an item's count and one, so that the ranking is by count and the softmax its share.

    Args:
        counts_V: how often each item index was met. The unknown item, which nobody can recommend, counts as never met:
            rare items together would else be the most popular one.
    """

    normalised = True
    counts_V: Tensor

    def __init__(self, counts_V: Tensor) -> None:
        super().__init__(len(counts_V), window=1)
        self.register_buffer("counts_V", counts_V.clone())
        self.counts_V[UNKNOWN] = 0

    def catalogue(self, window_BL: Tensor) -> Tensor:
        """The same row for every window."""
        return torch.log1p(self.counts_V.double()).float().repeat(len(window_BL), 1)


def recent_counts(dataset: Dataset) -> Int64:
    """How often each item occurs in the newest tenth of the training part: int64 [V].

    With time: the newest tenth of all training events, and any as old as the oldest of them. Without time, events of
    different devices have no order: the last tenth of each device's own training events, at least one.
    """
    mask_E, events = dataset.training_mask(), np.asarray(dataset.events)
    if dataset.timestamps is not None:
        times = np.asarray(dataset.timestamps)[mask_E]
        if not len(times):
            return np.zeros(dataset.vocabulary, dtype=np.int64)
        oldest = np.partition(times, -recent_number(len(times)))[-recent_number(len(times))]
        kept = events[mask_E][times >= oldest]
    else:
        lengths = np.diff(dataset.offsets)
        within_E = np.arange(len(events)) - np.repeat(dataset.offsets[:-1], lengths)
        first_U = dataset.bounds[:, 0] - np.ceil(RECENT_SHARE * dataset.bounds[:, 0]).astype(np.int64)
        kept = events[mask_E & (within_E >= np.repeat(first_U, lengths))]
    return np.bincount(kept, minlength=dataset.vocabulary).astype(np.int64)


def recent_number(events: int) -> int:
    """How many of so many events are recent: a tenth, at least one."""
    return max(1, int(np.ceil(RECENT_SHARE * events)))
