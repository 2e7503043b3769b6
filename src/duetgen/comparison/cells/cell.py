"""A cell of a comparison: one method with one backbone and one seed, fitted, measured and kept.

Shapes: U devices.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast, get_args

import msgspec
import numpy as np
import torch

from duetgen.comparison.cells.costs import measure_cost
from duetgen.comparison.cells.oscillation import measure_oscillation
from duetgen.comparison.cells.policies import measure_policies
from duetgen.comparison.cells.records import (
    FORMAT_VERSION,
    Cell,
    CellFolder,
    CellRecord,
    ConditionRecord,
    Job,
    ProtocolRecord,
)
from duetgen.comparison.methods.table import METHODS, Method, Start, finished_run
from duetgen.data.store import Dataset
from duetgen.documents import encode_sealed
from duetgen.evaluation import Condition, Evaluation, default_conditions, evaluate
from duetgen.evaluation.conditions import has_parts
from duetgen.evaluation.protocols import Recommender
from duetgen.files import write_bytes
from duetgen.training import Losses, TrainConfig
from duetgen.training.run import DatasetMismatchError

FIT_SHARE: Final = 0.8
"""How much of a cell's bar is fitting; the rest is measuring."""

Tell = Callable[[float, str], None]
"""Hears which share of a cell is done and what is going on."""


def plan_cells(backbones: Sequence[str], methods: Sequence[Method], seeds: Sequence[int]) -> list[Cell]:
    """All cells: finished runs, which are only measured, then the first seed of everything, so that an early end still
    leaves whole comparisons.

    A method without a backbone has one cell a seed, one that no seed changes has the first seed alone; a finished run
    has its own.
    """
    runs = [Cell(None, method.name, method.run.seed, method.run) for method in methods if method.run is not None]
    cells: dict[Cell, None] = {}
    for seed in seeds:
        for backbone in backbones:
            for method in methods:
                if method.run is None:
                    own = seed if method.seeded else seeds[0]
                    cells.setdefault(Cell(backbone if method.uses_backbone else None, method.name, own))
    # Within a seed: what is counted, which is quick; what others begin with; the rest.
    starts = get_args(Start)
    later = {
        method.name: (1 + bool(method.uses) if method.name in starts else 3)
        for method in methods
        if method.family != "counting"
    }
    return runs + sorted(cells, key=lambda cell: (cell.seed, later.get(cell.method, 0)))


def starts_of(cell: Cell) -> dict[Start, Cell]:
    """The cells of the same comparison whose runs a cell can begin with."""
    uses = () if cell.run is not None else METHODS[cell.method].uses
    return {name: Cell(cell.backbone if METHODS[name].uses_backbone else None, name, cell.seed) for name in uses}


def cell_config(job: Job, cell: Cell) -> TrainConfig:
    """The settings of a cell: those that all share, with its backbone and seed."""
    model = msgspec.structs.replace(job.config.model, name=cell.backbone or job.config.model.name)
    return msgspec.structs.replace(job.config, model=model, seed=cell.seed)


def conditions_of(dataset: Dataset, staleness: Sequence[int], parts: bool = False) -> list[Condition]:
    """What is measured: every age of theta, of each part alone where there are two, and the controls; a lone device has
    no other to borrow from.
    """
    ages = staleness if 0 in staleness else (0, *staleness)
    return list(default_conditions(ages, parts, dataset.targets("test").lone))


