"""Mean and spread of a set of samples.

Shapes: B devices, L samples, E width of the embedding, D width of the encoder; `x` dimensions of a payload.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duetgen.core.encoders.encoder import Encoder

SMALLEST = 1e-6
"""Of a variance, so that its root has a gradient where there is one sample."""


class PooledEncoder(Encoder):
    """Mean and standard deviation of the embedded samples, in no order (Deep Sets, NIPS 2017; a batch's statistics tell
    its domain, as in ARM, NeurIPS 2021).

    Args:
        embed: see `Encoder`.
        embed_width: E; D is twice that.
        width: of no use here.
        dropout: see `Encoder`.
        event_dropout: see `Encoder`.
    """

    def __init__(
        self, embed: nn.Module, embed_width: int, width: int = 0, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__(embed, embed_width, 2 * embed_width, dropout, event_dropout)

    def read(self, history_BLx: Tensor, real_BL: Tensor) -> Tensor:
        """Mean and standard deviation side by side: [B, D]."""
        x_BLE = self.embedded(history_BLx)
        share_BL1 = (real_BL / real_BL.sum(1, keepdim=True).clamp(min=1)).to(x_BLE.dtype).unsqueeze(-1)
        mean_BE = (share_BL1 * x_BLE).sum(1)
        variance_BE = (share_BL1 * (x_BLE - mean_BE.unsqueeze(1)).square()).sum(1)
        return torch.cat([mean_BE, (variance_BE + SMALLEST).sqrt()], dim=-1)
