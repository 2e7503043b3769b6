"""From scores to metrics, in numpy: the definitions of `evaluation.metrics`, for where there is no torch.

Shapes: C entries that are ranked, N targets, U devices.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from duetgen.device.items import FIRST_ITEM, LAST, PADDING, UNKNOWN

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
METRICS = ("ndcg@10", "hr@10", "mrr", "user_auc")


def mean_rank(scores_C: Float32, target_score: np.float32) -> float:
    """1 + #(higher) + ½ #(equal, others): the target's score is among the scores; -inf takes no place."""
    return float((np.sign(scores_C - target_score).sum(dtype=np.float64) + len(scores_C) + 1) / 2)


def rank_of(
    target: int, scores_C: Float32, candidates_C: Int64 | None = None, hidden_V: Bool | None = None
) -> tuple[float, int]:
    """The mean rank of a target and among how many, as `evaluation.protocols` has it.

    The unknown item stands behind every known one, and candidates of the target's own index tie with it. What is hidden
    takes no place. A target that is unknown or hidden is a miss: its rank is infinite.

    Args:
        target: its item index.
        scores_C: what is scored.
        candidates_C: item indices of the scores, the target first; None where they are the whole catalogue, [V].
        hidden_V: which items the device hides; None for none.
    """
    items_C = np.arange(len(scores_C)) if candidates_C is None else candidates_C
    # Of the catalogue the known items are ranked, and the target.
    ranked_C = items_C >= FIRST_ITEM if candidates_C is None else items_C > PADDING
    if hidden_V is not None:
        ranked_C = ranked_C & ~hidden_V[items_C]
    own_C = items_C == target
    count = int((ranked_C | own_C).sum())
    if target == UNKNOWN or (hidden_V is not None and hidden_V[target]):
        return math.inf, count
    target_score = scores_C[target if candidates_C is None else 0]
    placed_C = np.where(ranked_C, np.where(items_C == UNKNOWN, LAST, scores_C), -np.inf)
    return mean_rank(np.where(own_C, target_score, placed_C), target_score), count


def ranking_metrics(rank_N: Float64, count_N: Int64) -> dict[str, Float64]:
    """Metrics of each target among `count_N` entries, itself included: [N] each."""
    inside_N, shown_N = rank_N <= 10, np.isfinite(rank_N)
    return {
        "ndcg@10": np.where(inside_N, 1 / np.log2(1 + rank_N), 0.0),
        "hr@10": inside_N.astype(np.float64),
        "mrr": 1 / rank_N,
        "user_auc": np.where(
            (count_N > 1) | ~shown_N, np.where(shown_N, count_N - rank_N, 0) / np.maximum(count_N - 1, 1), 0.5
        ),
    }


def device_averages(rank_N: Float64, count_N: Int64, device_N: Int64) -> dict[str, float]:
    """Each metric, averaged over a device's targets and then over devices."""
    _, slot_N = np.unique(device_N, return_inverse=True)
    targets_U = np.bincount(slot_N)
    return {
        name: float((np.bincount(slot_N, value_N) / targets_U).mean())
        for name, value_N in ranking_metrics(rank_N, count_N).items()
    }
