"""A global model that is kept as it is while a generator is trained for it.

Theta = 0 is then the global model of that run bit for bit: devices without a theta lose nothing to the others, and a
model that is already in use gets a generator without being trained again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from duetgen.core import freeze
from duetgen.data.store import Dataset
from duetgen.errors import OutputExistsError
from duetgen.recommender import Recommender
from duetgen.training.config import InvalidConfigError, TrainConfig
from duetgen.training.growth import grown
from duetgen.training.run import Run, RunFolder, load_run


def load_global_model(dataset: Dataset, config: TrainConfig, root: Path) -> Recommender:
    """The model of a run whose global model is to be kept; for a later version of its dataset with rows for the items
    that came since.

    Raises:
        NotARunError: the folder is no finished run, or that of a cloud model.
        DamagedError: a file of it is missing or is not what it was.
        DatasetMismatchError: it was trained on another dataset, or on a later version.
        InvalidConfigError: its device model is not the one that the configuration tells.
    """
    return device_model_of(grown(load_run(root), dataset), config)


def check_global_model(dataset: Dataset, config: TrainConfig, folder: RunFolder) -> str:
    """Refuse, before `folder` is made or replaced, a global model that cannot be used or that would go with it.

    Returns:
        The digest of its weights.

    Raises:
        OutputExistsError: one of them lies in the other's folder.
        DuetError: as `load_global_model` does.
    """
    root = Path(config.global_model)
    check_apart(folder, root, "global model")
    run = load_run(root)
    run.view(dataset)
    device_model_of(run, config)
    return run.environment.weights_sha256


def check_apart(folder: RunFolder, root: Path, what: str) -> None:
    """Refuse a run folder that holds another run which it begins with, or lies in its folder.

    Raises:
        OutputExistsError: it does.
    """
    own, other = folder.root.resolve(), root.resolve()
    if own == other:
        raise OutputExistsError(f"{folder.root} is the {what}", "choose another --out")
    if other.is_relative_to(own):
        raise OutputExistsError(f"{root}, the {what}, lies in {folder.root}", "choose another --out")
    if own.is_relative_to(other):
        raise OutputExistsError(f"{folder.root} lies in {root}, the {what}", "choose another --out")


def freeze_global_model(model: Recommender, base: Recommender, config: TrainConfig) -> None:
    """Give `model` the backbone of a finished model, for good: all of it that this has is frozen.

    What it does not have is trained with the generator, as the shared matrices of a low-rank head. Of parameters that
    replace the head's, a generator keeps how far they were from it.
    """
    kept, before_P = base.backbone.state_dict(), model.backbone.origin()
    model.backbone.load_state_dict(kept, strict=False)
    freeze(model.backbone, kept)
    if model.generator is not None:
        model.generator.start_from(model.backbone.origin() + (model.generator.constant() - before_P))


def own_bases(folder: RunFolder) -> dict[str, float]:
    """The base models that a run has trained itself, by their folders: `ndcg@10` on the validation part."""
    there = [one for one in map(RunFolder, (folder.base, folder.taught)) if one.environment.is_file()]
    return {one.root.name: one.read_environment().best for one in there}


def own_base(folder: RunFolder) -> RunFolder:
    """The one that it keeps, see `better`."""
    return RunFolder(better([folder.root / name for name in own_bases(folder)] or [folder.base]))


def better(runs: Sequence[Path]) -> Path:
    """Of finished base runs the best one on the validation part, the first of those at a tie."""
    return max(runs, key=best_of) if len(runs) > 1 else runs[0]


def knows_more(cloud: Path, base: Path) -> bool:
    """Whether a finished cloud model ranks better on the validation part than a finished base model."""
    return best_of(cloud) > best_of(base)


def best_of(run: Path) -> float:
    """What a finished run has on the validation part."""
    return RunFolder(run).read_environment().best


def to_beat(config: TrainConfig, root: Path) -> float | None:
    """`ndcg@10` on the validation part of the global model that the run in a folder keeps: what its generator has to
    beat.

    None where it keeps none, or where that has no run any more, or where its figure does not compare: of a run that has
    a generator itself, or that was measured on other devices or an earlier version of the dataset.
    """
    folder = RunFolder(Path(config.global_model)) if config.global_model else own_base(RunFolder(root))
    if not config.keeps_base or not folder.config.is_file():
        return None
    environment, own = folder.read_environment(), RunFolder(root)
    its = folder.read_config(environment)
    devices = (config.validation_devices, config.seed)
    if its.model.method != "base" or (its.validation_devices, its.seed) != devices:
        return None
    if own.environment.is_file() and own.read_environment().dataset_sha256 != environment.dataset_sha256:
        return None
    return environment.best


def device_model_of(kept: Run, config: TrainConfig) -> Recommender:
    """The device model of a run, refused if its shape is not what the settings tell, or its scores are of another kind.

    Raises:
        NotARunError: it is a cloud model.
        InvalidConfigError: with the first setting that differs.
    """
    model = kept.device_model
    check_same(
        describe_device_model(config),
        describe_device_model(kept.config),
        f"the global model of {kept.root}",
        "give the settings of the device model that the global model was trained with",
    )
    return model


def check_same(own: dict[str, object], its: dict[str, object], whose: str, hint: str) -> None:
    """Refuse settings that are not those of what is built on.

    Raises:
        InvalidConfigError: with the first setting that differs.
    """
    for name, value in own.items():
        if its[name] != value:
            raise InvalidConfigError(f"{name} is {value!r}, {whose} has {its[name]!r}", hint)


def describe_device_model(config: TrainConfig) -> dict[str, object]:
    """The settings that must be alike: the head's form may differ, and so may dropout, which is not used."""
    backbone = msgspec.to_builtins(config.model.backbone)
    alike = {f"model.backbone.{name}": backbone[name] for name in ("width", "window", "layers", "heads")}
    return {"model.name": config.model.name, "model.normalised": config.model.normalised} | alike
