"""A global model that is kept as it is while a generator is trained for it.

Theta = 0 is then the global model of that run bit for bit: devices without a theta lose nothing to the others, and a
model that is already in use gets a generator without being trained again.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from duetgen.core import freeze
from duetgen.data.store import Dataset
from duetgen.documents import digest_of
from duetgen.errors import OutputExistsError
from duetgen.recommender import Recommender
from duetgen.training.config import InvalidConfigError, TrainConfig
from duetgen.training.run import RunFolder, load_run


def load_global_model(dataset: Dataset, config: TrainConfig) -> Recommender:
    """The model of the run `config.global_model`.

    Raises:
        NotARunError: the folder is no finished run, or that of a cloud model.
        DamagedError: a file of it is missing or is not what it was.
        DatasetMismatchError: it was trained on another dataset folder.
        InvalidConfigError: its device model is not the one that the configuration tells.
    """
    run = load_run(Path(config.global_model))
    run.check_dataset(dataset)
    model = run.device_model
    check_same_device_model(run.config, config)
    return model


def check_global_model(dataset: Dataset, config: TrainConfig, folder: RunFolder) -> str:
    """Refuse, before `folder` is made or replaced, a global model that cannot be used or that would go with it.

    Returns:
        The digest of its weights.

    Raises:
        OutputExistsError: the global model lies in the run folder itself.
        DuetError: as `load_global_model` does.
    """
    if Path(config.global_model).resolve().is_relative_to(folder.root.resolve()):
        raise OutputExistsError(f"{folder.root} holds the global model {config.global_model}", "choose another --out")
    load_global_model(dataset, config)
    return digest_of(RunFolder(Path(config.global_model)).weights)


def freeze_global_model(model: Recommender, dataset: Dataset, config: TrainConfig) -> None:
    """Give `model` the backbone of the run `config.global_model`, for good: all of it that the run has is frozen.

    What the run does not have is trained with the generator, as the shared matrices of a low-rank head.

    Raises:
        DuetError: as `load_global_model` does.
    """
    kept = load_global_model(dataset, config).backbone.state_dict()
    model.backbone.load_state_dict(kept, strict=False)
    freeze(model.backbone, kept)
    if model.generator is not None:
        model.generator.start_from(model.backbone.head.origin())


def to_beat(config: TrainConfig) -> float | None:
    """`ndcg@10` that the run `config.global_model` has on the validation part: what its generator has to beat.

    None where there is no such run, or none any more, or where its figure does not compare: a run that has a generator
    itself, or one that was measured on other devices.
    """
    folder = RunFolder(Path(config.global_model))
    if not config.global_model or not folder.config.is_file():
        return None
    environment = folder.read_environment()
    its = folder.read_config(environment)
    devices = (config.validation_devices, config.seed)
    if its.model.method != "base" or (its.validation_devices, its.seed) != devices:
        return None
    return environment.best


def check_same_device_model(kept: TrainConfig, config: TrainConfig) -> None:
    """Refuse a run whose device model has another shape, or scores of another kind.

    Raises:
        InvalidConfigError: with the first setting that differs.
    """
    own, its = describe_device_model(config), describe_device_model(kept)
    for name, value in own.items():
        if its[name] != value:
            raise InvalidConfigError(
                f"{name} is {value!r}, the global model of {config.global_model} has {its[name]!r}",
                "give the settings of the device model that the global model was trained with",
            )


def describe_device_model(config: TrainConfig) -> dict[str, object]:
    """The settings that must be alike: the head's form may differ, and so may dropout, which is not used."""
    backbone = msgspec.to_builtins(config.model.backbone)
    alike = {f"model.backbone.{name}": backbone[name] for name in ("width", "window", "layers", "heads")}
    return {"model.name": config.model.name, "model.normalised": config.model.normalised} | alike
