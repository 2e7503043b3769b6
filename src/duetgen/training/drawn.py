"""Sampled softmax against items drawn once for all rows: the loss and the gradient of the queries without a graph.

The value is that of `objectives.sampled_softmax`, row by row. Scores live in a buffer of a few hundred rows that stays
in the processor's cache and become the gradient in place, as in `softmax.CatalogueCrossEntropy`.

Shapes: N rows, R rows of a block, D width, M drawn items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from duetgen.training.objectives import NegativeSampler

BLOCK_ROWS: Final = 1024


@dataclass(frozen=True)
class Drawn:
    """A set of drawn items, each there once, in order.

    Attributes:
        items_M: ascending; padded at the end with repetitions of the last.
        correction_M: what an item's score is lessened by: the log of how often it is expected, less the log of how
            often it was drawn; infinite for padding, which so counts for nothing.
    """

    items_M: Tensor
    correction_M: Tensor

    @classmethod
    def of(cls, sampler: NegativeSampler, count: int, random: torch.Generator) -> Drawn:
        """Draw `count` items with replacement."""
        known, times = sampler.draw((count,), random).unique(sorted=True, return_counts=True)
        padding = count - len(known)
        correction = sampler.log_share_V[known] + math.log(count) - times.log()
        return cls(
            torch.cat([known, known[-1:].expand(padding)]), torch.cat([correction, torch.full((padding,), torch.inf)])
        )

    def find(self, target_N: Tensor) -> tuple[Tensor, Tensor]:
        """Where each target is among the items, and whether it is: [N] and [N]."""
        column_N = torch.searchsorted(self.items_M, target_N.contiguous()).clamp(max=len(self.items_M) - 1)
        return column_N, self.items_M[column_N] == target_N


def query_gradient(
    query_ND: Tensor, own_ND: Tensor, items_MD: Tensor, drawn: Drawn, target_N: Tensor, weight_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of each row [N], and the gradient of the weighted sum of them with respect to the queries [N, D].

    Args:
        query_ND: what items are compared with.
        own_ND: embedding of each row's target.
        items_MD: embeddings of the drawn items.
        drawn: which items they are.
        target_N: each row's target.
        weight_N: of each row's loss in the sum.
    """
    loss_N, grad_ND = torch.empty_like(weight_N), torch.empty_like(query_ND)
    column_N, there_N = drawn.find(target_N)
    rows, table_DM, minus_M = len(query_ND), items_MD.T, -drawn.correction_M.to(query_ND.dtype)
    buffer_RM = query_ND.new_empty(min(rows, BLOCK_ROWS), len(items_MD))
    for begin in range(0, rows, BLOCK_ROWS):
        part = slice(begin, min(rows, begin + BLOCK_ROWS))
        query_RD, own_RD, column_R1 = query_ND[part], own_ND[part], column_N[part, None]
        scores_RM = torch.addmm(minus_M, query_RD, table_DM, out=buffer_RM[: len(query_RD)])
        # The target itself may have been drawn; it counts once, as the target.
        drawn_R1 = scores_RM.gather(1, column_R1).masked_fill_(there_N[part, None], -torch.inf)
        scores_RM.scatter_(1, column_R1, drawn_R1)
        positive_R1 = (query_RD * own_RD).sum(1, keepdim=True)
        top_R1 = torch.maximum(scores_RM.amax(1, keepdim=True), positive_R1)
        share_RM = scores_RM.sub_(top_R1).exp_()
        share_R1 = (positive_R1 - top_R1).exp_()
        total_R1 = share_RM.sum(1, keepdim=True) + share_R1
        loss_N[part] = (total_R1.log() + top_R1 - positive_R1).squeeze(1)
        grad_RD = torch.mm(share_RM, items_MD, out=grad_ND[part])
        grad_RD.addcmul_(share_R1 - total_R1, own_RD).mul_(weight_N[part, None] / total_R1)
    return loss_N, grad_ND
