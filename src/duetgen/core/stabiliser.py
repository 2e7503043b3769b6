"""Stable Weight Adapter: several candidate parameter sets, blended by how much they agree (DUET, section 3.3).

Where the encoder gives several views of a history (averages over spans of different length), each candidate is made
from one view alone. What the views agree on adds up in the blend, what only one of them says is diminished, so theta is
small where a history tells little. `docs/findings.md` has what that is worth. With one view (a GRU's last state) all
candidates are made from it, the form of the paper.

Shapes: B devices, L layers, G candidate parameter sets, D width of a candidate's embedding, `*` leading dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class StableWeightAdapter(nn.Module):
    """Weighs G candidates by their self-similarity: `S = softmax(M (M T)ᵀ / √D)`, `w_g` the mean of column g of S.

    The decoder that follows is affine and shared by the candidates, and the weights sum to 1, so blending the
    candidates' embeddings and decoding once gives exactly what decoding all G and blending their parameters gives, at
    a G-th of the cost. That is how it is done here.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform = nn.Parameter(torch.empty(width, width))
        nn.init.xavier_uniform_(self.transform)

    def weights(self, candidates_GD: Tensor) -> Tensor:
        """Weight of each of the candidates [*, G, D]: [*, G], each row summing to 1."""
        return agreement(candidates_GD, self.transform)

    def forward(self, candidates_GD: Tensor) -> Tensor:
        """The blend of the candidates [*, G, D]: [*, D]."""
        return (self.weights(candidates_GD).unsqueeze(-1) * candidates_GD).sum(-2)


def agreement(candidates_GD: Tensor, transform_DD: Tensor) -> Tensor:
    """The weights that an adapter's transformation gives its candidates: [*, G]."""
    similarity_GG = candidates_GD @ (candidates_GD @ transform_DD).transpose(-1, -2)
    return torch.softmax(similarity_GG / math.sqrt(candidates_GD.shape[-1]), dim=-1).mean(dim=-2)


def blended(adapters: list[StableWeightAdapter], candidates_BLGD: Tensor) -> Tensor:
    """The blends of several adapters, each of its own candidates [B, L, G, D], in one product for all: [B, L, D]."""
    weight_BLG = agreement(candidates_BLGD, torch.stack([adapter.transform for adapter in adapters]))
    return (weight_BLG.unsqueeze(-2) @ candidates_BLGD).squeeze(-2)
