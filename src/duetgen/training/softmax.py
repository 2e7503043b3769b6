"""Softmax cross-entropy over a whole catalogue without ever holding the scores of a batch.

Scores, loss and gradients are computed a few hundred rows at a time, in a buffer that stays in the processor's cache,
and the scores become the gradient in place. Against `cross_entropy(query @ items.T)` that saves most of the memory
traffic and all large allocations; `tests/training/test_softmax.py` holds it to the same values.

Shapes: N rows, D width, M items, R rows of a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK_ELEMENTS = 2**20
"""Scores held at a time: 4 MB of float32."""


class CatalogueCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `softmax(query @ items.T)`; gradients are made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, query_ND: Tensor, items_MD: Tensor, target_N: Tensor) -> Tensor:
        """Loss of queries [N, D] against items [M, D] and the index of each row's target [N]."""
        rows = len(query_ND)
        block = max(1, min(rows, BLOCK_ELEMENTS // max(1, len(items_MD))))
        buffer_RM = query_ND.new_empty(block, len(items_MD))
        grad_query_ND = torch.empty_like(query_ND)
        grad_items_MD = torch.zeros_like(items_MD)
        total = torch.zeros((), dtype=torch.float64, device=query_ND.device)
        for begin in range(0, rows, block):
            part = slice(begin, min(rows, begin + block))
            query_RD, target_R1 = query_ND[part], target_N[part, None]
            scores_RM = torch.mm(query_RD, items_MD.T, out=buffer_RM[: len(query_RD)])
            top_R1 = scores_RM.amax(dim=1, keepdim=True)
            own_R1 = scores_RM.gather(1, target_R1)
            weight_RM = scores_RM.sub_(top_R1).exp_()
            sum_R1 = weight_RM.sum(dim=1, keepdim=True)
            total += (sum_R1.log() + top_R1 - own_R1).sum(dtype=torch.float64)
            grad_RM = weight_RM.mul_(1 / (rows * sum_R1))
            grad_RM.scatter_add_(1, target_R1, torch.full_like(own_R1, -1 / rows))
            torch.mm(grad_RM, items_MD, out=grad_query_ND[part])
            grad_items_MD.addmm_(grad_RM.T, query_RD)
        ctx.save_for_backward(grad_query_ND, grad_items_MD)
        return (total / rows).to(query_ND.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of queries and items."""
        grad_query_ND, grad_items_MD = ctx.saved_tensors
        return grad * grad_query_ND, grad * grad_items_MD, None


def catalogue_cross_entropy(query_ND: Tensor, items_MD: Tensor, target_N: Tensor) -> Tensor:
    """Mean of `-log softmax(query @ items.T)[target]` over rows: a scalar; `target_N` indexes rows of `items_MD`."""
    loss: Tensor = CatalogueCrossEntropy.apply(query_ND, items_MD, target_N)  # type: ignore[no-untyped-call]
    return loss