class FitProgress:
    """Turns what a training tells into a share of the cell."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.epochs, self.steps, self.epoch = tell, 1, 1, 0

    def turned(self, model: str) -> None:
        """A run trains the next of its models."""

    def started(self, epochs: int, steps: int, resumed_epoch: int) -> None:
        """A run begins or goes on."""
        self.epochs, self.steps, self.epoch = max(1, epochs), max(1, steps), resumed_epoch
        self.stepped(0, Losses(total=0.0), 0.0)

    def stepped(self, step: int, losses: Losses, positions_per_second: float) -> None:
        """A step is done."""
        done = (self.epoch + step / self.steps) / self.epochs
        self.tell(FIT_SHARE * min(1.0, done), f"epoch {min(self.epoch + 1, self.epochs)} of at most {self.epochs}")

    def measured(self, epoch: int, losses: Losses, ndcg: float, best: float) -> None:
        """An epoch is done."""
        self.epoch = epoch

    def tried(self, done: int, total: int, steps: int, learning_rate: float, ndcg: float) -> None:
        """Settings of fine-tuning are measured."""
        self.tell(FIT_SHARE, f"choosing steps and rate, {done} of {total}")


def run_cell(job: Job, cell: Cell, dataset: Dataset, folder: CellFolder, tell: Tell) -> CellRecord:
    """Fit and measure one cell and keep it; a cell that was begun before goes on, a finished one is read.

    Raises:
        DatasetMismatchError: the dataset is no longer that of the comparison.
        DuetError: whatever the method or its measurement refuses.
    """
    done = folder.read()
    if done is not None:
        return done
    if dataset.manifest.content_sha256 != job.dataset_sha256:
        raise DatasetMismatchError(
            f"{dataset.root} has changed since the comparison began",
            "put back what it was, or compare anew: --overwrite, or another --out",
        )
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.record.unlink(missing_ok=True)  # Of a run that was another one then; its devices are replaced first.
    method = METHODS[cell.method] if cell.run is None else finished_run(cell.method, cell.run)
    config = cell_config(job, cell)
    fitted = method.fit(dataset, config, folder.fit, FitProgress(tell), **finished_starts(cell, folder))
    begun = time.monotonic()
    conditions = conditions_of(dataset, job.staleness, has_parts(fitted.model))
    place = "cuda" if torch.cuda.is_available() else "cpu"
    seen: list[str] = []

    def measuring(condition: str, scored: int, total: int) -> None:
        if condition not in seen:
            seen.append(condition)
        share = min(1.0, (len(seen) - 1 + scored / max(1, total)) / len(conditions))
        tell(FIT_SHARE + (1 - FIT_SHARE) * share, f"measuring {condition}")

    # Every cell is measured with the same seed: on the same devices, with the same other devices.
    found = evaluate(
        fitted.model.to(place),
        dataset,
        protocols=job.protocols,
        conditions=conditions,
        limit_devices=job.limit_devices,
        bootstrap=0,
        seed=0,
        config=fitted.settings or cast(dict[str, Any], msgspec.to_builtins(config)),
        progress=measuring,
    )
    tell(1.0, "measuring costs")
    personal = bool(cast(Recommender, fitted.model).personal)
    oscillation = measure_oscillation(fitted.model, dataset) if personal else None
    policies = []
    if job.policies and method.family == "generated" and fitted.root is not None:
        tell(1.0, "replaying policies")
        policies = measure_policies(fitted.root, dataset, job.policies, job.protocols[0], job.limit_devices)
    evaluation_seconds = time.monotonic() - begun
    devices = device_arrays(found)
    record = CellRecord(
        format_version=FORMAT_VERSION,
        backbone=cell.backbone,
        method=cell.method,
        seed=cell.seed,
        family=method.family,
        personal=personal,
        protocols=[protocol_record(evaluation) for evaluation in found],
        cost=measure_cost(fitted.model.to("cpu"), dataset, method.family),
        oscillation=oscillation,
        fit_seconds=fitted.seconds,
        evaluation_seconds=evaluation_seconds,
        provenance=found[0].provenance,
        validation=fitted.validation,
        run=cell.run,
        devices_sha256=hashlib.sha256(devices).hexdigest(),
        policies=policies,
    )
    write_bytes(folder.devices, devices)
    write_bytes(folder.record, encode_sealed(record))
    folder.failed.unlink(missing_ok=True)
    return record


def finished_starts(cell: Cell, folder: CellFolder) -> dict[Start, Path]:
    """The finished runs of the same comparison that a cell begins with, as arguments for `Method.fit`.

    A cell that has begun with one of its own goes on with that one.
    """
    found = {name: CellFolder(folder.root.parent / other.name) for name, other in starts_of(cell).items()}
    return {
        name: other.fit / "run" if METHODS[name].uses else other.fit
        for name, other in found.items()
        if not (folder.fit / name).is_dir() and other.read() is not None
    }


def protocol_record(evaluation: Evaluation) -> ProtocolRecord:
    """What is kept of one evaluation, its devices apart."""
    return ProtocolRecord(
        protocol=evaluation.protocol,
        split=evaluation.split,
        has_time=evaluation.has_time,
        note=evaluation.note,
        devices=evaluation.devices,
        devices_in_part=evaluation.devices_in_part,
        targets=evaluation.targets,
        unknown_targets=evaluation.unknown_targets,
        met=evaluation.met,
        repeat_targets=evaluation.repeat_targets,
        candidates=evaluation.candidates,
        conditions=[
            ConditionRecord(
                name=result.name,
                metrics={name: value.mean for name, value in result.metrics.items()},
                by_history=result.by_history,
                groups=result.groups,
            )
            for result in evaluation.conditions
        ],
    )


def device_arrays(evaluations: Sequence[Evaluation]) -> bytes:
    """`devices.npz`; see `DeviceTable`."""
    arrays: dict[str, Any] = {"device": evaluations[0].by_device.device_U}
    for evaluation in evaluations:
        kept = evaluation.by_device
        for group, conditions in {"all": kept.values, **kept.groups}.items():
            for condition, metrics in conditions.items():
                for metric, value_U in metrics.items():
                    arrays[f"{evaluation.protocol}/{condition}/{group}/{metric}"] = value_U.astype(np.float32)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
