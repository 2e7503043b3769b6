"""Where a figure comes from, and that nothing tells who made it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import duetgen
from duetgen.data.store import Dataset
from duetgen.evaluation import provenance
from duetgen.evaluation.provenance import collect, commit_of, cpu_name, usable_cores


def git(folder: Path, *arguments: str) -> str:
    identity = {f"GIT_{who}_{what}": "tests@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=os.environ | identity, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository of its own, committed."""
    folder = tmp_path / "src/package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "src")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    return folder


class TestCommit:
    def test_of_a_checkout(self, package: Path) -> None:
        assert commit_of(package) == git(package, "rev-parse", "HEAD")

    def test_changed_since(self, package: Path) -> None:
        (package / "__init__.py").write_text("x = 1\n")
        assert commit_of(package) == git(package, "rev-parse", "HEAD") + "-dirty"

    def test_changes_beside_the_package_do_not_count(self, package: Path) -> None:
        (package.parent / "notes.txt").write_text("")
        assert commit_of(package) == git(package, "rev-parse", "HEAD")

    def test_installed_inside_somebody_elses_repository(self, package: Path) -> None:
        inner = package.parent / "environment/package"
        inner.mkdir(parents=True)
        (inner / "__init__.py").write_text("")
        assert commit_of(inner) is None

    def test_no_repository(self, tmp_path: Path) -> None:
        (tmp_path / "__init__.py").write_text("")
        assert commit_of(tmp_path) is None

    def test_no_git(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert commit_of(package) is None


def test_machine() -> None:
    assert usable_cores() >= 1
    assert cpu_name()


def test_everything_needed_and_nobody_named(temporal: Dataset) -> None:
    found = collect(temporal, torch.device("cpu"), {"a": 1})
    assert (found.dataset, found.dataset_sha256) == (temporal.manifest.name, temporal.manifest.content_sha256)
    assert (found.version, found.trained_version, found.trained_sha256) == (1, 1, found.dataset_sha256)
    assert found.config == {"a": 1}
    assert found.versions == {
        "duetgen": duetgen.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    assert found.date.endswith("+00:00")
    assert (found.machine.device, found.machine.threads) == ("cpu", torch.get_num_threads())
    said = msgspec.to_builtins(found)
    assert set(said) == {
        "commit",
        "config",
        "dataset",
        "dataset_sha256",
        "version",
        "trained_version",
        "trained_sha256",
        "versions",
        "date",
        "machine",
    }
    assert set(said["machine"]) == {"system", "cpu", "cores", "threads", "device"}
    assert platform.node() not in [*said.values(), *said["machine"].values()]
    assert str(Path(provenance.__file__).parent) not in str(said)
    assert str(temporal.root.parent) not in str(said)
