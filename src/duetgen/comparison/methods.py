"""What DUET is compared with: every method by name, each fitted on a dataset folder to something that can be measured.

A method turns a dataset and the settings that all methods share into a model that `evaluation.evaluate` takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from torch import nn

from duetgen.comparison import changes, counts
from duetgen.comparison.changes import Change, duet, with_settings
from duetgen.comparison.runs import FinishedRun, open_run
from duetgen.data.store import Dataset
from duetgen.training import TrainConfig, load_run, recommender_of, train
from duetgen.training.progress import Progress
from duetgen.training.run import NotARunError, RunFolder

Family = Literal["global", "generated", "finetuned", "counting"]


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
            events, `counting` learns no weights.
        uses_backbone: whether it differs between backbones.
        seeded: whether the seed changes anything.
        on_base: whether it starts from the finished base model.
        run: the finished run that it is, where it is one and no entry of `METHODS`.
        fit: (dataset, shared settings, folder to keep what is made in, progress) to the fitted model; the same call on
            an unfinished folder goes on where it stopped. One that is `on_base` also takes `base`, the folder of a
            finished base run of the same settings, and spares itself that training.
    """

    name: str
    description: str
    family: Family
    fit: Callable[..., Fitted]
    uses_backbone: bool = True
    seeded: bool = True
    on_base: bool = False
    run: FinishedRun | None = None


def trained(change: Change) -> Callable[..., Fitted]:
    """A method that is a training run with changed settings."""

    def fit(dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None) -> Fitted:
        result = train(dataset, change(config, dataset), folder, progress=progress)
        return Fitted(load_run(folder).model, result.seconds, folder, result.best)

    return fit


def trained_on_base(change: Change) -> Callable[..., Fitted]:
    """A method that trains a generator for the finished base model; `base` may name a base run to take."""

    def fit(
        dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None, base: Path | None = None
    ) -> Fitted:
        start = train(dataset, changes.base(config, dataset), base or folder / "base", progress=progress)
        own = with_settings(change(config, dataset), {"global_model": str(start.root)})
        result = train(dataset, own, folder / "run", progress=progress)
        return Fitted(load_run(result.root).model, start.seconds + result.seconds, result.root, result.best)

    return fit


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
    families: dict[str, Family] = {"base": "global", "duet": "generated"}

    def fit(dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None) -> Fitted:
        found, loaded = open_run(Path(run.path), dataset)
        if found != run:
            raise NotARunError(f"{run.path} has changed since the comparison began", "give the same command again")
        model = recommender_of(loaded, dataset)
        return Fitted(model, loaded.environment.seconds, loaded.root, settings=loaded.settings())

    description = f"a finished run, {run.backbone}"
    family = families.get(run.kind, "finetuned")
    return Method(name, description, family, fit, uses_backbone=False, seeded=False, run=run)


def counting(name: str, description: str, make: Callable[[Dataset, TrainConfig], nn.Module]) -> Method:
    """A method that counts: no backbone, no seed."""
    return Method(name, description, "counting", counted(make), uses_backbone=False, seeded=False)


def run_of(name: str, description: str, family: Family, change: Change) -> Method:
    """A method that is a training run."""
    return Method(name, description, family, trained(change))


def finetuned_of(name: str, description: str, scope: Literal["head", "whole"]) -> Method:
    """A method that trains a copy of the base model for each device."""
    return Method(name, description, "finetuned", finetuning(scope), on_base=True)


def generated(name: str, description: str, **settings: Any) -> Method:
    """A method that generates theta, by the settings that are its own; `__` stands for the dot in their names."""
    return run_of(name, description, "generated", duet(**settings))


def on_base(name: str, description: str, **settings: Any) -> Method:
    """A method that generates theta for the finished base model, by the settings that are its own."""
    return Method(name, description, "generated", trained_on_base(duet(**settings)), on_base=True)


LOW_RANK: Final = {"model__backbone__head": "low-rank", "model__generator__candidates": 1}
"""Settings of APG."""

METHODS: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        counting("popular", "what was met most often in training", counts.popular),
        counting("recent-popular", "what was met most often in the newest tenth of training", counts.recent_popular),
        counting("item-knn", "cosines with the items of the history", counts.item_knn),
        counting("ease", "linear weights from the items of the history (EASE)", counts.ease),
        run_of("base", "one global model for every device", "global", changes.base),
        run_of("base-small", "base at half its width", "global", changes.base_small),
        run_of("base-wide", "base with as many parameters as base and generator", "global", changes.base_wide),
        run_of("base-long", "base that reads the generator's history on the device", "global", changes.base_long),
        finetuned_of("finetune", "base, its head trained on each device's events", "head"),
        finetuned_of("finetune-whole", "base, all trained on each device's events", "whole"),
        # The Stable Weight Adapter is DUET's own: APG, FiLM and concat have one candidate, which reads all views.
        generated("apg", "small generated cores between shared matrices (APG)", **LOW_RANK),
        on_base("apg-on-base", "APG, trained for the finished base model, which is kept", **LOW_RANK),
        generated(
            "film",
            "generated scales and shifts of each layer (FiLM)",
            model__backbone__head="scale",
            model__generator__candidates=1,
        ),
        run_of("concat", "a generated vector as one more input of a static head", "generated", changes.concat),
        generated("duet", "the global model and generated parameters"),
        on_base("duet-on-base", "DUET, the generator trained for the finished base model, which is kept"),
        run_of("duet-low-rank", "DUET, decoders of a quarter of their rank", "generated", changes.duet_low_rank),
        generated("duet-no-swa", "DUET, without the Stable Weight Adapter", model__generator__candidates=1),
        generated(
            "duet-gru",
            "DUET, a GRU with an item embedding of its own",
            model__history__encoder="gru",
            model__history__share_embedding=False,
            model__generator__candidates=1,
        ),
        generated("duet-replacing", "DUET, theta replaces the global head", model__backbone__residual=False),
        generated("duet-no-joint", "DUET, without the loss of the global model", objective__fallback_weight=0.0),
        generated("duet-fresh", "DUET, trained with fresh theta only", objective__staleness=0),
        run_of("duet-short", "DUET, the generator reads the device's window", "generated", changes.duet_short),
        generated(
            "duet-frozen",
            "control: a random generator that is never trained",
            model__generator__frozen=True,
            model__history__share_embedding=False,
            model__generator__decoder_scale=changes.VISIBLE_SCALE,
        ),
        run_of("duet-paper", "the published set-up", "generated", changes.duet_paper),
    )
}
"""Every method by name, in the order of tables."""
