"""The run folder: what `duet train` writes and `duet evaluate` and `duet export` read. No pickle anywhere.

```
config.toml          every setting of the run
environment.json     format version, dataset and its content hash, vocabulary, versions; `finished` when it is
metrics.jsonl        one line an epoch
weights.safetensors  the best weights by validation; appears when the run ends
finetune.json        of fine-tuning: steps and rate, and what else was tried
base/                of fine-tuning that was given no global model: the run of its base model
checkpoint/          what resuming needs; gone when the run has ended
```
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import safetensors
import safetensors.torch
import torch

import duetgen
from duetgen.backbones import Recommender
from duetgen.data.store import Dataset
from duetgen.errors import DuetError, OutputExistsError
from duetgen.files import unwritable, write_bytes
from duetgen.training.config import InvalidConfigError, TrainConfig, decode_config

FORMAT_VERSION: Final = 2


class NotARunError(DuetError):
    """A folder that `duet train` did not write, did not finish, or not in this version's format."""

    code = "not-a-run"


class DatasetMismatchError(DuetError):
    """A run and a dataset folder that do not belong together."""

    code = "dataset-mismatch"


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """`environment.json`: what the run was made from and with; the hash is of the kept global model's weights."""

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
    global_model_sha256: str = ""
    finished: bool = False
    best_epoch: int = -1
    best: float = -1.0
    seconds: float = 0.0


def describe(dataset: Dataset, device: str, global_model_sha256: str = "") -> Environment:
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
        global_model_sha256=global_model_sha256,
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
    def checkpoint(self) -> Path:
        """The one file of `checkpoint/`."""
        return self.root / "checkpoint" / "state.safetensors"

    def write_environment(self, environment: Environment) -> None:
        """Replace `environment.json`."""
        write_bytes(self.environment, msgspec.json.format(msgspec.json.encode(environment), indent=2) + b"\n")

    def read_environment(self) -> Environment:
        """Read `environment.json`.

        Raises:
            NotARunError: missing, damaged or of another version.
        """
        if not self.environment.is_file():
            raise NotARunError(
                f"{self.root} is not a run folder: it has no {self.marker}",
                "make one with `duet train DATASET --out RUN`",
            )
        try:
            content = self.environment.read_bytes()
            version = msgspec.json.decode(content, type=dict[str, Any]).get("format_version")
            if version != FORMAT_VERSION:
                raise NotARunError(
                    f"{self.root} has run format {version}; this version reads {FORMAT_VERSION}",
                    "train again with this version of duetgen, or use the version that wrote it",
                )
            return msgspec.json.decode(content, type=Environment)
        except (msgspec.DecodeError, OSError) as cause:
            raise NotARunError(f"{self.root} is damaged: {cause}", "train again") from cause


def open_folder(folder: RunFolder, dataset: Dataset, config: TrainConfig, overwrite: bool) -> None:
    """Make the run folder, or take up one that the same command began.

    Raises:
        OutputExistsError: something else is there.
        OutputUnwritableError: it cannot be made.
    """
    try:
        if folder.root.exists() and not folder.root.is_dir():
            raise OutputExistsError(f"{folder.root} is a file", "choose another --out")
        if folder.root.is_dir() and any(folder.root.iterdir()):
            same = (
                folder.environment.is_file()
                and has_settings(folder, config)
                and folder.read_environment().dataset_sha256 == dataset.manifest.content_sha256
            )
            if same and not overwrite:
                return
            if not folder.environment.is_file() and not is_stillborn(folder):
                raise OutputExistsError(f"{folder.root} exists and is not a run folder", "choose another --out")
            if folder.environment.is_file() and not overwrite:
                raise OutputExistsError(
                    f"{folder.root} holds a run with other settings or data",
                    "give --overwrite to replace it, or choose another --out",
                )
            shutil.rmtree(folder.root)
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise unwritable(folder.root, cause) from cause
    write_bytes(folder.config, config.to_toml())


def has_settings(folder: RunFolder, config: TrainConfig) -> bool:
    """Whether the folder's configuration says the same; what its version did not know yet counts as the default."""
    try:
        return decode_config(folder.config.read_bytes(), str(folder.config)) == config
    except (OSError, InvalidConfigError):
        return False


def is_stillborn(folder: RunFolder) -> bool:
    """Whether the folder holds a configuration alone: a run killed before it had begun."""
    return {path.name for path in folder.root.iterdir() if not path.name.startswith(".")} <= {folder.config.name}


@dataclass(frozen=True)
class Run:
    """A finished run, loaded."""

    root: Path
    config: TrainConfig
    environment: Environment
    model: Recommender

    def settings(self) -> dict[str, Any]:
        """Every setting of the run, as plain data."""
        settings: dict[str, Any] = msgspec.to_builtins(self.config)
        return settings

    def check_dataset(self, dataset: Dataset) -> None:
        """Refuse a dataset folder that this run was not trained on.

        Raises:
            DatasetMismatchError: the content hashes differ.
        """
        if dataset.manifest.content_sha256 != self.environment.dataset_sha256:
            raise DatasetMismatchError(
                f"{self.root} was trained on {self.environment.dataset} "
                f"({self.environment.dataset_sha256[:12]}), {dataset.root} is {dataset.manifest.name} "
                f"({dataset.manifest.content_sha256[:12]})",
                "evaluate a run on the dataset folder that it was trained on",
            )


def load_run(root: Path) -> Run:
    """Load a finished run; the model is in evaluation mode, on the CPU.

    Raises:
        NotARunError: the folder is no run, is not finished, is damaged, or is of another version.
    """
    folder = RunFolder(Path(root))
    environment = folder.read_environment()
    if not folder.weights.is_file() or not environment.finished:
        raise NotARunError(
            f"{folder.root} has not finished: it has no weights yet",
            "run the same `duet train` command again; it goes on where it stopped",
        )
    try:
        config = decode_config(folder.config.read_bytes(), str(folder.config))
        model = Recommender(environment.vocabulary, config.model)
        model.load_state_dict(safetensors.torch.load(folder.weights.read_bytes()))
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as cause:
        raise NotARunError(f"{folder.root} is damaged: {cause}", "train again") from cause
    return Run(folder.root, config, environment, model.eval())
