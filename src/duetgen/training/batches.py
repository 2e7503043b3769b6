"""Whole sequences as batches: every position of a device's training part is trained once in an epoch.

A sequence longer than T is cut into chunks that overlap: the first part of a later chunk is context that is read and
not trained, so that every trained position has a history behind it.

Shapes: B chunks in a batch, T events of a chunk, Q chunks of the dataset, V items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from duetgen.backbones import BACKBONES
from duetgen.data.gather import gather
from duetgen.data.store import UNKNOWN, Dataset, Int64
from duetgen.recommender import ModelConfig

LONG_WINDOW: Final = 64
"""Events of a window from which on a recurrent backbone is too dear to run it anew at every position."""


@dataclass(frozen=True)
class Batch:
    """Chunks of sequences; position t reads events 0..t and predicts `target_BT[:, t]`.

    Attributes:
        events_BT: int64, right-padded with 0.
        target_BT: int64, the event after each.
        trained_BT: bool, the positions that count.
        met_BM: int64, all events of each chunk's device up to the chunk's end, right-padded with 0; None where nobody
            asks what was met.
        before_B: how many of these lie before the chunk.
        index_BT: int64, where each target lies among the dataset's events.
    """

    events_BT: Tensor
    target_BT: Tensor
    trained_BT: Tensor
    met_BM: Tensor | None = None
    before_B: Tensor | None = None
    index_BT: Tensor | None = None

    @property
    def trained(self) -> int:
        """Number of positions that count."""
        return int(self.trained_BT.sum())

    @property
    def place_BT2(self) -> Tensor:  # noqa: N802
        """Of each target, its row in `met_BM` and how many events of that lie before it."""
        assert self.before_B is not None
        count_BT = self.before_B[:, None] + 1 + torch.arange(self.events_BT.shape[1], device=self.before_B.device)
        row_BT = torch.arange(len(count_BT), device=count_BT.device)[:, None].expand_as(count_BT)
        return torch.stack([row_BT, count_BT], -1)

    def __len__(self) -> int:
        return len(self.events_BT)

    def take(self, rows: Tensor) -> Batch:
        """Some of the chunks."""
        return self._each(lambda part: part[rows])

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        parts = (self.events_BT, self.target_BT, self.trained_BT, self.met_BM, self.before_B, self.index_BT)
        return Batch(*(None if part is None else change(part) for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Chunks:
    """Where the chunks lie: positions start..end (inputs) of `events`, trained from `first`; their devices' logs begin
    at `begin`."""

    begin_Q: Int64
    start_Q: Int64
    first_Q: Int64
    end_Q: Int64

    def __len__(self) -> int:
        return len(self.start_Q)


def chunk_size(model: ModelConfig) -> tuple[int, int]:
    """T, and how many positions of a later chunk are context alone.

    A base model has its whole window behind every trained position, a generator at least half of what it reads. A
    recurrent backbone runs a window from its start, so one pass serves the positions of a chunk only as long as the
    window holds all of it: where windows are long, a chunk is no longer than they are, and the positions of a later
    chunk have half a window or more behind them, as on a device whose log is shorter.
    """
    window, personal = model.backbone.window, model.method == "duet"
    if BACKBONES[model.name].recurrent and window >= LONG_WINDOW and not personal:
        return window, window // 2
    size = max(model.history.length, 2 * window)
    return size, size // 2 if personal else window


def cut(offsets: Int64, lengths: Int64, size: int, context: int) -> Chunks:
    """Cut each sequence's training part into chunks of at most `size` input positions.

    Args:
        offsets: absolute index of each sequence's first event.
        lengths: events of each sequence's training part; its last event is a target only.
        size: T.
        context: positions of a later chunk that are read and not trained.
    """
    stride = size - context
    positions = np.maximum(lengths - 1, 0)
    count = np.where(positions > 0, 1 + -(-np.maximum(positions - size, 0) // stride), 0)
    device = np.repeat(np.arange(len(count)), count)
    index = np.arange(len(device)) - np.repeat(np.cumsum(count) - count, count)
    start = index * stride
    first = np.where(index > 0, start + context, 0)
    end = np.minimum(start + size, positions[device])
    base = offsets[device]
    return Chunks(base, base + start, base + first, base + end)


class SequenceBatches:
    """Batches of a dataset's training part, of about `batch_positions` positions, of chunks of like length.

    The order and everything drawn in an epoch follow from (seed, epoch) alone, so training can resume at any batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        size: int,
        context: int,
        batch_positions: int,
        unknown_share: float,
        seed: int,
        with_met: bool = False,
    ) -> None:
        self.events, self.with_met = dataset.events, with_met
        self.chunks = cut(dataset.offsets[:-1], dataset.bounds[:, 0], size, context)
        self.batch_positions, self.unknown_share, self.seed = batch_positions, unknown_share, seed
        self.positions = int((self.chunks.end_Q - self.chunks.first_Q).sum())
        """Positions trained in one epoch."""

    def plan(self, epoch: int) -> list[Int64]:
        """The chunks of each batch of an epoch."""
        rng = np.random.default_rng([self.seed, epoch, 0])
        length = self.chunks.end_Q - self.chunks.start_Q
        # Like lengths go together; the noise makes other neighbours in each epoch.
        order = np.argsort(length * rng.uniform(0.9, 1.1, len(length)), kind="stable")
        width = np.maximum.accumulate(length[order])
        batches, begin = [], 0
        while begin < len(order):
            end = begin + 1
            while end < len(order) and (end + 1 - begin) * width[end] <= self.batch_positions:
                end += 1
            batches.append(order[begin:end])
            begin = end
        return [batches[i] for i in rng.permutation(len(batches))]

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, but for the first `skip`."""
        for step, chunk in enumerate(self.plan(epoch)):
            if step >= skip:
                yield self.collate(chunk, np.random.default_rng([self.seed, epoch, 1, step]))

    def collate(self, chunk: Int64, rng: np.random.Generator) -> Batch:
        """Chunks as one right-padded batch."""
        start, first, end = (part[chunk] for part in (self.chunks.start_Q, self.chunks.first_Q, self.chunks.end_Q))
        step_T = np.arange(int((end - start).max()))
        index_BT = start[:, None] + step_T
        real_BT = index_BT < end[:, None]
        index_BT = np.where(real_BT, index_BT, start[:, None])
        events_BT = np.where(real_BT, self.events[index_BT], 0).astype(np.int64)
        target_BT = np.where(real_BT, self.events[index_BT + 1], 0).astype(np.int64)
        trained_BT = real_BT & (index_BT >= first[:, None]) & (target_BT > UNKNOWN)
        if self.unknown_share > 0:
            hidden_BT = real_BT & (rng.random(events_BT.shape) < self.unknown_share)
            events_BT[hidden_BT] = UNKNOWN
        events, target, trained, index = map(torch.from_numpy, (events_BT, target_BT, trained_BT, index_BT + 1))
        batch = Batch(events, target, trained, index_BT=index)
        if not self.with_met:
            return batch
        begin = self.chunks.begin_Q[chunk]
        met_BM = gather(self.events, begin, end, int((end - begin).max()))
        return replace(batch, met_BM=torch.from_numpy(met_BM), before_B=torch.from_numpy(start - begin))
