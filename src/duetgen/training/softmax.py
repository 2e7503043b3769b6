"""Softmax cross-entropy over a whole catalogue without ever holding the scores of a batch.

Scores, loss and gradients are computed a few dozen rows at a time, in a buffer that stays in the processor's cache, and
the scores become probabilities and then the gradient in place. Against `cross_entropy(query @ items.T)` that saves most
of the memory traffic and all large allocations; `tests/training/test_softmax.py` holds it to the same values.

Shapes: N rows, D width, M items, R rows of a block, F rows whose target is all but impossible, K items of advice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from duetgen.training.objectives import LEAST_SHARE, Advice

LeftOut = Callable[[slice | Tensor], Tensor]
"""See `catalogue_cross_entropy`."""

BLOCK_ELEMENTS = 2**19
"""Scores held at a time: 2 MB of float32."""
GPU_BLOCK_ELEMENTS = 2**25
"""The same on a GPU, where small blocks cost more to start than to compute."""

FAINT = 80.0
"""The loss above which a target's probability is too small for float32 to hold, so that its loss is worked out anew."""


class CatalogueCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `softmax(query @ items.T)` and what advice adds; gradients are made in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query_ND: Tensor,
        items_MD: Tensor,
        target_N: Tensor,
        left_out: LeftOut | None,
        advice: Advice | None,
    ) -> Tensor:
        """Loss of queries [N, D] against items [M, D] and the index of each row's target [N]."""
        rows = len(query_ND)
        held = BLOCK_ELEMENTS if query_ND.device.type == "cpu" else GPU_BLOCK_ELEMENTS
        block = max(1, min(rows, held // max(1, len(items_MD))))
        buffer_RM = query_ND.new_empty(block, len(items_MD))
        grad_query_ND = torch.empty_like(query_ND)
        grad_items_MD = torch.zeros_like(items_MD) if ctx.needs_input_grad[1] else None
        own_N1 = query_ND.new_empty(rows, 1)
        distilled = query_ND.new_zeros(())
        for begin in range(0, rows, block):
            part = slice(begin, min(rows, begin + block))
            query_RD, target_R1 = query_ND[part], target_N[part, None]
            scores_RM = torch.mm(query_RD, items_MD.T, out=buffer_RM[: len(query_RD)])
            if left_out is not None:
                leave_out(scores_RM, left_out(part), target_R1)
            more_RM = None
            if advice is not None:
                loss, more_RM = distil(scores_RM, advice.take(part))
                distilled += loss
            probability_RM = torch.softmax(scores_RM, dim=1, out=scores_RM)
            own_R1 = torch.gather(probability_RM, 1, target_R1, out=own_N1[part])
            grad_RM = probability_RM.scatter_(1, target_R1, own_R1 - 1)
            if more_RM is not None:
                grad_RM += more_RM
            torch.mm(grad_RM, items_MD, out=grad_query_ND[part])
            if grad_items_MD is not None:
                grad_items_MD.addmm_(grad_RM.T, query_RD)
        ctx.save_for_backward(grad_query_ND, grad_items_MD)
        ctx.rows = rows
        loss_N = -own_N1.squeeze(1).log()
        faint_F = (loss_N > FAINT).nonzero().flatten()
        for first in range(0, len(faint_F), block):
            faint_R = faint_F[first : first + block]
            scores_RM = query_ND[faint_R] @ items_MD.T
            if left_out is not None:
                leave_out(scores_RM, left_out(faint_R), target_N[faint_R, None])
            loss_N[faint_R] = functional.cross_entropy(scores_RM, target_N[faint_R], reduction="none")
        return loss_N.mean() + distilled / rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        """Gradients of queries and, where they are trained, items."""
        grad_query_ND, grad_items_MD = ctx.saved_tensors
        scale = grad / ctx.rows
        return scale * grad_query_ND, None if grad_items_MD is None else scale * grad_items_MD, None, None, None


def leave_out(scores_RM: Tensor, items_Rm: Tensor, target_R1: Tensor) -> None:
    """Score items with -inf, but each row's target, in place."""
    own_R1 = scores_RM.gather(1, target_R1)
    scores_RM.scatter_(1, items_Rm, -torch.inf).scatter_(1, target_R1, own_R1)


def distil(scores_RM: Tensor, advice: Advice) -> tuple[Tensor, Tensor]:
    """The sum over rows of what advice adds to the loss of scores, by its weight, and the gradient [R, M] of that."""
    temperature, items_RK = advice.temperature, advice.items_NK
    share_RM = torch.softmax(scores_RM if temperature == 1 else scores_RM / temperature, dim=1)
    best_RK = share_RM.gather(1, items_RK)
    others_R = share_RM.scatter_(1, items_RK, 0).sum(1)
    loss = advice.loss(best_RK, others_R).sum()
    # Items that count as one keep their parts of what they have together.
    share_RM.mul_((1 - advice.others_N / others_R.clamp(min=LEAST_SHARE))[:, None])
    grad_RM = share_RM.scatter_(1, items_RK, best_RK - advice.share_NK).mul_(advice.weight * temperature)
    return loss, grad_RM


def catalogue_cross_entropy(
    query_ND: Tensor,
    items_MD: Tensor,
    target_N: Tensor,
    left_out: LeftOut | None = None,
    advice: Advice | None = None,
) -> Tensor:
    """Mean of `-log softmax(query @ items.T)[target]` over rows: a scalar; `target_N` indexes rows of `items_MD`.

    Args:
        query_ND: what items are compared with.
        items_MD: their embeddings.
        target_N: each row's target.
        left_out: gives for some rows the items [R, m] that take no part in their softmax; the target does.
        advice: what the rows are to learn besides, its items as rows of `items_MD`.
    """
    loss: Tensor = CatalogueCrossEntropy.apply(  # type: ignore[no-untyped-call]
        query_ND, items_MD, target_N, left_out, advice
    )
    return loss
