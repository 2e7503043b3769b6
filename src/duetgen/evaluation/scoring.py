"""The targets that are measured, and their scores: in batches, each distinct history of a batch generates theta once.

Shapes: B targets of a batch, H distinct histories of a batch, L history length, N targets, U devices, P values in
theta.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from torch import nn

from duetgen.data.store import Dataset, Int64, Part, Targets
from duetgen.evaluation.conditions import Condition
from duetgen.evaluation.errors import NothingToEvaluateError, VocabularyMismatchError
from duetgen.evaluation.inputs import HistoryReader, windows
from duetgen.evaluation.metrics import Float64
from duetgen.evaluation.protocols import Collector, Ranking, Recommender, Scored, Scores

SCORE_BYTES: Final = 64 * 2**20
"""Most memory that the scores of one batch take."""
MAX_BATCH: Final = 1024
PAIRWISE_COST: Final = 256
"""How many values a model that reads the window anew for each candidate holds for each score, roughly."""


class Helpers(Protocol):
    """Processes that share the work: `total` adds up, over all of them, values that are 0 in all but one."""

    rank: int
    world: int

    def total(self, value_N: Float64) -> Float64:
        """The sum over all processes: [N]."""


@dataclass
class Alone:
    """No other process."""

    rank: int = 0
    world: int = 1

    def total(self, value_N: Float64) -> Float64:
        """The same."""
        return value_N


ALONE: Final = Alone()

Progress = Callable[[str, int, int], None]
"""What an evaluation tells while it goes on: under the condition named, so many of so many targets are scored."""


@dataclass(frozen=True)
class Selection:
    """The targets that are measured, out of all of a part."""

    everyone: Targets
    index_N: Int64
    targets: Targets
    device_U: Int64
    slot_N: Int64
    devices_in_part: int


def check_vocabulary(model: Recommender, dataset: Dataset) -> None:
    """Refuse a model that numbers other items.

    Raises:
        VocabularyMismatchError: the sizes differ.
    """
    if model.vocabulary != dataset.vocabulary:
        raise VocabularyMismatchError(
            f"the model knows {model.vocabulary} item indices, {dataset.manifest.name} has {dataset.vocabulary}",
            "evaluate a model on the dataset folder that it was trained on",
        )


def select(dataset: Dataset, part: Part, limit_devices: int | None, seed: int) -> Selection:
    """All targets of a part, or those of a seeded choice of devices.

    Raises:
        NothingToEvaluateError: there is none.
    """
    if limit_devices is not None and limit_devices < 1:
        raise NothingToEvaluateError(f"{limit_devices} devices were asked for", "ask for 1 or more, or for no limit")
    everyone = dataset.targets(part)
    device_U = np.unique(everyone.device_N)
    if not len(device_U):
        raise NothingToEvaluateError(
            f"the {part} part of {dataset.manifest.name} has no target to predict",
            "give a longer log, filter less, or split by leave-one-out",
        )
    index_N, found = np.arange(len(everyone)), len(device_U)
    if limit_devices is not None and limit_devices < found:
        device_U = np.sort(np.random.default_rng([seed, 0]).choice(device_U, limit_devices, replace=False))
        index_N = np.flatnonzero(np.isin(everyone.device_N, device_U))
    targets = everyone.take(index_N)
    slot_N = np.searchsorted(device_U, targets.device_N)
    return Selection(everyone, index_N, targets, device_U, slot_N, found)


@contextlib.contextmanager
def measuring(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients; afterwards every module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    tensor: torch.Tensor | None = next(model.parameters(), None)
    if tensor is None:
        tensor = next(model.buffers(), None)
    try:
        with torch.inference_mode():
            yield torch.device("cpu") if tensor is None else tensor.device
    finally:
        for module, training in modes:
            module.training = training


def is_pairwise(model: Recommender) -> bool:
    """Whether it reads the window anew for each candidate."""
    return bool(getattr(getattr(model, "backbone", model), "pairwise", False))


def batch_size(model: Recommender) -> int:
    """How many targets are scored at a time, so that scores of the catalogue take at most `SCORE_BYTES`."""
    cost = PAIRWISE_COST if is_pairwise(model) else 1
    return max(1, min(MAX_BATCH, SCORE_BYTES // (4 * model.vocabulary * cost)))


def score(
    model: Recommender,
    dataset: Dataset,
    selection: Selection,
    condition: Condition,
    rankings: Sequence[Ranking],
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
    helpers: Helpers = ALONE,
    size: int | None = None,
) -> list[Scored]:
    """Score the selected targets under one condition, for each protocol; of several processes each its own batches.

    What is not this process's is 0. So many targets are scored at a time as `batch_size` says, or `size`.
    """
    total, size = len(selection.targets), size or batch_size(model)
    reader = None
    if condition.kind != "zero":
        length = model.generator_history
        reader = HistoryReader(dataset, selection.everyone, selection.index_N, condition, length, seed)
    collectors = [Collector(total) for _ in rankings]
    for first in range(helpers.rank * size, total, helpers.world * size):
        rows = slice(first, min(first + size, total))
        window_BL = torch.from_numpy(windows(dataset, selection.targets.take(rows), model.window)).to(device)
        theta = None
        if reader is not None:
            history_HL, which_B = reader.read(rows)
            theta = model.trusted(model.generate(torch.from_numpy(history_HL).to(device)), condition.staleness)
            if condition.part is not None:
                theta = theta.only(condition.part)
            if not np.array_equal(which_B, np.arange(len(history_HL))):
                theta = theta[torch.from_numpy(which_B).to(device)]
        scores = Scores(model, window_BL, theta)
        for ranking, collector in zip(rankings, collectors):
            collector.add(rows, ranking.rank(scores, rows))
        if progress is not None:
            progress(condition.name, rows.stop, total)
    return [collector.result() for collector in collectors]
