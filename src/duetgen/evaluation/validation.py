"""Validation: the one figure by which training stops early and settings are chosen.

Shapes: N targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
import torch
from torch import nn

from duetgen.data.store import FIRST_ITEM, Dataset
from duetgen.evaluation.averages import device_means
from duetgen.evaluation.conditions import ZERO, Condition
from duetgen.evaluation.inputs import target_items
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.metrics import ranking_metrics
from duetgen.evaluation.protocols import Ranking, Recommender, TopRanking, make_ranking
from duetgen.evaluation.scoring import ALONE, Helpers, is_pairwise, measuring, score, select

CUTOFF: Final = 10
TOP_BATCH: Final = 64
"""Targets that a pairwise model scores at a time: each scores the targets of all."""
FEW_TARGETS: Final = 2_000
"""Targets of the validation part that settings are chosen on, about, where each measurement is dear."""


def few_devices(dataset: Dataset, most: int) -> int:
    """How many devices of the validation part have about `FEW_TARGETS` targets together; `most` of them at most.

    Enough to choose among many settings of a model that is dear to measure.
    """
    targets = dataset.targets("valid")
    per_device = len(targets) / max(1, len(np.unique(targets.device_N)))
    return max(1, min(most, int(FEW_TARGETS / max(1.0, per_device))))


def validate(
    model: nn.Module,
    dataset: Dataset,
    *,
    limit_devices: int | None = None,
    seed: int = 0,
    staleness: Sequence[int] = (0,),
    helpers: Helpers = ALONE,
) -> float:
    """`ndcg@10` of the `full` protocol on the validation part, the mean over ages of theta: what stops training early.

    Args:
        model: a recommender.
        dataset: the dataset folder.
        limit_devices: measure a seeded choice of so many devices.
        seed: of that choice.
        staleness: ages of theta, in events; a base model has one global model whatever they are.
        helpers: processes that share the work, all of which make this call; the result is that of one.

    Raises:
        NothingToEvaluateError: no target.
        NonFiniteScoresError: scores that cannot be ranked.
    """
    recommender = cast(Recommender, model)
    selection = select(dataset, "valid", limit_devices, seed)
    met = MetItems.hidden(dataset, selection.targets)
    ranking: Ranking
    size = None
    if is_pairwise(recommender) and hasattr(model, "score_items"):
        often_first_M = np.argsort(-dataset.training_counts()[FIRST_ITEM:], kind="stable") + FIRST_ITEM
        size, target_N = TOP_BATCH, target_items(dataset, selection.targets)
        ranking = TopRanking(target_N, torch.from_numpy(often_first_M), CUTOFF, met)
    else:
        ranking = make_ranking("full", dataset, "valid", selection.index_N, with_loss=False, met=met)
    conditions = [Condition("own", age) for age in staleness] if recommender.personal else [ZERO]
    values = []
    with measuring(model) as device:
        for condition in conditions:
            (scored,) = score(
                recommender, dataset, selection, condition, [ranking], device, seed, helpers=helpers, size=size
            )
            rank_N, count_N = (helpers.total(value_N) for value_N in (scored.rank_N, scored.count_N.astype(float)))
            metrics = ranking_metrics(rank_N, count_N.astype(np.int64), (CUTOFF,))
            values.append(device_means(metrics[f"ndcg@{CUTOFF}"], selection.slot_N, len(selection.device_U)).mean())
    return float(np.mean(values))
