"""What a few learnt looks find in a set of samples.

Shapes: B devices, L samples, E width of the embedding, D width of the encoder, S looks; `x` dimensions of a payload.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duetgen.core.encoders.encoder import Encoder

LOOKS = 4


class AttentionPoolEncoder(Encoder):
    """Attention pooling over a few samples, in no order (Set Transformer, ICML 2019, section 3.2, with one layer).

    Args:
        embed: see `Encoder`.
        embed_width: E.
        width: D, a multiple of 4.
        dropout: see `Encoder`.
        event_dropout: see `Encoder`.

    Raises:
        ValueError: the width is no multiple of 4.
    """

    def __init__(
        self, embed: nn.Module, embed_width: int, width: int, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__(embed, embed_width, width, dropout, event_dropout)
        if width % LOOKS:
            raise ValueError(f"width {width} does not divide into {LOOKS} looks")
        self.logit, self.value = nn.Linear(embed_width, LOOKS), nn.Linear(embed_width, width)

    def read(self, history_BLx: Tensor, real_BL: Tensor) -> Tensor:
        """What the looks find, side by side: [B, D]."""
        x_BLE = self.embedded(history_BLx)
        logit_BLS = self.logit(x_BLE)
        logit_BLS = logit_BLS.masked_fill(~real_BL.unsqueeze(-1), torch.finfo(logit_BLS.dtype).min)
        value_BLSV = self.value(x_BLE).unflatten(-1, (LOOKS, -1))
        found_BSV = (torch.softmax(logit_BLS, dim=1).unsqueeze(-1) * value_BLSV).sum(1)
        found_BD: Tensor = found_BSV.flatten(1)
        return found_BD
