"""From scores to metrics, in numpy: the definitions of `evaluation.metrics`, for where there is no torch.

Shapes: C entries that are ranked, N targets, U devices.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from duetgen.device.items import LAST, UNKNOWN

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
METRICS = ("ndcg@10", "hr@10", "mrr", "user_auc")


def mean_rank(scores_C: Float32, target_score: np.float32) -> float:
    """1 + #(higher) + ½ #(equal, others): the target's score is among the scores; -inf takes no place."""
    return float((np.sign(scores_C - target_score).sum(dtype=np.float64) + len(scores_C) + 1) / 2)


def rank_of(target: int, scores_C: Float32, candidates_C: Int64 | None = None) -> float:
    """The mean rank of a target, as `evaluation.protocols` has it: the unknown item stands behind every known one, and
    candidates of the target's own index tie with it.

    Args:
        target: its item index.
        scores_C: what is scored.
        candidates_C: item indices of the scores, the target first; None where they are the whole catalogue, [V].
    """
    items_C = np.arange(len(scores_C)) if candidates_C is None else candidates_C
    ranked_C = np.where(items_C == UNKNOWN, LAST, scores_C)
    target_score = ranked_C[target if candidates_C is None else 0]
    return mean_rank(np.where(items_C == target, target_score, ranked_C), target_score)


def ranking_metrics(rank_N: Float64, count_N: Int64) -> dict[str, Float64]:
    """Metrics of each target among `count_N` entries, itself included: [N] each."""
    inside_N = rank_N <= 10
    return {
        "ndcg@10": np.where(inside_N, 1 / np.log2(1 + rank_N), 0.0),
        "hr@10": inside_N.astype(np.float64),
        "mrr": 1 / rank_N,
        "user_auc": np.where(count_N > 1, (count_N - rank_N) / np.maximum(count_N - 1, 1), 0.5),
    }


def device_averages(rank_N: Float64, count_N: Int64, device_N: Int64) -> dict[str, float]:
    """Each metric, averaged over a device's targets and then over devices."""
    _, slot_N = np.unique(device_N, return_inverse=True)
    targets_U = np.bincount(slot_N)
    return {
        name: float((np.bincount(slot_N, value_N) / targets_U).mean())
        for name, value_N in ranking_metrics(rank_N, count_N).items()
    }
