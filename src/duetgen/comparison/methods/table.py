"""What DUET is compared with: every method by name, each fitted on a dataset folder to something that can be measured.

A method turns a dataset and the settings that all methods share into a model that `evaluation.evaluate` takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from torch import nn

from duetgen.cloudmodel import CloudList, CloudModel
from duetgen.comparison.methods import changes, counts
from duetgen.comparison.methods.changes import Change, with_settings
from duetgen.comparison.methods.ensemble import ensemble
from duetgen.comparison.methods.runs import FinishedRun, open_run
from duetgen.data.store import Dataset
from duetgen.training import TrainConfig, TrainResult, load_run, recommender_of, train
from duetgen.training.config import InvalidConfigError
from duetgen.training.defaults import fill_in
from duetgen.training.frozen_base import better, knows_more
from duetgen.training.progress import Progress
from duetgen.training.run import NotARunError, RunFolder

Family = Literal["global", "generated", "finetuned", "counting", "cloud"]
Start = Literal["base", "cloud", "base-distilled"]
BASES: Final[tuple[Start, ...]] = ("base", "base-distilled")
"""Of these the best one on the validation part is kept."""


@dataclass(frozen=True)
class Fitted:
    """A model that can be measured, and what it took.

    Attributes:
        model: a recommender, see `evaluation.protocols.Recommender`.
        seconds: spent on fitting, in this process and those before that it went on from.
        root: the run folder, where there is one.
        validation: `ndcg@10` on the validation part of the training pass that was kept, where there were passes.
        settings: its own, where they are not those of the comparison.
    """

    model: nn.Module
    seconds: float
    root: Path | None = None
    validation: float | None = None
    settings: dict[str, Any] | None = None


@dataclass(frozen=True)
class Method:
    """A way to rank, as `duet compare --methods` names it.

    Attributes:
        name: as the command line and `results.json` have it.
        description: one line for people.
        family: `global` has one model for all, `generated` generates theta, `finetuned` trains on each device's own
            events, `counting` learns no weights, `cloud` ranks on the cloud.
        uses_backbone: whether it differs between backbones.
        seeded: whether the seed changes anything.
        uses: the methods whose finished runs it begins with.
        run: the finished run that it is, where it is one and no entry of `METHODS`.
        fit: (dataset, shared settings, folder to keep what is made in, progress) to the fitted model; the same call on
            an unfinished folder goes on where it stopped. It also takes, by the names in `uses`, the folders of
            finished runs of the same settings, and spares itself these trainings.
    """

    name: str
    description: str
    family: Family
    fit: Callable[..., Fitted]
    uses_backbone: bool = True
    seeded: bool = True
    uses: tuple[Start, ...] = ()
    run: FinishedRun | None = None


def start(
    name: Start, dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None, given: Path | None
) -> TrainResult | None:
    """The finished run that a method begins with: the one that is given, else one that is trained in `folder`.

    A cloud model that the shared settings name is taken before both; None where they leave it out.
    """
    if name == "cloud" and config.cloud_model:
        given = Path(config.cloud_model)
    elif name == "cloud" and (config.model.cloud.kind == "none" or config.feed == "rows"):
        return None
    if given is None:
        change = {"base": changes.base, "cloud": changes.cloud, "base-distilled": changes.base_distilled}[name]
        return train(dataset, change(config, dataset), folder, progress=progress)
    run = load_run(given)
    run.check_dataset(dataset)
    return TrainResult(run.root, -1, run.environment.best, 0, run.environment.seconds, True)


def trained(change: Change, uses: tuple[Start, ...] = ()) -> Callable[..., Fitted]:
    """A method that is a training run with changed settings; what it `uses` is trained first, or given by name."""

    def fit(dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None, **given: Path) -> Fitted:
        own, found = change(config, dataset), dict[Start, TrainResult]()
        for name in uses:
            if name == "base-distilled" and not teaches(own, dataset, found):
                continue
            first = start(name, dataset, config, folder / name, progress, given.get(name))
            if first is not None:
                found[name] = first
            if name == "cloud" and first is not None:
                config, own = (with_settings(one, {"cloud_model": str(first.root)}) for one in (config, own))
        bases = [found[name].root for name in BASES if name in found]
        if bases:
            own = with_settings(own, {"global_model": str(better(bases))})
        result = train(dataset, own, folder / "run" if uses else folder, progress=progress)
        seconds = sum(first.seconds for first in found.values())
        return Fitted(load_run(result.root).model, seconds + result.seconds, result.root, result.best)

    return fit


def teaches(config: TrainConfig, dataset: Dataset, found: dict[Start, TrainResult]) -> bool:
    """Whether `duet train` would train a second base model, which learns from the cloud model too."""
    asked = "cloud" in found and fill_in(config, dataset).objective.base_distillation not in ("auto", 0)
    return asked and knows_more(found["cloud"].root, found["base"].root)


def ranked_on_cloud(make: Callable[[CloudModel], nn.Module], own: bool = False) -> Callable[..., Fitted]:
    """A method that is a cloud model, or what is made of it; `cloud` may name the run to take.

    Args:
        make: of the cloud model to what is measured.
        own: whether the run is the method's own, and lies in its folder.
    """

    def fit(
        dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None, cloud: Path | None = None
    ) -> Fitted:
        found = start("cloud", dataset, config, folder if own else folder / "cloud", progress, cloud)
        if found is None:
            raise InvalidConfigError("there is no cloud model to rank by", "leave the method out, or choose one")
        # A run that is named need not have been validated on the devices of this comparison.
        validation = None if config.cloud_model else found.best
        return Fitted(make(load_run(found.root).cloud_model), found.seconds, found.root, validation)

    return fit


def fit_ensemble(
    dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None, base: Path | None = None
) -> Fitted:
    """The base model and a table of each item's nearest ones; `base` may name a base run to take."""
    found = start("base", dataset, config, folder / "base", progress, base)
    assert found is not None
    begun = time.monotonic()
    model, validation = ensemble(load_run(found.root).device_model, dataset, config)
    return Fitted(model, found.seconds + time.monotonic() - begun, found.root, validation)


