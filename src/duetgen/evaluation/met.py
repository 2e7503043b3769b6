"""What each target's device had met before it, as far back as a device's log goes (`MAX_LOG_EVENTS`).

Under the policy `hide` these items are not shown, so they are not ranked, and a target among them is a miss for every
model. Under `show` they are ranked like any other, and figures for new items stand beside those for all.

Shapes: N targets, B targets of a batch, K pairs of a target and an item, C candidates, V items.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch import Tensor

from duetgen.data.store import UNKNOWN, Bool, Dataset, Int64, Targets
from duetgen.evaluation.inputs import target_items
from duetgen.wire.limits import MAX_LOG_EVENTS

BLOCK_PAIRS: Final = 2**22
"""Pairs of a target and an event that are looked at in one go."""


class MetItems:
    """The items met before each target.

    Args:
        dataset: the dataset folder.
        targets: which are measured.
    """

    def __init__(self, dataset: Dataset, targets: Targets) -> None:
        self.events, self.vocabulary = dataset.events, dataset.vocabulary
        self.end_N = targets.position_N
        self.start_N = np.maximum(targets.start_N, targets.position_N - MAX_LOG_EVENTS)
        self.target_N = target_items(dataset, targets)

    @classmethod
    def hidden(cls, dataset: Dataset, targets: Targets) -> MetItems | None:
        """What the dataset's policy hides from the rankings of these targets; None where it shows all."""
        return cls(dataset, targets) if dataset.manifest.met == "hide" else None

    def pairs(self, rows: slice) -> tuple[Int64, Int64]:
        """Targets, counted from the first of `rows`, and items that their devices had met: int64 [K] each; an item
        stands there as often as it was met.
        """
        start_B, count_B = self.start_N[rows], (self.end_N - self.start_N)[rows]
        row_K = np.repeat(np.arange(len(count_B)), count_B)
        first_B = np.cumsum(count_B) - count_B
        at_K = np.arange(len(row_K)) + (start_B - first_B)[row_K]
        return row_K, self.events[at_K].astype(np.int64)

    def hide(self, scores_BV: Tensor, rows: slice) -> Tensor:
        """A copy of the catalogue's scores in which what was met scores -inf, each target as it did: [B, V].

        Never the unknown item, which is many items in one.
        """
        found = self.pairs(rows)
        row_K, item_K = (torch.from_numpy(part[found[1] != UNKNOWN]).to(scores_BV.device) for part in found)
        target_B1 = torch.from_numpy(self.target_N[rows, None]).to(scores_BV.device)
        own_B1 = scores_BV.gather(1, target_B1)
        shown_BV = scores_BV.clone()
        shown_BV[row_K, item_K] = -torch.inf
        return shown_BV.scatter_(1, target_B1, own_B1)

    def among(self, candidates_BC: Int64, rows: slice) -> Bool:
        """Which candidates of each target were met: bool [B, C]; never the unknown item, which is many items in one."""
        row_K, item_K = self.pairs(rows)
        key_BC = np.arange(len(candidates_BC))[:, None] * self.vocabulary + candidates_BC
        return np.asarray(np.isin(key_BC, row_K * self.vocabulary + item_K) & (candidates_BC != UNKNOWN))

    @cached_property
    def repeat_N(self) -> Bool:  # noqa: N802
        """Which targets are of an item that their device had met: bool [N]."""
        found_N = np.zeros(len(self.target_N), dtype=bool)
        total_N = np.cumsum(self.end_N - self.start_N)
        first = 0
        while first < len(found_N):
            before = total_N[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(total_N, before + BLOCK_PAIRS, side="right")))
            rows = slice(first, last)
            row_K, item_K = self.pairs(rows)
            found_N[first + row_K[item_K == self.target_N[rows][row_K]]] = True
            first = last
        return np.asarray(found_N & (self.target_N != UNKNOWN))


def missed(target_N: Int64, hidden: MetItems | None) -> Bool:
    """Which targets no device can show, whatever the model: unknown items, and what is hidden: bool [N].

    Args:
        target_N: items of the targets.
        hidden: see `MetItems.hidden`.
    """
    unknown_N: Bool = target_N == UNKNOWN
    return unknown_N if hidden is None else unknown_N | hidden.repeat_N
