import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.leakage import check
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset
from duetgen.errors import DuetError, OutputExistsError

from .conftest import Write

LOG = """user,item,rating,timestamp
a,x,5,10
b,x,1,11
a,y,4,12
b,y,5,13
a,x,5,20
b,z,5,21
a,w,5,30
b,x,5,31
"""


GOLDEN = "6f701b83b919737fa1966526f81fa77129995fc5de53328a2a19ef35dc7e82a9"
"""Content of the dataset made of the log above: it changes only with the format."""


def everything(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


class TestByHand:
    """Eight events; the test is t >= 30 (2 of 8), validation t >= 20 (2 of the 6 before)."""

    CONFIG = PrepareConfig(test_share=0.25, valid_share=1 / 3)

    def test_arrays(self, write: Write, tmp_path: Path) -> None:
        manifest = prepare(write("log.csv", LOG), tmp_path / "out", self.CONFIG)
        dataset = Dataset(tmp_path / "out")
        assert (manifest.split.valid_from, manifest.split.test_from) == (20, 30)
        # Training counts: x 2, y 2, x first; z and w are not known.
        assert pl.read_parquet(tmp_path / "out/items.parquet").rows() == [(2, "x", None, 2), (3, "y", None, 2)]
        assert pl.read_parquet(tmp_path / "out/devices.parquet").rows() == [(0, "a"), (1, "b")]
        assert dataset.events.tolist() == [2, 3, 2, 1, 2, 3, 1, 2]
        assert dataset.offsets.tolist() == [0, 4, 8]
        assert dataset.bounds.tolist() == [[2, 3], [2, 3]]
        assert dataset.timestamps is not None
        assert dataset.timestamps.tolist() == [10, 12, 20, 30, 11, 13, 21, 31]
        assert dataset.training_counts().tolist() == [0, 0, 2, 2]
        assert dataset.targets("test").position_N.tolist() == [3, 7]
        assert not dataset.has_rows
        assert not dataset.has_given
        # a wants an unknown item and has met both known ones; b wants x and has met both.
        assert not dataset.candidates("test")[np.arange(2)].any()

    def test_content_hash_is_this(self, write: Write, tmp_path: Path) -> None:
        assert prepare(write("log.csv", LOG), tmp_path / "out", self.CONFIG).content_sha256 == GOLDEN

    def test_manifest(self, write: Write, tmp_path: Path) -> None:
        prepare(write("log.csv", LOG), tmp_path / "out", self.CONFIG)
        manifest = Dataset(tmp_path / "out").manifest
        assert msgspec.structs.asdict(manifest.counts) == {
            "devices": 2,
            "items": 2,
            "events": 8,
            "train_events": 4,
            "valid_events": 2,
            "test_events": 2,
            "valid_targets": 2,
            "test_targets": 2,
        }
        assert manifest.unseen_item_share == {"valid": 1 / 2, "test": 1 / 2}
        assert manifest.tied_timestamps == 0
        assert manifest.source.files == ["log.csv"]
        assert manifest.name == "log"
        assert all(check.passed for check in manifest.leakage)
        assert {"order", "boundary", "vocabulary", "test-blind"} <= {check.name for check in manifest.leakage}
        items = manifest.steps[-1]
        assert (items.name, items.items_in, items.items_out, items.events_out) == ("items", 4, 2, 8)

    def test_ties_count_within_devices_only(self, write: Write, tmp_path: Path) -> None:
        log = LOG.replace("y,4,12", "y,4,10").replace("x,5,20", "x,5,21")
        assert prepare(write("log.csv", log), tmp_path / "out", self.CONFIG).tied_timestamps == 1 / 8

    def test_rating_threshold_is_a_step(self, write: Write, tmp_path: Path) -> None:
        config = PrepareConfig(min_rating=4.0, split="leave-one-out")
        manifest = prepare(write("log.csv", LOG), tmp_path / "out", config)
        rating = next(step for step in manifest.steps if step.name == "rating")
        assert (rating.events_in, rating.events_out) == (8, 7)
        assert manifest.counts.events == 7

    def test_users_below_the_core_are_a_step(self, write: Write, tmp_path: Path) -> None:
        config = msgspec.structs.replace(self.CONFIG, min_user_events=2)
        manifest = prepare(write("log.csv", LOG + "c,x,5,12\nc,x,5,31\n"), tmp_path / "out", config)
        users = next(step for step in manifest.steps if step.name == "users")
        assert (users.users_in, users.users_out, users.events_in, users.events_out) == (3, 2, 10, 8)

    def test_leave_one_out_drops_short_users_as_a_step(self, write: Write, tmp_path: Path) -> None:
        config = PrepareConfig(split="leave-one-out")
        manifest = prepare(write("log.csv", LOG + "c,q,5,12\nc,x,5,31\n"), tmp_path / "out", config)
        split = next(step for step in manifest.steps if step.name == "split")
        assert (split.users_out, split.events_out, split.items_in, split.items_out) == (2, 8, 5, 4)

    def test_milliseconds_are_a_step(self, write: Write, tmp_path: Path) -> None:
        log = "user,item,ts\n" + "".join(f"a,{i % 3},{1_700_000_000_000 + 1000 * i}\n" for i in range(20))
        manifest = prepare(write("log.csv", log), tmp_path / "out")
        assert "milliseconds" in next(step.reason for step in manifest.steps if step.name == "time")
        assert manifest.split.test_from == 1_700_000_018

    def test_titles(self, write: Write, tmp_path: Path) -> None:
        write("items.csv", "item,title\ny,Why\n")
        prepare(write("log.csv", LOG), tmp_path / "out", self.CONFIG)
        assert pl.read_parquet(tmp_path / "out/items.parquet")["title"].to_list() == [None, "Why"]

    def test_an_item_with_two_titles_has_the_first(self, write: Write, tmp_path: Path) -> None:
        rows = [f"a,{n % 12},t{n % 12},{n}\n" for n in range(24)] + ["a,0,another,25\n"]
        prepare(write("log.csv", "user,item,title,timestamp\n" + "".join(rows)), tmp_path / "out")
        titles = Dataset(tmp_path / "out").table("items")["title"].to_list()
        assert sorted(titles) == sorted(f"t{n}" for n in range(12))

    def test_user_with_one_event_stays(self, write: Write, tmp_path: Path) -> None:
        manifest = prepare(write("log.csv", LOG + "c,x,5,12\n"), tmp_path / "out", self.CONFIG)
        assert manifest.counts.devices == 3

    def test_split_by_default(self, write: Write, tmp_path: Path) -> None:
        log = "user,item\n" + "a,x\na,x\na,y\na,z\n"
        assert prepare(write("log.csv", log), tmp_path / "out").split.kind == "leave-one-out"
        assert not Dataset(tmp_path / "out").manifest.has_time
        assert Dataset(tmp_path / "out").timestamps is None

    def test_given_second_file(self, write: Write, tmp_path: Path) -> None:
        train = write("train.csv", "user,item\na,x\na,y\na,z\nb,x\nb,y\n")
        test = write("test.csv", "user,item\na,y\nb,z\nb,x\n")
        manifest = prepare(train, tmp_path / "out", test_input=test)
        assert manifest.split.kind == "given"
        assert Dataset(tmp_path / "out").bounds.tolist() == [[2, 3], [1, 2]]


class TestRefusals:
    @pytest.mark.parametrize(
        ("config", "error"),
        [
            (PrepareConfig(test_share=0.0), errors.BadSettingError),
            (PrepareConfig(valid_share=1.0), errors.BadSettingError),
            (PrepareConfig(valid_share=float("nan")), errors.BadSettingError),
            (PrepareConfig(min_user_events=0), errors.BadSettingError),
            (PrepareConfig(min_item_events=-1), errors.BadSettingError),
            (PrepareConfig(split="random"), errors.BadSettingError),
            (PrepareConfig(seed=-1), errors.BadSettingError),
            (PrepareConfig(min_rating=float("inf")), errors.BadSettingError),
            (PrepareConfig(min_rating=6), errors.NoEventsLeftError),
            (PrepareConfig(min_user_events=50), errors.NoEventsLeftError),
            (PrepareConfig(min_item_events=50), errors.NoEventsLeftError),
            (PrepareConfig(split="given"), errors.TestInputMissingError),
            (PrepareConfig(source="movielens-100k"), errors.WrongSourceError),
        ],
    )
    def test_settings(self, write: Write, tmp_path: Path, config: PrepareConfig, error: type[DuetError]) -> None:
        with pytest.raises(error):
            prepare(write("log.csv", LOG), tmp_path / "out", config)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv"]

    @pytest.mark.parametrize(
        ("log", "split", "error"),
        [
            ("user,item,timestamp\na,x,5\na,y,5\na,z,5\n", "temporal", errors.NoBoundaryError),
            ("user,item\na,x\na,y\na,z\n", "temporal", errors.NoTimeError),
            ("user,item\na,x\nb,y\nc,z\n", None, errors.NoEventsLeftError),
            ("user,item,time\na,x,1\nb,y,2\nc,z,3\n", None, errors.NoTargetsError),
            ("user,item,time\na,x,1\na,y,2\na,z,3\nb,x,4\n", None, errors.NoTargetsError),
        ],
    )
    def test_logs(self, write: Write, tmp_path: Path, log: str, split: str | None, error: type[DuetError]) -> None:
        with pytest.raises(error):
            prepare(write("log.csv", log), tmp_path / "out", PrepareConfig(split=split))
        assert not (tmp_path / "out").exists()

    def test_rating_threshold_without_ratings(self, write: Write, tmp_path: Path) -> None:
        with pytest.raises(errors.BadSettingError):
            prepare(write("log.csv", "user,item\na,x\n"), tmp_path / "out", PrepareConfig(min_rating=1))

    def test_given_test_events_before_training_are_a_leak(self, write: Write, tmp_path: Path) -> None:
        train = write("train.csv", "user,item,time\na,x,1\na,y,5\na,z,9\n")
        with pytest.raises(errors.LeakageError, match="order"):
            prepare(train, tmp_path / "out", test_input=write("test.csv", "user,item,time\na,y,3\n"))
        assert not (tmp_path / "out").exists()

    def test_output_that_exists(self, write: Write, tmp_path: Path) -> None:
        path, config = write("log.csv", LOG), TestByHand.CONFIG
        prepare(path, tmp_path / "out", config)
        before = everything(tmp_path / "out")
        with pytest.raises(OutputExistsError):
            prepare(path, tmp_path / "out", config)
        assert everything(tmp_path / "out") == before
        prepare(path, tmp_path / "out", msgspec.structs.replace(config, min_item_events=2), overwrite=True)
        assert everything(tmp_path / "out") != before
        # Of another version the files are told as well; of a damaged manifest they are not, and all of them stay.
        marker = tmp_path / "out" / "manifest.json"
        marker.write_text('{"format_version": 1, "files": {"old.npy": ""}}')
        with pytest.raises(OutputExistsError, match=r"holds devices\.parquet"):
            prepare(path, tmp_path / "out", config, overwrite=True)
        (tmp_path / "old").mkdir()
        marker.rename(tmp_path / "old" / "manifest.json")
        (tmp_path / "old" / "old.npy").touch()
        prepare(path, tmp_path / "old", config, overwrite=True)
        assert everything(tmp_path / "old") == before

    def test_failure_leaves_the_old_folder(self, write: Write, tmp_path: Path) -> None:
        prepare(write("log.csv", LOG), tmp_path / "out", TestByHand.CONFIG)
        before = everything(tmp_path / "out")
        with pytest.raises(DuetError):
            prepare(write("log.csv", "user,item\n"), tmp_path / "out", overwrite=True)
        assert everything(tmp_path / "out") == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "out"]


