"""What DUET is compared with: every method by name, each fitted on a dataset folder to something that can be measured.

A method turns a dataset and the settings that all methods share into a model that `evaluation.evaluate` takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
from torch import nn

from duetgen.data.store import Dataset
from duetgen.training import TrainConfig, load_run, train
from duetgen.training.loop import Progress

Family = Literal["global", "generated", "finetuned", "counting"]


@dataclass(frozen=True)
class Fitted:
    """A model that can be measured, and what it took.

    Attributes:
        model: a recommender, see `evaluation.protocols.Recommender`.
        seconds: spent on fitting, in this process and those before that it went on from.
        root: the run folder, where there is one.
    """

    model: nn.Module
    seconds: float
    root: Path | None = None


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
        fit: (dataset, shared settings, folder to keep what is made in, progress) to the fitted model; the same call on
            an unfinished folder goes on where it stopped.
    """

    name: str
    description: str
    family: Family
    fit: Callable[[Dataset, TrainConfig, Path, Progress | None], Fitted]
    uses_backbone: bool = True
    seeded: bool = True


def trained(change: Callable[[TrainConfig, Dataset], TrainConfig]) -> Callable[..., Fitted]:
    """A method that is a training run with changed settings."""

    def fit(dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress | None) -> Fitted:
        result = train(dataset, change(config, dataset), folder, progress=progress)
        return Fitted(load_run(folder).model, result.seconds, folder)

    return fit


def with_method(name: Literal["base", "duet"]) -> Callable[[TrainConfig, Dataset], TrainConfig]:
    """The shared settings with `model.method` set."""
    return lambda config, dataset: msgspec.structs.replace(
        config, model=msgspec.structs.replace(config.model, method=name)
    )


METHODS: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        Method("base", "one global model for every device", "global", trained(with_method("base"))),
        Method("duet", "the global model and generated parameters", "generated", trained(with_method("duet"))),
    )
}
"""Every method by name, in the order of tables."""
