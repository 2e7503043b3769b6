"""A log in partitions of some users each, so that work on one of them fits into memory.

A partition is a range of user codes, which go by first appearance: partition after partition, users come in the order
of the log, so the bytes of a dataset are the same for any number of partitions.

Shapes: U users of the log.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from duetgen.data.sequences import Sequences, cut, order

WORKERS: Final = 2
"""Partitions that are worked on at once."""

Change = Callable[[Sequences, int], Sequences]
"""Makes sequences of a partition of others; the second argument is the partition's number."""


@dataclass(frozen=True)
class Partitions:
    """Sequences on disk, a folder a partition; going through them loads one after the other, memory-mapped."""

    folders: list[Path]

    def __iter__(self) -> Iterator[Sequences]:
        return (Sequences.load(folder) for folder in self.folders)

    def change(self, name: str, change: Change) -> Partitions:
        """Partitions under another name, which take the place of these."""

        def one(number: int) -> Path:
            folder = self.folders[number]
            changed = folder.with_name(f"{name}-{number:04}")
            change(Sequences.load(folder), number).save(changed)
            shutil.rmtree(folder)
            return changed

        return Partitions(in_turn(one, len(self.folders)))


def in_turn(work: Callable[[int], Path], count: int) -> list[Path]:
    """Results of numbers below `count`, a few at once."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(work, range(count)))


def partition(events: pl.LazyFrame, folder: Path, most: int) -> Partitions:
    """Sequences of all users.

    Args:
        events: of a log, `user` and `item` as codes, in the order of the log.
        folder: to work in.
        most: events that one partition should have at most.
    """
    columns = [name for name in ("timestamp", "moment", "part") if name in events.collect_schema().names()]
    events = events.with_row_index("row").select("user", "item", "row", *columns)
    counts = events.group_by("user").len().collect(engine="streaming")
    events_U = np.zeros(int(counts["user"].max()) + 1, dtype=np.int64)  # type: ignore[arg-type]
    events_U[counts["user"].to_numpy()] = counts["len"].to_numpy()
    first = cut(events_U, most)
    if len(first) == 1:
        order(events.collect(engine="streaming")).save(folder / "log-0000")
        return Partitions([folder / "log-0000"])
    of_user = pl.Series(np.searchsorted(first, np.arange(len(events_U)), side="right") - 1, dtype=pl.UInt32)
    number = pl.col("user").map_batches(of_user.gather, pl.UInt32, is_elementwise=True)
    target = pl.PartitionBy(folder / "raw", key="partition", include_key=False)
    events.with_columns(partition=number).sink_ipc(target, mkdir=True, compression="uncompressed", engine="streaming")

    def one(number: int) -> Path:
        raw = folder / f"raw/partition={number}"
        ordered = folder / f"log-{number:04}"
        order(pl.scan_ipc(sorted(raw.iterdir())).collect().sort("row")).save(ordered)
        shutil.rmtree(raw)
        return ordered

    return Partitions(in_turn(one, len(first)))
