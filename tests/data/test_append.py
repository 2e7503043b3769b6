"""Growing a dataset: what stands keeps its index, and the whole is what preparing all logs at once gives."""

import hashlib
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from duetgen.data import arrange, errors, kept, splits
from duetgen.data.append import append, settings_of
from duetgen.data.kept import table_of
from duetgen.data.memory import Memory
from duetgen.data.partitions import Partitions, Run, partition
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.runs import Runs
from duetgen.data.sources.ids import shown
from duetgen.data.sources.log import Columns, Reading
from duetgen.data.store import Dataset, NotADatasetError
from duetgen.errors import DuetError, OutputExistsError
from duetgen.jobfolder import FolderBusyError, Job, alone_in

from .conftest import Write

Row = tuple[str, str, int]
CONFIG = PrepareConfig(test_share=0.25, valid_share=1 / 3)
MONDAY = """user,item,timestamp
a,x,10
b,x,11
a,y,12
b,y,13
a,x,20
b,z,21
a,w,30
b,x,31
"""
TUESDAY = """user,item,timestamp
c,z,40
c,x,41
a,w,42
b,v,50
c,z,51
"""


def everything(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def content(root: Path) -> dict[str, Any]:
    """A dataset without its indices: events by device, counts and titles by item, what is kept, and the figures."""
    dataset = Dataset(root)
    manifest, items = dataset.manifest, dataset.table("items")
    known = items["item"].to_list()
    names = [*known, *dataset.kept("items").collect()["item"]]
    unknown = iter(dataset.kept("unknown").collect()["item"].to_list())
    events = [names[item - 2] if item > 1 else names[len(known) + next(unknown)] for item in dataset.events.tolist()]
    assert next(unknown, None) is None
    times = [None] * len(events) if dataset.timestamps is None else dataset.timestamps.tolist()
    seen = list(zip(events, (dataset.events > 1).tolist(), times))
    owners = zip(
        dataset.table("devices")["user"].to_list(), pairwise(dataset.offsets.tolist()), dataset.bounds.tolist()
    )
    left: dict[str, list[Any]] = {user: [] for user in dataset.kept("users").collect()["user"]}
    for user, item, *time in dataset.kept("events").collect().iter_rows():
        left[list(left)[user]].append((names[item], *time))
    return {
        "devices": {user: (seen[first:end], bounds) for user, (first, end), bounds in owners},
        "items": {item: rest for _, item, *rest in items.iter_rows()},
        "left": left,
        "figures": (manifest.split, manifest.counts, manifest.repeats, manifest.met, manifest.unseen_item_share),
        "tied": manifest.tied_timestamps,
    }


class TestByHand:
    """Monday alone: training is t < 20, so x and y are known, z and w are not. With Tuesday the test is t >= 42 (3 of
    13) and validation t >= 31 (3 of the 10 before), so z and w are known, and v is not.
    """

    @pytest.fixture
    def monday(self, write: Write, tmp_path: Path) -> Path:
        prepare(write("monday/log.csv", MONDAY), tmp_path / "data", CONFIG)
        return tmp_path / "data"

    def test_arrays(self, write: Write, monday: Path) -> None:
        manifest = append(write("tuesday.csv", TUESDAY), monday)
        dataset = Dataset(monday)
        assert (manifest.split.valid_from, manifest.split.test_from) == (31, 42)
        # Of w and z, each once in training, w comes first: a's events stand before those of b.
        assert dataset.table("items").drop("title").rows() == [(2, "x", 3), (3, "y", 2), (4, "w", 1), (5, "z", 1)]
        assert dataset.table("devices").rows() == [(0, "a"), (1, "b"), (2, "c")]
        assert dataset.events.tolist() == [2, 3, 2, 4, 4, 2, 3, 5, 2, 1, 5, 2, 5]
        assert dataset.offsets.tolist() == [0, 5, 10, 13]
        assert dataset.bounds.tolist() == [[4, 4], [3, 4], [0, 2]]
        assert dataset.timestamps is not None
        assert dataset.timestamps.tolist() == [10, 12, 20, 30, 42, 11, 13, 21, 31, 50, 40, 41, 51]

    def test_what_is_kept(self, write: Write, monday: Path) -> None:
        dataset = Dataset(monday)
        assert dataset.kept("items").collect().rows() == [("z", None), ("w", None)]
        # The unknown events of a, and then of b.
        assert dataset.kept("unknown").collect()["item"].to_list() == [1, 0]
        assert dataset.kept("users").collect().is_empty()
        assert dataset.kept("events").collect().is_empty()
        append(write("tuesday.csv", TUESDAY), monday)
        dataset = Dataset(monday)
        assert dataset.kept("items").collect().rows() == [("v", None)]
        assert dataset.kept("unknown").collect()["item"].to_list() == [0]

    def test_versions(self, write: Write, monday: Path) -> None:
        first = Dataset(monday).manifest
        second = append(write("tuesday.csv", TUESDAY), monday)
        third = append(write("wednesday.csv", "user,item,timestamp\na,v,60\nd,x,61\n"), monday)
        assert [one.content_sha256 for one in third.versions] == [first.content_sha256, second.content_sha256]
        assert [one.source.files for one in third.versions] == [["log.csv"], ["tuesday.csv"]]
        assert [one.counts.events for one in third.versions] == [8, 13]
        assert third.source.files == ["wednesday.csv"]
        assert (third.name, third.settings) == ("log", first.settings)
        dataset = Dataset(monday)
        assert dataset.version == 3
        assert dataset.earlier(second.content_sha256) == third.versions[1]

    def test_one_content_after_two_histories_has_two_hashes(self, write: Write, tmp_path: Path) -> None:
        head, *rows = TUESDAY.splitlines(keepends=True)
        for name, parts in (("one", [rows]), ("two", [rows[:2], rows[2:]])):
            prepare(write("monday.csv", MONDAY), tmp_path / name, CONFIG)
            for number, part in enumerate(parts):
                append(write(f"{number}.csv", head + "".join(part)), tmp_path / name)
        one, two = everything(tmp_path / "one"), everything(tmp_path / "two")
        assert {name for name in one if one[name] != two[name]} == {"manifest.json"}
        manifest = Dataset(tmp_path / "one").manifest
        assert manifest.content_sha256 != Dataset(tmp_path / "two").manifest.content_sha256
        digest = hashlib.sha256(f"met show seed 0\0version {manifest.versions[0].content_sha256}\0".encode())
        for name, of_file in sorted(manifest.files.items()):
            if name.endswith(".npy"):
                digest.update(f"{name} {of_file}\0".encode())
        digest.update(b"x\0y\0w\0z\0a\0b\0c\0")
        assert manifest.content_sha256 == digest.hexdigest()

    def test_what_is_known_is_told(self, write: Write, monday: Path) -> None:
        remarks = append(write("tuesday.csv", TUESDAY), monday).remarks
        assert "2 of 3 users and 3 of 4 items of the log are known" in remarks

    def test_a_log_with_a_unit_of_time_is_followed_by_one_of_dates(self, write: Write, tmp_path: Path) -> None:
        config = msgspec.structs.replace(CONFIG, reading=Reading(time_unit="milliseconds"))
        log = re.sub(r"(\d+)\n", r"16000000\g<1>000\n", MONDAY)
        prepare(write("1.csv", log), tmp_path / "data", config)
        later = append(write("2.csv", "user,item,timestamp\na,x,2020-09-14T12:00:00\n"), tmp_path / "data")
        assert "the time unit milliseconds, which is for numbers, is not used" in "; ".join(later.remarks)
        told = msgspec.structs.replace(settings_of(Dataset(tmp_path / "data")), reading=Reading(time_unit="seconds"))
        with pytest.raises(errors.BadSettingError, match="the times are dates, and the time unit seconds is for"):
            append(write("3.csv", "user,item,timestamp\na,x,2020-09-15T12:00:00\n"), tmp_path / "data", told)

    @pytest.mark.parametrize(
        ("columns", "reading", "before"),
        [
            (Columns(), Reading(separator="bar"), MONDAY.replace(",", "|")),
            (Columns(user="1", item="2", timestamp="3"), Reading(header=False), MONDAY.partition("\n")[2]),
        ],
        ids=["separator", "no header"],
    )
    def test_a_log_of_lines_is_followed_by_one_of_fields_with_names(
        self, columns: Columns, reading: Reading, before: str, write: Write, tmp_path: Path
    ) -> None:
        config = msgspec.structs.replace(CONFIG, columns=columns, reading=reading)
        prepare(write("1.csv", before), tmp_path / "data", config)
        pl.read_csv(TUESDAY.encode()).write_parquet(tmp_path / "2.parquet")
        append(tmp_path / "2.parquet", tmp_path / "data")
        append(write("3.jsonl", '{"user": "a", "item": "x", "timestamp": 60}\n'), tmp_path / "data")
        # What was said of the first log holds for the next one of its form.
        manifest = append(write("4.csv", before.replace("x", "v")), tmp_path / "data")
        assert len(manifest.versions) == 3

    def test_steps(self, write: Write, monday: Path) -> None:
        manifest = append(write("tuesday.csv", TUESDAY), monday)
        steps = [(one.name, one.events_in, one.events_out, one.users_out, one.items_out) for one in manifest.steps]
        assert [step for step in steps if step[0] != "time"] == [
            ("read", 5, 5, 3, 4),
            ("append", 5, 13, 3, 5),
            ("items", 13, 13, 3, 4),
        ]

    def test_titles_that_come_later_or_change(self, write: Write, tmp_path: Path) -> None:
        write("1/items.csv", "item,title\nx,Ex\nw,Double\n")
        write("2/items.csv", "item,title\nx,Axe\ny,Why\nv,Vee\n")
        prepare(write("1/monday.csv", MONDAY), tmp_path / "data", CONFIG)
        append(write("2/tuesday.csv", TUESDAY), tmp_path / "data")
        assert Dataset(tmp_path / "data").table("items")["title"].to_list() == ["Axe", "Why", "Double", None]
        # The test is t >= 66 now, and validation t >= 60: v is known, with the title of Tuesday.
        wednesday = "".join(f"{'abcd'[n % 4]},{'xyz'[n % 3]},{60 + n}\n" for n in range(12))
        append(write("3/wednesday.csv", "user,item,timestamp\n" + wednesday), tmp_path / "data")
        titles = Dataset(tmp_path / "data").table("items")["title"].to_list()
        assert titles == ["Axe", "Why", "Double", None, "Vee"]


class TestAnyDivision:
    """Parts of a log, appended in turn, are the log prepared at once."""

    @settings(max_examples=10, deadline=None)
    @given(data=st.data())
    def test_is_the_log_at_once_up_to_the_order_of_indices(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        root = tmp_path_factory.mktemp("any")
        # Drawn by a seed: small lists that hypothesis likes make no dataset.
        rng, size = np.random.default_rng(data.draw(st.integers(0, 2**32))), data.draw(st.integers(40, 90))
        rows = rng.integers((0, 0, 0, 1), (6, 10, 40, 6), (size, 4)).tolist()
        timed, in_turn = data.draw(st.booleans()), data.draw(st.booleans())
        if timed and in_turn:
            rows.sort(key=lambda one: one[2])
        config = PrepareConfig(
            split=(split := data.draw(st.sampled_from([None, "leave-one-out"]))),
            min_rating=data.draw(st.sampled_from([None, 2])),
            min_user_events=data.draw(st.integers(1, 3)),
            min_item_events=data.draw(st.integers(1, 3)),
            test_share=data.draw(st.sampled_from([0.1, 0.3])) if timed and split is None else 0.1,
            drop_repeats=data.draw(st.booleans()),
            name="any",
        )
        cuts = sorted(data.draw(st.lists(st.integers(24, size - 1), min_size=1, max_size=3, unique=True)))
        frame = pl.DataFrame(rows, schema=["user", "item", "timestamp", "rating"], orient="row")
        frame = frame if timed else frame.drop("timestamp")
        frame.write_csv(root / "log.csv")
        ids: list[tuple[list[str], list[str]]] = []
        try:
            for first, end in pairwise([0, *cuts, size]):
                frame[first:end].write_csv(root / f"{first}.csv")
                if first:
                    append(root / f"{first}.csv", root / "data")
                else:
                    prepare(root / "0.csv", root / "data", config)
                made = Dataset(root / "data")
                ids.append((made.table("items")["item"].to_list(), made.table("devices")["user"].to_list()))
            prepare(root / "log.csv", root / "whole", config)
        except errors.LeakageError:
            raise
        except DuetError:
            reject()
        for before, after in pairwise(ids):
            assert all(new[: len(old)] == old for old, new in zip(before, after))
        one, other = content(root / "data"), content(root / "whole")
        if one["figures"][0] != other["figures"][0]:
            # Events that came late would have moved a boundary back.
            assert timed
            assert not in_turn
            split, whole = one["figures"][0], other["figures"][0]
            assert split.valid_from >= whole.valid_from
            assert split.test_from >= whole.test_from
            return
        assert one == other

    def test_any_number_of_partitions_gives_the_same_bytes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = [(n if n % 7 == 0 else n * n % 37, n * 7 % 23, n) for n in range(900)]
        some = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
        for number, part in enumerate((some[:300], some[300:])):
            part.write_csv(tmp_path / f"{number}.csv")
        config = PrepareConfig(split="leave-one-out", min_user_events=9, min_item_events=5)
        seen = []
        monkeypatch.setattr(kept, "ROWS", 16)
        for most in (10**6, 100):
            monkeypatch.setattr(Memory, "most_events", lambda *_, most=most: most)
            prepare(tmp_path / "0.csv", tmp_path / f"{most}", config)
            append(tmp_path / "1.csv", tmp_path / f"{most}")
            seen.append(
                {name: data for name, data in everything(tmp_path / f"{most}").items() if name != "manifest.json"}
            )
        left = Dataset(tmp_path / "100").kept("users").collect()
        assert len(left) > 0
        assert seen[0] == seen[1]


class TestMerging:
    """Events that are put into the runs that stand give the bytes that ordering all of them anew gives."""

    @pytest.mark.parametrize("seed", range(6))
    def test_is_the_order_of_everything(self, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root, rng = tmp_path, np.random.default_rng(seed)
        size, timed = int(rng.integers(60, 150)), rng.random() < 0.7
        rows = rng.integers((0, 0, 0), (12, 14, 50), (size, 3))
        rows[:, :2] = np.minimum(rows[:, :2], 4 + np.arange(size)[:, None] // 9)
        frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"])
        # Some events come late, several fall into one second, and some are there twice.
        frame = frame.sort("timestamp", maintain_order=True) if rng.random() < 0.5 else frame
        frame = frame.with_columns(1_600_000_000.0 + pl.col("timestamp") + pl.lit(rng.choice([0, 0.25, 0.5], size)))
        frame = pl.concat([frame, frame[size // 2 : size // 2 + 9]])
        frame = frame if timed else frame.drop("timestamp")
        config = PrepareConfig(
            split=(split := rng.choice([None, "leave-one-out"])),
            min_user_events=int(rng.integers(1, 4)),
            min_item_events=int(rng.integers(1, 4)),
            drop_repeats=bool(rng.random() < 0.5),
            test_share=float(rng.choice([0.1, 0.3])) if timed and split is None else 0.1,
            name="any",
        )
        most = int(rng.choice([60, 10**6]))
        monkeypatch.setattr(Memory, "most_events", lambda *_: most)
        monkeypatch.setattr(splits, "VALIDATING", int(rng.choice([2, 5_000])))
        data = root / "0/data"
        for first, end in pairwise((0, size // 2, 3 * size // 4, size)):
            log = root / f"{first}/log.csv"
            log.parent.mkdir()
            frame[first:end].write_csv(log)
            titles = pl.DataFrame({"item": range(first % 5, 14), "title": [f"{first}"] * (14 - first % 5)})
            titles.write_csv(log.with_name("items.csv"))
            if not first:
                prepare(log, data, config)
                continue
            append(log, data, out=root / f"{first}/data")
            with pytest.MonkeyPatch.context() as sorting:
                sorting.setattr(arrange, "partition", ordered_anew)
                append(log, data, out=root / f"{first}/anew")
            data = root / f"{first}/data"
            assert everything(data) == everything(root / f"{first}/anew")


def ordered_anew(events: pl.LazyFrame, folder: Path, most: int, run: Run, runs: Runs | None) -> Partitions:
    """As `partition`: what stands is handed back as a log that the events are behind."""
    if runs is None:
        return partition(events, folder, most, run)
    standing, kinds = table_of(runs.take(np.arange(len(runs.lengths)))), events.collect_schema()
    if "moment" in kinds:
        standing = standing.with_columns(moment=kinds["moment"].min())  # type: ignore[attr-defined]
    whole = pl.concat([standing.lazy(), events.select(standing.columns)], how="vertical_relaxed")
    return partition(whole, folder, most, run)


class TestWhoIsLeftOut:
    def test_of_leave_one_out_comes_back_with_all_events(self, write: Write, tmp_path: Path) -> None:
        log = write("1.csv", "user,item\na,x\nb,y\na,x\na,z\nb,x\na,x\n")
        prepare(log, tmp_path / "data", PrepareConfig(split="leave-one-out"))
        dataset = Dataset(tmp_path / "data")
        assert dataset.kept("users").collect().rows() == [("b",)]
        # x is known, so row 0; then come y and z, by first appearance.
        assert dataset.kept("items").collect()["item"].to_list() == ["y", "z"]
        assert dataset.kept("events").collect().rows() == [(0, 1), (0, 0)]
        append(write("2.csv", "user,item\nc,x\nb,z\n"), tmp_path / "data")
        dataset = Dataset(tmp_path / "data")
        assert dataset.table("items").drop("title").rows() == [(2, "x", 2), (3, "y", 1)]
        assert dataset.table("devices")["user"].to_list() == ["a", "b"]
        assert dataset.events.tolist() == [2, 2, 1, 2, 3, 2, 1]
        assert dataset.kept("users").collect().rows() == [("c",)]

    def test_of_the_core_comes_back(self, write: Write, tmp_path: Path) -> None:
        config = msgspec.structs.replace(CONFIG, min_user_events=2)
        prepare(write("1.csv", MONDAY + "c,x,12\n"), tmp_path / "data", config)
        assert Dataset(tmp_path / "data").kept("events").collect().rows() == [(0, 0, 12)]
        append(write("2.csv", TUESDAY + "c,y,9\n"), tmp_path / "data")
        dataset = Dataset(tmp_path / "data")
        assert dataset.table("devices")["user"].to_list() == ["a", "b", "c"]
        assert dataset.timestamps is not None
        assert dataset.timestamps[dataset.offsets[2] :].tolist() == [9, 12, 40, 41, 51]

    def test_who_was_drawn_to_validate_still_does(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(splits, "VALIDATING", 3)
        for number, users in enumerate((range(10), range(30))):
            rows = [(user, (user + n) % 5, 100 * number + n) for user in users for n in range(4)]
            pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(tmp_path / f"{number}.csv")
        prepare(tmp_path / "0.csv", tmp_path / "data", PrepareConfig(split="leave-one-out"))
        before = Dataset(tmp_path / "data").bounds
        manifest = append(tmp_path / "1.csv", tmp_path / "data")
        after = Dataset(tmp_path / "data").bounds
        drawn = [(bounds[:, 1] > bounds[:, 0]).nonzero()[0].tolist() for bounds in (before, after)]
        assert drawn[0] == drawn[1]
        assert len(drawn[0]) == manifest.split.validating == 3


class TestLate:
    def test_events_are_put_in_order_and_told(self, write: Write, tmp_path: Path) -> None:
        prepare(write("1.csv", MONDAY), tmp_path / "data", CONFIG)
        manifest = append(write("2.csv", "user,item,timestamp\na,y,11\nb,x,40\na,x,41\n"), tmp_path / "data")
        dataset = Dataset(tmp_path / "data")
        assert dataset.timestamps is not None
        assert dataset.timestamps[:6].tolist() == [10, 11, 12, 20, 30, 41]
        assert "1 appended events are older than the last that stood: they are put in order" in manifest.remarks

    def test_no_boundary_goes_back(self, write: Write, tmp_path: Path) -> None:
        first = prepare(write("1.csv", MONDAY), tmp_path / "data", CONFIG)
        # Of all events 26 are at or before 11, so a quarter would be later than that.
        early = "".join(f"{'abc'[n % 3]},{'xy'[n % 2]},{n % 9}\n" for n in range(27))
        later = append(write("2.csv", "user,item,timestamp\n" + early), tmp_path / "data")
        assert later.split == first.split
        at_once = prepare(write("3.csv", MONDAY + early), tmp_path / "whole", CONFIG)
        assert at_once.split.test_from < first.split.test_from  # type: ignore[operator]

    def test_within_a_second_what_stands_comes_first(self, write: Write, tmp_path: Path) -> None:
        start = 1_600_000_000
        log = "".join(f"a,{'xyxyxy'[n]},{start + n}.5\n" for n in range(6))
        prepare(write("1.csv", "user,item,time\n" + log), tmp_path / "data")
        rows = f"user,item,time\na,late,{start + 3}.9\na,early,{start + 3}.1\na,x,{start + 9}.5\n"
        append(write("2.csv", rows), tmp_path / "data")
        dataset = Dataset(tmp_path / "data")
        names = ["?", "?", *dataset.table("items")["item"]]
        assert [names[item] for item in dataset.events[3:7]] == ["y", "early", "late", "x"]


class TestRefusals:
    @pytest.fixture
    def data(self, write: Write, tmp_path: Path) -> Path:
        prepare(write("monday.csv", MONDAY), tmp_path / "data", CONFIG)
        return tmp_path / "data"

    @pytest.mark.parametrize(
        ("log", "error", "words"),
        [
            ("user,item\na,x\n", errors.NotAppendableError, "the log has no times"),
            ("user,item,timestamp\na,x,1600000000\n", errors.NotAppendableError, "only one is of a clock"),
            ("user,item,timestamp\n", errors.InputEmptyError, "no event"),
            ("who,what,when\na,x,1\n", errors.MissingColumnError, "its columns are: who, what, when"),
            ("user,item,timestamp\nb,x,31\na,x,20\na,x,20\n", errors.NothingNewError, "all 3 events"),
            (MONDAY, errors.NothingNewError, "since version 1"),
            ("user,item,timestamp\nu-a,i-x,40\n", errors.NotAppendableError, "no user and no item of the log"),
            (
                "user,item,timestamp\n" + "".join(f"n{n},x,{90 + n}\n" for n in range(40)),
                errors.NoTargetsError,
                "before",
            ),
        ],
    )
    def test_logs(self, write: Write, data: Path, log: str, error: type[DuetError], words: str) -> None:
        before = everything(data)
        with pytest.raises(error, match=words):
            append(write("log.csv", log), data)
        assert everything(data) == before
        assert sorted(path.name for path in data.parent.iterdir()) == ["data", "log.csv", "monday.csv"]

    def test_a_log_without_ratings(self, write: Write, tmp_path: Path) -> None:
        rated = MONDAY.replace("\n", ",5\n").replace("timestamp,5", "timestamp,rating")
        prepare(write("1.csv", rated), tmp_path / "data", msgspec.structs.replace(CONFIG, min_rating=3))
        with pytest.raises(errors.NotAppendableError, match="no ratings, and the dataset keeps events rated 3 or more"):
            append(write("2.csv", TUESDAY), tmp_path / "data")

    def test_a_log_with_times_onto_none(self, write: Write, tmp_path: Path) -> None:
        prepare(write("1.csv", "user,item\na,x\na,x\na,y\na,x\n"), tmp_path / "data")
        with pytest.raises(errors.NotAppendableError, match="the log has times, and the dataset has none"):
            append(write("2.csv", TUESDAY), tmp_path / "data")

    @pytest.mark.parametrize("split", ["random", "given"])
    def test_splits_without_a_later_part(self, split: str, write: Write, tmp_path: Path) -> None:
        log, test = write("1.csv", "user,item\na,x\na,x\na,y\na,x\n"), write("2.csv", "user,item\na,y\n")
        test_input = test if split == "given" else None
        prepare(log, tmp_path / "data", PrepareConfig(split=split), test_input=test_input)
        with pytest.raises(errors.NotAppendableError, match=f"has the split {split}") as refusal:
            append(test, tmp_path / "data")
        assert ("--split leave-one-out" in refusal.value.hint) == (split == "random")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("split", "leave-one-out"),
            ("min_user_events", 2),
            ("met", "hide"),
            ("seed", 1),
            ("name", "b"),
            ("test_share", 0.3),
        ],
    )
    def test_settings_that_are_not_its_own(self, name: str, value: object, write: Write, data: Path) -> None:
        config = msgspec.structs.replace(settings_of(Dataset(data)), **{name: value})
        with pytest.raises(errors.BadSettingError, match=f"{name} is {value!r}, and the dataset was prepared with"):
            append(write("log.csv", TUESDAY), data, config)

    @pytest.mark.parametrize(
        ("before", "later"),
        [("12", "012"), ("007", "7"), ("Ab", "ab"), ("caf\u00e9", "cafe\u0301"), ("7", "0\u200b7")],
        ids=["zeros here", "zeros there", "capitals", "unicode", "signs that nobody sees"],
    )
    @pytest.mark.parametrize("name", ["user", "item"])
    def test_ids_of_another_form(self, before: str, later: str, name: str, write: Write, tmp_path: Path) -> None:

        def log(ids: list[str], begin: int) -> Path:
            rows = [f"{one},p,{time}" if name == "user" else f"p,{one},{time}" for time, one in enumerate(ids, begin)]
            return write(f"{begin}.csv", "\n".join(["user,item,timestamp", *rows, ""]))

        prepare(log([before, "k"] * 4, 10), tmp_path / "data", CONFIG)
        told = f"{name} ids of the log stand in the dataset in another form, as {shown(before)} for {shown(later)}"
        with pytest.raises(errors.NotAppendableError) as refusal:
            append(log([later], 40), tmp_path / "data")
        assert refusal.value.message == f"1 of 1 {told}"
        # Where as many are known as they stand, it is told and not refused.
        remarks = append(log([later, "k"], 50), tmp_path / "data").remarks
        assert f"1 of 2 {told}: they stay apart" in remarks

    def test_no_dataset(self, write: Write, tmp_path: Path) -> None:
        with pytest.raises(NotADatasetError):
            append(write("log.csv", TUESDAY), tmp_path / "none")
        with pytest.raises(NotADatasetError):
            append(write("log.csv", TUESDAY), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]

    def test_a_dataset_that_another_process_appends_to(self, write: Write, data: Path) -> None:
        with alone_in(data), pytest.raises(FolderBusyError):
            append(write("log.csv", TUESDAY), data)

    @pytest.mark.parametrize("name", ["notes.txt", "runs/a/run.json", "sequences/notes.npy", "empty/"])
    def test_a_folder_that_holds_something_else(self, name: str, write: Write, data: Path, tmp_path: Path) -> None:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).mkdir() if name.endswith("/") else (data / name).write_text("years of work")
        before, log = everything(data), write("log.csv", TUESDAY)
        found = re.escape(f"{data} holds {name.removesuffix('/').removesuffix('/a/run.json')}, ")
        with pytest.raises(OutputExistsError, match=found):
            append(log, data)
        with pytest.raises(OutputExistsError, match=found):
            prepare(log, data, CONFIG, overwrite=True)
        assert everything(data) == before
        append(log, data, out=tmp_path / "beside")

    def test_inside_a_dataset(self, write: Write, data: Path, tmp_path: Path) -> None:
        log, before = write("log.csv", TUESDAY), everything(data)
        (tmp_path / "link").symlink_to(data, target_is_directory=True)
        for out in (data / "inner", data / "runs/inner", tmp_path / "link/inner"):
            with pytest.raises(OutputExistsError, match="inside the dataset folder"):
                append(log, data, out=out)
            with pytest.raises(OutputExistsError, match="inside the dataset folder"):
                prepare(log, out, CONFIG)
        with pytest.raises(OutputExistsError, match="inside the dataset folder"):
            Job("a job's folder", "another", "mark", Path.touch, str, frozenset()).check(
                data / "runs/a", overwrite=False
            )
        assert everything(data) == before

    def test_more_ids_than_there_is_memory_for(self, write: Write, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Memory, "most_ids", 5)
        with pytest.raises(errors.MemoryLimitError, match="the dataset has 6 users and items"):
            append(write("log.csv", TUESDAY), data)


KILLED = """
import os, signal, sys
from pathlib import Path
from duetgen.data.append import append

def say(line):
    if line.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

append(Path(sys.argv[1]), Path(sys.argv[2]), progress=say)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
@pytest.mark.parametrize("moment", ["dividing", "checking"])
def test_killed_it_leaves_the_earlier_version_and_can_be_started_again(
    moment: str, write: Write, tmp_path: Path
) -> None:
    prepare(write("monday.csv", MONDAY), tmp_path / "data", CONFIG)
    before, log = everything(tmp_path / "data"), write("tuesday.csv", TUESDAY)
    run = subprocess.run([sys.executable, "-c", KILLED, str(log), str(tmp_path / "data"), moment], check=False)
    assert run.returncode == -signal.SIGKILL
    left = everything(tmp_path / "data")
    assert {name: left[name] for name in before} == before
    assert set(left) - set(before) <= {".lock"}
    assert append(log, tmp_path / "data").counts.events == 13
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "monday.csv", "tuesday.csv"]
    assert not (tmp_path / "data/.lock").exists()


def test_beside_leaves_the_earlier_version(write: Write, tmp_path: Path) -> None:
    first = prepare(write("1.csv", MONDAY), tmp_path / "data", CONFIG)
    before = everything(tmp_path / "data")
    later = append(write("2.csv", TUESDAY), tmp_path / "data", out=tmp_path / "later")
    assert everything(tmp_path / "data") == before
    assert Dataset(tmp_path / "later").earlier(first.content_sha256) == later.versions[0]


def test_a_log_of_another_kind_and_with_other_columns(write: Write, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, columns=Columns(user="who", item="what", timestamp="when"))
    prepare(write("1.csv", MONDAY.replace("user,item,timestamp", "who,what,when")), tmp_path / "data", config)
    append(write("2.csv", TUESDAY.replace("user,item,timestamp", "who,what,when")), tmp_path / "data")
    atomic = "user_id:token\titem_id:token\ttimestamp:float\na\tx\t60\nb\tx\t61\n"
    manifest = append(write("3.inter", atomic), tmp_path / "data", settings_of(Dataset(tmp_path / "data"), "recbole"))
    assert (manifest.counts.events, manifest.source.kind, manifest.settings["source"]) == (15, "recbole", "table")
