"""The run folder: what `duet train` writes and `duet evaluate` and `duet export` read. No pickle anywhere.

```
config.toml          every setting of the run
environment.json     format version, dataset and its content hash, vocabulary, versions; when it is finished, `finished`
                     and the digest of the weights
metrics.jsonl        one line an epoch
weights.safetensors  the best weights by validation; appears when the run ends
finetune.json        of fine-tuning: steps and rate, and what else was tried
base/                of what keeps a global model and was given none: the run of its base model
base-distilled/      of a DUET: that of a second one, which learns from its cloud model too
cloud/               of what has a cloud model and was given none: the run of it
sequence/            of a cloud model: the base run of its SASRec
recurrent/           of a cloud model: the base run of its GRU4Rec
checkpoint/          what resuming needs; gone when the run has ended
```
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import safetensors
import safetensors.torch
import torch

import duetgen
from duetgen.cloudmodel import CloudModel
from duetgen.data.store import Dataset
from duetgen.data.view import as_of
from duetgen.documents import (
    check_digest,
    damaged,
    decode_json,
    decode_sealed,
    difference,
    encode_sealed,
    format_version,
    read_document,
)
from duetgen.errors import DuetError
from duetgen.files import read_regular, write_bytes
from duetgen.jobfolder import Job
from duetgen.recommender import ModelConfig, Recommender
from duetgen.training.config import InvalidConfigError, TrainConfig, decode_config

FORMAT_VERSION: Final = 4
AGAIN: Final = "train again, with --overwrite in the same folder"


class NotARunError(DuetError):
    """A folder that `duet train` did not write, did not finish, or not in this version's format."""

    code = "not-a-run"


