"""Averages over several spans of a history.

Shapes: B devices, L history length, E width of the embedding, D width of the encoder, K spans; `x` dimensions of a
payload.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from duetgen.core.encoders.encoder import SequenceEncoder

HALF_LIVES: Final = (2.0, 10.0, 50.0, float("inf"))
"""Half-lives of the averages, in events: the moment, the session, the season, and all that is known."""


class AverageEncoder(SequenceEncoder):
    """Averages of the embedded history over several spans, from the last few events to all of them, side by side.

    It has no step after step, so it is several times cheaper than a GRU on a long history, to train and to serve; and
    an average tells taste but hardly which device it is of, so there is less to memorise where devices are few. Each
    span is a view of its own, for a candidate parameter set of its own (see `stabiliser`).

    Args:
        embed: see `Encoder`.
        embed_width: E; D is E for each of the spans.
        width: of no use here.
        dropout: see `Encoder`.
        event_dropout: see `Encoder`.
        half_lives: an average weighs an event half as much as one that many events newer; infinity is the plain mean.
    """

    views = len(HALF_LIVES)
    half_lives_K: Tensor

    def __init__(
        self,
        embed: nn.Module,
        embed_width: int,
        width: int = 0,
        dropout: float = 0.0,
        event_dropout: float = 0.0,
        half_lives: tuple[float, ...] = HALF_LIVES,
    ) -> None:
        super().__init__(embed, embed_width, len(half_lives) * embed_width, dropout, event_dropout)
        self.views = len(half_lives)  # type: ignore[misc]
        self.register_buffer("half_lives_K", torch.tensor(half_lives), persistent=False)

    def shares(self, age: Tensor) -> Tensor:
        """Weights of events by age, none for negative ages, summing to 1: [..., L] to [..., K, L]."""
        weight = torch.exp2(-age.clamp(min=0).unsqueeze(-2) / self.half_lives_K[:, None])
        weight = weight * (age >= 0).unsqueeze(-2)
        return weight / weight.sum(-1, keepdim=True).clamp(min=1e-12)

    def states(self, history_BLx: Tensor) -> Tensor:
        """The averages after each event: [B, L, D]."""
        embedded_BLE = self.embedded(history_BLx)
        length = embedded_BLE.shape[1]
        step_L = torch.arange(length, device=embedded_BLE.device)
        share_LKL = self.shares(step_L[:, None] - step_L)
        average_BLKE = (share_LKL.flatten(0, 1) @ embedded_BLE).unflatten(1, (length, -1))
        states_BLD: Tensor = average_BLKE.flatten(2)
        return states_BLD

    def last(self, history_BLx: Tensor, length_B: Tensor) -> Tensor:
        """The averages over the whole history: [B, D]."""
        embedded_BLE = self.embedded(history_BLx)
        step_L = torch.arange(embedded_BLE.shape[1], device=embedded_BLE.device)
        share_BKL = self.shares(length_B[:, None] - 1 - step_L)
        state_BD: Tensor = (share_BKL @ embedded_BLE).flatten(1)
        return state_BD
