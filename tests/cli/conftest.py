"""A dataset folder and the runs on it that the verbs are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_cli import duet_here


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset folder and two trained runs, made by the command; not to be changed."""
    root = tmp_path_factory.mktemp("cli")
    made = duet_here("prepare", "synthetic", "--people", "60", "--out", root / "data")
    assert made.returncode == 0, made.stderr
    for method in ("base", "duet"):
        run = duet_here("train", root / "data", "--method", method, "--epochs", "2", "--out", root / method)
        assert run.returncode == 0, run.stderr
    # A run of several models says which one it trains.
    told = {line.partition("  epoch ")[0] for line in run.stderr.splitlines() if "  epoch " in line}
    cloud, taught = {"cloud model, sasrec", "cloud model, gru4rec"}, "sasrec base that learns from the cloud model"
    assert told == {"sasrec base", *cloud, taught, "sasrec generator"}
    return root
