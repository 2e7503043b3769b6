"""A log in partitions of some users each, so that work on one of them fits into memory.

A partition is a range of user codes, which go by first appearance: partition after partition, users come in the order
of the log, so the bytes of a dataset are the same for any number of partitions.

Shapes: U users of the log, B batches of it, P partitions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from duetgen.data.places import mapped
from duetgen.data.runs import Runs
from duetgen.data.sequences import Sequences, cut, order
from duetgen.data.store import Int64

WORKERS: Final = 2
"""Partitions that are worked on at once."""

BATCH: Final = 2**20
"""Events that are put to their partitions at once."""

Change = Callable[[Sequences, int], Sequences]
"""Makes sequences of a partition of others; the second argument is the partition's number."""

Run = Callable[[Callable[[int], Path], int], list[Path]]
"""Does a piece of work for each number below a count, and gives the results in order.

The work can be pickled and its results lie on disk, so it may be done in other processes that see the same files.
"""


def in_threads(work: Callable[[int], Path], count: int) -> list[Path]:
    """A few at once in this process: what takes long lets go of the interpreter."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(work, range(count)))


@dataclass(frozen=True)
class Partitions:
    """Sequences on disk, a folder a partition; going through them loads one after the other, memory-mapped."""

    folders: list[Path]
    run: Run = in_threads

    def __iter__(self) -> Iterator[Sequences]:
        return (Sequences.load(folder) for folder in self.folders)

    def change(self, name: str, change: Change) -> Partitions:
        """Partitions under another name, which take the place of these."""
        return Partitions(self.run(partial(_change, self.folders, name, change), len(self.folders)), self.run)


def _change(folders: list[Path], name: str, change: Change, number: int) -> Path:
    folder, changed = folders[number], folders[number].with_name(f"{name}-{number:04}")
    before = Sequences.load(folder)
    change(before, number).save(changed, but=before)
    for path in folder.iterdir():
        if not (changed / path.name).exists():
            path.rename(changed / path.name)
    shutil.rmtree(folder)
    return changed


def partition(
    events: pl.LazyFrame, folder: Path, most: int, run: Run = in_threads, runs: Runs | None = None
) -> Partitions:
    """Sequences of all users.

    Args:
        events: of a log, `user` and `item` as codes, in the order of the log.
        folder: to work in.
        most: events that one partition should have at most.
        run: works on partitions.
        runs: events that stand before those of the log, in order already; their users have the first codes.
    """
    standing_U = np.zeros(0, dtype=np.int64) if runs is None else runs.lengths
    columns = [name for name in ("timestamp", "moment", "part") if name in events.collect_schema().names()]
    events = events.with_row_index("row", int(standing_U.sum())).select("user", "item", "row", *columns)
    counts = events.group_by("user").len().collect(engine="streaming")
    events_U = np.zeros(max(int(counts["user"].max()) + 1, len(standing_U)), dtype=np.int64)  # type: ignore[arg-type]
    events_U[counts["user"].to_numpy()] = counts["len"].to_numpy()
    events_U[: len(standing_U)] += standing_U
    first = cut(events_U, most)
    batches = Batches.write(events, first, len(events_U), folder / "batches")
    bounds = np.minimum(np.append(first, len(events_U)), len(standing_U))
    ordered = run(partial(_order, batches, bounds, runs), len(first))
    shutil.rmtree(batches.folder)
    return Partitions(ordered, run)


def _order(batches: Batches, bounds: Int64, runs: Runs | None, number: int) -> Path:
    """A partition of the log; `bounds` are the users of the partitions as far as they stand."""
    sequences = order(batches.read(number))
    if runs is not None:
        sequences = runs.take(np.arange(*bounds[number : number + 2])).join(sequences)
    ordered = batches.folder.with_name(f"log-{number:04}")
    sequences.save(ordered)
    return ordered


@dataclass(frozen=True)
class Batches:
    """Events on disk in batches, each in order of the partition and then of the log: a partition is a piece of each.

    Attributes:
        folder: has a folder for each batch, with a file for each column.
        bounds_BP: int64 [B, P+1]: where the pieces of a batch begin, and the last ends.
    """

    folder: Path
    bounds_BP: Int64

    @classmethod
    def write(cls, events: pl.LazyFrame, first: Int64, users: int, folder: Path) -> Batches:
        """Put events to the partitions whose first users are given."""
        partition_U = (np.searchsorted(first, np.arange(users), side="right") - 1).astype(np.uint16)
        bounds: list[Int64] = []
        for batch in events.collect_batches(chunk_size=BATCH, maintain_order=True):
            of_batch = folder / f"{len(bounds):06}"
            of_batch.mkdir(parents=True)
            partition_E = partition_U[batch["user"].to_numpy()]
            place_E = np.argsort(partition_E, kind="stable")
            for name in batch.columns:
                np.save(of_batch / f"{name}.npy", batch[name].to_numpy()[place_E])
            sizes_P = np.bincount(partition_E, minlength=len(first))
            bounds.append(np.concatenate([[0], np.cumsum(sizes_P)]))
        return cls(folder, np.stack(bounds))

    def read(self, number: int) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
        """The events of a partition, in the order of the log."""
        pieces: dict[str, list[Any]] = {}
        for of_batch, bounds in zip(sorted(self.folder.iterdir()), self.bounds_BP):
            for path in of_batch.iterdir():
                pieces.setdefault(path.stem, []).append(mapped(path)[bounds[number] : bounds[number + 1]])
        return {name: np.concatenate(some) for name, some in pieces.items()}
