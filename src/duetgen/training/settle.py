"""Settings left to us (`auto`, or 0), settled by what the backbone and the dataset call for."""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np

from duetgen.backbones import BACKBONES
from duetgen.data.store import Dataset
from duetgen.training.config import ObjectiveConfig, OptimiserConfig, TrainConfig

FULL_SOFTMAX_ITEMS: Final = 30_000
"""Largest catalogue over which `auto` takes the full softmax."""

STEPS: Final = 256
"""About so many steps a pass should have; fewer, and a small dataset is not learnt to its end (docs/findings.md)."""

LEAST_BATCH: Final = 256
LARGEST_BATCH: Final = 2048


def settle(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The configuration with every setting settled; what a run folder keeps."""
    config = settle_objective(config, dataset.vocabulary)
    size = config.optimiser.batch_positions or batch_size(training_positions(config, dataset))
    # Relative to the rate of a global model that is trained along with it.
    rate = 1.0 if config.global_model else config.optimiser.generator_rate
    optimiser: OptimiserConfig = msgspec.structs.replace(config.optimiser, batch_positions=size, generator_rate=rate)
    return msgspec.structs.replace(config, optimiser=optimiser)


def settle_objective(config: TrainConfig, vocabulary: int) -> TrainConfig:
    """Replace `auto` and unset counts by what the backbone and the size of the catalogue call for."""
    objective, kind = config.objective, config.objective.kind
    pairwise, large = BACKBONES[config.model.name].pairwise, vocabulary > FULL_SOFTMAX_ITEMS
    if config.feed == "rows":
        kind = "bce"
    elif kind == "auto":
        kind = "sampled" if pairwise or large else "softmax"
    negatives = objective.negatives or {"sampled": 16 if pairwise else 1024, "bce": 4}.get(kind, 0)
    # A global model that is kept has no loss of its own to be trained by.
    weight = 0.0 if config.global_model else objective.fallback_weight
    staleness = objective.staleness if config.model.method == "duet" and config.feed == "sequences" else 0
    settled: ObjectiveConfig = msgspec.structs.replace(
        objective, kind=kind, negatives=negatives, staleness=staleness, fallback_weight=weight
    )
    model = msgspec.structs.replace(config.model, normalised=kind != "bce")
    return msgspec.structs.replace(config, objective=settled, model=model)


def training_positions(config: TrainConfig, dataset: Dataset) -> int:
    """Positions, or rows, that a pass trains."""
    if config.feed == "rows":
        return len(dataset.rows().label_R) if dataset.has_rows else 0
    return int(np.maximum(dataset.bounds[:, 0] - 1, 0).sum())


def batch_size(positions: int) -> int:
    """The power of two with which a pass over so many positions has nearest to `STEPS` steps, within bounds."""
    wanted = 2 ** round(math.log2(max(1, positions) / STEPS))
    return int(min(LARGEST_BATCH, max(LEAST_BATCH, wanted)))
