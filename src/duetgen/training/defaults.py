"""Settings left to us (`auto`, or 0), filled in by rules that read the backbone and the counts of the dataset.

What decides is how much there is to learn from: positions that a pass trains, training events an item (how sure its
embedding can be), and training events a device (how much there is to read). docs/concepts/training.md has the rules in
a table, and the runs behind them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from duetgen.backbones import BACKBONES
from duetgen.backbones.heads import HeadKind
from duetgen.baselines.ease import check_catalogue
from duetgen.cloudmodel import CloudConfig
from duetgen.data.store import Dataset
from duetgen.recommender import ModelConfig
from duetgen.training.config import (
    FineTuneConfig,
    InvalidConfigError,
    ObjectiveConfig,
    OptimiserConfig,
    TrainConfig,
    check_state,
)
from duetgen.training.run import RunFolder

FULL_SOFTMAX_ITEMS: Final = 5_000
"""Largest catalogue over which `auto` takes the full softmax: above it drawn items give the same quality for less."""

EASE_ITEMS: Final = 5_000
"""Largest catalogue for which a cloud model takes EASE: above it the matrix is dear to solve."""

VALIDATION_SCORES: Final = 2**29
"""Devices times items of the catalogue that a validation scores, at most: 5,000 devices up to 107,374 items."""
FEWEST_DEVICES: Final = 500

MOST_ADVISED: Final = 2**42
"""Positions times items that a cloud model scores for distillation, at most: about ten hours of a core at width 128."""

MOST_TAUGHT_SCORES: Final = 2**36
"""The same for a base model that nobody has asked to learn from a cloud model: about ten minutes of a core."""
MOST_TAUGHT_POSITIONS: Final = 2**22
"""Positions of that, at most: what a cloud model thinks of one takes 600 bytes of memory."""

STEPS: Final = 128
"""About so many steps a pass should have; fewer, and a small dataset is not learnt to its end (docs/findings.md)."""
LEAST_BATCH: Final = 256
LARGEST_BATCH: Final = 1024

PASSES: Final = 12_000
"""Passes times the root of a pass's positions: a set four times as large gets half as many passes."""
FEWEST_PASSES: Final = 8
FEWEST_LATER_PASSES: Final = 4
LATER: Final = 4
"""How many times fewer passes a run takes that goes on from another one."""
MOST_PASSES: Final = 100

RARE, COMMON = 20, 200
"""Training events an item below and above which the shares of `dropout` no longer change."""
MOST_DROPOUT, LEAST_DROPOUT = 0.5, 0.1

SHORT_HISTORY: Final = 20
"""Training events a device below which a generator reads the device model's item embedding, and learns more slowly: it
would else memorise."""
SLOW_RATE: Final = 0.2

NEGATIVES, PAIRWISE_NEGATIVES, BINARY_NEGATIVES = 64, 8, 4
"""Items that a step of fine-tuning draws, and the last two a position of training: few where each costs a reading of
the window, or their share matters."""


