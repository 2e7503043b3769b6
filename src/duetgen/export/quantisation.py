"""Item embeddings as int8 with one float32 scale an item: a quarter of the download.

A graph gathers the few rows that it needs and scales those; the table itself stays int8 in memory.

Shapes: V items, D width, `*` any leading dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def quantise(table_VD: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values [V, D] and the scale of each row [V]; half a step, scale / 2, is the largest error."""
    scale_V = table_VD.detach().abs().amax(1) / 127
    divisor_V1 = torch.where(scale_V > 0, scale_V, 1.0).unsqueeze(1)
    return (table_VD.detach() / divisor_V1).round().clamp(-127, 127).to(torch.int8), scale_V


class QuantisedEmbedding(nn.Module):
    """What an `nn.Embedding` becomes: `embedding(ids)` [*] to [*, D].

    Args:
        embedding: the float32 original, which stays as it is.
    """

    table_VD: Tensor
    scale_V: Tensor

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        table_VD, scale_V = quantise(embedding.weight)
        self.register_buffer("table_VD", table_VD)
        self.register_buffer("scale_V", scale_V)

    def forward(self, ids: Tensor) -> Tensor:
        """The dequantised rows of `ids`."""
        return self.table_VD[ids].to(torch.float32) * self.scale_V[ids].unsqueeze(-1)

    @property
    def weight(self) -> Tensor:
        """The whole table, dequantised: [V, D]."""
        return self.table_VD.to(torch.float32) * self.scale_V.unsqueeze(1)
