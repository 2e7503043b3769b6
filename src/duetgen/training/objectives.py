"""Losses of a batch from scores: full softmax, sampled softmax with correction, binary cross-entropy.

Shapes: N trained positions, M drawn items by batch or by row, C candidates of a position, V items.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


class NegativeSampler:
    """Draws items by `count ** power`; index 0 and 1 are never drawn.

    Args:
        counts_V: how often each item occurs in the training part.
        power: 0 draws uniformly over known items, 1 by popularity.
    """

    def __init__(self, counts_V: Tensor, power: float) -> None:
        weight_V = counts_V.double().clamp(min=1) ** power
        weight_V[:2] = 0
        share_V = weight_V / weight_V.sum()
        self.cumulative_V = share_V.cumsum(0)
        self.log_share_V = share_V.clamp(min=1e-30).log().float()

    def draw(self, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
        """Item indices of the given shape, with replacement."""
        uniform = torch.rand(shape, generator=random, dtype=torch.float64) * self.cumulative_V[-1]
        return torch.searchsorted(self.cumulative_V, uniform, right=True).clamp(max=len(self.cumulative_V) - 1)


def sampled_softmax(
    positive_N: Tensor,
    drawn_NM: Tensor,
    target_N: Tensor,
    items_M: Tensor,
    log_share_V: Tensor,
    left_out_NM: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the target among itself and M drawn items, each score corrected by how often it is drawn.

    The items are drawn for all rows ([M]) or for each ([N, M]).

    Subtracting the log of an item's expected count from its score makes the sum over the drawn items an unbiased
    estimate of the softmax's denominator (Bengio and Senécal, 2008; "log-Q correction"). The target is there with
    certainty, so its score stays as it is, and a drawn item that is the target itself does not count, nor does one that
    is left out.
    """
    negative_NM = drawn_NM - (log_share_V[items_M] + math.log(max(1, items_M.shape[-1])))
    ignored_NM = items_M == target_N[:, None]
    if left_out_NM is not None:
        ignored_NM |= left_out_NM
    negative_NM = negative_NM.masked_fill(ignored_NM, -torch.inf)
    logits = torch.cat([positive_N[:, None], negative_NM], dim=1)
    return functional.cross_entropy(logits, torch.zeros_like(target_N))


def binary_cross_entropy(scores_NC: Tensor, label_NC: Tensor, counted_NC: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of scores and labels 0 or 1 (the paper's objective, section 3.4), of those counted."""
    label_NC = label_NC.to(scores_NC.dtype)
    if counted_NC is not None:
        scores_NC, label_NC = scores_NC[counted_NC], label_NC[counted_NC]
    return functional.binary_cross_entropy_with_logits(scores_NC, label_NC)