class TestAnyLog:
    @given(data=st.data())
    def test_is_refused_or_passes_every_check(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        root = tmp_path_factory.mktemp("any")
        row = st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 12), st.integers(1, 5))
        rows = data.draw(st.lists(row, min_size=1, max_size=60))
        timed = data.draw(st.booleans())
        frame = pl.DataFrame(rows, schema=["user", "item", "timestamp", "rating"], orient="row")
        (frame if timed else frame.drop("timestamp")).write_csv(root / "log.csv")
        config = PrepareConfig(
            split=(split := data.draw(st.sampled_from([None, "leave-one-out"]))),
            min_rating=data.draw(st.sampled_from([None, 3])),
            min_user_events=data.draw(st.integers(1, 4)),
            min_item_events=data.draw(st.integers(1, 4)),
            test_share=data.draw(st.sampled_from([0.1, 0.5])) if timed and split is None else 0.1,
        )
        try:
            manifest = prepare(root / "log.csv", root / "out", config)
        except errors.LeakageError:
            raise
        except DuetError:
            assert not (root / "out").exists()
            return
        counts, last = manifest.counts, manifest.steps[-1]
        assert (counts.events, counts.devices, counts.items) == (last.events_out, last.users_out, last.items_out)
        for before, after in pairwise(manifest.steps):
            assert before.events_out == after.events_in
            assert before.users_out == after.users_in
            assert before.items_out == after.items_in
        assert counts.train_events + counts.valid_events + counts.test_events == counts.events


