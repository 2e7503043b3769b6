"""Causal attention over a history.

Shapes: B devices, L history length, E width of the embedding, D width of the encoder, H heads, F width of a head; `x`
dimensions of a payload.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duetgen.core.encoders.encoder import SequenceEncoder

HEADS = 2


class AttentionEncoder(SequenceEncoder):
    """An embedding and one causal attention, whose heads look back so far as each has learnt to.

    In place of positions each head has a slope, so that no history is too long for it (ALiBi, ICLR 2022, section 3,
    with slopes that are trained).

    Args:
        embed: see `Encoder`.
        embed_width: E.
        width: D, even.
        dropout: see `Encoder`.
        event_dropout: see `Encoder`.

    Raises:
        ValueError: the width is odd.
    """

    def __init__(
        self, embed: nn.Module, embed_width: int, width: int, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__(embed, embed_width, width, dropout, event_dropout)
        if width % HEADS:
            raise ValueError(f"width {width} does not divide into {HEADS} heads")
        self.query, self.key, self.value = (nn.Linear(embed_width, width) for _ in range(3))
        self.output, self.skip = nn.Linear(width, width), nn.Linear(embed_width, width, bias=False)
        self.slope_H = nn.Parameter(torch.tensor([2.0 ** -(4 * head + 2) for head in range(HEADS)]))

    def states(self, history_BLx: Tensor) -> Tensor:
        """What each event sees of itself and those before it: [B, L, D]."""
        x_BLE = self.embedded(history_BLx)
        step_L = torch.arange(x_BLE.shape[1], device=x_BLE.device)
        return self.attend(x_BLE, x_BLE, (step_L[:, None] - step_L).unsqueeze(0))

    def last(self, history_BLx: Tensor, length_B: Tensor) -> Tensor:
        """The same for the last real event alone."""
        x_BLE = self.embedded(history_BLx)
        step_L = torch.arange(x_BLE.shape[1], device=x_BLE.device)
        last_B = (length_B - 1).clamp(min=0)
        newest_B1E = x_BLE.gather(1, last_B[:, None, None].expand(-1, -1, x_BLE.shape[-1]))
        return self.attend(newest_B1E, x_BLE, (last_B[:, None] - step_L).unsqueeze(1)).squeeze(1)

    def attend(self, newest_BQE: Tensor, x_BLE: Tensor, age_BQL: Tensor) -> Tensor:
        """Events that look, at events of so many steps before them: [B, Q, D]."""
        query, key, value = (
            part(of).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part, of in ((self.query, newest_BQE), (self.key, x_BLE), (self.value, x_BLE))
        )
        logits_BHQL = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        logits_BHQL = logits_BHQL - self.slope_H.abs().view(-1, 1, 1) * age_BQL.clamp(min=0).unsqueeze(1)
        share_BHQL = torch.softmax(logits_BHQL.masked_fill(age_BQL.unsqueeze(1) < 0, -torch.inf), dim=-1)
        attended_BQD = (share_BHQL @ value).transpose(1, 2).flatten(-2)
        seen_BQD: Tensor = self.output(attended_BQD) + self.skip(newest_BQE)
        return seen_BQD
