"""`duet prepare` on logs as people have them: what is printed, and what is refused with which words."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest

from duetgen.data.store import Dataset

from .test_cli import duet_here, refused

NOON = 1_600_000_000
EVENTS = [(f"u{i % 4}", f"i{i * 3 % 7}", 1 + i % 5, NOON + 60 * i) for i in range(120)]
"""People, items and times that are made up."""


def lines(form: str, head: str = "") -> str:
    return head + "".join(form.format(*event) + "\n" for event in EVENTS)


def prepared(log: Path, out: Path, *options: str) -> Dataset:
    made = duet_here("prepare", log, "--out", out, *options)
    assert made.returncode == 0, made.stderr
    return Dataset(out)


LOGS = {
    "bx.csv": lines('"{0}";"{1}";"{2}"', '"User-ID";"ISBN";"Book-Rating"\n'),
    "ml.inter": lines("{0}\t{1}\t{2}\t{3}", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"),
    "log.jsonl": lines('{{"user": "{0}", "item": "{1}", "timestamp": {3}}}'),
    "empty-rating.csv": lines("{0},{1},,{3}", "user,item,rating,timestamp\n"),
    "utc.csv": lines("{0},{1},2020-09-13 12:26:{2:02} UTC", "user,item,timestamp\n"),
}


@pytest.mark.parametrize("name", LOGS)
def test_common_logs_are_read_without_an_option(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(LOGS[name])
    dataset = prepared(tmp_path / name, tmp_path / "out")
    assert (dataset.devices, dataset.vocabulary) == (4, 7 + 2)
    assert dataset.manifest.source.kind == ("recbole" if name == "ml.inter" else "table")


def test_columns_of_other_names(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(lines("{0},{1},{2},{3}", "listener,track,stars,played_at\n"))
    result = duet_here("prepare", log, "--out", tmp_path / "out")
    assert "its columns are: listener, track, stars, played_at" in refused(result, "missing-column")
    assert "--user-column NAME and --item-column NAME" in result.stderr
    named = ("--user-column", "listener", "--item-column", "track", "--time-column", "played_at")
    assert prepared(log, tmp_path / "out", *named).manifest.has_time


def test_lines_without_a_header_and_how_they_are_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(lines("{0} {1}").replace("u", "").replace("i", ""))
    result = duet_here("prepare", log, "--out", tmp_path / "out")
    refused(result, "source-undetected")
    hint = result.stderr.strip().splitlines()[-1]
    dataset = prepared(log, tmp_path / "out", *hint.split("which: ")[1].split())
    assert (dataset.devices, dataset.manifest.counts.events) == (4, 120)


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_a_folder_whose_name_looks_like_a_pattern_and_like_markup(name: str, tmp_path: Path) -> None:
    log, out = tmp_path / "logs[/b]*?" / name, tmp_path / "made[/b]*?"
    log.parent.mkdir(parents=True)
    table = pl.DataFrame(EVENTS, schema=["user", "item", "rating", "timestamp"], orient="row")
    if name == "log.csv":
        table.write_csv(log)
    else:
        table.write_parquet(log)
    dataset = prepared(log, out)
    assert dataset.devices == 4
    assert sorted(dataset.table("items")["item"].to_list()) == sorted({item for _, item, _, _ in EVENTS})


def test_a_zip_and_a_folder_of_parts(tmp_path: Path) -> None:
    content = lines("{0},{1},{2},{3}", "user,item,rating,timestamp\n")
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as packed:
        packed.writestr("log.csv", content)
    zipped = prepared(tmp_path / "log.zip", tmp_path / "zip")
    frame = pl.read_csv(io.StringIO(content))
    (tmp_path / "parts").mkdir()
    frame[:50].write_parquet(tmp_path / "parts/part-0.parquet")
    frame[50:].write_parquet(tmp_path / "parts/part-1.parquet")
    parts = prepared(tmp_path / "parts", tmp_path / "folder")
    assert zipped.manifest.content_sha256 == parts.manifest.content_sha256
    assert (zipped.manifest.name, parts.manifest.name) == ("log", "parts")


def test_what_a_person_has_to_know_is_printed(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(lines("{0}, {1},{2},{3}000,view", "user,item,price,time,event\n") + "NULL,i1,1,1600000000000,buy\n")
    (tmp_path / "items.csv").write_text(",item,title\n0,i1,[One]\n1,i2,Two\n")
    refused(duet_here("prepare", log, "--out", tmp_path / "out"), "bad-id")
    result = duet_here("prepare", log, "--out", tmp_path / "out", "--drop-missing")
    assert result.returncode == 0, result.stderr
    for words in (
        "missing: 1 event out (no user id)",
        "columns not used: price",
        "behaviours that count alike: view 120, buy 1",
        "blanks around the item id",
        "times are read as milliseconds",
        "2 of 7 items have a title",
    ):
        assert words in result.stdout
    titles = pl.read_parquet(tmp_path / "out/items.parquet").drop_nulls("title")
    assert dict(titles.select("item", "title").iter_rows()) == {"i1": "[One]", "i2": "Two"}


def test_kinds_of_events_that_stay(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    shop = "".join(f"{u},{i},{('view', 'buy', 'cart')[n % 3]},{t}\n" for n, (u, i, _, t) in enumerate(EVENTS))
    log.write_text(f"user,item,behavior,time\n{shop}")
    dataset = prepared(log, tmp_path / "out", "--keep-behaviours", "buy, cart")
    assert dataset.manifest.counts.events == 80
    step = next(step for step in dataset.manifest.steps if step.name == "behaviours")
    assert (step.events_in, step.events_out) == (120, 80)


def test_an_order_that_means_nothing_and_the_split_for_it(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item\n" + "".join(f"{u},{i:03}\n" for u in range(9) for i in range(u, u + 9)))
    result = duet_here("prepare", log, "--out", tmp_path / "out")
    assert "sorted by item, so their order is no order in time: choose --split random" in result.stdout
    assert prepared(log, tmp_path / "drawn", "--split", "random").manifest.split.kind == "random"


def test_day_numbers_are_refused_and_read_when_told(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "user,item,time\n" + "".join(f"{u},{i},{44087.5 + (t - NOON) / 86400:.6f}\n" for u, i, _, t in EVENTS)
    )
    result = duet_here("prepare", log, "--out", tmp_path / "out")
    assert "line 2: the timestamp 44087.5 looks like a day number" in refused(result, "bad-timestamp")
    assert "--time-unit" in result.stderr
    dataset = prepared(log, tmp_path / "out", "--time-unit", "spreadsheet-days")
    assert dataset.timestamps is not None
    # 2020-09-13 at noon, and 119 minutes later.
    assert (dataset.timestamps.min(), dataset.timestamps.max()) == (1_599_998_400, 1_599_998_400 + 119 * 60)


def test_json_has_the_remarks(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(lines("{0},{1},{3},x", "user,item,time,shop\n"))
    result = duet_here("prepare", log, "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["remarks"] == ["columns not used: shop", "no item has a title"]


def test_a_log_is_prepared_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from duetgen.cli.prepare import prepare\n"
        f"prepare('synthetic', people=50, out=Path({str(tmp_path / 'data')!r}), quiet=True)\n"
        "assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_what_does_not_grow_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUETGEN_DATA", str(tmp_path))
    log = tmp_path / "log.csv"
    log.write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, _, t in EVENTS))
    prepared(log, tmp_path / "shop", "--name", "shop")
    before = (tmp_path / "shop/manifest.json").read_bytes()
    log.write_text(f"user,item,time\nnew,i1,{NOON}\n")
    assert "shop is found by its name" in refused(duet_here("prepare", log, "--append", "shop"), "usage")
    beside = duet_here("prepare", log, "--append", "shop", "--out", tmp_path / "later")
    assert beside.returncode == 0, beside.stderr
    assert "0 of 1 users and 1 of 1 items of the log are known" in beside.stdout
    assert (tmp_path / "shop/manifest.json").read_bytes() == before
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/images.json").touch()
    told = refused(duet_here("prepare", log, "--append", tmp_path / "pictures"), "not-a-dataset")
    assert "images cannot grow" in told
    told = refused(duet_here("prepare", "image-folder", log, "--append", tmp_path / "shop"), "usage")
    assert "images cannot grow" in told


def test_a_later_log_is_appended(tmp_path: Path) -> None:
    head, log, later = "user,item,time\n", tmp_path / "log.csv", tmp_path / "later.csv"
    rows = [f"{u},{i},{t}\n" for u, i, _, t in EVENTS]
    log.write_text(head + "".join(rows[:80]))
    later.write_text(head + "".join(rows[80:]) + f"new,i1,{NOON}\n")
    prepared(log, tmp_path / "out", "--min-item-events", "2")
    for option in (("--min-item-events", "3"), ("--split", "leave-one-out"), ("--keep-behaviours", "buy")):
        result = duet_here("prepare", later, "--append", tmp_path / "out", *option)
        assert option[0][2:].replace("-", "_") in refused(result, "bad-setting")
    refused(duet_here("prepare", "synthetic", "--append", tmp_path / "out"), "usage")
    assert "--append is empty" in refused(duet_here("prepare", later, "--append="), "usage")
    result = duet_here("prepare", later, "--append", tmp_path / "out", "--min-item-events", "2", "--drop-missing")
    assert result.returncode == 0, result.stderr
    assert "version 2: +41 events, +1 devices, +0 items" in result.stdout
    assert "1 appended events are older than the last that stood" in result.stdout
    assert Dataset(tmp_path / "out").version == 2
    described = duet_here("data", "describe", tmp_path / "out", "--out", tmp_path / "page.html")
    assert ", version 2\n" in described.stdout
    refused(duet_here("prepare", later, "--append", tmp_path / "out"), "nothing-new")


@pytest.mark.parametrize(
    ("log", "options", "code"),
    [
        ("utc.csv", ("--people", "5"), "usage"),
        ("utc.csv", ("--split", "leave-one-out", "--test-share", "0.3"), "bad-setting"),
        ("bx.csv", ("--valid-share", "0.3"), "bad-setting"),
        ("bx.csv", ("--time-unit", "seconds"), "bad-setting"),
        ("log.jsonl", ("--separator", ";"), "bad-setting"),
        ("log.jsonl", ("--no-header", "--user-column", "1", "--item-column", "2"), "bad-setting"),
        ("synthetic", ("--user-column", "who"), "bad-setting"),
        ("synthetic", ("--drop-missing",), "bad-setting"),
        ("synthetic", ("--titles", "items.csv"), "bad-setting"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    log: str, options: tuple[str, ...], code: str, tmp_path: Path
) -> None:
    source: str | Path = log
    if log in LOGS:
        source = tmp_path / log
        source.write_text(LOGS[log])
    refused(duet_here("prepare", source, "--out", tmp_path / "out", *options), code)
    assert not (tmp_path / "out").exists()
