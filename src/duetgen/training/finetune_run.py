"""A run of fine-tuning: the global model, and how many steps at which rate its copies are best trained.

What each device trains is made when it is asked for (`finetune.FineTuned`); the run folder holds the global model's
weights and, in `finetune.json`, what was chosen on the validation part and all that was tried.
"""

from __future__ import annotations

import itertools
import time
from typing import Final

import msgspec
import torch
from torch import Tensor, nn

from duetgen.data.store import Dataset
from duetgen.documents import damaged, encode_sealed, read_sealed
from duetgen.files import write_bytes
from duetgen.recommender import Recommender
from duetgen.training.checkpoint import Counters
from duetgen.training.config import FineTuneConfig, TrainConfig
from duetgen.training.finetune import FineTuned
from duetgen.training.frozen_base import freeze_global_model
from duetgen.training.loop import Validate
from duetgen.training.processes import Processes
from duetgen.training.progress import Progress
from duetgen.training.run import AGAIN, Run, RunFolder

STEPS: Final = (2, 5, 15)
RATES: Final = (1e-4, 3e-4, 1e-3, 3e-3)


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """Steps and learning rate, and what they gave on the validation part."""

    steps: int
    learning_rate: float
    validation_ndcg10: float


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """`finetune.json`: the best of what was tried so far; at a tie the cheaper.

    Attributes:
        validation_ndcg10: what it gave on the validation part.
        base_validation_ndcg10: what the global model alone gave for the same devices.
        tried: all that was measured, in order.
        seconds: spent on choosing.
    """

    steps: int
    learning_rate: float
    validation_ndcg10: float
    base_validation_ndcg10: float
    tried: list[Tried]
    seconds: float


def read_choice(folder: RunFolder) -> Choice:
    """`finetune.json` of a run.

    Raises:
        DamagedError: it is missing or malformed.
    """
    return read_sealed(folder.finetune, Choice, damaged(folder.finetune, AGAIN))


def finetuned(base: Recommender, dataset: Dataset, config: TrainConfig, settings: FineTuneConfig) -> FineTuned:
    """The global model of a run with fine-tuning by these settings."""
    counts_V = torch.from_numpy(dataset.training_counts())
    return FineTuned(base, counts_V, settings, length=config.model.history.length, seed=config.seed).eval()


def recommender_of(run: Run, dataset: Dataset) -> nn.Module:
    """What a run is measured by, see `evaluation.protocols.Recommender`: its model, or one that it fine-tunes.

    Raises:
        DamagedError: what was chosen is missing or malformed.
    """
    if run.config.model.method != "finetune":
        return run.model
    choice = read_choice(RunFolder(run.root))
    settings = msgspec.structs.replace(run.config.finetune, steps=choice.steps, learning_rate=choice.learning_rate)
    return finetuned(run.device_model, dataset, run.config, settings)


class FineTuning:
    """Takes the place of `loop.Trainer` in a run of fine-tuning.

    Args:
        base: the global model that the run begins with.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: TrainConfig,
        folder: RunFolder,
        validate: Validate,
        processes: Processes,
        base: Recommender,
    ) -> None:
        self.dataset, self.config, self.folder, self.validate = dataset, config, folder, validate
        self.processes = processes
        self.model = Recommender(dataset.vocabulary, config.model)
        freeze_global_model(self.model, base, config)
        self.model.to(processes.device)
        self.counters = Counters()
        self.best: dict[str, Tensor] = {}
        self.tried: list[Tried] = []
        self.base_ndcg: float | None = None
        self.seconds = 0.0

    def resume(self) -> None:
        """Go on with what was tried before.

        Raises:
            DamagedError: `finetune.json` is malformed.
        """
        found = self.folder.finetune
        choice = self.processes.of_first(lambda: read_choice(self.folder) if found.is_file() else None)
        if choice is not None:
            self.tried, self.base_ndcg, self.seconds = choice.tried, choice.base_validation_ndcg10, choice.seconds

    def run(self, progress: Progress) -> None:
        """Measure every pair of steps and rate."""
        self.best = self.model.state_dict()
        settings = self.config.finetune
        model = finetuned(self.model, self.dataset, self.config, settings).to(self.processes.device)
        if self.base_ndcg is None:
            self.base_ndcg = self.validate(self.model, self.dataset)
        rates = [settings.learning_rate] if settings.learning_rate else RATES
        pairs = list(itertools.product([settings.steps] if settings.steps else STEPS, rates))
        for steps, rate in pairs[len(self.tried) :]:
            begun = time.monotonic()
            model.config = msgspec.structs.replace(settings, steps=steps, learning_rate=rate)
            ndcg = self.validate(model, self.dataset)
            self.tried.append(Tried(steps=steps, learning_rate=rate, validation_ndcg10=ndcg))
            self.seconds += time.monotonic() - begun
            self.keep(self.base_ndcg)
            progress.tried(len(self.tried), len(pairs), steps, rate, ndcg)
        self.counters.best = max(one.validation_ndcg10 for one in self.tried)
        self.counters.seconds += self.seconds

    def keep(self, base_ndcg: float) -> None:
        """Write `finetune.json`."""
        best = max(self.tried, key=lambda one: one.validation_ndcg10)
        choice = Choice(
            steps=best.steps,
            learning_rate=best.learning_rate,
            validation_ndcg10=best.validation_ndcg10,
            base_validation_ndcg10=base_ndcg,
            tried=self.tried,
            seconds=self.seconds,
        )
        if self.processes.first:
            write_bytes(self.folder.finetune, encode_sealed(choice))
