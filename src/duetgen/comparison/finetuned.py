"""Fine-tuning as a method: steps and learning rate by the validation part.

`finetune.json` in the method's folder holds what was chosen, and what else was tried; it appears when the fit is done.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import torch

from duetgen.data.store import Dataset
from duetgen.documents import damaged, encode_json, read_json
from duetgen.evaluation import validate
from duetgen.files import write_bytes
from duetgen.training import TrainConfig, load_run
from duetgen.training.finetune import FineTuneConfig, FineTuned, negatives_for
from duetgen.training.loop import TrainResult
from duetgen.wire.limits import MAX_GENERATOR_HISTORY

STEPS: Final = (2, 5, 15)
RATES: Final = (1e-4, 3e-4, 1e-3, 3e-3)
TARGETS: Final = 2_000
"""Validation targets on which each pair of steps and rate is measured, about."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """Steps and learning rate, and what they gave on the validation part."""

    steps: int
    learning_rate: float
    validation_ndcg10: float


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """`finetune.json`.

    Attributes:
        config: what was chosen.
        tried: all that was measured, in order.
        seconds: spent on choosing.
    """

    config: FineTuneConfig
    tried: list[Tried]
    seconds: float


def few_devices(dataset: Dataset, most: int) -> int:
    """How many devices of the validation part have about `TARGETS` targets together; `most` of them at most."""
    targets = dataset.targets("valid")
    per_device = len(targets) / max(1, len(np.unique(targets.device_N)))
    return max(1, min(most, int(TARGETS / max(1.0, per_device))))


def choose(model: FineTuned, dataset: Dataset, limit_devices: int, seed: int) -> Choice:
    """Measure every pair of steps and rate on devices of the validation part; the best wins, at a tie the cheaper."""
    begun, tried = time.monotonic(), []
    first = model.config
    for steps, rate in itertools.product(STEPS, RATES):
        model.config = msgspec.structs.replace(first, steps=steps, learning_rate=rate)
        ndcg = validate(model, dataset, limit_devices=limit_devices, seed=seed)
        tried.append(Tried(steps=steps, learning_rate=rate, validation_ndcg10=ndcg))
    best = max(tried, key=lambda one: one.validation_ndcg10)
    model.config = msgspec.structs.replace(first, steps=best.steps, learning_rate=best.learning_rate)
    return Choice(config=model.config, tried=tried, seconds=time.monotonic() - begun)


def finetuned(
    scope: Literal["head", "whole"],
    dataset: Dataset,
    config: TrainConfig,
    folder: Path,
    base: TrainResult,
) -> tuple[FineTuned, float]:
    """The base model with fine-tuning, and the seconds that both took.

    Args:
        scope: what of the model each device gets a copy of.
        dataset: the dataset folder.
        config: the shared settings; the history is as long as a generator's.
        folder: keeps the choice; the same call on an unfinished folder goes on where it stopped.
        base: the base run of the same settings.
    """
    recommender = load_run(base.root).model
    path = folder / "finetune.json"
    settings = FineTuneConfig(
        scope=scope,
        length=min(MAX_GENERATOR_HISTORY, max(2, config.model.history.length)),
        negatives=negatives_for(recommender),
        seed=config.seed,
    )
    model = FineTuned(recommender, torch.from_numpy(dataset.training_counts()), settings).eval()
    if path.is_file():
        choice = read_json(path, Choice, damaged(path, "remove it: it is made anew"))
        model.config = choice.config
    else:
        choice = choose(model, dataset, few_devices(dataset, config.validation_devices), config.seed)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, encode_json(choice))
    return model, base.seconds + choice.seconds
