"""Where a figure comes from: code, settings, data, versions and machine; no names of hosts, users or folders."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

import duetgen
from duetgen.data.store import Dataset
from duetgen.data.view import EarlierView


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What it ran on."""

    system: str
    cpu: str
    cores: int
    threads: int
    device: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to get the same figures again.

    Attributes:
        commit: of the checkout that the package runs from, with `-dirty` where the package was changed since; None
            for an installed package.
        config: settings of the model that was measured, as its run folder keeps them.
        dataset: name of the dataset folder's content.
        dataset_sha256: content hash of the dataset.
        version: of the dataset, from 1.
        trained_version: that which the model was trained on.
        trained_sha256: its content hash.
        versions: of duetgen, torch, numpy and Python.
        date: when, UTC, ISO 8601.
    """

    commit: str | None
    config: dict[str, Any] | None
    dataset: str
    dataset_sha256: str
    version: int = 1
    trained_version: int = 1
    trained_sha256: str = ""
    versions: dict[str, str]
    date: str
    machine: Machine


def commit_of(folder: Path) -> str | None:
    """The commit that the package in `folder` runs from, or None where it is not tracked there."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )

    try:
        # A virtual environment may lie inside somebody else's repository: the package itself must be tracked.
        if git("ls-files", "--error-unmatch", "__init__.py").returncode:
            return None
        commit = git("rev-parse", "HEAD")
        if commit.returncode:
            return None
        changed = git("status", "--porcelain", "--", ".").stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("-dirty" if changed else "")


def cpu_name() -> str:
    """The processor's name as it gives it, or its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect(dataset: Dataset, device: torch.device, config: dict[str, Any] | None = None) -> Provenance:
    """The provenance of what is measured now, on the dataset as the model knows it."""
    number = dataset.number if isinstance(dataset, EarlierView) else dataset.version
    contents = [*(one.content_sha256 for one in dataset.manifest.versions), dataset.manifest.content_sha256]
    return Provenance(
        commit=commit_of(Path(duetgen.__file__).parent),
        config=config,
        dataset=dataset.manifest.name,
        dataset_sha256=dataset.manifest.content_sha256,
        version=dataset.version,
        trained_version=number,
        trained_sha256=contents[number - 1],
        versions={
            "duetgen": duetgen.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=Machine(
            system=platform.system(),
            cpu=cpu_name(),
            cores=usable_cores(),
            threads=torch.get_num_threads(),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        ),
    )
