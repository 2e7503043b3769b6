from pathlib import Path

import pytest

from duetgen.data import errors
from duetgen.data.leakage import check
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.log import Columns
from duetgen.data.store import Dataset, Manifest

from .conftest import Write

NOON = 1_600_000_000


def remarks(log: Path, out: Path, **settings: object) -> list[str]:
    return prepare(log, out, PrepareConfig(**settings)).remarks  # type: ignore[arg-type]


def rows(count: int, moments: int) -> str:
    return "user,item,time\n" + "".join(f"u{i % 4},i{i % 5},{NOON + i * moments // count}\n" for i in range(count))


class TestShares:
    def test_near_those_asked_for_are_not_told(self, write: Write, tmp_path: Path) -> None:
        assert not [line for line in remarks(write("log.csv", rows(100, 100)), tmp_path / "out") if "part has" in line]

    def test_far_from_those_asked_for_are_told(self, write: Write, tmp_path: Path) -> None:
        # Four moments of 25 events: the test is the last of them, the validation one of the other three.
        lines = remarks(write("log.csv", rows(100, 4)), tmp_path / "out")
        assert [line.split(":")[0] for line in lines if "part has" in line] == [
            "the test part has 25.0% of the events where 10.0% were asked for",
            "the validation part has 33.3% of the events where 10.0% were asked for",
        ]


class TestTitles:
    def test_how_many_items_have_one(self, write: Write, tmp_path: Path) -> None:
        write("items.csv", "item,title\ni0,Zero\ni1,One\nother,Other\n")
        assert "2 of 5 items have a title" in remarks(write("log.csv", rows(100, 100)), tmp_path / "out")

    def test_none_has_one(self, write: Write, tmp_path: Path) -> None:
        assert "no item has a title" in remarks(write("log.csv", rows(100, 100)), tmp_path / "out")


class TestOrder:
    def test_of_a_file_without_time_is_told(self, write: Write, tmp_path: Path) -> None:
        lines = remarks(write("log.csv", "user,item\n" + "a,x\na,z\na,y\na,x\nb,z\nb,y\nb,x\nb,z\n"), tmp_path / "out")
        assert len([line for line in lines if "no time in this log" in line]) == 1
        assert not [line for line in lines if "sorted by item" in line]

    @pytest.mark.parametrize("items", [["2", "10", "11", "100"], ["a", "b", "c", "d"]])
    def test_by_item_is_told(self, write: Write, tmp_path: Path, items: list[str]) -> None:
        log = "user,item\n" + "".join(f"{user},{item}\n" for user in "abc" for item in items)
        lines = remarks(write("log.csv", log), tmp_path / "out")
        assert [line for line in lines if "sorted by item" in line and "--split random" in line]

    def test_whose_last_items_are_new_is_told(self, write: Write, tmp_path: Path) -> None:
        # Every user ends with an item that two users share and no one has before: all test targets are new.
        log = "user,item\n" + "".join(f"u{u},b\nu{u},a\nu{u},c\nu{u},d\nu{u},a{u // 2}\n" for u in range(8))
        lines = remarks(write("log.csv", log), tmp_path / "out")
        assert [line for line in lines if line.startswith("100% of the test targets are items that training")]


class TestRandomSplit:
    LOG = "user,item\n" + "".join(f"u{u},i{i}\n" for u in range(6) for i in range(7))

    def prepared(self, write: Write, out: Path, seed: int) -> tuple[Manifest, Dataset]:
        manifest = prepare(write("log.csv", self.LOG), out, PrepareConfig(split="random", seed=seed))
        return manifest, Dataset(out)

    def test_the_last_two_of_a_drawn_order_are_validation_and_test(self, write: Write, tmp_path: Path) -> None:
        manifest, dataset = self.prepared(write, tmp_path / "out", 0)
        assert (manifest.split.kind, manifest.counts.train_events, manifest.counts.test_targets) == ("random", 30, 6)
        assert dataset.bounds.tolist() == [[5, 6]] * 6
        assert all(each.passed for each in check(dataset))
        assert len({tuple(dataset.events[a:b]) for a, b in zip(dataset.offsets, dataset.offsets[1:])}) > 1
        assert [line for line in manifest.remarks if "drawn at random" in line]

    def test_the_same_seed_draws_the_same(self, write: Write, tmp_path: Path) -> None:
        one, same, other = (self.prepared(write, tmp_path / str(n), seed)[0] for n, seed in enumerate((0, 0, 1)))
        assert one.content_sha256 == same.content_sha256 != other.content_sha256

    def test_is_refused_where_there_is_time(self, write: Write, tmp_path: Path) -> None:
        with pytest.raises(errors.BadSettingError, match="the log has time"):
            prepare(write("log.csv", rows(100, 100)), tmp_path / "out", PrepareConfig(split="random"))


class TestReading:
    def test_what_it_has_to_tell_comes_first(self, write: Write, tmp_path: Path) -> None:
        log = "user,item,price,time\n" + "".join(f"u{i % 4},i{i % 5},1,{NOON + i}000\n" for i in range(100))
        assert remarks(write("log.csv", log), tmp_path / "out")[:2] == [
            "columns not used: price",
            "times are read as milliseconds: from 2020-09-13 to 2020-09-13",
        ]

    def test_users_whose_ids_no_device_may_have(self, write: Write, tmp_path: Path) -> None:
        lines = remarks(write("log.csv", rows(100, 100).replace("u0", "a b")), tmp_path / "out")
        assert [line for line in lines if line.startswith("1 users have ids that no device may have, as 'a b'")]

    def test_what_was_dropped_is_counted_from_what_was_read(self, write: Write, tmp_path: Path) -> None:
        from duetgen.data.sources.log import Reading

        log = rows(100, 100) + f"NULL,x,{NOON}\na,x,-1\n"
        manifest = prepare(write("log.csv", log), tmp_path / "out", PrepareConfig(reading=Reading(drop_missing=True)))
        assert [(step.reason, step.events_in, step.events_out) for step in manifest.steps[:3]] == [
            ("events of the log (table)", 102, 102),
            ("no user id", 102, 101),
            ("no time", 101, 100),
        ]

    def test_events_without_a_rating_fall_to_a_threshold(self, write: Write, tmp_path: Path) -> None:
        events = [f"u{i % 4},i{i % 5},{NOON + i},{5 if i < 80 else ''}" for i in range(100)]
        path = write("log.csv", "\n".join(["user,item,time,rating", *events]))
        manifest = prepare(path, tmp_path / "out", PrepareConfig(min_rating=4))
        step = next(step for step in manifest.steps if step.name == "rating")
        assert (step.events_in, step.events_out) == (100, 80)
        config = PrepareConfig(columns=Columns(ignore=("rating",)))
        assert prepare(path, tmp_path / "all", config).counts.events == 100