def finetuning(scope: Literal["head", "whole"]) -> Callable[..., Fitted]:
    """A method that fine-tunes a part of the base model for each device; `base` may name a base run to start from.

    It has no figure for `Fitted.validation`: what chose its steps and rate was measured on few devices.
    """

    def fit(
        dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None, base: Path | None = None
    ) -> Fitted:
        own = changes.finetune(scope)(config, dataset)
        seconds = 0.0
        if base is not None:
            own = with_settings(own, {"global_model": str(base)})
            seconds = RunFolder(base).read_environment().seconds
        result = train(dataset, own, folder, progress=progress)
        return Fitted(recommender_of(load_run(folder), dataset), seconds + result.seconds, folder)

    return fit


def counted(make: Callable[[Dataset, TrainConfig], nn.Module]) -> Callable[..., Fitted]:
    """A method that counts; it takes seconds, so nothing is kept in the folder."""

    def fit(dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None) -> Fitted:
        begun = time.monotonic()
        model = make(dataset, config).eval()
        return Fitted(model, time.monotonic() - begun)

    return fit


def finished_run(name: str, run: FinishedRun) -> Method:
    """A finished run as a method: it has its own backbone and seed, and its fit loads it.

    Its validation figure is left out: it need not be of the devices that the comparison's runs are validated on.
    """
    families: dict[str, Family] = {"base": "global", "cloud": "cloud", "duet": "generated"}

    def fit(dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None) -> Fitted:
        found, loaded = open_run(Path(run.path), dataset)
        if found != run:
            raise NotARunError(f"{run.path} has changed since the comparison began", "give the same command again")
        model = recommender_of(loaded, dataset)
        return Fitted(model, loaded.environment.seconds, loaded.root, settings=loaded.settings())

    description = "a finished cloud model" if run.kind == "cloud" else f"a finished run, {run.backbone}"
    family = families.get(run.kind, "finetuned")
    return Method(name, description, family, fit, uses_backbone=False, seeded=False, run=run)


def counting(name: str, description: str, make: Callable[[Dataset, TrainConfig], nn.Module]) -> Method:
    """A method that counts: no backbone, no seed."""
    return Method(name, description, "counting", counted(make), uses_backbone=False, seeded=False)


def run_of(name: str, description: str, family: Family, change: Change, uses: tuple[Start, ...] = ()) -> Method:
    """A method that is a training run."""
    return Method(name, description, family, trained(change, uses), uses=uses)


def finetuned_of(name: str, description: str, scope: Literal["head", "whole"]) -> Method:
    """A method that trains a copy of the base model for each device."""
    return Method(name, description, "finetuned", finetuning(scope), uses=("base",))


def generated(name: str, description: str, **settings: Any) -> Method:
    """A method that generates weights, by the settings that are its own; `__` stands for the dot in their names.

    They are generated for the base model, unless it is trained jointly.
    """
    uses: tuple[Start, ...] = () if settings.get("joint") else ("base",)
    return run_of(name, description, "generated", changes.weights(**settings), uses)


def cloud_of(
    name: str, description: str, make: Callable[[CloudModel], nn.Module], uses: tuple[Start, ...] = ()
) -> Method:
    """A method that ranks on the cloud, whatever the device model is."""
    return Method(name, description, "cloud", ranked_on_cloud(make, own=not uses), uses_backbone=False, uses=uses)


