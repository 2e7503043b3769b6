"""A run of a cloud model: the backbones of its sequence model are trained like any other, its table is counted, and
what is left to choose is chosen on the validation part.

Shapes: V items, J models.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.baselines.counting import incidence
from duetgen.baselines.ease import gram, solve
from duetgen.baselines.item_knn import neighbours
from duetgen.cloudmodel import CloudList, CloudModel
from duetgen.cloudmodel.graph import GraphModel
from duetgen.cloudmodel.sequence import SequenceModel
from duetgen.cloudmodel.table import HALF_LIVES, TableModel, largest
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset
from duetgen.evaluation.inputs import target_items, windows
from duetgen.evaluation.scoring import SCORE_BYTES, measuring, select
from duetgen.training.checkpoint import Counters
from duetgen.training.config import TrainConfig
from duetgen.training.processes import Processes
from duetgen.training.progress import Progress
from duetgen.training.run import RunFolder, TrainResult, load_run
from duetgen.training.within import sequence_configs

AGES: Final = (0, 5, 20)
"""Ages, in events, at which the half-life of a table is chosen: its opinion is to be worth something when it is old."""
RECURRENT_SHARES: Final = (0.0, 0.25, 0.5, 0.75)
"""What the GRU4Rec of a sequence model may count in the mean with its SASRec."""
SHARES: Final = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""What a table's scores may count in the common ranking, beside log-likelihoods of the sequence model."""
REGULARISATION: Final = 300.0
SCALES: Final = tuple(0.02 * 2 ** (step / 2) for step in range(16))
"""From hardly any preference to nothing but preference, for scores of unit variance."""
SCALED_DEVICES: Final = 2_000
"""Devices of the validation part that the scale of a table is fitted on, at most."""

KEPT_BYTES: Final = 2**28
"""Of scores of each model that are kept while it is chosen what a table counts."""

Measure = Callable[[nn.Module, tuple[int, ...]], float]
"""`ndcg@10` of a personal recommender on the validation part, the mean over ages of its theta."""


class CloudFitting:
    """Takes the place of `loop.Trainer` in a run of a cloud model.

    Args:
        measure: see `Measure`.
        train_backbone: trains a backbone of the sequence model, by its name and settings, or goes on with it.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: TrainConfig,
        folder: RunFolder,
        measure: Measure,
        processes: Processes,
        train_backbone: Callable[[str, TrainConfig], TrainResult],
    ) -> None:
        self.dataset, self.config, self.folder, self.measure = dataset, config, folder, measure
        self.processes, self.train_backbone = processes, train_backbone
        self.model = CloudModel(dataset.vocabulary, config.model.history.length, config.model.cloud, config.model.met)
        self.model.eval()
        self.counters = Counters()
        self.best: dict[str, Tensor] = {}

    def resume(self) -> None:
        """What has a folder of its own goes on there; the rest takes seconds."""

    def run(self, progress: Progress) -> None:
        """Train, count, and choose half-life and shares."""
        if "sequence" in self.model.members:
            for name, own in sequence_configs(self.config).items():
                start = self.train_backbone(name, own)
                self.counters.seconds += start.seconds
                self.processes.of_first(partial(self.take, name, start.root))
        begun = time.monotonic()
        # Of a graph every process reads its own: its size is known to none before.
        take_graph(self.model, self.dataset)
        self.processes.of_first(lambda: count(self.model, self.dataset))
        self.processes.share_weights(self.model)
        self.model.to(self.processes.device)
        self.choose()
        self.counters.seconds += time.monotonic() - begun
        self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}

    def take(self, name: str, root: Path) -> None:
        """Put the weights of a finished base run into the sequence model."""
        sequence = self.model.members["sequence"]
        assert isinstance(sequence, SequenceModel)
        sequence.backbones[name].load_state_dict(load_run(root).device_model.backbone.state_dict())

    def choose(self) -> None:
        """What a GRU4Rec counts in the sequence model; the half-life of the table, then what it counts beside that."""
        if not len(self.dataset.targets("valid")):
            return
        for place, model in enumerate(self.model.members.values()):
            if isinstance(model, SequenceModel) and model.recurrent is not None:
                self.alone(place)
                self.best_of(RECURRENT_SHARES, model.share, (0,))
            if isinstance(model, TableModel):
                self.alone(place)
                self.best_of(HALF_LIVES, model.half_life, AGES)
            self.model.shares_J.fill_(1)
            if isinstance(model, GraphModel | TableModel):
                fit_scale(model, self.dataset, self.model.window, self.config)
            if isinstance(model, TableModel) and len(self.model.members) > 1:
                with kept(self.model.members):
                    self.best_of(SHARES, self.model.shares_J[place], (0,))
        self.counters.best = self.measure(CloudList(self.model), (0,))

    def alone(self, place: int) -> None:
        """Let one model alone count."""
        self.model.shares_J.zero_()[place] = 1

    def best_of(self, values: tuple[float, ...], setting: Tensor, ages: tuple[int, ...]) -> None:
        """Leave a setting at the value that is best on the validation part, the first of those at a tie."""
        found = []
        for value in values:
            setting.fill_(value)
            found.append(self.measure(CloudList(self.model), ages))
        setting.fill_(values[max(range(len(values)), key=lambda one: found[one])])


class Kept(nn.Module):
    """A model that is asked the same again while it is chosen how much it counts: what it said is kept while there is
    room.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.left = model, KEPT_BYTES
        self.known: dict[bytes, Tensor] = {}

    def forward(self, history_BL: Tensor) -> Tensor:
        """As the model says: [B, V]."""
        asked = history_BL.cpu().numpy().tobytes()
        if (scores_BV := self.known.get(asked)) is not None:
            return scores_BV
        said_BV: Tensor = self.model(history_BL)
        if said_BV.nbytes <= self.left:
            self.left -= said_BV.nbytes
            self.known[asked] = said_BV
        return said_BV


