"""What a bundle says about its own quality: a short measurement on the validation part."""

from __future__ import annotations

from typing import Final

from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, ZERO, protocols
from duetgen.evaluation.averages import device_means
from duetgen.evaluation.conditions import Condition
from duetgen.evaluation.errors import NothingToEvaluateError
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.metrics import ranking_metrics
from duetgen.evaluation.scoring import measuring, score, select
from duetgen.recommender import Recommender

DEVICES: Final = 2_000
"""Devices measured, at most: a seeded choice, the same for every export."""
PAIRWISE_DEVICES: Final = 200
"""The same for a backbone that reads the window anew for each candidate."""
METRIC: Final = "ndcg@10"


def measure(model: Recommender, dataset: Dataset, quantised: Recommender | None) -> dict[str, float]:
    """`ndcg@10` on the validation part, with each device's own theta as fresh theta is trusted, and with theta = 0.

    Ranked is the whole catalogue (`validation_ndcg@10`); for a backbone to which that is dear, 99 drawn negatives
    (`validation_candidates_ndcg@10`). `…_fallback` is with theta = 0; `…_int8_loss` is what int8 embeddings cost, and
    then the other two are with them. Empty where there is nothing to measure.

    Args:
        model: as trained, with the parts of theta that are published.
        dataset: the dataset folder.
        quantised: the same with int8 embeddings, if that is what is published.
    """
    pairwise = model.backbone.pairwise
    name = f"validation_candidates_{METRIC}" if pairwise else f"validation_{METRIC}"
    try:
        selection = select(dataset, "valid", PAIRWISE_DEVICES if pairwise else DEVICES, seed=0)
    except NothingToEvaluateError:
        return {}
    ranking = protocols.make_ranking(
        "candidates" if pairwise else "full",
        dataset,
        "valid",
        selection.index_N,
        with_loss=False,
        met=MetItems.hidden(dataset, selection.targets),
    )

    def ndcg(measured: Recommender, condition: Condition) -> float:
        with measuring(measured) as device:
            (scored,) = score(measured, dataset, selection, condition, [ranking], device, seed=0)
        value_N = ranking_metrics(scored.rank_N, scored.count_N, (10,))[METRIC]
        return float(device_means(value_N, selection.slot_N, len(selection.device_U)).mean())

    published = quantised or model
    metrics = {name: ndcg(published, OWN), f"{name}_fallback": ndcg(published, ZERO)}
    if quantised is not None:
        metrics[f"{name}_int8_loss"] = ndcg(model, OWN) - metrics[name]
    return metrics
