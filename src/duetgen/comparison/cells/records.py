"""What is kept of the cells of a comparison: typed records, and the folder of each cell.

```
comparison.json               what all cells have in common; by it the folder is known
cells/BACKBONE-METHOD-SEED/   of a finished run: run-NAME-SEED
  fit/                        what the method keeps, a run folder mostly
  devices.npz                 metrics of each device, for paired statistics without the models
  cell.json                   everything else; written last, so a cell that has it is finished
  failed.json                 why the last attempt failed; gone when another succeeds
```

Shapes: U devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from duetgen.comparison.cells.costs import Cost
from duetgen.comparison.cells.oscillation import Oscillation
from duetgen.comparison.cells.policies import PolicyRecord
from duetgen.comparison.methods.runs import FinishedRun
from duetgen.comparison.methods.table import Family
from duetgen.data.store import Int64
from duetgen.documents import (
    DamagedError,
    check_digest,
    damaged,
    decode_sealed,
    digest_of,
    format_version,
    read_document,
)
from duetgen.evaluation.averages import Group, HistoryBucket
from duetgen.evaluation.metrics import Float64
from duetgen.evaluation.provenance import Provenance
from duetgen.training import TrainConfig
from duetgen.wire.messages import MetPolicy

FORMAT_VERSION: Final = 5


@dataclass(frozen=True)
class Cell:
    """One method with one backbone and one seed; no backbone where the method has none, or is a finished run."""

    backbone: str | None
    method: str
    seed: int
    run: FinishedRun | None = None

    @property
    def name(self) -> str:
        """Name of the cell's folder, and how people read it."""
        return f"{'run' if self.run else self.backbone or 'any'}-{self.method}-{self.seed}"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`comparison.json`: what all cells of a folder have in common.

    Methods, backbones and seeds are no part of it: a folder may be given more of them at any time.

    Attributes:
        cloud_model_sha256: digest of the weights of the cloud model's run that the settings name, if any.
    """

    format_version: int
    dataset: str
    dataset_sha256: str
    protocols: list[str]
    staleness: list[int]
    limit_devices: int | None
    config: TrainConfig
    policies: list[str] = []
    cloud_model_sha256: str = ""


@dataclass(frozen=True)
class Work:
    """A cell that is to be run.

    Attributes:
        root: folder of its comparison.
        dataset: its dataset folder.
        job: what the cells of that comparison have in common.
        cell: the cell.
        of: name of the dataset, where cells of several are run together.
    """

    root: Path
    dataset: Path
    job: Job
    cell: Cell
    of: str = ""

    @property
    def name(self) -> str:
        """How people read it."""
        return f"{self.of}: {self.cell.name}" if self.of else self.cell.name


class ConditionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics of a cell under one condition; see `evaluation.conditions`."""

    name: str
    metrics: dict[str, float]
    by_history: list[HistoryBucket]
    groups: dict[str, Group]


class ProtocolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A cell measured by one protocol; the fields are those of `evaluation.Evaluation`."""

    protocol: str
    split: str
    has_time: bool
    note: str | None
    devices: int
    devices_in_part: int
    targets: int
    unknown_targets: int
    met: MetPolicy
    repeat_targets: int
    candidates: float
    conditions: list[ConditionRecord]


class CellRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`cell.json`: everything about a finished cell but the metrics of single devices.

    Attributes:
        personal: whether the method makes theta.
        fit_seconds: what fitting took, interruptions left out.
        evaluation_seconds: what measuring took, all conditions and protocols together.
        oscillation: what one more event does to theta; None without theta.
        validation: `ndcg@10` on the validation part of the training pass that was kept; None where there were none.
        run: the finished run that was measured, where it is one.
        devices_sha256: digest of `devices.npz`.
        policies: what came of each policy of requests; nothing where the cloud makes no theta, or none was asked for.
    """

    format_version: int
    backbone: str | None
    method: str
    seed: int
    family: Family
    personal: bool
    protocols: list[ProtocolRecord]
    cost: Cost
    oscillation: Oscillation | None
    fit_seconds: float
    evaluation_seconds: float
    provenance: Provenance
    validation: float | None = None
    run: FinishedRun | None = None
    devices_sha256: str = ""
    policies: list[PolicyRecord] = []

    @property
    def cell(self) -> Cell:
        """Which cell it is."""
        return Cell(self.backbone, self.method, self.seed, self.run)

    @property
    def headline(self) -> str:
        """The condition that a method is judged by: fresh theta of its own, or none where it has none."""
        return "own" if self.personal else "zero"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a cell could not be finished; also `failed.json`."""

    cell: str
    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class CellFolder:
    """The files of a cell, by name, and the finished run that they have to be of, if any."""

    root: Path
    run: FinishedRun | None = None

    @property
    def fit(self) -> Path:
        """What the method keeps."""
        return self.root / "fit"

    @property
    def record(self) -> Path:
        """`cell.json`."""
        return self.root / "cell.json"

    @property
    def devices(self) -> Path:
        """`devices.npz`."""
        return self.root / "devices.npz"

    @property
    def failed(self) -> Path:
        """`failed.json`."""
        return self.root / "failed.json"

    def read(self) -> CellRecord | None:
        """The record of a finished cell; None where it is not finished, is damaged, or is of another version: it runs
        again then."""
        refuse = damaged(self.record, "the cell runs again")
        try:
            content = read_document(self.record, refuse)
            if format_version(content, refuse) != FORMAT_VERSION:
                return None
            found = decode_sealed(content, CellRecord, refuse)
            check_digest(digest_of(self.devices), found.devices_sha256, refuse)
        except (OSError, DamagedError):
            return None
        return found if found.run == self.run else None

    def by_device(self, metrics: Sequence[str]) -> DeviceTable:
        """Some metrics of each device."""
        with np.load(self.devices, allow_pickle=False) as arrays:
            wanted = [key for key in arrays.files if key.rpartition("/")[2] in metrics]
            return DeviceTable(arrays["device"], {key: arrays[key] for key in wanted})


@dataclass(frozen=True)
class DeviceTable:
    """`devices.npz`: indices of the devices [U], and float32 [U] by `protocol/condition/group/metric`.

    The group is `all`, `cold`, `warm`, `repeat`, `new` or `known`; a device without targets in its group has NaN.
    """

    device_U: Int64
    values: dict[str, np.ndarray[Any, np.dtype[np.float32]]]

    def of(self, protocol: str, condition: str, group: str, metric: str) -> Float64 | None:
        """One metric: float64 [U]; None where it was not measured."""
        found = self.values.get(f"{protocol}/{condition}/{group}/{metric}")
        return None if found is None else found.astype(np.float64)


def cell_folder(root: Path, cell: Cell) -> CellFolder:
    """Where a comparison keeps a cell."""
    return CellFolder(root / "cells" / cell.name, cell.run)