@contextlib.contextmanager
def kept(members: nn.ModuleDict) -> Iterator[None]:
    """Keep what each of some models says."""
    own = dict(members.items())
    members.update({name: Kept(model) for name, model in own.items()})
    try:
        yield
    finally:
        members.update(own)


def take_graph(model: CloudModel, dataset: Dataset) -> None:
    """Read the user's own graph."""
    for graph in model.members.values():
        if isinstance(graph, GraphModel):
            from duetgen.cloudmodel.graph_file import read_graph

            graph.take(read_graph(model.config.graph, model.config.ids, dataset, model.window))


def count(model: CloudModel, dataset: Dataset) -> None:
    """Count the tables from the training part."""
    for name, member in model.members.items():
        if isinstance(member, TableModel):
            near_VK, weight_VK = count_table(name, dataset, member.near_VK.shape[1])
            member.near_VK.copy_(near_VK)
            member.weight_VK.copy_(weight_VK)


def count_table(name: str, dataset: Dataset, size: int) -> tuple[Tensor, Tensor]:
    """The nearest items of each, of `ease` or `item-knn`, and their weights, the largest first: [V, K]."""
    if name == "ease":
        return largest(solve(gram(dataset), REGULARISATION), size)
    return neighbours(incidence(dataset), size)


def fit_scale(model: TableModel | GraphModel, dataset: Dataset, length: int, config: TrainConfig) -> None:
    """Set the scale at which a softmax of the scores has the least log loss on the validation part."""
    selection = select(dataset, "valid", min(SCALED_DEVICES, config.validation_devices), config.seed)
    targets = selection.targets.take(np.flatnonzero(target_items(dataset, selection.targets) != UNKNOWN))
    model.scale.fill_(1)
    size = max(1, SCORE_BYTES // (4 * dataset.vocabulary))
    loss_S = torch.zeros(len(SCALES), dtype=torch.float64)
    with measuring(model) as place:
        for first in range(0, len(targets), size):
            few = targets.take(slice(first, first + size))
            scores_BV = model(torch.from_numpy(windows(dataset, few, length)).to(place))[:, FIRST_ITEM:]
            own_B = torch.from_numpy(target_items(dataset, few) - FIRST_ITEM).to(place)
            losses = [functional.cross_entropy(scale * scores_BV, own_B, reduction="sum") for scale in SCALES]
            loss_S += torch.stack(losses).double().cpu()
    model.scale.fill_(SCALES[int(loss_S.argmin())])
