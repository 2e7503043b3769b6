"""`duet data`, and data sets by name, as a user meets them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.publisher import Publisher, publishing

from duetgen.data.catalogue import CATALOGUE, Entry
from duetgen.data.store import Dataset

from .test_cli import duet_here, refused


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUETGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DUETGEN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """A server that has a small log in the layout of MovieLens 1M, in place of the real one."""
    events = [
        f"{user}::{(user + step) % 9 + 1}::4::{978_300_760 + 60 * step + user}"
        for user in range(12)
        for step in range(8)
    ]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "\n".join(events))
        archive.writestr("ml-1m/movies.dat", "".join(f"{i}::Film {i}::Drama\n" for i in range(1, 10)))
    with publishing() as server:
        server.content = buffer.getvalue()
        entry = Entry(
            name="ml-1m",
            title="MovieLens 1M",
            source="movielens-1m",
            page="https://x",
            files=(server.file("/ml-1m.zip"),),
        )
        monkeypatch.setitem(CATALOGUE, "ml-1m", entry)
        yield server


class TestCatalogue:
    def test_list(self) -> None:
        listed = duet_here("data", "list").stdout
        assert "ml-1m " in listed
        assert "amazon-2018-…" in listed
        names = [one["name"] for one in json.loads(duet_here("data", "list", "--json").stdout)]
        assert names == list(CATALOGUE)
        assert "amazon-cds-and-vinyl" in duet_here("data", "list", "amazon_cds").stdout

    def test_show(self, place: Path) -> None:
        shown = duet_here("data", "show", "douban_book").stdout
        for word in (
            "1,908,081 events",
            "licence",
            "cite",
            "duet data get douban-book",
            str(place / "cache/raw/douban"),
        ):
            assert word in shown
        assert json.loads(duet_here("data", "show", "ml-1m", "--json").stdout)["events"] == 1_000_209

    def test_a_name_that_is_unknown(self) -> None:
        refused(duet_here("data", "show", "ml-2m"), "data-unknown")


class TestGet:
    def test_only_if_the_licence_is_accepted(self, publisher: Publisher) -> None:
        result = duet_here("data", "get", "ml-1m")
        refused(result, "licence-not-accepted")
        assert "licence: research use" in result.stderr
        assert publisher.asked == []

    def test_then_all_works_by_name(self, publisher: Publisher, place: Path) -> None:
        got = duet_here("data", "get", "ml-1m", "--accept-licence")
        assert got.returncode == 0, got.stderr
        assert "next: duet prepare ml-1m" in got.stdout
        again = json.loads(duet_here("data", "get", "ml_1m", "--json").stdout)
        assert again["log"] == str(place / "cache/raw/ml-1m/set.zip")
        assert len(publisher.asked) == 1

        made = duet_here("prepare", "ml-1m", "--split", "leave-one-out")
        assert made.returncode == 0, made.stderr
        assert "licence: research use" in made.stdout
        assert "cite: F. M. Harper" in made.stdout
        dataset = Dataset(place / "cache/datasets/ml-1m")
        assert (dataset.manifest.name, dataset.manifest.counts.devices) == ("ml-1m", 12)
        assert "9 of 9 items have a title" in dataset.manifest.remarks

        small = ("--set", "optimiser.epochs=1", "--set", "model.backbone.width=8", "--threads", "1", "--quiet")
        trained = duet_here("train", "ml_1m", "--method", "base", *small)
        assert trained.returncode == 0, trained.stderr
        assert (place / "runs/ml-1m-sasrec-base/weights.safetensors").is_file()
        measured = duet_here("evaluate", "runs/ml-1m-sasrec-base", "ml-1m", "--bootstrap", "40", "--quiet")
        assert measured.returncode == 0, measured.stderr

    def test_a_verb_prepares_what_is_here(self, publisher: Publisher, place: Path) -> None:
        duet_here("data", "get", "ml-1m", "--accept-licence")
        small = ("--set", "optimiser.epochs=1", "--set", "model.backbone.width=8", "--threads", "1")
        trained = duet_here("train", "ml-1m", "--method", "base", "--out", "run", *small)
        assert trained.returncode == 0, trained.stderr
        assert "prepared ml-1m: 12 devices" in trained.stderr
        assert "licence: " in trained.stderr

    def test_placed_by_hand(self, place: Path) -> None:
        hint = duet_here("data", "get", "taobao").stderr.splitlines()[-1]
        folder = place / "cache/raw/taobao"
        assert str(folder) in hint
        folder.mkdir(parents=True)
        rows = "".join(f"{u},{(u + s) % 5},1,pv,{1_511_544_070 + s}\n" for u in range(6) for s in range(6))
        with zipfile.ZipFile(folder / "UserBehavior.csv.zip", "w") as archive:
            archive.writestr("UserBehavior.csv", rows)
        assert duet_here("data", "get", "taobao").returncode == 0
        made = duet_here("prepare", "taobao", "--keep-behaviours", "pv")
        assert made.returncode == 0, made.stderr
        assert Dataset(place / "cache/datasets/taobao").manifest.source.kind == "taobao"


def test_a_folder_to_make_is_asked_for(place: Path) -> None:
    (place / "log.csv").write_text("user,item\na,b\n")
    assert "give --out DIR" in duet_here("prepare", "log.csv").stderr


def test_a_name_that_is_not_here(place: Path) -> None:
    refused(duet_here("prepare", "ml-1m"), "data-absent")
    refused(duet_here("train", "ml-1m"), "data-absent")
    refused(duet_here("train", "ml-2m"), "data-unknown")


def test_describe_draws_a_page(place: Path) -> None:
    made = duet_here("prepare", "synthetic", "--people", "60", "--out", "d")
    assert made.returncode == 0, made.stderr
    told = duet_here("data", "describe", "d")
    assert told.returncode == 0, told.stderr
    for word in ("60 devices", "events a device: ", "popularity: ", "repeats: ", "page: d.html"):
        assert word in told.stdout
    assert "Cold items over time" in (place / "d.html").read_text()
    refused(duet_here("data", "describe", "d"), "output-exists")
    found = json.loads(duet_here("data", "describe", "d", "--overwrite", "--json").stdout)
    assert (found["devices"], found["split"]) == (60, "temporal")


def test_text_is_read_again(place: Path) -> None:
    duet_here("prepare", "synthetic", "--people", "20", "--out", "d")
    written = duet_here("data", "text", "d", "--out", "t", "--negatives", "1", "--test-negatives", "3", "--json")
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout)["rows"] > 0
    assert duet_here("prepare", "t", "--out", "again").returncode == 0
    assert Dataset(place / "again").manifest.source.kind == "duet-text"
