"""`duet train`: train one model on a dataset folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from duetgen.cli import console
from duetgen.cli.datasets import DatasetPath, find_dataset
from duetgen.cli.ranges import Threads
from duetgen.cli.settings import NONE_GIVEN, Settings, build_config

if TYPE_CHECKING:
    from duetgen.cloudmodel import CloudModel
    from duetgen.data.store import Dataset
    from duetgen.recommender import Recommender
    from duetgen.training import TrainConfig

Method = Literal["base", "finetune", "cloud", "duet"]
TOLD_AGES = (0, 5, 20, 100)
"""Ages of theta, in events, at which trust is told."""


def train(
    dataset: DatasetPath,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Run folder to write [runs/DATASET-BACKBONE-METHOD].")] = None,
    backbone: Annotated[str | None, Parameter(help="Device model: sasrec, gru4rec, din [sasrec].")] = None,
    method: Annotated[
        Method | None,
        Parameter(
            help="duet: a base model, a generator for it and the opinions of a cloud model; base: global model alone; "
            "finetune: a base model, and how each device best trains a copy of it; cloud: a cloud model alone [duet]."
        ),
    ] = None,
    global_model: Annotated[
        Path | None,
        Parameter(
            help="Run whose global model is kept as it is: only a generator is trained for it, or only fine-tuning is "
            "left. Its settings are the defaults [none: a base model is trained first]."
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        Parameter(
            name="--from",
            help="Run of this dataset or of an earlier version of it to go on from, with rows for the items that came "
            "since and in fewer passes. Its settings are the defaults [none: it begins anew].",
        ),
    ] = None,
    joint: Annotated[
        bool, Parameter(negative="", help="Train global model and generator together instead, by the joint objective.")
    ] = False,
    staleness: Annotated[
        int | None, Parameter(help="Theta is trained to be up to so many events old; 0: always fresh [20].")
    ] = None,
    settings: Settings = NONE_GIVEN,
    threads: Threads = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace a run with other settings or data.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the result as JSON.")] = False,
) -> None:
    """Train one model on a dataset, named or made by `duet prepare`.

    Stopped or killed at any moment, the same command goes on where it was and ends with the same weights. The best
    weights by validation ndcg@10 are kept; the test part is never looked at.
    """
    from duetgen.data.catalogue import resolve
    from duetgen.data.store import Dataset
    from duetgen.machine import use_machine
    from duetgen.training import ObjectiveConfig, load_run
    from duetgen.training import train as run_training
    from duetgen.training.config import InvalidConfigError
    from duetgen.training.defaults import fill_in
    from duetgen.training.finetune_run import read_choice
    from duetgen.training.frozen_base import own_bases, to_beat
    from duetgen.training.run import RunFolder
    from duetgen.training.start import check_start, check_there, going_on

    start: Path | TrainConfig | None = None
    if from_ is not None:
        if not from_.exists():
            # Nothing is prepared for a run that is not there.
            runs = Path("runs").glob(f"{resolve(dataset, lambda *_: None).name}-*") if out is None else [out]
            for begun in sorted(runs):
                check_there(from_, RunFolder(begun))
        start = its = going_on(from_, method)
        if joint and method is None and its.model.method != "duet":
            raise InvalidConfigError(
                f"{its.model.method} is the method of the run {from_}: it has no use for joint",
                "leave --joint out, or train anew",
            )
    if global_model is not None and from_ is None:
        method = method or "duet"
        RunFolder(global_model).read_environment()  # Refuses what is no run by its own name.
        start = RunFolder(global_model).config
        if settings.config is None:
            told_there = build_config(start, {}, [])
            if told_there.model.method != "duet":  # A run without a generator keeps no staleness.
                staleness = ObjectiveConfig().staleness if staleness is None else staleness
            if not told_there.model.cloud.members:
                settings = replace(settings, cloud_model=settings.cloud_model or "auto")
    overrides: dict[str, Any] = {
        "model.name": backbone,
        "model.method": method,
        "objective.staleness": staleness,
        "global_model": None if global_model is None else str(global_model),
        "start_from": None if from_ is None else str(from_),
        "joint": joint if joint or (global_model is not None and from_ is None) else None,
    }
    settled = settings.build(overrides, start)
    use_machine(threads)
    data = Dataset(find_dataset(dataset, quiet or json))
    out = out or Path("runs") / f"{data.root.name}-{settled.model.name}-{settled.model.method}"
    tuned = settled.model.method == "finetune"
    on_cloud = settled.model.method == "cloud"
    title = "cloud model" if on_cloud else f"{settled.model.name} {settled.model.method}"
    # Under torchrun every process runs this; the first one speaks.
    chief = os.environ.get("RANK", "0") == "0"
    if chief and not (quiet or json or (tuned and settled.global_model)):
        complete = fill_in(settled, data)
        if from_ is not None:  # What is refused is not told as if it went on.
            check_start(data, complete, RunFolder(out))
            print_start(from_, data, complete.optimiser.epochs)
        console.notes.print(f"settings: {told_cloud(complete) if on_cloud else told(complete)}")
        if settled.model.method == "duet" and (word := size_word(complete, data.vocabulary)):
            console.notes.print(word)
    with console.TrainingBar(title, quiet or json or not chief) as bar:
        result = run_training(data, settled, out, overwrite=overwrite, progress=bar)
    if not chief:
        return
    choice = read_choice(RunFolder(result.root)) if tuned else None
    model = load_run(result.root).model
    cloud, trust = cloud_of(result.root, model), trust_of(model)
    without = choice.base_validation_ndcg10 if choice is not None else to_beat(settled, result.root)
    bases = own_bases(RunFolder(result.root))
    if json:
        console.print_json(
            {
                "run": str(result.root),
                "best_epoch": None if tuned or on_cloud else result.best_epoch,
                "validation_ndcg@10": result.best,
                "global_model_validation_ndcg@10": without,
                "base_models": bases or None,
                "epochs": result.epochs,
                "seconds": result.seconds,
                "already_finished": result.already_finished,
                "finetune": choice,
                "cloud_model": cloud,
                "trust": trust,
            }
        )
        return
    had = "was trained before" if result.already_finished else f"trained in {result.seconds:.0f} s"
    how = "ranking by itself" if on_cloud else f"after epoch {result.best_epoch} of {result.epochs}"
    if from_ is not None and not result.best_epoch:
        how = f"as it began: {result.epochs} epochs gained nothing"
    if choice is not None:
        how = f"with {choice.steps} steps at {choice.learning_rate:g}, on a sample of the validation part"
    console.results.print(f"{title} {had}: validation ndcg@10 {result.best:.4f} {how}")
    if without is not None:
        it, what = ("fine-tuning", "fine-tuning") if tuned else ("theta", "the generator")
        gains = "" if result.best > without else f": {what} gains nothing there"
        where = " on the same sample" if tuned else ""
        console.results.print(f"  without {it}, by its global model alone: {without:.4f}{where}{gains}")
    if len(bases) > 1:
        plain, taught = bases.values()
        kept = "so that one is kept" if taught > plain else "so it is not kept"
        console.results.print(
            f"  its base model has {plain:.4f}; one that learns from the cloud model too {taught:.4f}, {kept}",
            soft_wrap=True,
        )
    if cloud is not None and not on_cloud:
        ranks = f"validation ndcg@10 {cloud.validation_ndcg10:.4f} ranking by itself"
        console.results.print(f"  cloud model ({', '.join(cloud.members)}): {ranks}")
    if cloud is not None and cloud.counts:
        told_counts = [
            f"{name} counts {value:.2f} {'in' if name == 'gru4rec' else 'beside'} the sequence model"
            for name, value in cloud.counts.items()
        ]
        console.results.print(f"  chosen there: {'; '.join(told_counts)}", soft_wrap=True)
    if trust is not None:
        told_trust = "; ".join(in_words(name, curve) for name, curve in trust.items())
        console.results.print(f"  trust: {told_trust}", soft_wrap=True)
        if not any(trust["weights"].values()):
            console.results.print(
                "  weights gain no more there than the error of that gain, so they count nothing, whatever the epochs "
                "showed",
                soft_wrap=True,
            )
        opinions = [curve for name, curve in trust.items() if name != "weights"]
        if opinions and not any(any(curve.values()) for curve in opinions):
            console.results.print("  no opinion counts: devices lose nothing by `duet export --parts weights`")
    console.results.print(f"  run folder: {result.root}")
    console.results.print(f"  next: duet evaluate {result.root} {dataset}")


def print_start(root: Path, data: Dataset, epochs: int) -> None:
    """What a run goes on from, and for how long."""
    from duetgen.training.run import RunFolder

    environment = RunFolder(root).read_environment()
    console.notes.print(
        f"goes on from {root}, trained on version {len(environment.earlier) + 1} of {data.version}, for at most "
        f"{told_passes(epochs)}: {data.vocabulary - environment.vocabulary:,} items are new to it"
    )


def size_word(config: TrainConfig, vocabulary: int) -> str | None:
    """What there is to know before hours of training of a model that no bundle holds."""
    from duetgen.export.graphs import MOST_BYTES, foreseen_bytes

    size = foreseen_bytes(vocabulary, config.model)
    if size <= MOST_BYTES:
        return None
    return (
        f"note: `duet export` will refuse this model: its weights take {size / 2**30:.1f} GiB, and a graph holds "
        "less than 2; train with fewer items, a smaller --width, or fewer model.cloud.neighbours"
    )


def told_passes(passes: int) -> str:
    """So many passes, in words."""
    return f"{passes} pass{'es' * (passes != 1)}"


class CloudFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A cloud model: its run, its models by name, what was chosen to count in its ranking, and what that has on the
    validation part.
    """

    run: str
    members: list[str]
    counts: dict[str, float]
    validation_ndcg10: float = msgspec.field(name="validation_ndcg@10")


