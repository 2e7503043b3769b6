"""What the processes of `test_processes.py` run: `python together.py DATASET OUT JOB…`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import torch
from torch import nn
from torch.nn import functional

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel import CloudConfig
from duetgen.comparison.methods.changes import with_settings
from duetgen.core import GeneratorConfig
from duetgen.data.store import Dataset
from duetgen.errors import DuetError
from duetgen.recommender import HistoryConfig, ModelConfig
from duetgen.training import ObjectiveConfig, OptimiserConfig, TrainConfig, loop, processes, train
from duetgen.training.defaults import fill_in
from duetgen.training.processes import Processes
from duetgen.training.progress import Silent
from duetgen.training.run import RunFolder

STEADY = TrainConfig(
    model=ModelConfig(
        backbone=BackboneConfig(width=8, window=4, dropout=0.0),
        history=HistoryConfig(length=12, width=8, embedding_width=8, dropout=0.0, event_dropout=0.0),
        generator=GeneratorConfig(width=8),
        cloud=CloudConfig(kind="none"),
    ),
    objective=ObjectiveConfig(staleness=3),
    joint=True,
    optimiser=OptimiserConfig(epochs=2, batch_positions=96, learning_rate=0.01, warmup_steps=5, patience=100),
)
"""Without dropout, so that nothing drawn differs between numbers of processes."""

OFTEN = msgspec.structs.replace(STEADY, checkpoint_seconds=0.0)

CONFIGS = {
    "duet": STEADY,
    "advised": with_settings(
        STEADY,
        {"optimiser.epochs": 1, "model.cloud.kind": "blend", "model.cloud.width": 8, "model.cloud.neighbours": 10},
    ),
    # A base model, a cloud model and a generator that learns from it, one after the other.
    "taught": with_settings(
        STEADY,
        {"joint": False, "optimiser.epochs": 1, "model.cloud.kind": "item-knn", "objective.distillation": 1.0},
    ),
    # Batches of a single chunk: of several processes, all but one have nothing to add.
    "lone": msgspec.structs.replace(
        STEADY, optimiser=msgspec.structs.replace(STEADY.optimiser, epochs=1, batch_positions=1)
    ),
    # Items that are drawn once for the whole batch are the same in all processes.
    "sampled": msgspec.structs.replace(
        STEADY,
        joint=False,
        model=msgspec.structs.replace(STEADY.model, method="base", name="gru4rec"),
        objective=ObjectiveConfig(kind="sampled", negatives=10),
    ),
}


SOME = ("duet", "advised")
"""Enough where another test trains all of them so."""


class Steps(Silent):
    """Counts them, and does something at one of them."""

    def __init__(self, at: int = -1, act: object = None) -> None:
        self.count, self.at, self.act = 0, at, act

    def stepped(self, step: int, loss: object, positions_per_second: float) -> None:
        self.count += 1
        if self.count == self.at:
            self.act()  # type: ignore[operator]


class PowerCutError(Exception):
    """Stands in for a power cut between two steps."""


def cut() -> None:
    raise PowerCutError


def refusal(call: object) -> list[str]:
    """Code and message of what a call refuses."""
    try:
        call()  # type: ignore[operator]
    except DuetError as error:
        return [error.code, error.message]
    return []


def whole(dataset: Dataset, out: Path, names: Iterable[str]) -> dict[str, object]:
    """Train some configs, the first among them, and try what must end all processes alike."""
    found: dict[str, object] = {}
    for name in names:
        steps = Steps()
        result = train(dataset, CONFIGS[name], out / name, progress=steps)
        found[name] = steps.count
        found[f"end of {name}"] = [result.best, result.best_epoch, result.epochs]
    mine = Processes()
    rank = mine.rank

    found["again"] = train(dataset, STEADY, out / "duet").already_finished
    (out / "occupied").mkdir(exist_ok=True)
    (out / "occupied/thesis.tex").write_text("years of work")
    found["occupied"] = refusal(lambda: train(dataset, STEADY, out / "occupied"))
    other = msgspec.structs.replace(STEADY, seed=rank)
    found["other"] = refusal(lambda: train(dataset, other, out / "other"))

    def diverges() -> None:
        # One process alone has the batch whose loss is no number.
        folder = RunFolder(out / "nan")
        trainer = loop.Trainer(dataset, fill_in(STEADY, dataset), folder, lambda model, data: 0.0, mine)
        real = trainer.step.forward

        def forward(*arguments: object) -> object:
            loss, *more = real(*arguments)  # type: ignore[arg-type]
            return (loss * (float("nan") if rank == mine.world - 1 else 1.0), *more)

        trainer.step.forward = forward  # type: ignore[assignment]
        trainer.run_epoch(Steps())

    found["nan"] = refusal(diverges)

    used = [nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([5.0]))]
    # The first is used by all, the second by the first process alone, the third by none.
    loss = 7.0 * used[0].sum() + (used[1].sum() * 11.0 if rank == 0 else 0.0)
    found["mean"] = mine.backward(used, [loss, loss.detach() * 0 + rank], [1, 3][rank % 2]).tolist()
    found["gradients"] = [None if parameter.grad is None else float(parameter.grad) for parameter in used]

    table = nn.Parameter(torch.ones(5, 1))
    read = functional.embedding(torch.tensor([[0, 1], [1, 3]][rank % 2]), table, sparse=True)
    mine.backward([table], [read.sum()], [1, 3][rank % 2], [table])
    assert table.grad is not None
    found["rows"] = [table.grad.indices()[0].tolist(), table.grad.values().flatten().tolist()]
    return found


def lose(dataset: Dataset, out: Path, job: str, act: Callable[[], None]) -> None:
    """Train until the second process does that at its third step; the first one tells what became of it."""
    rank = int(os.environ["RANK"])
    steps = Steps(3, act) if rank == 1 else Steps()
    found = refusal(lambda: train(dataset, OFTEN, out / job, progress=steps))
    (out / f"{job}-{rank}.json").write_text(json.dumps(found))
    os._exit(0)


def work(root: str, out: Path, *jobs: str) -> None:
    """Do the jobs, one after the other."""
    torch.set_num_threads(1)
    dataset = Dataset(Path(root))
    for job in jobs:
        if job in ("whole", "some"):
            found = whole(dataset, out, CONFIGS if job == "whole" else SOME)
            (out / f"found-{os.environ['RANK']}.json").write_text(json.dumps(found))
        elif job == "cut":
            with contextlib.suppress(PowerCutError):
                train(dataset, OFTEN, out / "cut", progress=Steps(7, cut))
        elif job == "killed":
            lose(dataset, out, job, lambda: os.kill(os.getpid(), signal.SIGKILL))
        elif job == "stopped":
            processes.WAIT_SECONDS = 2.0
            lose(dataset, out, job, lambda: os.kill(os.getpid(), signal.SIGSTOP))


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
