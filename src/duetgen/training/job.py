"""One training from its beginning to its end: prepared, taken up where it stopped, run, and its weights written."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from functools import partial
from pathlib import Path

import msgspec
import safetensors.torch
import torch
from torch import Tensor, nn

from duetgen.data.store import Dataset
from duetgen.documents import digest_of
from duetgen.evaluation.validation import few_devices
from duetgen.evaluation.validation import validate as validate_model
from duetgen.files import write_bytes
from duetgen.jobfolder import sweep_lock, work_in
from duetgen.recommender import Recommender
from duetgen.training.checkpoint import Counters
from duetgen.training.cloud_run import CloudFitting, Measure
from duetgen.training.config import InvalidConfigError, TrainConfig, check_config
from duetgen.training.defaults import fill_in
from duetgen.training.distillation import Teacher
from duetgen.training.finetune_run import FineTuning
from duetgen.training.frozen_base import check_apart, check_global_model, knows_more, load_global_model, own_base
from duetgen.training.growth import grown, grown_weights
from duetgen.training.loop import Trainer, Validate, make_batches
from duetgen.training.processes import Processes
from duetgen.training.progress import Progress, Silent
from duetgen.training.run import (
    Environment,
    NotARunError,
    RunFolder,
    TrainResult,
    describe,
    differs,
    job_of,
    load_run,
)
from duetgen.training.start import check_start, digest_of_start, of_sequence
from duetgen.training.states import States
from duetgen.training.trust import learn_trust
from duetgen.training.within import base_config, cloud_config, taught_config


def train(
    dataset: Dataset,
    config: TrainConfig,
    out: Path,
    *,
    overwrite: bool = False,
    validate: Validate | None = None,
    progress: Progress | None = None,
    known: dict[str, Tensor] | None = None,
    advice: Path | None = None,
) -> TrainResult:
    """Train one model; the same call on an unfinished folder goes on where it stopped, with the same end.

    Started by torchrun, all processes make this call and train the one model together; the first one writes.

    Args:
        dataset: the dataset folder.
        config: every setting; `auto` ones are filled in first, and the folder keeps what they became.
        out: the run folder.
        overwrite: replace a run with other settings or data.
        validate: gives `ndcg@10` on the validation part; by default the `full` protocol.
        progress: hears how it goes.
        known: of a run within another one that goes on from `config.start_from`: its part of that run's weights, grown.
        advice: of a run within another one: the cloud model of that, which it learns from.

    Raises:
        InvalidConfigError: a setting is out of its range, or the global model, the cloud model or the run that it goes
            on from does not fit.
        DatasetMismatchError: one of them was trained on another dataset, or on a later version.
        CatalogueTooLargeError: EASE is asked for, and the catalogue is too large.
        OutputExistsError, OutputUnwritableError: the run folder cannot be used, or holds one of them.
        FolderBusyError: another process trains in the run folder.
        NotARunError: the folder, or that of one of them, is none or of another version.
        DamagedError: a file of one of them, or of the dataset folder, is not what it was.
        TrainingFailedError: nothing to train on, a loss that is not finite, or a process that is gone.
    """
    check_config(config)
    config = fill_in(config, dataset)
    make_batches(dataset, config)  # Refuses a dataset with nothing to train on before anything is written.
    folder = RunFolder(Path(out))
    processes, progress = Processes(), progress or Silent()
    processes.check_alike(config.to_toml(), dataset.manifest.content_sha256.encode())
    # A finished run is told of without holding its folder: several jobs may build on one.
    told = None if overwrite else processes.of_first(lambda: finished(folder, dataset, config))
    if told is not None:
        return told
    begun_from = check_global_model(dataset, config, folder) if config.global_model else ""
    advised_by = check_cloud_model(dataset, config, folder) if config.cloud_model else ""
    if config.start_from and known is None:
        known = processes.of_first(partial(grown_weights, check_start(dataset, config, folder), dataset))
    went_on = digest_of_start(config)
    environment = describe(dataset, config, processes.device.type, begun_from, advised_by, went_on)
    measure = validate or default_validation(config, processes)
    trainer: Trainer | FineTuning | CloudFitting
    with contextlib.ExitStack() as held:

        def open_folder() -> None:
            held.enter_context(work_in(folder.root, job_of(folder, dataset, config, environment), overwrite=overwrite))
            there = folder.read_environment()
            for before, now, name in (
                (there.global_model_sha256, begun_from, f"global model than {config.global_model}"),
                (there.cloud_model_sha256, advised_by, f"cloud model than {config.cloud_model}"),
                (there.start_sha256, went_on, f"run than {config.start_from}"),
            ):
                if before != now:
                    raise NotARunError(
                        f"{folder.root} was begun for another {name} now is", "give --overwrite to begin again"
                    )

        processes.of_first(open_folder)
        seconds = 0.0
        if config.model.method == "cloud":

            def train_backbone(name: str, own: TrainConfig) -> TrainResult:
                progress.turned(f"cloud model, {own.model.name}")
                root = folder.recurrent if name == "recurrent" else folder.sequence
                return train(dataset, own, root, progress=progress, known=of_sequence(known, name))

            trainer = CloudFitting(dataset, config, folder, list_measure(dataset, config), processes, train_backbone)
        else:
            base = None
            base_root = Path(config.global_model) if config.global_model else None
            cloud = Path(config.cloud_model) if config.cloud_model else advice
            within = partial(train, dataset, progress=progress, known=known)
            if config.keeps_base and base_root is None:
                progress.turned(f"{config.model.name} base")
                seconds += within(base_config(config), folder.base, validate=validate).seconds
            if config.model.cloud.members and cloud is None:
                progress.turned("cloud model")
                cloud = folder.cloud
                seconds += within(cloud_config(config), cloud).seconds
            if config.trains_base and config.objective.base_distillation:
                assert cloud is not None
                if processes.of_first(partial(knows_more, cloud, folder.base)):
                    progress.turned(f"{config.model.name} base that learns from the cloud model")
                    taught = within(taught_config(config), folder.taught, validate=validate, advice=cloud)
                    seconds += taught.seconds
            if config.keeps_base:
                base_root = base_root or processes.of_first(partial(own_base, folder)).root
                base = processes.of_first(partial(load_global_model, dataset, config, base_root))
            if config.model.method == "finetune":
                assert base is not None
                trainer = FineTuning(dataset, config, folder, measure, processes, base)
            else:
                teacher, states = read_cloud(dataset, config, cloud, processes)
                trainer = Trainer(
                    dataset, config, folder, measure, processes, base=base, teacher=teacher, states=states, known=known
                )
            if advice is None and (base is not None or cloud is not None):
                generator = config.model.method == "duet" and base is not None
                progress.turned(f"{config.model.name} {'generator' if generator else config.model.method}")
        trainer.resume()
        trainer.run(progress)
        if config.model.method == "duet":
            begun = time.monotonic()
            best = partial(settle, trainer, dataset, config, cloud, advised_by, processes.device)
            trainer.counters.best = processes.of_first(best)
            seconds += time.monotonic() - begun
        trainer.counters.seconds += seconds
        if processes.first:
            finish(folder, environment, trainer.best, trainer.counters)
    counters = trainer.counters
    return TrainResult(folder.root, counters.best_epoch, counters.best, counters.epoch, counters.seconds)


def read_cloud(
    dataset: Dataset, config: TrainConfig, cloud: Path | None, processes: Processes
) -> tuple[Teacher | None, States | None]:
    """What a cloud model thinks of every position, where it is distilled, and its state there, where that is read."""
    distilled, of_state = config.objective.distillation > 0, config.model.of_state
    if cloud is None or not (distilled or of_state):
        return None, None
    model = processes.of_first(lambda: grown(load_run(cloud), dataset).cloud_model).to(processes.device)
    teacher = Teacher(model, dataset, config.objective) if distilled else None
    return teacher, States(model, dataset) if of_state else None


def settle(
    trainer: Trainer | FineTuning | CloudFitting,
    dataset: Dataset,
    config: TrainConfig,
    cloud: Path | None,
    advised_by: str,
    device: torch.device,
) -> float:
    """Give the best weights the opinions of a cloud model, and learn how much each part of theta counts.

    Returns:
        `ndcg@10` on the validation part with fresh theta; without that part, as it was.

    Raises:
        NotARunError: the cloud model that was named is another one than when the run began.
    """
    if advised_by and digest_of(RunFolder(Path(config.cloud_model)).weights) != advised_by:
        raise NotARunError(
            f"{config.cloud_model} has changed since this run began", "give --overwrite to begin again with it"
        )
    model = Recommender(dataset.vocabulary, config.model)
    model.load_state_dict(trainer.best)
    if cloud is not None:
        model.attach(grown(load_run(cloud), dataset).cloud_model)
    model.to(device).eval()
    best = trainer.counters.best
    if len(dataset.targets("valid")):
        devices = config.validation_devices
        few = few_devices(dataset, devices) if model.backbone.pairwise else devices
        best = learn_trust(model, dataset, few, config.seed)
    trainer.best = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return best


def check_cloud_model(dataset: Dataset, config: TrainConfig, folder: RunFolder) -> str:
    """Refuse, before `folder` is made or replaced, a cloud model that cannot be used or that would go with it.

    Returns:
        The digest of its weights.

    Raises:
        OutputExistsError: one of them lies in the other's folder.
        InvalidConfigError: it reads another number of events than the generator.
        DuetError: as `load_run`, `Run.view` and `Run.cloud_model` do.
    """
    root = Path(config.cloud_model)
    check_apart(folder, root, "cloud model")
    run = load_run(root)
    run.view(dataset)
    if run.cloud_model.window != config.model.history.length:
        raise InvalidConfigError(
            f"model.history.length is {config.model.history.length}, the cloud model of {root} reads "
            f"{run.cloud_model.window} events",
            "give both the same",
        )
    return run.environment.weights_sha256


def list_measure(dataset: Dataset, config: TrainConfig) -> Measure:
    """`ndcg@10` of a list on the validation part."""

    def measure(model: nn.Module, ages: tuple[int, ...]) -> float:
        return validate_model(model, dataset, limit_devices=config.validation_devices, seed=config.seed, staleness=ages)

    return measure


def finish(folder: RunFolder, environment: Environment, best: dict[str, Tensor], counters: Counters) -> None:
    """Write the best weights, and that the run has finished; what only resuming needs goes."""
    weights = safetensors.torch.save({name: tensor.clone() for name, tensor in best.items()})
    write_bytes(folder.weights, weights)
    folder.write_environment(
        msgspec.structs.replace(
            environment,
            config_sha256=folder.read_environment().config_sha256,  # Another version may have begun the run.
            finished=True,
            best_epoch=counters.best_epoch,
            best=counters.best,
            seconds=counters.seconds,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
        )
    )
    shutil.rmtree(folder.checkpoint.parent, ignore_errors=True)


def finished(folder: RunFolder, dataset: Dataset, config: TrainConfig) -> TrainResult | None:
    """How the run that is there ended, if it is this one and has."""
    if not folder.environment.is_file() or differs(folder, dataset, config):
        return None
    ended = folder.read_environment()
    if not ended.finished:
        return None
    folder.read_weights(ended)  # Nobody is told of a run that cannot be loaded.
    sweep_lock(folder.root)
    epochs = 0 if config.model.method in ("finetune", "cloud") else len(folder.read_metrics())
    return TrainResult(folder.root, ended.best_epoch, ended.best, epochs, ended.seconds, True)


def default_validation(config: TrainConfig, processes: Processes) -> Validate:
    """`ndcg@10` of the `full` protocol on the validation part, with fresh theta, shared out over the processes; of few
    devices where each is dear.
    """

    def measure(model: nn.Module, dataset: Dataset) -> float:
        devices = config.validation_devices
        few = few_devices(dataset, devices) if config.model.method == "finetune" else devices
        return validate_model(model, dataset, limit_devices=few, seed=config.seed, helpers=processes)

    return measure
