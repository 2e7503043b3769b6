"""What a dataset folder keeps beside its arrays, so that it can grow without the logs that it was made of.

```
kept/items.parquet    item, title: items that some event has and that are not known
kept/unknown.parquet  item: of each event of the unknown item, in order, the row of its item in kept/items.parquet
kept/users.parquet    user: users that split and filters leave out
kept/events.parquet   user, item, timestamp: their events, user by user in order; rows of kept/users.parquet, and of
                      items.parquet with kept/items.parquet behind it
```

`write_kept` writes that, and `Standing` gives it back: ids whose codes come first, and runs of events.

Shapes: E events, U users of a partition, I raw items.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from duetgen.data.arrange import Arranged, Earlier
from duetgen.data.arrays import GrowingArray
from duetgen.data.places import offsets_of
from duetgen.data.runs import Runs
from duetgen.data.sequences import Sequences, pieces
from duetgen.data.splits import Rule
from duetgen.data.spool import Spool
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset

GROWING: Final = ("temporal", "leave-one-out")
"""Splits that have a later part to append to."""

ROWS: Final = 2**17
"""Rows of one group in a file, whatever the partitions that they come from."""


def write_kept(
    folder: Path, work: Path, made: Arranged, users: pl.Series, items: pl.Series, titles: pl.DataFrame
) -> None:
    """Write what a dataset keeps, partition after partition.

    Args:
        folder: of the dataset.
        work: a folder for what lies on disk meanwhile.
        made: of the events.
        users: ids by code.
        items: ids by code.
        titles: `item`, `title`.
    """
    index_I = made.vocabulary.index_I
    met_I, codes = np.zeros(len(index_I), dtype=bool), [pl.Series(dtype=pl.UInt32)]
    raw: dict[str, list[pl.LazyFrame]] = {"unknown": [], "events": []}
    for number, (stays_U, sequences) in enumerate(zip(made.core.stays, made.divided)):
        item_E = sequences.keep(stays_U).item_E
        left = pl.concat(map(table_of, (sequences.keep(~stays_U), *map(Sequences.load, made.short[number:][:1]))))
        left = left.sort("user", maintain_order=True)
        row = pl.col("user").rle_id() + sum(map(len, codes))
        codes.append(left["user"].unique(maintain_order=True))
        some = {"unknown": pl.DataFrame({"item": item_E[index_I[item_E] == UNKNOWN]}), "events": left.with_columns(row)}
        for name, table in some.items():
            met_I[table["item"].to_numpy()] = True
            path = work / f"{name}-{number:04}.arrow"
            table.write_ipc(path, compression="uncompressed")
            raw[name].append(pl.scan_ipc(path, glob=False))
    known, other = len(made.vocabulary.items), np.flatnonzero(met_I & (index_I == UNKNOWN))
    code_I = (index_I - FIRST_ITEM).astype(np.uint32)
    code_I[other] = np.arange(known, known + len(other))
    item = pl.col("item").map_batches(pl.Series(code_I).gather, pl.UInt32, is_elementwise=True)
    (folder / "kept").mkdir()
    for name, code in (("unknown", item - known), ("events", item)):
        whole = pl.concat(raw[name]).with_columns(code)
        whole.sink_parquet(folder / f"kept/{name}.parquet", statistics=False, row_group_size=ROWS, engine="streaming")
    named = pl.DataFrame({"item": items.gather(other)}).join(titles, on="item", how="left", maintain_order="left")
    named.write_parquet(folder / "kept/items.parquet")
    pl.DataFrame({"user": users.gather(pl.concat(codes))}).write_parquet(folder / "kept/users.parquet")


def table_of(sequences: Sequences) -> pl.DataFrame:
    """Events as a table of `user`, `item` and perhaps `timestamp`; users and items are codes."""
    table = pl.DataFrame(
        {"user": sequences.users[sequences.user_E].astype(np.uint32), "item": np.asarray(sequences.item_E)}
    )
    return table if sequences.time_E is None else table.with_columns(timestamp=np.asarray(sequences.time_E))


RUNS: Final[dict[str, type[np.generic]]] = {
    "events": np.int32,
    "timestamps": np.int64,
    "unknown_at": np.int64,
    "unknown": np.int32,
}
"""Arrays of `Runs` that are written a piece at a time."""


@dataclass(frozen=True)
class Standing:
    """A dataset that a log is appended to.

    Attributes:
        dataset: the earlier version.
        users: ids: the devices in their order, then who was left out. An id's place is its code.
        items: ids: the known items in their order, then the others.
        titles: `item`, `title` of those that have one.
        size: number of events that stand.
    """

    dataset: Dataset
    users: pl.Series
    items: pl.Series
    titles: pl.DataFrame
    size: int

    @classmethod
    def of(cls, dataset: Dataset) -> Standing:
        """What stands in a dataset.

        Raises:
            DamagedError: a file is missing or is not what it was.
        """
        items = pl.concat([dataset.table("items").select("item", "title"), dataset.kept("items").collect()])
        users = pl.concat([dataset.table("devices").select("user"), dataset.kept("users").collect()])
        left: int = dataset.kept("events").select(pl.len()).collect().item()
        return cls(dataset, users["user"], items["item"], items.drop_nulls(), len(dataset.events) + left)

    def sizes_with(self, log: Spool) -> tuple[int, int, int]:
        """Events, users and items of what stands and a log, whose first codes are those that stand."""
        users, items = self.users, self.items
        new = (int((log.tally[name][len(ids) :] > 0).sum()) for name, ids in (("user", users), ("item", items)))
        return self.size + log.size, len(users) + next(new), len(items) + next(new)

    def earlier(self, folder: Path) -> Earlier:
        """What holds of it for events that come behind; the folder is for `runs`."""
        bounds, split = self.dataset.bounds, self.dataset.manifest.split
        drawn = None if split.validating is None else np.flatnonzero(bounds[:, 1] > bounds[:, 0])
        known = self.dataset.manifest.counts.items
        return Earlier(Rule(split, validating=drawn), known, self.size, self.runs(folder))

    @cached_property
    def last(self) -> int | None:
        """The last time of an event, or None."""
        if (times := self.dataset.timestamps) is None:
            return None
        left = self.dataset.kept("events").select(pl.col("timestamp").max()).collect(engine="streaming")
        return int(max([times.max(), *left["timestamp"].drop_nulls()]))

    def runs(self, folder: Path) -> Runs:
        """All events that stand.

        Args:
            folder: to write into what the arrays lack.
        """
        folder.mkdir()
        dataset, known = self.dataset, self.dataset.manifest.counts.items
        lengths = np.zeros(len(self.users), dtype=np.int64)
        lengths[: dataset.devices] = np.diff(dataset.offsets)
        with ExitStack() as stack:
            items, times, places, unknown = (
                stack.enter_context(GrowingArray(folder / f"{name}.npy", dtype)) for name, dtype in RUNS.items()
            )
            for some in dataset.kept("events").collect_batches(maintain_order=True):
                lengths[dataset.devices :] += np.bincount(some["user"], minlength=len(lengths) - dataset.devices)
                items.append(some["item"].to_numpy() + FIRST_ITEM)
                if dataset.timestamps is not None:
                    times.append(some["timestamp"].to_numpy())
            for _, events in pieces(dataset.offsets, dataset.events):
                places.append(events.start + np.flatnonzero(dataset.events[events] == UNKNOWN))
            for some in dataset.kept("unknown").collect_batches(maintain_order=True):
                unknown.append(some["item"].to_numpy() + known)
        np.save(folder / "offsets.npy", offsets_of(lengths))
        return Runs(dataset.root / "sequences", folder)
