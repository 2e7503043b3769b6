"""Each check is shown to fail on a leak that was planted for it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from tests.conftest import seal

from duetgen.data import filters, leakage, sequences, splits
from duetgen.data.filters import Indexed
from duetgen.data.leakage import check, check_stage
from duetgen.data.manifest import write_manifest
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.splits import Division
from duetgen.data.store import Check, Dataset, Split

from .sources.duet_text.test_format import files

SMALL = SyntheticConfig(people=25, items=150, shortest=10, longest=30)


@pytest.fixture(scope="module", params=["temporal", "leave-one-out"])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("leakage") / "dataset"
    prepare(None, out, PrepareConfig(source="synthetic", split=request.param, synthetic=SMALL))
    return out


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "dataset"))


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def plant(folder: Path, name: str, change: Callable[[np.ndarray], None]) -> list[str]:
    """Change an array of the folder, and say which checks fail."""
    array = np.load(folder / name)
    change(array)
    np.save(folder / name, array)
    return failed(check(seal(folder)))


class TestFolder:
    def test_sound_folder_passes(self, folder: Path) -> None:
        assert failed(check(Dataset(folder))) == []

    def test_time_that_runs_backwards(self, folder: Path) -> None:
        def swap(times: np.ndarray) -> None:
            times[[3, 4]] = times[[4, 3]]

        assert "order" in plant(folder, "sequences/timestamps.npy", swap)

    def test_training_that_reaches_over_its_boundary(self, folder: Path) -> None:
        def reach(bounds: np.ndarray) -> None:
            bounds[np.argmax(bounds[:, 1] - bounds[:, 0]), 0] += 1

        assert {"boundary", "vocabulary"} <= set(plant(folder, "sequences/bounds.npy", reach))

    def test_validation_that_reaches_into_the_test(self, folder: Path) -> None:
        lengths = np.diff(np.load(folder / "sequences/offsets.npy"))

        def reach(bounds: np.ndarray) -> None:
            bounds[np.argmax(lengths - bounds[:, 1]), 1] += 1

        assert "boundary" in plant(folder, "sequences/bounds.npy", reach)

    def test_count_that_includes_the_test(self, folder: Path) -> None:
        items = pl.read_parquet(folder / "items.parquet")
        everything = np.bincount(np.load(folder / "sequences/events.npy"), minlength=len(items) + 2)[2:]
        items.with_columns(count=pl.Series(everything)).write_parquet(folder / "items.parquet")
        assert failed(check(seal(folder))) == ["vocabulary"]

    def test_item_that_training_does_not_know(self, folder: Path) -> None:
        manifest = Dataset(folder).manifest
        counts = msgspec.structs.replace(manifest.counts, items=manifest.counts.items + 1)
        bigger = msgspec.structs.replace(manifest, counts=counts)
        write_manifest(folder, bigger)
        items = pl.read_parquet(folder / "items.parquet")
        new = pl.DataFrame({"index": [len(items) + 2], "item": ["new"], "title": ["new"], "count": [0]})
        pl.concat([items, new.cast(dict(items.schema))]).write_parquet(folder / "items.parquet")
        assert failed(check(seal(folder))) == ["vocabulary"]

    def test_event_outside_the_vocabulary(self, folder: Path) -> None:
        assert "vocabulary" in plant(folder, "sequences/events.npy", lambda events: events.put(0, 10_000))

    @pytest.mark.parametrize("part", ["valid", "test"])
    @pytest.mark.parametrize("leak", ["target", "met", "twice", "unknown", "hole"])
    def test_candidates(self, folder: Path, part: str, leak: str) -> None:
        dataset = Dataset(folder)
        targets = dataset.targets("valid" if part == "valid" else "test")
        row = len(targets) // 2
        before = dataset.events[targets.start_N[row] : targets.position_N[row]]

        def put(drawn: np.ndarray) -> None:
            drawn[row, 5] = {
                "target": dataset.events[targets.position_N[row]],
                "met": before[before > 1][0],
                "twice": drawn[row, 4],
                "unknown": 1,
                "hole": 0,
            }[leak]

        assert plant(folder, f"candidates/{part}.npy", put) == [f"candidates-{part}"]

    def test_history_later_than_its_target(self, folder: Path) -> None:
        dataset = Dataset(folder)
        position = int(dataset.targets("test").position_N[0])

        def later(times: np.ndarray) -> None:
            times[position - 1] = times[position] + 1

        assert "history-test" in plant(folder, "sequences/timestamps.npy", later)

    def test_training_row_at_the_test_event(self, tmp_path: Path) -> None:
        train, test = files()
        (tmp_path / "train.txt").write_text("\n".join(train))
        (tmp_path / "test.txt").write_text("\n".join(test))
        out = tmp_path / "out"
        prepare(tmp_path / "train.txt", out)
        assert failed(check(Dataset(out))) == []
        dataset = Dataset(out)
        window = dataset.events[: dataset.offsets[1]][-4:-1]
        device = dataset.rows().device_R.tolist().index(0)

        def put(windows: np.ndarray) -> None:
            windows[device] = window

        assert plant(out, "rows/window.npy", put) == ["rows"]


def log() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    size = 300
    return pl.DataFrame(
        {
            "user": [f"u{i}" for i in rng.integers(0, 12, size)],
            "item": [f"i{i}" for i in rng.integers(0, 40, size) ** 2 // 40],
            "timestamp": rng.integers(0, 1000, size),
        }
    )


def sound(table: pl.DataFrame) -> tuple[Division, Indexed]:
    division = splits.temporal(sequences.order(table), 0.1, 0.2)
    return division, filters.index(division, 5, 3)


def everything_is_training(division: Division) -> Division:
    return Division(division.sequences, np.zeros_like(division.part_E), division.split)


class TestStage:
    """Stages with a leak in them."""

    def failed(self, stage: Callable[[pl.DataFrame], tuple[Division, Indexed]]) -> list[str]:
        table = log()
        return failed(check_stage(table, stage, *stage(table)))

    def test_sound_stage_passes(self) -> None:
        assert self.failed(sound) == []

    def test_vocabulary_and_counts_of_the_whole_log(self) -> None:
        def leaky(table: pl.DataFrame) -> tuple[Division, Indexed]:
            division, _ = sound(table)
            return division, filters.index(everything_is_training(division), 5, 3)

        assert set(self.failed(leaky)) == {"counts-of-log", "test-blind", "validation-blind"}

    def test_core_of_the_whole_log(self) -> None:
        def leaky(table: pl.DataFrame) -> tuple[Division, Indexed]:
            division, _ = sound(table)
            stays, known = filters.core(everything_is_training(division), 18, 5)
            some = division.sequences.keep(stays)
            part = division.part_E[np.repeat(stays, division.sequences.lengths)]
            part = np.where(known[some.item_E], part, 1)
            part = np.sort(part + 10 * some.user_E) % 10
            kept = Division(some, part, Split(kind="temporal"))
            return kept, filters.index(kept, 1, 1)

        assert "test-blind" in self.failed(leaky)

    def test_ties_broken_by_the_whole_log(self) -> None:
        def leaky(table: pl.DataFrame) -> tuple[Division, Indexed]:
            division, indexed = sound(table)
            whole = dict(table.group_by("item").len().iter_rows())
            order = sorted(
                range(len(indexed.items)), key=lambda i: (-indexed.counts[i], -whole.get(indexed.items[i], 0))
            )
            moved = msgspec.structs.asdict(division.split) and np.argsort(order).astype(np.int32) + 2
            lookup = np.concatenate([np.array([0, 1], dtype=np.int32), moved])
            return division, Indexed(
                **{
                    **{name: getattr(indexed, name) for name in Indexed.__dataclass_fields__},
                    "items": indexed.items.gather(order),
                    "counts": indexed.counts[order],
                    "events": lookup[indexed.events].astype(np.int32),
                }
            )

        assert "test-blind" in self.failed(leaky)

    def test_validation_in_the_counts(self) -> None:
        def leaky(table: pl.DataFrame) -> tuple[Division, Indexed]:
            division, _ = sound(table)
            part = np.where(division.part_E == 1, 0, division.part_E)
            joined = Division(division.sequences, part, division.split)
            return division, filters.index(joined, 5, 3)

        found = self.failed(leaky)
        assert "validation-blind" in found
        assert "test-blind" not in found

    def test_nonsense_replaces_only_the_future(self) -> None:
        table = log()
        replaced = np.arange(len(table)) % 5 == 0
        changed = leakage.with_nonsense(table, replaced)
        same = (changed["item"] == table["item"]).to_numpy()
        assert same[~replaced].all()
        assert same[replaced].mean() < 0.2
