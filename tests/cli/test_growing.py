"""A log that grows, as a user meets it: going on from a run, and old runs with a newer dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.conftest import wandering_sequences, write_dataset
from tests.lineage import versions_of, with_titles

from .test_cli import duet_here as duet
from .test_cli import refused

QUICK = ("--epochs", "1", "--threads", "1", "--set", "optimiser.batch_positions=256")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a dataset, and a base run on the earlier one."""
    root = tmp_path_factory.mktemp("shop")
    before = write_dataset(root / "monday", wandering_sequences(20, 22, seed=0), vocabulary=22)
    after = write_dataset(root / "tuesday", wandering_sequences(20, 30, seed=1), vocabulary=30)
    versions_of(before, with_titles(after, [None] * 28))
    made = duet("train", root / "monday", "--method", "base", "--width", "8", *QUICK, "--out", root / "old")
    assert made.returncode == 0, made.stderr
    return root


def test_a_run_goes_on_with_its_own_settings(shop: Path, tmp_path: Path) -> None:
    command = ("train", shop / "tuesday", "--from", shop / "old", *QUICK, "--out", tmp_path / "new")
    made = duet(*command)
    assert made.returncode == 0, made.stderr
    told = f"goes on from {shop / 'old'}, trained on version 1 of 2, for at most 1 pass: 8 items are new to it"
    assert told in made.stderr
    assert "width 8" in made.stderr
    again = duet(*command, "--json")
    assert json.loads(again.stdout)["already_finished"]


def test_the_run_that_the_folder_by_default_began_with_is_gone(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shop / "old", tmp_path / "old")
    command = ("train", shop / "tuesday", "--from", "old", *QUICK)
    assert duet(*command).returncode == 0
    shutil.rmtree(tmp_path / "old")
    assert "old, the run that runs/tuesday-sasrec-base began with, is gone" in refused(duet(*command), "not-a-run")
    other = duet("train", shop / "tuesday", "--from", "other", *QUICK)
    assert "there is no folder other" in refused(other, "not-a-run")


def test_old_and_new_runs_are_measured_on_the_later_version(shop: Path, tmp_path: Path) -> None:
    duet("train", shop / "tuesday", "--from", shop / "old", *QUICK, "--out", tmp_path / "new", "--quiet")
    command = ("evaluate", shop / "old", tmp_path / "new", shop / "tuesday", "--bootstrap", "0")
    told = duet(*command)
    assert f"are items that {shop / 'old'} does not know: all missed" in told.stdout
    assert told.returncode == 0, told.stderr
    assert told.stderr.count("was trained on version 1 of 2 of tuesday") == 1
    quiet = duet(*command, "--json", "--quiet")
    assert quiet.stderr.count("was trained on version 1 of 2 of tuesday") == 1
    old, new = (run["evaluations"][0] for run in json.loads(quiet.stdout)["runs"])
    versions = [json.loads((shop / name / "manifest.json").read_text()) for name in ("monday", "tuesday")]
    first, second = (version["content_sha256"] for version in versions)
    for found, trained in ((old, (1, first)), (new, (2, second))):
        told_of = found["provenance"]
        assert (told_of["trained_version"], told_of["trained_sha256"]) == trained
        assert (told_of["version"], told_of["dataset_sha256"]) == (2, second)
    assert old["targets"] == new["targets"]
    assert old["unknown_targets"] > new["unknown_targets"] == 0


def test_what_contradicts_is_refused_by_name(shop: Path, tmp_path: Path) -> None:
    command = ("train", shop / "tuesday", "--from", shop / "old", "--out", tmp_path / "new")
    wider = duet(*command, "--width", "16")
    assert "model.backbone.width is 16" in refused(wider, "invalid-config")
    assert "new to it" not in wider.stderr
    assert "settings:" not in wider.stderr
    assert "model.method is 'duet'" in refused(duet(*command, "--method", "duet"), "invalid-config")
    assert f"base is the method of the run {shop / 'old'}" in refused(duet(*command, "--joint"), "invalid-config")
    itself = duet("train", shop / "tuesday", "--from", shop / "old", "--out", shop / "old")
    assert "old is the run to go on from" in refused(itself, "output-exists")
    compare = ("compare", shop / "tuesday", "--runs", shop / "old", "--out", tmp_path / "report")
    assert "is version 2" in refused(duet(*compare), "dataset-mismatch")
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_none(shop: Path, tmp_path: Path) -> None:
    told = refused(duet("train", shop / "tuesday", "--from", tmp_path / "none", "--out", tmp_path / "new"), "not-a-run")
    assert f"there is no folder {tmp_path / 'none'}" in told


def test_nothing_is_prepared_for_a_run_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DUETGEN_DATA", "DUETGEN_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    (tmp_path / "DUETGEN_DATA/shop").mkdir(parents=True)
    (tmp_path / "DUETGEN_DATA/shop/log.csv").write_text("user,item,time\n" + "u,i,1\nu,j,2\nu,k,3\n" * 9)
    assert "there is no folder none" in refused(duet("train", "shop", "--from", "none"), "not-a-run")
    assert not (tmp_path / "DUETGEN_CACHE").exists()