def fill_in(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The configuration with every setting filled in; what a run folder keeps.

    Raises:
        InvalidConfigError: the generator reads a cloud model that has no state.
        DuetError: as `fill_in_objective` and `fill_in_cloud` do.
    """
    config = fill_in_objective(config, dataset)
    positions = training_positions(config, dataset)
    short = events_each(dataset, dataset.devices) < SHORT_HISTORY
    optimiser, model = config.optimiser, config.model
    epochs = optimiser.epochs or (later_passes if config.start_from else passes)(positions)
    rate = optimiser.generator_rate
    # Relative to the rate of a global model that is trained along with it.
    rate = 1.0 if config.keeps_base else (SLOW_RATE if short else 1.0) if rate == "auto" else rate
    filled: OptimiserConfig = msgspec.structs.replace(
        optimiser,
        batch_positions=optimiser.batch_positions or batch_size(positions),
        generator_rate=rate,
        epochs=epochs,
        patience=optimiser.patience or patience(epochs),
    )
    backbone, history = model.backbone, model.history
    if backbone.dropout == "auto":
        backbone = msgspec.structs.replace(
            backbone, dropout=dropout(events_each(dataset, dataset.manifest.counts.items))
        )
    if backbone.head == "auto" and model.method == "duet":
        # Scales and shifts gain most of what all weights do for a finished model, in a thirtieth of the bytes.
        head: HeadKind = "scale" if config.keeps_base and backbone.residual else "full"
        backbone = msgspec.structs.replace(backbone, head=head)
    if history.share_embedding == "auto":
        history = msgspec.structs.replace(history, share_embedding=short)
    complete: ModelConfig = msgspec.structs.replace(
        model, backbone=backbone, history=history, cloud=fill_in_cloud(config, dataset), met=dataset.manifest.met
    )
    check_state(complete)
    config = fill_in_base_distillation(config, complete.cloud, dataset)
    finetune = fill_in_finetune(config.finetune, model) if model.method == "finetune" else config.finetune
    devices = min(config.validation_devices, max(FEWEST_DEVICES, VALIDATION_SCORES // dataset.vocabulary))
    return msgspec.structs.replace(
        config, optimiser=filled, model=complete, finetune=finetune, validation_devices=devices
    )


def fill_in_objective(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Replace `auto` and unset counts by what the backbone, the size of the catalogue and the policy call for.

    Raises:
        InvalidConfigError: distillation is asked for where each position draws its own items, or where scoring the
            catalogue at every position would take too long.
    """
    objective, kind = config.objective, config.objective.kind
    base_distilled = config.trains_base and objective.base_distillation not in ("auto", 0)
    distilled = "objective.distillation" if objective.distillation else "objective.base_distillation" * base_distilled
    pairwise, large = BACKBONES[config.model.name].pairwise, dataset.vocabulary > FULL_SOFTMAX_ITEMS
    rows = config.feed == "rows"
    if rows:
        kind = "bce"
    elif kind == "auto":
        kind = "sampled" if pairwise or large else "softmax"
    if distilled and (kind == "bce" or (kind == "sampled" and pairwise)):
        raise InvalidConfigError(
            f"{distilled} needs items that all positions are scored against",
            "for DIN choose --objective softmax, or leave distillation out",
        )
    positions = training_positions(config, dataset)
    if distilled and positions * dataset.vocabulary > MOST_ADVISED:
        raise InvalidConfigError(
            f"{distilled} would score {dataset.vocabulary:,} items at each of {positions:,} positions",
            "leave distillation out, or filter rare items when preparing",
        )
    drawn = {"sampled": PAIRWISE_NEGATIVES if pairwise else 1024, "bce": BINARY_NEGATIVES}
    negatives = objective.negatives or drawn.get(kind, 0)
    bce_weight = objective.bce_weight if kind == "softmax" or (kind == "sampled" and not pairwise) else 0.0
    # A global model that is kept has no loss of its own to be trained by.
    weight = 0.0 if config.keeps_base else objective.fallback_weight
    staleness = objective.staleness if config.model.method == "duet" and not rows else 0
    # What a device never ranks, the loss need not push down; rows come with their negatives.
    met = "show" if rows else dataset.manifest.met if objective.met == "auto" else objective.met
    filled: ObjectiveConfig = msgspec.structs.replace(
        objective,
        kind=kind,
        negatives=negatives,
        bce_weight=bce_weight,
        staleness=staleness,
        fallback_weight=weight,
        met=met,
    )
    model = msgspec.structs.replace(config.model, normalised=kind != "bce")
    return msgspec.structs.replace(config, objective=filled, model=model)


def fill_in_cloud(config: TrainConfig, dataset: Dataset) -> CloudConfig:
    """The cloud model: that of the run that is named, or of the settings with `auto` replaced.

    Raises:
        NotARunError, DamagedError: what is named is no run, or a damaged one.
        CatalogueTooLargeError: EASE is asked for, and the catalogue is too large.
        InvalidGraphError: a graph of the user's own cannot be a cloud model.
    """
    if config.cloud_model:
        folder = RunFolder(Path(config.cloud_model))
        return folder.read_config(folder.read_environment()).model.cloud
    cloud, of_use = config.model.cloud, config.model.method in ("duet", "cloud") or config.objective.distillation > 0
    wanted = of_use and config.feed == "sequences"
    kind = ("blend" if cloud.kind == "auto" else cloud.kind) if wanted else "none"
    table = ("ease" if dataset.vocabulary <= EASE_ITEMS else "item-knn") if cloud.table == "auto" else cloud.table
    filled: CloudConfig = msgspec.structs.replace(cloud, kind=kind, table=table)
    if filled.recurrent == "auto" and "sequence" in filled.members:
        filled = msgspec.structs.replace(filled, recurrent=filled.width // 2)
    if "ease" in filled.members:
        check_catalogue(dataset.vocabulary)
    if "onnx" in filled.members:
        from duetgen.cloudmodel.graph_file import read_graph

        graph = read_graph(filled.graph, filled.ids, dataset, config.model.history.length)
        filled = msgspec.structs.replace(filled, graph_sha256=graph.sha256)
    return filled


def fill_in_base_distillation(config: TrainConfig, cloud: CloudConfig, dataset: Dataset) -> TrainConfig:
    """Replace `auto` of a DUET that trains its own base model, and leave it to all others; `config` has its objective
    filled in.
    """
    objective = config.objective
    if not config.trains_base:
        return msgspec.structs.replace(config, objective=msgspec.structs.replace(objective, base_distillation="auto"))
    if objective.base_distillation != "auto":
        return config
    positions = training_positions(config, dataset)
    shared = objective.kind == "softmax" or (objective.kind == "sampled" and not BACKBONES[config.model.name].pairwise)
    soon = positions <= MOST_TAUGHT_POSITIONS and positions * dataset.vocabulary <= MOST_TAUGHT_SCORES
    weight = float(bool(cloud.members) and shared and soon and len(dataset.targets("valid")) > 0)
    return msgspec.structs.replace(config, objective=msgspec.structs.replace(objective, base_distillation=weight))


def fill_in_finetune(finetune: FineTuneConfig, model: ModelConfig) -> FineTuneConfig:
    """Replace an unset number of drawn items; steps and rate are left to the validation part."""
    negatives = PAIRWISE_NEGATIVES if BACKBONES[model.name].pairwise else NEGATIVES
    negatives = negatives if model.normalised else BINARY_NEGATIVES
    return msgspec.structs.replace(finetune, negatives=finetune.negatives or negatives)


def training_positions(config: TrainConfig, dataset: Dataset) -> int:
    """Positions, or rows, that a pass trains."""
    if config.feed == "rows":
        return len(dataset.rows().label_R) if dataset.has_rows else 0
    return int(np.maximum(dataset.bounds[:, 0] - 1, 0).sum())


def events_each(dataset: Dataset, number: int) -> float:
    """Training events for each of so many devices or items."""
    return dataset.manifest.counts.train_events / max(1, number)


def batch_size(positions: int) -> int:
    """The power of two with which a pass over so many positions has nearest to `STEPS` steps, within bounds."""
    wanted = 2 ** round(math.log2(max(1, positions) / STEPS))
    return int(min(LARGEST_BATCH, max(LEAST_BATCH, wanted)))


def passes(positions: int) -> int:
    """Most passes over so many positions."""
    return min(MOST_PASSES, max(FEWEST_PASSES, round(PASSES / math.sqrt(max(1, positions)))))


def later_passes(positions: int) -> int:
    """Most passes of a run that goes on from another one."""
    return max(FEWEST_LATER_PASSES, round(passes(positions) / LATER))


def patience(epochs: int) -> int:
    """Passes without a better validation before training stops: the rate falls to the last pass, so not too soon."""
    return max(5, epochs // 3)


def dropout(events_an_item: float) -> float:
    """Share of values dropped: much where items are rare, little where they are common, by the logarithm between."""
    place = math.log(max(RARE, min(COMMON, events_an_item)) / RARE) / math.log(COMMON / RARE)
    return round(MOST_DROPOUT + (LEAST_DROPOUT - MOST_DROPOUT) * place, 2)
