"""Counting baselines as methods: what they have to choose is chosen on the validation part, as for any method.

All read as many events as the generator does. Counts come from the training part alone.
"""

from __future__ import annotations

from typing import Final

import torch

from duetgen.baselines import EASE, ItemKNN, Popularity, recent_counts
from duetgen.baselines.ease import gram, solve
from duetgen.data.store import Dataset
from duetgen.evaluation import few_devices, validate
from duetgen.training import TrainConfig

HALF_LIVES: Final = (0.5, 1.0, 3.0, 10.0, float("inf"))
REGULARISATIONS: Final = (300.0, 30.0, 3000.0)
FAST_ITEMS: Final = 5_000
"""Largest catalogue for which EASE is solved for each λ; above, for the first alone."""


def popular(dataset: Dataset, config: TrainConfig) -> Popularity:
    """Counts over the whole training part."""
    return Popularity(torch.from_numpy(dataset.training_counts()))


def recent_popular(dataset: Dataset, config: TrainConfig) -> Popularity:
    """Counts over its newest tenth."""
    return Popularity(torch.from_numpy(recent_counts(dataset)))


def best_half_life(model: ItemKNN | EASE, dataset: Dataset, config: TrainConfig) -> tuple[float, float]:
    """The best `ndcg@10` on the validation part and the half-life that gives it, 10 where there is no such part."""
    if not len(dataset.targets("valid")):
        return 0.0, HALF_LIVES[3]
    limit, found = few_devices(dataset, config.validation_devices), []
    for half_life in HALF_LIVES:
        model.half_life = half_life
        found.append((validate(model, dataset, limit_devices=limit), half_life))
    return max(found, key=lambda one: one[0])


def item_knn(dataset: Dataset, config: TrainConfig) -> ItemKNN:
    """Cosines, with the best half-life."""
    model = ItemKNN(dataset, window=config.model.history.length)
    _, model.half_life = best_half_life(model, dataset, config)
    return model


def ease(dataset: Dataset, config: TrainConfig) -> EASE:
    """EASE, with the best regularisation and half-life."""
    gram_VV = gram(dataset)
    values = REGULARISATIONS if dataset.vocabulary <= FAST_ITEMS else REGULARISATIONS[:1]
    best: tuple[float, EASE] | None = None
    for value in values:
        model = EASE(solve(gram_VV, value), config.model.history.length)
        ndcg, model.half_life = best_half_life(model, dataset, config)
        if best is None or ndcg > best[0]:
            best = ndcg, model
    assert best is not None
    return best[1]
