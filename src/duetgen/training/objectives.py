"""Losses of a batch from scores: sampled softmax with correction, binary cross-entropy, divergence from advice.

Shapes: N trained positions, M drawn items by batch or by row, K advised items, C candidates of a position, V items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

LEAST_SHARE: Final = 1e-30
"""A share below this counts as this, so that its logarithm is finite."""


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
    negative_NM = corrected(drawn_NM, target_N, items_M, log_share_V, left_out_NM)
    logits = torch.cat([positive_N[:, None], negative_NM], dim=1)
    return functional.cross_entropy(logits, torch.zeros_like(target_N))


def corrected(
    drawn_NM: Tensor, target_N: Tensor, items_M: Tensor, log_share_V: Tensor, left_out_NM: Tensor | None
) -> Tensor:
    """The scores of drawn items less the logarithm of how often each is drawn, -inf for what does not count: [N, M]."""
    ignored_NM = items_M == target_N[:, None]
    if left_out_NM is not None:
        ignored_NM |= left_out_NM
    expected = log_share_V[items_M] + math.log(max(1, items_M.shape[-1]))
    return (drawn_NM - expected).masked_fill(ignored_NM, -torch.inf)


def binary_cross_entropy(scores_NC: Tensor, label_NC: Tensor, counted_NC: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of scores and labels 0 or 1 (the paper's objective, section 3.4), of those counted."""
    label_NC = label_NC.to(scores_NC.dtype)
    if counted_NC is not None:
        scores_NC, label_NC = scores_NC[counted_NC], label_NC[counted_NC]
    return functional.binary_cross_entropy_with_logits(scores_NC, label_NC)


@dataclass(frozen=True)
class Advice:
    """What is distilled into some positions.

    Attributes:
        items_NK: the cloud model's best items; another one where it has fewer, of which its share is 0.
        share_NK: their probabilities, at the temperature.
        weight: of the divergence in the loss.
        temperature: divides the scores of both models.
    """

    items_NK: Tensor
    share_NK: Tensor
    weight: float
    temperature: float

    def take(self, rows: slice) -> Advice:
        """Of some positions."""
        return Advice(self.items_NK[rows], self.share_NK[rows], self.weight, self.temperature)

    def counted_from(self, first: int) -> Advice:
        """With items counted from the one of the index `first`."""
        return Advice((self.items_NK - first).clamp(min=0), self.share_NK, self.weight, self.temperature)

    def loss(self, best_NK: Tensor, others_N: Tensor) -> Tensor:
        """The weighed Kullback-Leibler divergence of a model's own shares from the advice: [N].

        Args:
            best_NK: its shares of the advised items, at the temperature.
            others_N: what all other items have together; they count as one.
        """
        own_NK = torch.cat([best_NK, others_N[:, None]], 1).clamp(min=LEAST_SHARE)
        aim_NK = torch.cat([self.share_NK, self.others_N[:, None]], 1)
        divergence_N = (torch.xlogy(aim_NK, aim_NK) - aim_NK * own_NK.log()).sum(1)
        return self.weight * self.temperature**2 * divergence_N

    @property
    def others_N(self) -> Tensor:  # noqa: N802
        """What is left for all other items together."""
        return (1 - self.share_NK.sum(1)).clamp(min=0)
