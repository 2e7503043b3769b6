"""What a run trains in folders within its own, by which settings: each as the command of its own would."""

from __future__ import annotations

import msgspec

from duetgen.cloudmodel.sequence import recurrent_backbone, sequence_backbone
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
            config.objective,
            distillation=plain.distillation,
            fallback_weight=plain.fallback_weight,
        ),
        optimiser=msgspec.structs.replace(config.optimiser, generator_rate="auto"),
        finetune=FineTuneConfig(),
        global_model="",
        joint=False,
        cloud_model="",
    )


def taught_config(config: TrainConfig) -> TrainConfig:
    """The settings of the second base run of a DUET, which learns from its cloud model too."""
    own = base_config(config)
    weight = config.objective.base_distillation
    assert weight != "auto"
    return msgspec.structs.replace(
        own,
        model=msgspec.structs.replace(own.model, cloud=config.model.cloud),
        objective=msgspec.structs.replace(own.objective, distillation=weight),
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


def sequence_configs(config: TrainConfig) -> dict[str, TrainConfig]:
    """The settings of the base runs that give a cloud model its sequence model, by the names of its backbones."""
    cloud, history = config.model.cloud, config.model.history
    found = {"backbone": ("sasrec", sequence_backbone(history.length, cloud))}
    if cloud.recurrent_width:
        found["recurrent"] = ("gru4rec", recurrent_backbone(history.length, cloud))
    settings = {}
    for part, (name, backbone) in found.items():
        trained = msgspec.structs.replace(backbone, dropout="auto", head="full")
        model = ModelConfig(name=name, method="base", backbone=trained, history=history)
        settings[part] = msgspec.structs.replace(config, model=model)
    return settings
