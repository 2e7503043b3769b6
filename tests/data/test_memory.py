"""Preparing within a limit: partitions of any size give the same bytes, and a hard limit of the system is kept."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from duetgen.data import memory
from duetgen.data.arrange import Arrangement, arrange
from duetgen.data.errors import BadSettingError, InputTooLargeError, MemoryLimitError
from duetgen.data.memory import Memory, size_of
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.spool import Codes, Spool
from duetgen.data.store import Split
from duetgen.wire import limits

from .conftest import Write

LIMIT = 900 * 2**20
UNDER_LIMIT = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT}, {LIMIT}))
from pathlib import Path
from duetgen.data.append import append
from duetgen.data.prepare import prepare
make = append if sys.argv[3:] else prepare
manifest = make(Path(sys.argv[1]), Path(sys.argv[2]), memory_limit={LIMIT})
print(manifest.counts.events)
"""


def log(events: int, users: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"u{u}" for u in (users * rng.random(events) ** 2).astype(int)],
            "item": [f"i{i}" for i in (300 * rng.random(events) ** 2).astype(int)],
            "timestamp": rng.integers(1_600_000_000, 1_600_003_000, events),
        }
    )


class TestPartitions:
    @pytest.mark.parametrize("split", ["temporal", "leave-one-out"])
    @pytest.mark.parametrize("core", [1, 5])
    def test_any_number_of_them_gives_the_same_bytes(self, split: str, core: int, tmp_path: Path) -> None:
        some = log(4_000, 150)
        spool = Spool.of(pl.concat([some, some.sample(50, seed=0)]))
        seen: set[tuple[bytes, ...]] = set()
        parts: set[int] = set()
        for most in (10**6, 900, 60):
            folder, work = tmp_path / f"{most}", tmp_path / f"work-{most}"
            work.mkdir()
            folder.mkdir()
            how = Arrangement(split, 0.1, 0.1, core, core, True, 0, most)
            made = arrange(spool.events, spool.ids("user"), spool.ids("item"), how, folder, work)
            assert isinstance(made.rule.split, Split)
            assert made.exact_rows > 0
            files = sorted((folder / "sequences").iterdir())
            ids = (made.indexed.items.to_list(), made.indexed.users.to_list(), made.divided_sizes)
            seen.add((repr(ids).encode(), *(path.read_bytes() for path in files)))
            parts.add(len(made.divided.folders))
        assert len(seen) == 1
        assert len(parts) == 3


class TestCodes:
    def test_are_by_first_appearance_whatever_the_blocks(self) -> None:
        ids = log(30_000, 20_000)["user"]
        expected = ids.unique(maintain_order=True)
        for size in (30_000, 4_000, 1):
            codes = Codes("user")
            some = ids.head(40 if size == 1 else len(ids))
            read = pl.concat([codes.read(some.slice(at, size)) for at in range(0, len(some), size)])
            assert codes.ids().equals(expected.head(len(codes)))
            assert codes.ids().gather(read).equals(some)


class TestLimit:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("2GB", 2 * 2**30), ("800mb", 800 * 2**20), ("1.5 GiB", 3 * 2**29), ("4g", 2**32), ("512 K", 2**19)],
    )
    def test_sizes(self, text: str, size: int) -> None:
        assert size_of(text) == size

    @pytest.mark.parametrize("text", ["", "2", "GB", "-1GB", "2TBs", "1e9GB", "two GB"])
    def test_no_sizes(self, text: str) -> None:
        with pytest.raises(BadSettingError, match="no size of memory"):
            size_of(text)

    def test_too_little_is_refused_before_anything_is_read(self, tmp_path: Path) -> None:
        with pytest.raises(MemoryLimitError, match="at least 650 MB"):
            prepare(tmp_path / "nothing.csv", tmp_path / "out", memory_limit=100 * 2**20)

    def test_more_ids_than_there_is_memory_for_are_refused(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "ID", 10**7)
        path = write("log.csv", log(500, 300).write_csv())
        with pytest.raises(MemoryLimitError, match="with the first 500 events there are"):
            prepare(path, tmp_path / "out", memory_limit=700 * 2**20)
        assert not (tmp_path / "out").exists()

    def test_more_events_than_a_dataset_may_have_are_refused(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "MAX_EVENTS", 499)
        with pytest.raises(InputTooLargeError, match="more than 499 events"):
            prepare(write("log.csv", log(500, 20).write_csv()), tmp_path / "out")

    def test_what_is_needed_is_told_first(self, write: Write, tmp_path: Path) -> None:
        lines: list[str] = []
        prepare(write("log.csv", log(500, 20).write_csv()), tmp_path / "out", progress=lines.append)
        assert lines[0].startswith("about 5")
        assert "each million users and items" in lines[0]
        frame = log(500, 20)
        frame.write_parquet(tmp_path / "log.parquet")
        assert (Memory(2**30).needed(tmp_path / "log.parquet") or "").startswith("about 500 events")
        assert Memory(2**30).needed(tmp_path / "missing.csv") is None

    def test_the_systems_own_limit_counts(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        try:
            resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, hard))
            assert memory.there_is() <= 3 * 2**30
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold to this limit")
    def test_a_log_whose_table_is_larger_than_the_limit(self, tmp_path: Path) -> None:
        some = log(200_000, 3_000)
        big = pl.concat([some.with_columns(pl.col("timestamp") + 5_000 * n) for n in range(10)])
        big.write_parquet(tmp_path / "log.parquet", row_group_size=2**18)
        assert under_limit(tmp_path / "log.parquet", tmp_path / "out") == "2000000"
        # What stands is not to be held at once, either.
        some.with_columns(pl.col("timestamp") + 50_000).write_parquet(tmp_path / "later.parquet")
        assert under_limit(tmp_path / "later.parquet", tmp_path / "out", "append") == "2200000"


def under_limit(*arguments: object) -> str:
    """What a process prints that prepares or appends a log with a hard limit of memory."""
    words = [sys.executable, "-c", UNDER_LIMIT, *map(str, arguments)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.strip()


def test_settings_of_memory_are_none_of_the_dataset(write: Write, tmp_path: Path) -> None:
    path = write("log.csv", log(500, 20).write_csv())
    one = prepare(path, tmp_path / "one", PrepareConfig(), memory_limit=700 * 2**20)
    assert one == prepare(path, tmp_path / "two", PrepareConfig())