def cloud_of(root: Path, model: Recommender | CloudModel) -> CloudFacts | None:
    """The cloud model of a finished run; None where it has none, or where its run is gone or has other weights now.

    Args:
        root: of the run.
        model: of the run.
    """
    from duetgen.recommender import Recommender
    from duetgen.training.run import RunFolder, load_run

    folder = RunFolder(root)
    environment = folder.read_environment()
    config = folder.read_config(environment)
    members = config.model.cloud.members
    own = folder if config.model.method == "cloud" else RunFolder(Path(config.cloud_model or folder.cloud))
    if not members or not own.environment.is_file():
        return None
    there = own.read_environment()
    if environment.cloud_model_sha256 not in ("", there.weights_sha256):
        return None
    # What only learns from a cloud model does not hold it.
    held = model.cloud if isinstance(model, Recommender) else model
    held = load_run(own.root).cloud_model if held is None else held
    return CloudFacts(run=str(own.root), members=list(members), counts=held.counts(), validation_ndcg10=there.best)


def trust_of(model: Recommender | CloudModel) -> dict[str, dict[int, float]] | None:
    """How much each part of theta counts, by its age in events; None where a run makes none."""
    from duetgen.core import AGES
    from duetgen.recommender import Recommender

    if not isinstance(model, Recommender) or model.trust is None:
        return None
    curves = [model.trust.weights_A, *model.trust.opinions_JA]
    names = ["weights", *(model.cloud.advisers if model.cloud is not None else ())]
    return {
        name: dict(zip(AGES, (round(value, 4) for value in curve_A.tolist()))) for name, curve_A in zip(names, curves)
    }


