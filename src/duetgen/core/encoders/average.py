"""Averages over several spans of a history.

Shapes: B devices, L history length, E width of the embedding, D width of the encoder, K spans, N blocks of C events;
`x` dimensions of a payload.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from duetgen.core.encoders.encoder import SequenceEncoder

HALF_LIVES: Final = (2.0, 10.0, 50.0, float("inf"))
"""Half-lives of the averages, in events: the moment, the session, the season, and all that is known."""

BLOCK: Final = 128
"""Events whose averages are one product of matrices; the sums of what came before a block are carried into it."""


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
    silent = True
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

    def counted(self, age: Tensor) -> Tensor:
        """What events count by age, nothing for negative ages: [..., L] to [..., K, L]."""
        age = age.unsqueeze(-2)
        return torch.where(age >= 0, torch.exp2(age / -self.half_lives_K[:, None]), 0.0)

    def states(self, history_BLx: Tensor) -> Tensor:
        """The averages after each event: [B, L, D]; time and memory grow with L, not with its square."""
        embedded_BLE = self.embedded(history_BLx)
        length = embedded_BLE.shape[1]
        step_L = torch.arange(length, device=embedded_BLE.device)
        step_C = step_L[:BLOCK]
        counted_CKC = self.counted(step_C[:, None] - step_C)
        carried_CK, total_LK = self.counted(step_C + 1).T, self.counted(step_L).cumsum(-1).T
        averages_N, before_B1KE = [], None
        for block_BCE, total_CK in zip(embedded_BLE.split(BLOCK, 1), total_LK.split(BLOCK)):
            count = len(total_CK)
            share_CKC = counted_CKC[:count, :, :count] / total_CK.unsqueeze(-1)
            average_BCKE = (share_CKC.flatten(0, 1) @ block_BCE).unflatten(1, (count, -1))
            if before_B1KE is not None:
                share_CK1 = (carried_CK[:count] / total_CK).unsqueeze(-1)
                average_BCKE = average_BCKE + share_CK1 * before_B1KE
            before_B1KE = average_BCKE[:, -1:] * total_CK[-1].unsqueeze(-1)
            averages_N.append(average_BCKE)
        states_BLD: Tensor = torch.cat(averages_N, 1).flatten(2)
        return states_BLD

    def last(self, history_BLx: Tensor, length_B: Tensor) -> Tensor:
        """The averages over the whole history: [B, D]."""
        embedded_BLE = self.embedded(history_BLx)
        step_L = torch.arange(embedded_BLE.shape[1], device=embedded_BLE.device)
        counted_BKL = self.counted(length_B[:, None] - 1 - step_L)
        share_BKL = counted_BKL / counted_BKL.sum(-1, keepdim=True).clamp(min=1e-12)
        state_BD: Tensor = (share_BKL @ embedded_BLE).flatten(1)
        return state_BD
