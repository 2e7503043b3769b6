"""A tiny dataset, and cells made by hand whose statistics can be worked out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duetgen.comparison.cells.costs import Cost
from duetgen.comparison.cells.oscillation import Oscillation
from duetgen.comparison.cells.records import (
    FORMAT_VERSION,
    Cell,
    CellRecord,
    ConditionRecord,
    DeviceTable,
    Job,
    ProtocolRecord,
    Work,
)
from duetgen.comparison.methods.table import METHODS
from duetgen.comparison.report.assemble import make_job, make_tables, origin_of
from duetgen.comparison.report.results import RESULTS_VERSION, DatasetFacts, Results
from duetgen.comparison.report.tables import Finished
from duetgen.comparison.report.verdict import verdict
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset
from duetgen.evaluation.averages import Group, HistoryBucket
from duetgen.evaluation.provenance import Machine, Provenance
from duetgen.training import TrainConfig

DEVICES = 30

SETTINGS = (
    "optimiser.epochs=1",
    "optimiser.batch_positions=512",
    "model.backbone.width=8",
    "model.history.width=8",
    "model.history.embedding_width=8",
    "model.history.length=20",
    "model.generator.width=8",
    "model.cloud.width=8",
)
"""One quick pass of a small model."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty simulated people, split leave-one-out."""
    root = tmp_path_factory.mktemp("comparison") / "tiny"
    simulated = SyntheticConfig(people=40, items=60, shortest=4, longest=25)
    prepare(None, root, PrepareConfig(source="synthetic", synthetic=simulated, split="leave-one-out"))
    return Dataset(root)


@pytest.fixture(scope="session")
def tiny_job(tiny: Dataset) -> Job:
    """The job of `SETTINGS` on `tiny`, both protocols."""
    from duetgen.cli.settings import build_config

    return make_job(tiny, build_config(None, {}, list(SETTINGS)), ["full", "candidates"], [0, 20], None)


def provenance() -> Provenance:
    """Where the cells made by hand come from."""
    machine = Machine(system="Linux", cpu="<i>a & b</i>", cores=2, threads=1, device="cpu")
    return Provenance(
        commit="c" * 40,
        config=None,
        dataset="made",
        dataset_sha256="0" * 64,
        versions={"duetgen": "0"},
        date="2026-01-01T00:00:00+00:00",
        machine=machine,
    )


def finished(
    method: str, seed: int = 0, shift: float = 0.0, backbone: str | None = "sasrec", parts: bool = False
) -> Finished:
    """A cell whose devices score a ramp from 0 to 0.29 plus the shift of its method, less for older theta.

    Of two parts the weights alone are worse by 0.015, the opinions alone by 0.005.
    """
    personal = method.startswith(("duet", "finetune", "apg", "cloud-list"))
    alone = ["own-weights", "own-weights+20", "own-bias", "own-bias+20"] if parts else []
    names = ["own", "own+1", "own+20", *alone, "zero", "another", "random"] if personal else ["zero"]
    worse = {"own": 0.0, "own+1": 0.01, "own+20": 0.02, "zero": shift, "another": 2 * shift, "random": 2 * shift}
    worse |= {"own-weights": 0.015, "own-weights+20": 0.03, "own-bias": 0.005, "own-bias+20": 0.022}
    ramp_U = np.arange(DEVICES) / 100
    values: dict[str, Any] = {}
    conditions = []
    for name in names:
        own_U = ramp_U + shift - (worse[name] if personal else 0)
        own_U = own_U + np.random.default_rng([seed, len(method), len(name)]).normal(0, 0.003, DEVICES)
        cold_U = np.where(np.arange(DEVICES) < 10, own_U, np.nan)
        for metric in ("ndcg@10", "user_auc"):
            values[f"full/{name}/all/{metric}"] = own_U.astype(np.float32)
            values[f"full/{name}/cold/{metric}"] = cold_U.astype(np.float32)
            values[f"full/{name}/repeat/{metric}"] = cold_U.astype(np.float32)
            values[f"full/{name}/new/{metric}"] = cold_U.astype(np.float32)
            values[f"full/{name}/known/{metric}"] = cold_U.astype(np.float32)
        metrics = {"ndcg@10": float(own_U.mean()), "user_auc": float(own_U.mean()), "log_loss": 3.0 - shift}
        bucket = {"shortest": 1, "longest": 4, "devices": 10, "targets": 10, "metrics": metrics}
        conditions.append(
            ConditionRecord(
                name=name,
                metrics=metrics,
                by_history=[
                    HistoryBucket(**bucket),
                    HistoryBucket(**(bucket | {"shortest": 5, "longest": None})),
                ],
                groups=dict.fromkeys(
                    ("cold", "repeat", "new", "known"),
                    Group(devices=10, targets=20, metrics={m: float(np.nanmean(cold_U)) for m in values_of(metrics)}),
                ),
            )
        )
    tuned = method.startswith("finetune")
    record = CellRecord(
        format_version=FORMAT_VERSION,
        backbone=backbone,
        method=method,
        seed=seed,
        family=METHODS[method].family if method in METHODS else "global",
        personal=personal,
        protocols=[
            ProtocolRecord(
                protocol="full",
                split="temporal",
                has_time=True,
                note=None,
                devices=DEVICES,
                devices_in_part=DEVICES,
                targets=2 * DEVICES,
                unknown_targets=0,
                met="show",
                repeat_targets=20,
                candidates=100.0,
                conditions=conditions,
            )
        ],
        cost=Cost(
            parameters=5000,
            device_parameters=3000,
            device_bytes=6000,
            theta_parameters=144 if personal else 0,
            theta_bytes=288 if personal else 0,
            opinion_bytes=100 if parts else 0,
            recommendation_flops=20_000 + seed,
            generation_flops=9_000 if personal and not tuned else None,
            scoring_ms=0.2,
            generation_ms=0.34 if personal and not tuned else None,
            finetuning_ms=60_000.0 if tuned else None,
        ),
        oscillation=Oscillation(theta=0.1, log_loss=0.02, ndcg=0.01, targets=30) if personal else None,
        fit_seconds=1.0,
        evaluation_seconds=0.5,
        provenance=provenance(),
        validation=None if tuned else 0.1 + shift + 0.02 * seed,
    )
    return Finished(record, DeviceTable(np.arange(DEVICES), values))