def in_words(name: str, curve: dict[int, float]) -> str:
    """How much a part counts: `weights count 1.00 fresh, 0.50 at 5 events, nothing from 20 events on`."""
    counts = "count" if name == "weights" else "counts"
    if not any(curve.values()):
        return f"{name} {counts} nothing"
    said = [f"{curve[age]:.2f} {f'at {age} events' if age else 'fresh'}" for age in TOLD_AGES if curve[age]]
    gone = next((f"nothing from {age} events on" for age in TOLD_AGES if not curve[age]), None)
    return f"{name} {counts} {', '.join([*said, *([gone] if gone else [])])}"


def told_cloud(config: TrainConfig) -> str:
    """What a cloud model is made of, in one line."""
    cloud = config.model.cloud
    recurrent = f" beside a GRU4Rec of width {cloud.recurrent_width}" if cloud.recurrent_width else ""
    members = [f"SASRec of width {cloud.width}{recurrent}" if name == "sequence" else name for name in cloud.members]
    return f"{' and '.join(members)}, history of {config.model.history.length} events"


def told(config: TrainConfig) -> str:
    """What the dataset has decided, or somebody has set, in one line."""
    backbone, optimiser, objective = config.model.backbone, config.optimiser, config.objective
    loss = {"softmax": "softmax", "sampled": f"softmax over {objective.negatives:,} drawn items"}.get(
        objective.kind, "bce"
    )
    met = "; what a device has met is left out of the loss" if objective.met == "hide" else ""
    return (
        f"width {backbone.width}, window {backbone.window}, dropout {backbone.dropout}, {loss}, at most "
        f"{told_passes(optimiser.epochs)}, batches of {optimiser.batch_positions:,} positions{met}"
    )
