"""What a run tells while it goes on."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """Mean losses of a pass so far.

    Attributes:
        total: what is minimised.
        own, zero: DUET's two losses, with each device's own theta and with theta = 0; None where there is one loss.
    """

    total: float
    own: float | None = None
    zero: float | None = None


class Progress(Protocol):
    """What a run tells while it goes on; the command line draws it."""

    def turned(self, model: str) -> None:
        """Of a run that trains several models, this one is next."""

    def started(self, epochs: int, steps: int, resumed_epoch: int) -> None:
        """A run of at most `epochs` passes of `steps` steps begins, or goes on after `resumed_epoch` passes."""

    def stepped(self, step: int, losses: Losses, positions_per_second: float) -> None:
        """A step is done; `step` counts from 1 within the pass."""

    def measured(self, epoch: int, losses: Losses, ndcg: float, best: float) -> None:
        """A pass is done and measured on validation."""

    def tried(self, done: int, total: int, steps: int, learning_rate: float, ndcg: float) -> None:
        """So many settings of fine-tuning are measured on validation, these the last."""


class Silent:
    """Tells nothing."""

    def turned(self, model: str) -> None: ...  # noqa: D102
    def started(self, epochs: int, steps: int, resumed_epoch: int) -> None: ...  # noqa: D102
    def stepped(self, step: int, losses: Losses, positions_per_second: float) -> None: ...  # noqa: D102
    def measured(self, epoch: int, losses: Losses, ndcg: float, best: float) -> None: ...  # noqa: D102
    def tried(self, done: int, total: int, steps: int, learning_rate: float, ndcg: float) -> None: ...  # noqa: D102