def values_of(metrics: dict[str, float]) -> list[str]:
    """The metrics that groups have."""
    return [name for name in metrics if name != "log_loss"]


def make_results(
    name: str = "made", shifts: dict[str, float] | None = None, seeds: int = 2, parts: bool = False
) -> Results:
    """Results of cells made by hand, on a dataset of that name; with `parts` DUET has opinions too."""
    shifts = shifts or {"base": 0.0, "finetune": 0.01, "apg": 0.02, "duet": 0.03, "duet-no-swa": 0.03}
    cells = {
        Cell("sasrec" if METHODS[method].uses_backbone else None, method, seed): finished(
            method, seed, shift, parts=parts and method == "duet"
        )
        for seed in range(seeds)
        for method, shift in shifts.items()
    }
    tables = make_tables(["full"], ["sasrec"], [METHODS[method] for method in shifts], cells)
    records = [one.record for one in cells.values()]
    return Results(
        format_version=RESULTS_VERSION,
        verdict=verdict(name, tables, 0),
        complete=True,
        dataset=DatasetFacts(
            name=name,
            sha256="0" * 64,
            devices=DEVICES,
            items=98,
            events=900,
            split="temporal",
            has_time=True,
            note=None,
        ),
        backbones=["sasrec"],
        methods=list(shifts),
        seeds=list(range(seeds)),
        job=Job(
            format_version=FORMAT_VERSION,
            dataset=name,
            dataset_sha256="0" * 64,
            protocols=["full"],
            staleness=[0, 1, 20],
            limit_devices=None,
            config=TrainConfig(),
        ),
        tables=tables,
        cells=records,
        missing=[],
        failed=[],
        origin=origin_of(records),
    )


@pytest.fixture
def run_in() -> Callable[[Path, Dataset, Job, list[Cell], int], Any]:
    """`run_in(root, dataset, job, cells, jobs)`: the outcome of running the cells in processes."""
    from duetgen.comparison.cells.runner import run_cells
    from duetgen.comparison.report.assemble import folder_job, unfinished
    from duetgen.jobfolder import work_in

    def run(root: Path, dataset: Dataset, job: Job, cells: list[Cell], jobs: int) -> Any:
        with work_in(root, folder_job(root, job)):
            return run_cells(
                [Work(root, dataset.root, job, cell) for cell in unfinished(root, cells)],
                jobs=jobs,
                threads=1,
                deadline=None,
                watcher=Deaf(),
            )

    return run


class Deaf:
    """Hears nothing."""

    def cell_started(self, work: Work) -> None: ...
    def cell_told(self, work: Work, share: float, what: str) -> None: ...
    def cell_ended(self, work: Work, failure: Any) -> None: ...
