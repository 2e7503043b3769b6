"""Each check is shown to fail on a leak that was planted for it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from tests.conftest import seal

from duetgen.data import leakage
from duetgen.data import prepare as prepare_module
from duetgen.data.arrays import write_sequences
from duetgen.data.filters import Indexed, Vocabulary, find_vocabulary
from duetgen.data.leakage import check, check_stage
from duetgen.data.manifest import write_manifest
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sequences import Sequences, order
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.splits import divide, find_rule
from duetgen.data.spool import Spool
from duetgen.data.store import Check, Dataset, Int64

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
    def test_candidates(self, folder: Path, part: str, leak: str, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset = Dataset(folder)
        targets = dataset.targets("valid" if part == "valid" else "test")
        row = len(targets) // 2
        before = dataset.events[targets.start_N[row] : targets.position_N[row]]

        whole = dataset.candidates("valid" if part == "valid" else "test")[np.arange(len(targets))]
        whole[row, 5] = {
            "target": dataset.events[targets.position_N[row]],
            "met": before[before > 1][0],
            "twice": whole[row, 4],
            "unknown": 1,
            "hole": 0,
        }[leak]
        drawn = dataset.candidates
        monkeypatch.setattr(dataset, "candidates", lambda name: whole if name == part else drawn(name))
        assert failed(check(dataset)) == [f"candidates-{part}"]

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


class Stage:
    """The stages of preparing, each of which a test may replace by one with a leak in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = 0

    def __call__(self, table: pl.DataFrame) -> tuple[Int64, Indexed]:
        self.runs += 1
        spool = Spool.of(table)
        sequences = order(spool.events.with_row_index("row").collect())
        divided = divide(sequences, find_rule([sequences], "temporal", 0.1, 0.2))
        core, vocabulary = find_vocabulary([self.counted(divided)], len(spool.ids("item")), 5, 3)
        vocabulary = self.sorted(vocabulary, sequences)
        folder = self.folder / str(self.runs)
        folder.mkdir()
        indexed = write_sequences(folder, [divided], core, vocabulary, spool.ids("user"), spool.ids("item"))
        part = np.full(len(table), -1, dtype=np.int64)
        kept = divided.keep(core.stays[0])
        assert kept.bounds is not None
        part[kept.row_E] = (kept.within_E[:, None] >= kept.bounds[kept.user_E]).sum(axis=1)
        return part, indexed

    def counted(self, divided: Sequences) -> Sequences:
        """The sequences whose training part decides what is known."""
        return divided

    def sorted(self, vocabulary: Vocabulary, sequences: Sequences) -> Vocabulary:
        """The order of the known items."""
        return vocabulary


class CountsAll(Stage):
    def counted(self, divided: Sequences) -> Sequences:
        return replace(divided, bounds=np.stack([divided.lengths] * 2, axis=1))


class CountsValidation(Stage):
    def counted(self, divided: Sequences) -> Sequences:
        assert divided.bounds is not None
        return replace(divided, bounds=divided.bounds[:, [1, 1]])


class BreaksTiesByAll(Stage):
    def sorted(self, vocabulary: Vocabulary, sequences: Sequences) -> Vocabulary:
        whole = np.bincount(sequences.item_E, minlength=len(vocabulary.index_I))
        place = np.lexsort((-whole[vocabulary.items], -vocabulary.counts))
        index = vocabulary.index_I.copy()
        index[vocabulary.items[place]] = np.arange(2, 2 + len(place))
        return Vocabulary(vocabulary.items[place], vocabulary.counts[place], index)


class TestStage:
    """Stages with a leak in them."""

    @pytest.mark.parametrize(
        ("stage", "found"),
        [
            (Stage, set()),
            (CountsAll, {"counts-of-log", "test-blind", "validation-blind"}),
            (CountsValidation, {"counts-of-log", "validation-blind"}),
            (BreaksTiesByAll, {"test-blind", "validation-blind"}),
        ],
    )
    def test_a_leak_is_found(self, stage: type[Stage], found: set[str], tmp_path: Path) -> None:
        assert set(failed(check_stage(log(), stage(tmp_path)))) == found

    def test_of_a_large_log_some_users_are_enough(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prepare_module, "SAMPLED", 200)
        config = PrepareConfig(source="synthetic", synthetic=SMALL, min_item_events=2, min_user_events=2)
        checks = {check.name: check for check in prepare(None, tmp_path / "out", config).leakage}
        assert checks["test-blind"].passed
        assert " later events of 205 replaced" in checks["test-blind"].evidence

    def test_nonsense_replaces_only_the_future(self) -> None:
        table = log()
        replaced = np.arange(len(table)) % 5 == 0
        changed = leakage.with_nonsense(table, replaced)
        same = (changed["item"] == table["item"]).to_numpy()
        assert same[~replaced].all()
        assert same[replaced].mean() < 0.2
