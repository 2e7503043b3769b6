"""A run that goes on from another one, of the same dataset or an earlier version of it: its settings and its weights.

Of a run of DUET the base model, the cloud model's sequence model and the generator each go on from their own weights,
which the run's one file holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from torch import Tensor

from duetgen.data.store import Dataset
from duetgen.training.config import InvalidConfigError, TrainConfig
from duetgen.training.frozen_base import check_apart, check_same, describe_device_model
from duetgen.training.run import NotARunError, Run, RunFolder, load_run
from duetgen.training.within import base_config, cloud_config

WHOLES: Final = {
    "base": ("base", "finetune", "duet"),
    "finetune": ("base", "finetune", "duet"),
    "cloud": ("cloud", "duet"),
    "duet": ("duet",),
}
"""By method, those whose runs hold what it goes on from."""
PARTS: Final = {"base": base_config, "finetune": base_config, "cloud": cloud_config}
"""The settings of a part of a run."""
SEQUENCE: Final = "members.sequence."
"""Where a cloud model has the weights of its sequence model."""


def going_on(root: Path, method: str | None = None) -> TrainConfig:
    """The settings of a run that goes on from a finished one: those of that run, but for the length of training and the
    policy of met items, which the dataset tells anew.

    Args:
        root: folder of the finished run.
        method: that of the part of it which goes on alone; None for the whole.

    Raises:
        NotARunError: the folder is no run, or of another version.
        DamagedError: its settings are not what they were.
        InvalidConfigError: it holds nothing that the method could go on from.
    """
    folder = RunFolder(root)
    config = folder.read_config(folder.read_environment())
    method = method or config.model.method
    check_method(method, config.model.method, root)
    optimiser = msgspec.structs.replace(config.optimiser, batch_positions=0, epochs=0, patience=0)
    # A run that knew no GRU4Rec has none to go on from.
    cloud = msgspec.structs.replace(config.model.cloud, recurrent=config.model.cloud.recurrent_width)
    model = msgspec.structs.replace(config.model, cloud=cloud)
    config = msgspec.structs.replace(
        config, model=model, optimiser=optimiser, global_model="", cloud_model="", start_from=str(root)
    )
    if config.objective.met == config.model.met:  # That of the dataset, which a later version may choose anew.
        config = msgspec.structs.replace(config, objective=msgspec.structs.replace(config.objective, met="auto"))
    return config if method == config.model.method else PARTS[method](config)


def check_start(dataset: Dataset, config: TrainConfig, folder: RunFolder) -> Run:
    """Refuse, before `folder` is made or replaced, a run that cannot be gone on from or that would go with it.

    Returns:
        The run.

    Raises:
        OutputExistsError: one of them lies in the other's folder.
        NotARunError: it is gone since `folder` was begun with it.
        DatasetMismatchError: it was trained on another dataset, or on a later version.
        InvalidConfigError: a setting that its weights depend on is another one now.
        DuetError: as `load_run` does.
    """
    root = Path(config.start_from)
    check_there(root, folder)
    check_apart(folder, root, "run to go on from")
    run = load_run(root)
    run.view(dataset)
    check_settings(run, config)
    return run


def check_there(root: Path, folder: RunFolder) -> None:
    """Refuse to take up a run whose weights to begin with are gone.

    Raises:
        NotARunError: `folder` was begun with the run `root`, which is no longer there.
        DamagedError: a file of `folder` is not what it was.
    """
    if root.exists() or not folder.environment.is_file():
        return
    if folder.read_config(folder.read_environment()).start_from == str(root):
        raise NotARunError(
            f"{root}, the run that {folder.root} began with, is gone", "put it back, or begin again from another run"
        )


def check_settings(run: Run, config: TrainConfig) -> None:
    """Refuse settings that the weights of a run do not fit.

    Raises:
        InvalidConfigError: with the first that differs.
    """
    method, its = config.model.method, run.config.model.method
    check_method(method, its, run.root)
    told, hint = f"the run {run.root}", "give the settings of the run that it goes on from, or train anew"
    if method != "cloud":
        check_same(describe_device_model(config), describe_device_model(run.config), told, hint)
    if method == its == "duet":
        check_same(describe_generator(config), describe_generator(run.config), told, hint)
    if config.model.cloud.members and not config.cloud_model:
        own, other = config.model.cloud, run.config.model.cloud
        if ("sequence" in own.members) != ("sequence" in other.members):
            kinds = "give the kind that the run has, none to go on without opinions, or train anew"
            check_same({"model.cloud.kind": own.kind}, {"model.cloud.kind": other.kind}, told, kinds)
        check_same(describe_cloud(config), describe_cloud(run.config), told, hint)


def check_method(method: str, its: str, root: Path) -> None:
    """Refuse a run that holds nothing which a method could go on from.

    Raises:
        InvalidConfigError: it does not.
    """
    if its not in WHOLES[method]:
        raise InvalidConfigError(
            f"model.method is {method!r}, {root} is a run of the method {its!r}", "go on with the method of the run"
        )


def describe_generator(config: TrainConfig) -> dict[str, object]:
    """The settings that a generator's weights depend on."""
    model: dict[str, dict[str, Any]] = msgspec.to_builtins(config.model)
    free = {"dropout", "event_dropout", "decoder_scale", "frozen"}
    return {"joint": config.joint} | {
        f"model.{part}.{name}": value
        for part in ("backbone", "history", "generator")
        for name, value in model[part].items()
        if name not in free
    }


def describe_cloud(config: TrainConfig) -> dict[str, object]:
    """The settings that a cloud model's weights depend on; tables are counted anew."""
    cloud = config.model.cloud
    sizes = {f"model.cloud.{name}": getattr(cloud, name) for name in ("width", "layers", "heads")}
    sizes["model.cloud.recurrent"] = cloud.recurrent_width
    return {"model.history.length": config.model.history.length} | sizes


def digest_of_start(config: TrainConfig) -> str:
    """The digest of the weights that a run goes on from; empty where it begins anew."""
    return RunFolder(Path(config.start_from)).read_environment().weights_sha256 if config.start_from else ""


def of_sequence(known: dict[str, Tensor] | None, part: str) -> dict[str, Tensor] | None:
    """What is known of a backbone of a cloud model's sequence model, by the names of a run of its own."""
    if known is None:
        return None
    begin = f"{SEQUENCE}{part}."
    return {f"backbone.{name.partition(begin)[2]}": tensor for name, tensor in known.items() if begin in name}
