"""Methods that are settings of a training run: each takes the settings that all methods share and changes its own part.

What is not changed here is the same for every method: backbone, width, objective, optimiser, budget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
import torch

from duetgen.data.store import Dataset
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training import TrainConfig
from duetgen.training.within import base_config, cloud_config
from duetgen.wire.limits import MAX_WINDOW

Change = Callable[[TrainConfig, Dataset], TrainConfig]

PAPER_NEGATIVES: Final = 4
"""Negatives of the published binary cross-entropy (DUET, section 4.1)."""
NO_CLOUD: Final = {"model.cloud.kind": "none", "cloud_model": "", "objective.distillation": 0.0}
"""Settings of what neither learns from a cloud model nor has its opinions."""
WEIGHTS: Final = {"model.method": "duet", "joint": False} | NO_CLOUD
"""Settings of a DUET that generates weights, and has no opinions of a cloud model."""
ENCODER: Final = "model.history.encoder"
VISIBLE_SCALE: Final = 0.1
"""Standard deviation of a random theta: that of the head's own weights at width 32 when training starts."""
MAX_WIDTH: Final = 4096


def with_settings(config: TrainConfig, settings: dict[str, Any]) -> TrainConfig:
    """The configuration with some settings, named in full (`model.backbone.window`), replaced."""
    for name, value in settings.items():
        *path, last = name.split(".")
        nodes: list[Any] = [config]
        for part in path:
            nodes.append(getattr(nodes[-1], part))
        changed = msgspec.structs.replace(nodes.pop(), **{last: value})
        for part in reversed(path):
            changed = msgspec.structs.replace(nodes.pop(), **{part: changed})
        config = changed
    return config


def base(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The global model alone."""
    return base_config(config)


def base_distilled(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The global model alone, which learns from the cloud model too."""
    own = {"model.method": "base", "model.backbone.head": "auto", "joint": False}
    return with_settings(config, own | distilled(config))


def cloud(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The cloud model alone, whatever the device model is."""
    return cloud_config(config)


def finetune(scope: Literal["head", "whole"]) -> Change:
    """The global model and a copy of a part of it for each device, trained on that device's own events."""
    own = {"model.method": "finetune", "model.backbone.head": "full", "finetune.scope": scope, "joint": False}
    return lambda config, dataset: with_settings(config, own | NO_CLOUD)


def base_long(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The global model whose device window is the generator's history: what reading more is worth by itself."""
    window = min(MAX_WINDOW, max(config.model.backbone.window, config.model.history.length))
    return with_settings(base(config, dataset), {"model.backbone.window": window})


def parameters(vocabulary: int, config: ModelConfig) -> int:
    """How many parameters a recommender has, without making one."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Recommender(vocabulary, config).parameters())


def base_wide(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The global model with as nearly as many parameters as base and generator together, by its width.

    The width stays a multiple of the attention heads, and is never below that of the shared settings.
    """
    plain, vocabulary = base(config, dataset), dataset.vocabulary
    aim, heads = parameters(vocabulary, duet(config, dataset).model), plain.model.backbone.heads

    def of(multiple: int) -> int:
        model = with_settings(plain, {"model.backbone.width": multiple * heads}).model
        return parameters(vocabulary, model)

    # Parameters grow with the width: bisect for the last width below the aim, then take it or the next.
    low, high = plain.model.backbone.width // heads, MAX_WIDTH // heads
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if of(middle) <= aim else (low, middle)
    best = min((low, high), key=lambda multiple: abs(of(multiple) - aim))
    return with_settings(plain, {"model.backbone.width": best * heads})


def base_small(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The global model at half its width: the small device."""
    plain = base(config, dataset)
    heads = plain.model.backbone.heads
    width = max(heads, plain.model.backbone.width // 2 // heads * heads)
    return with_settings(plain, {"model.backbone.width": width})


def duet(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Both parts of theta: weights generated for the base model, and opinions of the cloud model of the settings."""
    return with_settings(config, {"model.method": "duet", "joint": False, "objective.distillation": 0.0})


def duet_joint(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The same, global model and generator trained together."""
    return with_settings(duet(config, dataset), {"joint": True})


def duet_distilled(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """DUET whose generator learns from the cloud model too."""
    return with_settings(duet(config, dataset), distilled(config))


def distilled(config: TrainConfig) -> dict[str, Any]:
    """The setting of what learns from the cloud model: the weight that is given, or as much as the target."""
    asked = config.objective.base_distillation
    return {"objective.distillation": config.objective.distillation or (asked if asked != "auto" else 0.0) or 1.0}


def weights_alone(config: TrainConfig, own: dict[str, Any]) -> TrainConfig:
    """Generated weights alone, with some settings of their own.

    Without a cloud model there is no state to read: instead of an encoder of it, the default one reads the history.
    """
    config = with_settings(config, WEIGHTS | own)
    return with_settings(config, {ENCODER: HistoryConfig().encoder}) if config.model.of_state else config


def weights(**settings: Any) -> Change:
    """Generated weights alone, with some settings of their own; `__` stands for the dot in their names."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return lambda config, dataset: weights_alone(config, named)


def concat(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The encoder's vector, as wide as the device model, as one more input of a static head."""
    own = {"model.backbone.head": "concat", "model.backbone.rank": config.model.backbone.width}
    return weights_alone(config, own | {"model.generator.candidates": 1, "joint": True})


def duet_low_rank(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Decoders of a quarter of their full rank."""
    rank = max(1, config.model.generator.width // 4)
    return weights_alone(config, {"model.generator.decoder_rank": rank})


def duet_short(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The generator reads the device model's window and no more."""
    window = config.model.backbone.window
    return weights_alone(config, {"model.history.length": window})


def duet_paper(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The published set-up as far as the paper tells it (DUET, sections 3 and 4.1).

    Ten events for both, one shared embedding, a GRU of its width, replacing parameters blended by the Stable Weight
    Adapter, binary cross-entropy with four negatives, theta always fresh, nothing hidden from the encoder. The split
    (leave-one-out) and the protocol (99 candidates) belong to the dataset folder and to the evaluation.
    """
    width = config.model.backbone.width
    return weights_alone(
        config,
        {
            "joint": True,
            "model.backbone.window": 10,
            "model.backbone.residual": False,
            "model.backbone.head": "full",
            ENCODER: "gru",
            "model.history.length": 10,
            "model.history.width": width,
            "model.history.share_embedding": True,
            "model.history.dropout": 0.0,
            "model.history.event_dropout": 0.0,
            "model.generator.width": width,
            "model.generator.candidates": 4,
            "objective.kind": "bce",
            "objective.negatives": PAPER_NEGATIVES,
            "objective.staleness": 0,
        },
    )
