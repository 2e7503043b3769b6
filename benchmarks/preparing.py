"""Preparing logs of growing size: time and peak memory, up to the arrays in order and whole with all checks, beside the
same order and indices by plain polars (streaming) and pandas.

    python benchmarks/preparing.py [--events 1000000 10000000] [--format csv parquet] [--memory-limit 3GB]
        [--ways duet polars pandas] [--others-up-to 10000000] [--folder DIR]

The log has the skew of real ones: a few users and items have much of it, most have little; it is in order of time. Each
way runs in a process of its own. `processor` is its time on all cores, which others on the machine lengthen less than
`seconds`, and `ratio` is to that of plain polars in the same run; `arrays` is what it took until the sequences were
indexed and in order, and `wall` the seconds that passed until then. `M/s` are the million events a second up to there
of two cores that have nothing else to do, if both are busy: events over half of `arrays`. `MB` is the peak of memory,
`own` without the pages of files that are mapped. With `--folder` logs are kept, and found again.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from duetgen.data.memory import size_of
from duetgen.data.prepare import PrepareConfig, prepare

PIECE: Final = 2**21
SPAN: Final = 2 * 365 * 86_400
"""Seconds of the log: two years."""

EVENTS_A_USER: Final = 60


def make_log(path: Path, events: int, seed: int = 0) -> None:
    """Write a log: `user`, `item`, `rating`, `timestamp`."""
    rng = np.random.default_rng(seed)
    users, items = max(events // EVENTS_A_USER, 10), max(int(events**0.7) // 2, 50)
    pieces = path.parent / "pieces"
    pieces.mkdir()
    for number, begin in enumerate(range(0, events, PIECE)):
        count = min(PIECE, events - begin)
        second = np.sort(rng.integers(0, SPAN * count // events + 1, count)) + SPAN * begin // events
        user = (users * rng.random(count) ** 2.2).astype(np.int64) * 7919 % (users * 11)
        item = (items * rng.random(count) ** 3).astype(np.int64)
        table = {"user": user, "item": item, "rating": rng.integers(1, 6, count), "timestamp": 1_500_000_000 + second}
        text = (pl.format("u{}", "user").alias("user"), pl.format("i{}", "item").alias("item"))
        pl.DataFrame(table).with_columns(text).write_parquet(pieces / f"{number:04}.parquet")
    log = pl.scan_parquet(sorted(pieces.iterdir()))
    log.sink_csv(path) if path.suffix == ".csv" else log.sink_parquet(path)
    shutil.rmtree(pieces)


def by_duet(log: Path, out: Path, limit: str | None) -> dict[str, float]:
    """`duet prepare`, and the processor time until its arrays were in order."""
    laps: dict[str, float] = {}
    begun = time.perf_counter()

    def lap(line: str) -> None:
        if line.startswith("writing"):
            laps.update(arrays=time.process_time(), wall=time.perf_counter() - begun)

    prepare(log, out, PrepareConfig(), memory_limit=None if limit is None else size_of(limit), progress=lap)
    return laps


def by_polars(log: Path, out: Path, _: str | None) -> dict[str, float]:
    """Indices by falling count, events in order of user and time: no check, no split, no manifest."""
    scan = pl.scan_csv(log) if log.suffix == ".csv" else pl.scan_parquet(log)
    for name in ("user", "item"):
        index = scan.group_by(name).len().sort("len", name, descending=[True, False]).with_row_index(f"{name}_index", 2)
        scan = scan.join(index.select(name, f"{name}_index"), on=name)
    out.mkdir()
    ordered = scan.select("user_index", "item_index", "timestamp").sort("user_index", "timestamp")
    ordered.sink_ipc(out / "events.arrow", engine="streaming")
    return {}


def by_pandas(log: Path, out: Path, _: str | None) -> dict[str, float]:
    """The same in pandas."""
    import pandas as pd

    table = pd.read_csv(log) if log.suffix == ".csv" else pd.DataFrame(pl.read_parquet(log).to_dict(as_series=False))
    for name in ("user", "item"):
        counts = table[name].value_counts()
        table[name] = table[name].map(pd.Series(np.arange(2, len(counts) + 2), index=counts.index))
    table = table.sort_values(["user", "timestamp"], kind="stable")
    out.mkdir()
    for name in ("user", "item", "timestamp"):
        np.save(out / f"{name}.npy", table[name].to_numpy())
    return {}


WAYS: Final[dict[str, Callable[[Path, Path, str | None], dict[str, float]]]] = {
    "polars": by_polars,
    "duet": by_duet,
    "pandas": by_pandas,
}


def run_way(name: str, log: Path, out: Path, limit: str | None) -> dict[str, Any]:
    """One way in a process of its own: seconds, processor seconds, peak megabytes."""
    command = [sys.executable, __file__, "--way", name, str(log), str(out), *([limit] if limit else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    shutil.rmtree(out, ignore_errors=True)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1][:60]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def watch_own(peak: list[int]) -> None:
    """The most memory of the process that no file stands behind, in pages, as far as it is seen."""
    while True:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
        peak[0] = max(peak[0], resident - shared)
        time.sleep(0.02)


def measure(name: str, log: Path, out: Path, limit: str | None) -> None:
    """What the process of a way does."""
    begun, pages = time.perf_counter(), [0]
    threading.Thread(target=watch_own, args=(pages,), daemon=True).start()
    laps = WAYS[name](log, out, limit)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"seconds": time.perf_counter() - begun, "processor": used.ru_utime + used.ru_stime, **laps}
    found["own"] = pages[0] * resource.getpagesize() / 2**20
    print(json.dumps(found | {"megabytes": used.ru_maxrss / 1024}))


def main() -> None:
    """Measure every size, format and way."""
    if sys.argv[1:2] == ["--way"]:
        name, log, out, *limit = sys.argv[2:]
        measure(name, Path(log), Path(out), limit[0] if limit else None)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--format", nargs="+", default=["csv", "parquet"], choices=["csv", "parquet"])
    parser.add_argument("--memory-limit")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--others-up-to", type=int, default=10**7)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    print(HEAD)
    for events in chosen.events:
        for form in chosen.format:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
                log = (chosen.folder or Path(folder)) / f"log-{events}.{form}"
                if not log.exists():
                    make_log(log, events)
                size = log.stat().st_size / 2**20
                others = events <= chosen.others_up_to
                plain: float | None = None
                for name in (way for way in WAYS if way == "duet" or (others and way in chosen.ways)):
                    found = run_way(name, log, Path(folder) / "out", chosen.memory_limit)
                    plain = found.get("processor") if name == "polars" else plain
                    begin = f"{events:>12,} {form:>8} {name:>7}"
                    print(f"{begin} {found.get('failed') or row(events, found, plain)}   {size:,.0f} MB", flush=True)


HEAD: Final = (
    f"{'events':>12} {'format':>8} {'way':>7} {'seconds':>8} {'processor':>9} {'ratio':>6} {'wall':>7} {'arrays':>7} "
    f"{'M/s':>5} {'MB':>6} {'own':>6}   input"
)


def row(events: int, found: dict[str, Any], plain: float | None) -> str:
    """The figures of one way; `plain` is the processor time of polars."""
    arrays = " " * 21
    if "arrays" in found:
        arrays = f"{found['wall']:>7.1f} {found['arrays']:>7.1f} {2 * events / found['arrays'] / 10**6:>5.2f}"
    ratio = f"{found['processor'] / plain:>6.2f}" if plain else " " * 6
    times, memory = f"{found['seconds']:>8.1f} {found['processor']:>9.1f}", f"{found['megabytes']:>6,.0f}"
    return f"{times} {ratio} {arrays} {memory} {found['own']:>6,.0f}"


if __name__ == "__main__":
    main()
