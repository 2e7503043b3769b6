"""From scores to ranks to metrics, exact under ties and whatever the order of the candidates.

The rank of a target is the mean of the positions that it could take among entries of equal score:
1 + #(higher) + ½ #(equal, others). Ranks may so end in ½; that of a target which no device can show is infinite. With
rank r among C entries, one of them relevant:

| metric | value |
|---|---|
| HR@k | 1 if r ≤ k, else 0 |
| NDCG@k | 1 / log2(1 + r) if r ≤ k, else 0 |
| MRR | 1 / r |
| AUC | (C - r) / (C - 1): the share of others that score lower, ties counting half; ½ where there is no other |

All are 0 where r is infinite.

Shapes: B targets of a batch, N targets, C entries that are ranked, P positive and M negative rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CUTOFFS: Final = (5, 10, 20)
LAST: Final = float(np.finfo(np.float32).min)
"""What scores stand for in pooled metrics where no device can show the item: behind every other."""
EXACT_FLOAT32: Final = 2**24
"""Up to here every sum of -1, 0 and 1 is exact in float32."""


def mean_rank(scores_BC: Tensor, target_score_B1: Tensor) -> Tensor:
    """Ranks of the targets, whose scores are among the scores: float64 [B].

    With h higher, l lower and e = C - h - l equal entries (the target one of them), 1 + h + (e - 1)/2 is
    (C + 1 + h - l)/2, and h - l is the sum of the signs of the differences: no sort. An entry that scores -inf is
    never counted, so padding takes no place. The rank is NaN where there is none: a score is NaN or +inf, or the
    target's is infinite.
    """
    total = torch.float32 if scores_BC.shape[1] < EXACT_FLOAT32 else torch.float64
    # The sign of NaN is 0, a tie; the greatest score is NaN where any is, and 0 times what is infinite is NaN too.
    # Where a device has met all there is, every score is -inf, and nothing is wrong.
    greatest_B = scores_BC.amax(1).double().clamp(min=LAST)
    nothing_B = 0 * (greatest_B - target_score_B1[:, 0].double())
    sign_B = (scores_BC - target_score_B1).sign_().sum(1, dtype=total).double()
    rank_B: Tensor = (sign_B + scores_BC.shape[1] + 1) / 2 + nothing_B
    return rank_B


def hit_rate(rank_N: Float64, k: int) -> Float64:
    """HR@k of each target: [N]."""
    return (rank_N <= k).astype(np.float64)


def ndcg(rank_N: Float64, k: int) -> Float64:
    """NDCG@k of each target, one relevant entry: [N]."""
    return np.where(rank_N <= k, 1 / np.log2(1 + rank_N), 0.0)


def reciprocal_rank(rank_N: Float64) -> Float64:
    """MRR of each target: [N]."""
    return 1 / rank_N


def auc(rank_N: Float64, count_N: npt.NDArray[np.int64]) -> Float64:
    """AUC of each target among `count_N` ranked entries, itself included: [N]."""
    shown_N = np.isfinite(rank_N)
    below_N = np.where(shown_N, count_N - rank_N, 0)
    return np.where((count_N > 1) | ~shown_N, below_N / np.maximum(count_N - 1, 1), 0.5)


def ranking_metrics(
    rank_N: Float64, count_N: npt.NDArray[np.int64], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, Float64]:
    """All metrics of ranks, each [N], by name: `ndcg@k`, `hr@k`, `mrr`, `user_auc`."""
    return {
        **{f"ndcg@{k}": ndcg(rank_N, k) for k in cutoffs},
        **{f"hr@{k}": hit_rate(rank_N, k) for k in cutoffs},
        "mrr": reciprocal_rank(rank_N),
        "user_auc": auc(rank_N, count_N),
    }


def shares_below(sorted_M: Float32, values_P: Float32) -> Float64:
    """Share of sorted entries that lie below each value, equal ones counting half: [P]."""
    below_P = np.searchsorted(sorted_M, values_P, side="left") + np.searchsorted(sorted_M, values_P, side="right")
    return below_P / (2 * len(sorted_M))


def pooled_auc(positive_P: Float32, negative_M: Float32) -> float:
    """AUC over all rows of all devices thrown together: P(positive > negative) + ½ P(equal), exact.

    Both classes need at least one row; otherwise the value is NaN.
    """
    if not len(positive_P) or not len(negative_M):
        return float("nan")
    return float(shares_below(np.sort(negative_M), positive_P).mean())


def pooled_auc_by_device(
    positive_N: Float32, negative_M: Float32, device_N: npt.NDArray[np.int64], device_M: npt.NDArray[np.int64], U: int
) -> Float64:
    """What each device adds to the pooled AUC, so that devices can be resampled: float64 [U, 4].

    The columns are, for each device, the sum over its positive rows of the share of all negatives below, the number
    of these rows, the sum over its negative rows of the share of all positives above, and the number of these. The
    pooled AUC is sum/number of either pair; see `bootstrap.resampled_pooled_auc`.
    """
    below_N = shares_below(np.sort(negative_M), positive_N)
    above_M = 1 - shares_below(np.sort(positive_N), negative_M)
    columns = (
        np.bincount(device_N, below_N, U),
        np.bincount(device_N, minlength=U),
        np.bincount(device_M, above_M, U),
        np.bincount(device_M, minlength=U),
    )
    return np.stack([column.astype(np.float64) for column in columns], axis=1)
