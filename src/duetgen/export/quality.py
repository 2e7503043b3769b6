"""What a bundle says about its own quality: a short measurement on the validation part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from duetgen.backbones import Recommender
from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, ZERO, evaluate
from duetgen.evaluation.errors import NothingToEvaluateError

DEVICES: Final = 2_000
"""Devices measured, at most: a seeded choice, the same for every export."""
METRIC: Final = "ndcg@10"


def measure(
    model: Recommender,
    dataset: Dataset,
    quantised: Recommender | None,
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, float]:
    """`ndcg@10` on the validation part, with each device's own theta and with theta = 0.

    Ranked is the whole catalogue (`validation_ndcg@10`); for a backbone to which that is dear, 99 drawn negatives
    (`validation_candidates_ndcg@10`). `…_fallback` is with theta = 0; `…_int8_loss` is what int8 embeddings cost.
    Empty where there is nothing to measure.
    """
    protocol = "candidates" if model.backbone.pairwise else "full"
    name = f"validation_candidates_{METRIC}" if model.backbone.pairwise else f"validation_{METRIC}"

    def ndcg(measured: Recommender, conditions: tuple[object, ...]) -> list[float]:
        (found,) = evaluate(
            measured,
            dataset,
            part="valid",
            protocols=(protocol,),
            conditions=conditions,  # type: ignore[arg-type]
            limit_devices=DEVICES,
            bootstrap=0,
            progress=progress,
        )
        return [result.metrics[METRIC].mean for result in found.conditions]

    try:
        own, zero = ndcg(model, (OWN, ZERO))
        metrics = {name: own, f"{name}_fallback": zero}
        if quantised is not None:
            metrics[name], metrics[f"{name}_int8_loss"] = (after := ndcg(quantised, (OWN,))[0]), own - after
    except NothingToEvaluateError:
        return {}
    return metrics
