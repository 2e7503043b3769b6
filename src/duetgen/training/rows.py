"""Rows of the published text format as batches: one row for each (window, target, label).

Shapes: R rows of a batch, L row length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duetgen.data.store import Dataset, Int64


@dataclass(frozen=True)
class RowBatch:
    """Rows: what the device has seen, what the generator reads, a target and whether it was chosen."""

    window_RL: Tensor
    trigger_RL: Tensor
    target_R: Tensor
    label_R: Tensor

    @property
    def trained(self) -> int:
        """Number of rows."""
        return len(self.target_R)

    def __len__(self) -> int:
        return len(self.target_R)

    def take(self, rows: Tensor) -> RowBatch:
        """Some of the rows."""
        return RowBatch(*(t[rows] for t in (self.window_RL, self.trigger_RL, self.target_R, self.label_R)))

    def to(self, device: torch.device) -> RowBatch:
        """The batch on `device`."""
        return RowBatch(*(t.to(device) for t in (self.window_RL, self.trigger_RL, self.target_R, self.label_R)))


class RowBatches:
    """Shuffled batches of `batch_rows` rows; the order follows from (seed, epoch) alone."""

    def __init__(self, dataset: Dataset, *, batch_rows: int, seed: int) -> None:
        self.rows = dataset.rows()
        self.batch_rows, self.seed = batch_rows, seed
        self.positions = len(self.rows.label_R)

    def plan(self, epoch: int) -> list[Int64]:
        """The rows of each batch of an epoch."""
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(self.positions).astype(np.int64)
        return [order[begin : begin + self.batch_rows] for begin in range(0, self.positions, self.batch_rows)]

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[RowBatch]:
        """The batches of an epoch, but for the first `skip`."""
        for index in self.plan(epoch)[skip:]:
            yield RowBatch(
                *(
                    torch.from_numpy(part[index].astype(np.int64))
                    for part in (self.rows.window_RL, self.rows.trigger_RL, self.rows.target_R, self.rows.label_R)
                )
            )