class TestSynthetic:
    CONFIG = PrepareConfig(source="synthetic", synthetic=SyntheticConfig(people=30, items=150))

    def test_same_seed_same_bytes(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            prepare(None, tmp_path / name, self.CONFIG)
        assert everything(tmp_path / "one") == everything(tmp_path / "two")

    def test_seed_changes_candidates_alone(self, tmp_path: Path) -> None:
        prepare(None, tmp_path / "one", self.CONFIG)
        prepare(None, tmp_path / "two", msgspec.structs.replace(self.CONFIG, seed=1))
        one, two = everything(tmp_path / "one"), everything(tmp_path / "two")
        changed = {name for name in one if one[name] != two[name]}
        assert changed == {"manifest.json"}
        drawn = [Dataset(tmp_path / name).candidates("test")[np.arange(9)] for name in ("one", "two")]
        assert (drawn[0] != drawn[1]).any()

    def test_opens_checks_and_reports(self, tmp_path: Path) -> None:
        lines: list[str] = []
        prepare(None, tmp_path / "one", self.CONFIG, progress=lines.append)
        dataset = Dataset(tmp_path / "one")
        assert all(check.passed for check in check(dataset))
        assert len(lines) == 4
        assert dataset.candidates("valid").shape == (dataset.manifest.counts.valid_targets, 99)
        assert isinstance(dataset.events, np.memmap)


def test_the_package_exports_what_others_use() -> None:
    import duetgen.data

    for name in duetgen.data.__all__:
        assert getattr(duetgen.data, name) is not None
    with pytest.raises(AttributeError):
        _ = duetgen.data.nothing


def test_opening_a_dataset_imports_neither_polars_nor_torch() -> None:
    code = "import sys, duetgen.data.store, duetgen.data; print(sorted({'polars', 'torch'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_file_may_be_called_by_any_bytes(write: Write, tmp_path: Path) -> None:
    log = tmp_path / os.fsdecode(b"log-\xff.csv")
    log.write_text(LOG)
    manifest, name = prepare(log, tmp_path / "out", TestByHand.CONFIG), "log-\N{REPLACEMENT CHARACTER}"
    assert (manifest.name, manifest.source.files) == (name, [f"{name}.csv"])
    assert Dataset(tmp_path / "out").manifest.name == name
