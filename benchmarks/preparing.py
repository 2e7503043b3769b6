"""Preparing logs of growing size: time and peak memory, up to the arrays in order and whole with all checks, beside the
same order and indices by plain polars (streaming) and pandas.

    python benchmarks/preparing.py [--events 1000000 10000000] [--format csv parquet] [--memory-limit 3GB]
        [--ways duet polars pandas] [--others-up-to 10000000] [--append 0.05] [--folder DIR]

The log has the skew of real ones: a few users and items have much of it, most have little; it is in order of time. Each
way runs in a process of its own. `processor` is its time on all cores, which others on the machine lengthen less than
`seconds`, and `ratio` is to that of plain polars in the same run; `arrays` is what it took until the sequences were
indexed and in order, and `wall` the seconds that passed until then. `M/s` are the million events a second up to there
of two cores that have nothing else to do, if both are busy: events over half of `arrays`. `MB` is the peak of memory,
`own` without the pages of files that are mapped. With `--folder` logs are kept, and found again.

With `--append SHARE` a log of that share more is appended to the prepared one (`duet prepare --append`), beside all of
it prepared anew, to which `ratio` is then: `late` is the end of the log, in which most users are; `few` has its events
by one user of twenty.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
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

from duetgen.data.append import append
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


def by_append(log: Path, out: Path, limit: str | None) -> dict[str, float]:
    """`duet prepare --append`, onto the dataset that lies beside the log."""
    append(log, log.with_suffix(".data"), out=out, memory_limit=None if limit is None else size_of(limit))
    return {}


WAYS: Final[dict[str, Callable[[Path, Path, str | None], dict[str, float]]]] = {
    "polars": by_polars,
    "duet": by_duet,
    "pandas": by_pandas,
}
ALL_WAYS: Final = WAYS | {"append": by_append}


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
    laps = ALL_WAYS[name](log, out, limit)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"seconds": time.perf_counter() - begun, "processor": used.ru_utime + used.ru_stime, **laps}
    found["own"] = pages[0] * resource.getpagesize() / 2**20
    print(json.dumps(found | {"megabytes": used.ru_maxrss / 1024}))


def part_log(whole: Path, events: int, folder: Path) -> None:
    """Divide a log into its first events, which are prepared, and two logs to append: `late`, the rest, and `few`.

    Each lies in the folder beside its dataset, and beside the log of all events.
    """
    form = whole.suffix
    scan = pl.scan_csv(whole) if form == ".csv" else pl.scan_parquet(whole)
    first, late = scan.slice(0, events), scan.slice(events).collect()
    users = first.select(pl.col("user").unique(maintain_order=True)).collect()["user"].gather_every(20)
    place = (len(users) * np.random.default_rng(0).random(len(late)) ** 1.5).astype(np.int64)
    save(first, folder / f"first{form}")
    prepare(folder / f"first{form}", folder / "late.data", PrepareConfig())
    (folder / "few.data").symlink_to(folder / "late.data")
    for name, some in (("late", late), ("few", late.with_columns(users.gather(place).alias("user")))):
        save(some.lazy(), folder / f"{name}{form}")
        save(pl.concat([first, some.lazy()]), folder / f"{name}-all{form}")


def save(log: pl.LazyFrame, path: Path) -> None:
    """Write a log in the format of its name."""
    log.sink_csv(path) if path.suffix == ".csv" else log.sink_parquet(path)


def compare_append(whole: Path, events: int, folder: Path, limit: str | None) -> None:
    """Appending, and preparing all anew."""
    # In a process of its own, for those that it starts begin with the peak memory of this one.
    parting = multiprocessing.get_context("spawn").Process(target=part_log, args=(whole, events, folder))
    parting.start()
    parting.join()
    for name in ("late", "few"):
        anew = run_way("duet", folder / f"{name}-all{whole.suffix}", folder / "out", limit)
        appended = run_way("append", folder / f"{name}{whole.suffix}", folder / "out", limit)
        for way, found in (("anew", anew), ("append", appended)):
            found = {key: value for key, value in found.items() if key not in ("arrays", "wall")}
            tell(events, whole, f"{name} {way}", found, anew.get("processor"))


def tell(events: int, log: Path, way: str, found: dict[str, Any], base: float | None) -> None:
    """One line of figures."""
    begin, size = f"{events:>12,} {log.suffix[1:]:>8} {way:>11}", log.stat().st_size / 2**20
    print(f"{begin} {found.get('failed') or row(events, found, base)}   {size:,.0f} MB", flush=True)


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
    parser.add_argument("--append", type=float, help="share of events to append")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    if chosen.folder is not None:
        chosen.folder.mkdir(parents=True, exist_ok=True)
    print(HEAD)
    for events in chosen.events:
        for form in chosen.format:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
                size = events + int((chosen.append or 0) * events)
                log = (chosen.folder or Path(folder)) / f"log-{size}.{form}"
                if not log.exists():
                    make_log(log, size)
                if chosen.append:
                    compare_append(log, events, Path(folder), chosen.memory_limit)
                    continue
                others = events <= chosen.others_up_to
                plain: float | None = None
                for name in (way for way in WAYS if way == "duet" or (others and way in chosen.ways)):
                    found = run_way(name, log, Path(folder) / "out", chosen.memory_limit)
                    plain = found.get("processor") if name == "polars" else plain
                    tell(events, log, name, found, plain)


HEAD: Final = (
    f"{'events':>12} {'format':>8} {'way':>11} {'seconds':>8} {'processor':>9} {'ratio':>6} {'wall':>7} {'arrays':>7} "
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