LOW_RANK: Final[dict[str, Any]] = {"model__backbone__head": "low-rank", "model__generator__candidates": 1}
"""Settings of APG."""

METHODS: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        counting("popular", "what was met most often in training", counts.popular),
        counting("recent-popular", "what was met most often in the newest tenth of training", counts.recent_popular),
        counting("item-knn", "cosines with the items of the history", counts.item_knn),
        counting("ease", "linear weights from the items of the history (EASE)", counts.ease),
        run_of("base", "one global model for every device", "global", changes.base),
        run_of(
            "base-distilled",
            "base, which learns from the cloud model too",
            "global",
            changes.base_distilled,
            ("cloud",),
        ),
        run_of("base-small", "base at half its width", "global", changes.base_small),
        run_of("base-wide", "base with as many parameters as base and generator", "global", changes.base_wide),
        run_of("base-long", "base that reads the generator's history on the device", "global", changes.base_long),
        Method(
            "base-ensemble",
            "base, and the device carries each item's nearest ones",
            "global",
            fit_ensemble,
            uses=("base",),
        ),
        finetuned_of("finetune", "base, its head trained on each device's events", "head"),
        finetuned_of("finetune-whole", "base, all trained on each device's events", "whole"),
        # The Stable Weight Adapter is DUET's own: APG, FiLM and concat have one candidate, which reads all views. They
        # and the variants of DUET generate weights alone.
        generated("apg", "small generated cores between shared matrices (APG)", joint=True, **LOW_RANK),
        generated("apg-on-base", "APG, trained for the finished base model, which is kept", **LOW_RANK),
        generated(
            "film",
            "generated scales and shifts of each layer (FiLM)",
            joint=True,
            model__backbone__head="scale",
            model__generator__candidates=1,
        ),
        run_of("concat", "a generated vector as one more input of a static head", "generated", changes.concat),
        cloud_of("cloud", "the cloud model, ranking on the cloud itself", lambda cloud: cloud),
        cloud_of("cloud-list", "the cloud model's list, and nothing else on the device", CloudList, ("cloud",)),
        run_of(
            "duet",
            "weights generated for the base model, and opinions of the cloud",
            "generated",
            changes.duet,
            ("base", "cloud", "base-distilled"),
        ),
        run_of(
            "duet-distilled",
            "DUET, the generator learns from the cloud model too",
            "generated",
            changes.duet_distilled,
            ("base", "cloud", "base-distilled"),
        ),
        run_of(
            "duet-joint",
            "DUET, global model and generator trained together",
            "generated",
            changes.duet_joint,
            ("cloud",),
        ),
        generated("duet-weights", "DUET, without opinions of a cloud model"),
        run_of(
            "duet-low-rank", "DUET, decoders of a quarter of their rank", "generated", changes.duet_low_rank, ("base",)
        ),
        generated("duet-no-swa", "DUET, without the Stable Weight Adapter", model__generator__candidates=1),
        generated(
            "duet-gru",
            "DUET, a GRU with an item embedding of its own",
            model__history__encoder="gru",
            model__history__share_embedding=False,
            model__generator__candidates=1,
        ),
        generated("duet-replacing", "DUET, theta replaces the global head", model__backbone__residual=False),
        generated("duet-fresh", "DUET, trained with fresh theta only", objective__staleness=0),
        run_of(
            "duet-short", "DUET, the generator reads the device's window", "generated", changes.duet_short, ("base",)
        ),
        generated("duet-joint-weights", "duet-joint, without opinions of a cloud model", joint=True),
        generated(
            "duet-joint-own",
            "the same, without the loss of the global model",
            joint=True,
            objective__fallback_weight=0.0,
        ),
        generated(
            "duet-frozen",
            "control: a random generator that is never trained",
            joint=True,
            model__generator__frozen=True,
            model__history__share_embedding=False,
            model__generator__decoder_scale=changes.VISIBLE_SCALE,
        ),
        run_of("duet-paper", "the published set-up", "generated", changes.duet_paper),
    )
}
"""Every method by name, in the order of tables."""


def encoder_note(config: TrainConfig, methods: Sequence[str]) -> str:
    """Which of the methods cannot heed a setting that the encoder reads the cloud model's state; empty where all do."""
    asked = [METHODS[name] for name in methods if name in METHODS]
    without = [method.name for method in asked if method.family == "generated" and "cloud" not in method.uses]
    if not without or not config.model.of_state:
        return ""
    return (
        f"Without a cloud model whose state {changes.ENCODER} {config.model.history.encoder!r} could read, "
        f"encoders read the history itself: {', '.join(without)}."
    )
