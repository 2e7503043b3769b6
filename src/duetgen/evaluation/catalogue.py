"""Targets ranked among all that their devices can show, for what is chosen by its own scores of the catalogue.

Shapes: N targets, B targets of a batch, L window length, V items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from duetgen.data.store import UNKNOWN, Bool, Dataset, Targets
from duetgen.evaluation.inputs import target_items, windows
from duetgen.evaluation.met import MetItems, missed
from duetgen.evaluation.protocols import Recommender
from duetgen.evaluation.scoring import batch_size


@dataclass(frozen=True)
class Batch:
    """Some of the targets.

    Attributes:
        rows: which they are.
        targets: these.
        window_BL: what the device model reads.
        own_B1: the items that are to be found.
        missed_B: which of them no device can show, whatever the scores.
        hidden: see `MetItems.hidden`.
    """

    rows: slice
    targets: Targets
    window_BL: Tensor
    own_B1: Tensor
    missed_B: Bool
    hidden: MetItems | None

    def shown(self, scores_BV: Tensor) -> Tensor:
        """Scores of the catalogue in which what a device does not show is -inf: [B, V]."""
        scores_BV = scores_BV.float()
        scores_BV[:, UNKNOWN] = -torch.inf
        return scores_BV if self.hidden is None else self.hidden.hide(scores_BV, self.rows)


def batches(model: Recommender, dataset: Dataset, targets: Targets, device: torch.device) -> Iterator[Batch]:
    """The targets in the batches in which the model scores them, on its device."""
    size, hidden = batch_size(model), MetItems.hidden(dataset, targets)
    target_N = target_items(dataset, targets)
    missed_N = missed(target_N, hidden)
    for first in range(0, len(targets), size):
        rows = slice(first, min(first + size, len(targets)))
        few = targets.take(rows)
        yield Batch(
            rows,
            few,
            torch.from_numpy(windows(dataset, few, model.window)).to(device),
            torch.from_numpy(target_N[rows, None]).to(device),
            missed_N[rows],
            hidden,
        )