class DatasetMismatchError(DuetError):
    """A run and a dataset folder that do not belong together."""

    code = "dataset-mismatch"


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """`environment.json`: what the run was made from and with, and the digests of its settings, of the weights that it
    began with or keeps, and of its own, when it has finished.

    Attributes:
        earlier: content hashes of the dataset's earlier versions, oldest first.
    """

    format_version: int
    dataset: str
    dataset_sha256: str
    vocabulary: int
    has_time: bool
    split: str
    duetgen: str
    torch: str
    python: str
    device: str
    threads: int
    config_sha256: str
    global_model_sha256: str = ""
    cloud_model_sha256: str = ""
    start_sha256: str = ""
    earlier: list[str] = []
    finished: bool = False
    best_epoch: int = -1
    best: float = -1.0
    seconds: float = 0.0
    weights_sha256: str = ""


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `metrics.jsonl`; see `progress.Losses`."""

    epoch: int
    loss: float
    own_loss: float | None = None
    zero_loss: float | None = None
    validation_ndcg10: float
    learning_rate: float
    positions_per_second: float
    seconds: float


def describe(
    dataset: Dataset,
    config: TrainConfig,
    device: str,
    global_model_sha256: str = "",
    cloud_model_sha256: str = "",
    start_sha256: str = "",
) -> Environment:
    """The environment of a run that starts now."""
    manifest = dataset.manifest
    return Environment(
        format_version=FORMAT_VERSION,
        dataset=manifest.name,
        dataset_sha256=manifest.content_sha256,
        vocabulary=dataset.vocabulary,
        has_time=manifest.has_time,
        split=manifest.split.kind,
        duetgen=duetgen.__version__,
        torch=importlib.metadata.version("torch"),
        python=platform.python_version(),
        device=device,
        threads=torch.get_num_threads(),
        config_sha256=hashlib.sha256(config.to_toml()).hexdigest(),
        global_model_sha256=global_model_sha256,
        cloud_model_sha256=cloud_model_sha256,
        start_sha256=start_sha256,
        earlier=[version.content_sha256 for version in manifest.versions],
    )


@dataclass(frozen=True)
class RunFolder:
    """The files of a run, by name."""

    root: Path
    marker: ClassVar[str] = "environment.json"

    @property
    def config(self) -> Path:
        """`config.toml`."""
        return self.root / "config.toml"

    @property
    def environment(self) -> Path:
        """`environment.json`."""
        return self.root / self.marker

    @property
    def metrics(self) -> Path:
        """`metrics.jsonl`."""
        return self.root / "metrics.jsonl"

    @property
    def weights(self) -> Path:
        """`weights.safetensors`."""
        return self.root / "weights.safetensors"

    @property
    def finetune(self) -> Path:
        """`finetune.json`."""
        return self.root / "finetune.json"

    @property
    def base(self) -> Path:
        """`base`, a run folder."""
        return self.root / "base"

    @property
    def taught(self) -> Path:
        """`base-distilled`, a run folder."""
        return self.root / "base-distilled"

    @property
    def cloud(self) -> Path:
        """`cloud`, a run folder."""
        return self.root / "cloud"

    @property
    def sequence(self) -> Path:
        """`sequence`, a run folder."""
        return self.root / "sequence"

    @property
    def recurrent(self) -> Path:
        """`recurrent`, a run folder."""
        return self.root / "recurrent"

    @property
    def checkpoint(self) -> Path:
        """The one file of `checkpoint/`."""
        return self.root / "checkpoint" / "state.safetensors"

    @property
    def contents(self) -> list[Path]:
        """What there may be beside `environment.json`."""
        folders = [self.base, self.taught, self.cloud, self.sequence, self.recurrent, self.checkpoint.parent]
        return [self.config, self.metrics, self.weights, self.finetune, *folders]

    def write_environment(self, environment: Environment) -> None:
        """Replace `environment.json`."""
        write_bytes(self.environment, encode_sealed(environment))

    def read_environment(self) -> Environment:
        """Read `environment.json`.

        Raises:
            NotARunError: missing or of another version.
            DamagedError: it is malformed, or is not what was written.
        """
        if not self.root.exists():
            raise NotARunError(f"there is no folder {self.root}", "give the folder of a run of `duet train`")
        if not self.environment.is_file():
            raise NotARunError(
                f"{self.root} is not a run folder: it has no {self.marker}",
                "make one with `duet train DATASET --out RUN`",
            )
        refuse = damaged(self.environment, AGAIN)
        content = read_document(self.environment, refuse)
        if (version := format_version(content, refuse)) != FORMAT_VERSION:
            raise NotARunError(
                f"{self.root} has run format {version}; this version reads {FORMAT_VERSION}",
                "train again with this version of duetgen, or use the version that wrote it",
            )
        return decode_sealed(content, Environment, refuse)

    def read_config(self, environment: Environment) -> TrainConfig:
        """Read `config.toml`.

        Raises:
            DamagedError: it is missing, or is not what was written.
        """
        refuse = damaged(self.config, AGAIN)
        content = read_document(self.config, refuse)
        check_digest(hashlib.sha256(content).hexdigest(), environment.config_sha256, refuse)
        try:
            return decode_config(content)
        except InvalidConfigError as cause:
            raise refuse(cause.message) from cause

    def read_weights(self, environment: Environment) -> bytes:
        """Read `weights.safetensors` of a finished run.

        Raises:
            DamagedError: it is missing, or is not what was written.
        """
        refuse = damaged(self.weights, AGAIN)
        try:
            content = read_regular(self.weights)
        except OSError as cause:
            raise refuse(cause.strerror or str(cause)) from cause
        check_digest(hashlib.sha256(content).hexdigest(), environment.weights_sha256, refuse)
        return content

    def read_metrics(self) -> list[EpochRecord]:
        """Read `metrics.jsonl`.

        Raises:
            DamagedError: missing or malformed.
        """
        refuse = damaged(self.metrics, AGAIN)
        return [decode_json(line, EpochRecord, refuse) for line in read_document(self.metrics, refuse).splitlines()]


def job_of(folder: RunFolder, dataset: Dataset, config: TrainConfig, environment: Environment) -> Job:
    """A run as a job in its folder, which begins with its settings and its environment."""

    def begin(root: Path) -> None:
        new = RunFolder(root)
        write_bytes(new.config, config.to_toml())
        new.write_environment(environment)

    return Job(
        name="a run folder",
        other="a run with other settings or data",
        marker=RunFolder.marker,
        begin=begin,
        differs=lambda: differs(folder, dataset, config),
        own=frozenset(path.name for path in folder.contents),
        early=frozenset({folder.config.name}),
    )


def differs(folder: RunFolder, dataset: Dataset, config: TrainConfig) -> str:
    """In what a run folder has other settings or data; what its version did not know yet counts as the default.

    Raises:
        NotARunError: it is of another version.
        DamagedError: a file is missing or is not what it was.
    """
    environment = folder.read_environment()
    if environment.dataset_sha256 != dataset.manifest.content_sha256:
        return "the data are others"
    return difference(folder.read_config(environment), config)


@dataclass(frozen=True)
class Run:
    """A finished run, loaded."""

    root: Path
    config: TrainConfig
    environment: Environment
    model: Recommender | CloudModel

    @property
    def device_model(self) -> Recommender:
        """The model of a run that devices could use.

        Raises:
            NotARunError: it is a cloud model.
        """
        if isinstance(self.model, CloudModel):
            raise NotARunError(
                f"{self.root} is a cloud model: no device runs it", "give its opinions to devices with --cloud-model"
            )
        return self.model

    @property
    def cloud_model(self) -> CloudModel:
        """The model of a run of the method `cloud`.

        Raises:
            NotARunError: it is something else.
        """
        if not isinstance(self.model, CloudModel):
            raise NotARunError(
                f"{self.root} is no cloud model: it is a run of the method {self.config.model.method}",
                "make one with `duet train DATASET --method cloud --out RUN`",
            )
        return self.model

    def settings(self) -> dict[str, Any]:
        """Every setting of the run, as plain data."""
        settings: dict[str, Any] = msgspec.to_builtins(self.config)
        return settings

    def check_dataset(self, dataset: Dataset) -> None:
        """Refuse a dataset folder that this run was not trained on.

        Raises:
            DatasetMismatchError: the content hashes differ.
        """
        if self.view(dataset) is not dataset:
            raise DatasetMismatchError(
                f"{self.root} was trained on version {len(self.environment.earlier) + 1} of "
                f"{dataset.manifest.name}, {dataset.root} is version {dataset.version}",
                f"go on from it: duet train {dataset.root} --from {self.root}",
            )

    def view(self, dataset: Dataset) -> Dataset:
        """A dataset folder as this run knows it, whose version it was trained on or an earlier one: see `data.view`.

        Raises:
            DatasetMismatchError: it is another dataset, or an earlier version than the run's.
        """
        environment, manifest = self.environment, dataset.manifest
        seen = as_of(dataset, environment.dataset_sha256)
        if seen is not None:
            return seen
        if manifest.content_sha256 in environment.earlier:
            raise DatasetMismatchError(
                f"{self.root} was trained on version {len(environment.earlier) + 1} of {environment.dataset}, "
                f"{dataset.root} is version {dataset.version}",
                "give the dataset folder as it was then or is now, or a run of the earlier version",
            )
        raise DatasetMismatchError(
            f"{self.root} was trained on {environment.dataset} ({environment.dataset_sha256[:12]}), "
            f"{dataset.root} is {manifest.name} ({manifest.content_sha256[:12]})",
            "use a run with the dataset folder that it was trained on",
        )


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    root: Path
    best_epoch: int
    best: float
    epochs: int
    seconds: float
    already_finished: bool = False


def make_model(vocabulary: int, config: ModelConfig) -> Recommender | CloudModel:
    """A model of the shape that the settings of a finished run tell."""
    if config.method == "cloud":
        return CloudModel(vocabulary, config.history.length, config.cloud, config.met)
    model = Recommender(vocabulary, config)
    # A base model that has learnt from a cloud model keeps nothing of it.
    if config.method == "duet" and config.cloud.members:
        model.attach(CloudModel(vocabulary, config.history.length, config.cloud, config.met))
    return model


def load_run(root: Path) -> Run:
    """Load a finished run; the model is in evaluation mode, on the CPU.

    Raises:
        NotARunError: the folder is no run, is not finished, or is of another version.
        DamagedError: a file is missing or is not what it was.
    """
    folder = RunFolder(Path(root))
    environment = folder.read_environment()
    if not environment.finished:
        raise NotARunError(
            f"{folder.root} has not finished: it has no weights yet",
            "run the same `duet train` command again; it goes on where it stopped",
        )
    config, content = folder.read_config(environment), folder.read_weights(environment)
    try:
        model = make_model(environment.vocabulary, config.model)
        model.load_state_dict(safetensors.torch.load(content))
    except (ValueError, RuntimeError, safetensors.SafetensorError) as cause:
        raise damaged(folder.weights, AGAIN)(str(cause)) from cause
    return Run(folder.root, config, environment, model.eval())
