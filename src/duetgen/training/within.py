"""What a run trains in folders within its own, by which settings: each as the command of its own would."""

from __future__ import annotations

import msgspec

from duetgen.recommender import ModelConfig
from duetgen.training.config import FineTuneConfig, ObjectiveConfig, TrainConfig


def base_config(config: TrainConfig) -> TrainConfig:
    """The settings of the base run that a generator or fine-tuning begins with: nothing of the generator, and it learns
    from no cloud model.
    """
    model, plain = config.model, ObjectiveConfig()
    return msgspec.structs.replace(
        config,
        model=msgspec.structs.replace(
            model,
            method="base",
            backbone=msgspec.structs.replace(model.backbone, head="auto"),
            cloud=msgspec.structs.replace(model.cloud, kind="none"),
        ),
        objective=msgspec.structs.replace(
            config.objective, distillation=plain.distillation, fallback_weight=plain.fallback_weight
        ),
        optimiser=msgspec.structs.replace(config.optimiser, generator_rate="auto"),
        finetune=FineTuneConfig(),
        global_model="",
        joint=False,
        cloud_model="",
    )


def cloud_config(config: TrainConfig) -> TrainConfig:
    """The settings of the run of a cloud model: nothing of the device model, so that all get the same."""
    told = config.model
    return msgspec.structs.replace(
        config,
        model=ModelConfig(method="cloud", met=told.met, history=told.history, cloud=told.cloud),
        objective=ObjectiveConfig(met=config.objective.met),
        finetune=FineTuneConfig(),
        global_model="",
        joint=False,
        cloud_model="",
    )


def sequence_config(config: TrainConfig) -> TrainConfig:
    """The settings of the base run that gives a cloud model its sequence model."""
    cloud, model = config.model.cloud, config.model
    backbone = msgspec.structs.replace(
        model.backbone,
        width=cloud.width,
        window=model.history.length,
        layers=cloud.layers,
        heads=cloud.heads,
        dropout="auto",
        head="full",
        residual=True,
    )
    plain = ModelConfig(method="base", backbone=backbone, history=model.history)
    return msgspec.structs.replace(config, model=plain)
