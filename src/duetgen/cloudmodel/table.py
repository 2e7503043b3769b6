"""For each item its nearest ones: EASE or item-based neighbours as their largest entries, which one gather reads.

Shapes: B devices, T events of a sequence, L history length, N positions, K neighbours of an item, E those of a
history, V items.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from duetgen.baselines.counting import recency
from duetgen.cloudmodel.member import MemberModel

HALF_LIVES: Final = (3.0, 10.0, 30.0, 100.0)
"""Half-lives, in events, that are tried on the validation part."""

ENTRIES: Final = 2**25
"""Most entries of a table, 8 bytes each: above 167,772 items each has fewer than 200 neighbours."""
LEAST_NEIGHBOURS: Final = 20
PIECE: Final = 2**18
"""Entries of devices that are added up at a time: more leave a processor's cache."""


class TableModel(MemberModel):
    """A candidate scores the sum of its weights from the items of the history, newer events counting more.

    Args:
        vocabulary: V.
        neighbours: K; fewer where the table would have more than `ENTRIES`.

    Attributes:
        near_VK: the nearest items of each, int32: for a large catalogue the table is most of the model.
        weight_VK: their weights.
        half_life: an event counts half as much as one so many events newer.
        scale: makes scores of unit variance log-likelihoods, as well as one factor can.
    """

    near_VK: Tensor
    weight_VK: Tensor
    half_life: Tensor
    scale: Tensor

    def __init__(self, vocabulary: int, neighbours: int) -> None:
        super().__init__()
        shape = (vocabulary, min(neighbours, vocabulary, max(LEAST_NEIGHBOURS, ENTRIES // vocabulary)))
        self.register_buffer("near_VK", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("weight_VK", torch.zeros(shape))
        self.register_buffer("half_life", torch.tensor(HALF_LIVES[1]))
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, history_BL: Tensor) -> Tensor:
        """Scores of all items, in nats but for a constant of each device: [B, V]."""
        if torch.compiler.is_exporting() or history_BL.device.type != "cpu":
            return self.of_few(history_BL)
        few = history_BL.split(max(1, PIECE // (history_BL.shape[1] * self.near_VK.shape[1])))
        return torch.cat([self.of_few(some[:, : longest(some)]) for some in few])

    def of_few(self, history_BL: Tensor) -> Tensor:
        """The same of so many devices that their entries are added up at once."""
        # `embedding` becomes an operator of ONNX that copies whole rows; an index does not.
        near_BLK, weight_BLK = (functional.embedding(history_BL, table) for table in (self.near_VK, self.weight_VK))
        near_BE = near_BLK.to(torch.int64).flatten(1)
        weight_BE = (weight_BLK * recency(history_BL, self.half_life).unsqueeze(-1)).flatten(1)
        empty_BV = self.weight_VK.new_zeros(history_BL.shape[0], self.near_VK.shape[0])
        return self.scale * standardised(empty_BV.scatter_add(1, near_BE, weight_BE))

    def named(self, history_BL: Tensor) -> Tensor:
        """Scores less that of the items that are near nothing: [B, V]."""
        scores_BV: Tensor = self(history_BL)
        return scores_BV - scores_BV.amin(1, keepdim=True)

    def along(self, events_BT: Tensor, wanted_BT: Tensor, length: int) -> Tensor:
        """See `MemberModel.along`: an event's entries are looked up once, and count less at each later position."""
        empty_BTV = self.weight_VK.new_zeros(*events_BT.shape, self.near_VK.shape[0])
        row_BTV = empty_BTV.scatter_add(2, self.near_VK[events_BT].to(torch.int64), self.weight_VK[events_BT])
        step_T = torch.arange(events_BT.shape[1], device=events_BT.device)
        age_TT = step_T[:, None] - step_T
        counted_TT = torch.exp2(-age_TT / self.half_life) * ((age_TT >= 0) & (age_TT < length))
        return self.scale * standardised((counted_TT @ row_BTV)[wanted_BT])


def longest(history_BL: Tensor) -> int:
    """Events of the longest of right-padded histories, one at least."""
    lengths: list[int] = (history_BL != 0).sum(1).tolist()
    return max([1, *lengths])


def standardised(scores_BV: Tensor) -> Tensor:
    """Scores of each device with a deviation of 1: [B, V]."""
    deviation_B1 = (scores_BV - scores_BV.mean(1, keepdim=True)).square().mean(1, keepdim=True).sqrt()
    return scores_BV / deviation_B1.clamp(min=1e-6)


def largest(weight_VV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The entries of each row that are largest in magnitude: indices int64 and values [V, K]."""
    near_VK = weight_VV.abs().topk(min(count, weight_VV.shape[1]), dim=1).indices
    return near_VK, weight_VV.gather(1, near_VK)
