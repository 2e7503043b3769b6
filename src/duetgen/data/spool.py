"""The events of a log on disk, in the order of the file: a log of any size is read into it a block at a time.

Ids become codes by first appearance, so an event takes some 30 bytes of disk, and memory holds each id once. What is
asked of the whole log is asked of `events`, which streams.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from duetgen.data.errors import InputTooLargeError, MemoryLimitError
from duetgen.data.store import Int64
from duetgen.wire import limits

IDS: Final = ("user", "item")
BLOCK: Final = 2**18
"""Events in one file: fewer are kept until there are as many."""

NONE: Final = 2**32 - 1
"""As a number of 32 bits, what has none."""


class Codes:
    """Gives ids codes by first appearance, block after block.

    Attributes:
        kind: type of ids that were looked up already, in the table that this one keeps.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._categories = pl.Categories.random(name, pl.UInt32)
        self.kind = pl.Categorical(self._categories)
        # Polars forgets the categories that no column has.
        self._held = pl.Series(dtype=self.kind)
        self._code_of_category = np.zeros(0, dtype=np.uint32)
        self._categories_of_codes: list[np.ndarray[Any, np.dtype[np.uint32]]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def read(self, ids: pl.Series) -> pl.Series:
        """The codes of ids: uint32."""
        category = ids.cast(self.kind).to_physical().to_numpy()
        self._code_of_category = grown(self._code_of_category, category, NONE)
        code = self._code_of_category[category]
        new = pl.Series(category[code == NONE]).unique(maintain_order=True).to_numpy()
        if len(new):
            self._code_of_category[new] = np.arange(len(self), len(self) + len(new))
            self._categories_of_codes.append(new)
            self._size += len(new)
            code = self._code_of_category[category]
        return pl.Series(self.name, code)

    def ids(self) -> pl.Series:
        """The ids, by code."""
        category = np.concatenate([np.zeros(0, dtype=np.uint32), *self._categories_of_codes])
        return pl.Series(self.name, category).cat.to(self.kind).cast(pl.String)


def grown(array: np.ndarray[Any, np.dtype[Any]], index: np.ndarray[Any, np.dtype[Any]], fill: int) -> Any:
    """An array that has every place of `index`: itself, or a longer one."""
    size = int(index.max(initial=0)) + 1
    if size <= len(array):
        return array
    return np.pad(array, (0, max(size, 5 * len(array) // 4) - len(array)), constant_values=fill)


class Spool:
    """Takes blocks of events and gives them back as one lazy table.

    Args:
        folder: where to write; None: a folder that goes when this does.
        most_ids: users and items that there is memory for; None: any number.

    Attributes:
        events: `user` and `item` as codes (uint32), the other columns as they were added, in the order of the file.
        size: number of events.
    """

    def __init__(self, folder: Path | None = None, most_ids: int | None = None) -> None:
        self.size, self.most_ids = 0, most_ids
        self.events = pl.LazyFrame()
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="duet-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._codes = {name: Codes(name) for name in IDS}
        self._waiting: list[pl.DataFrame] = []
        self._files: list[Path] = []

    @classmethod
    def of(cls, events: pl.DataFrame) -> Spool:
        """A spool of one table of events, whose times are seconds."""
        spool = cls()
        spool.add(events)
        spool.flush()
        return spool

    def begin(self, users: pl.Series, items: pl.Series) -> None:
        """Give the first codes to ids that are known before any event is read."""
        for codes, ids in zip(self._codes.values(), (users, items)):
            codes.read(ids)
        self._check_ids("the dataset has")

    def add(self, events: pl.DataFrame) -> None:
        """Take in events: `user` and `item` as text or of their `kind`, and the columns that all blocks have."""
        self._waiting.append(events.with_columns(codes.read(events[name]) for name, codes in self._codes.items()))
        self.size += len(events)
        if sum(map(len, self._waiting)) >= BLOCK:
            self._write()

    def flush(self) -> None:
        """Everything is added."""
        self._write()
        if self._files:
            self.events = pl.concat([pl.scan_ipc(path, glob=False) for path in self._files], how="vertical_relaxed")

    def _write(self) -> None:
        if not self._waiting:
            return
        path = self.folder / f"{len(self._files):06}.arrow"
        pl.concat(self._waiting, how="vertical_relaxed").write_ipc(path, compression="uncompressed")
        self._files.append(path)
        self._waiting.clear()
        if self.size > limits.MAX_EVENTS:
            raise InputTooLargeError(f"the log has more than {limits.MAX_EVENTS:,} events", "cut the log in parts")
        self._check_ids(f"with the first {self.size:,} events there are")

    def _check_ids(self, there_are: str) -> None:
        if self.most_ids is not None and self.known_ids > self.most_ids:
            raise MemoryLimitError(
                f"{there_are} {self.known_ids:,} users and items, and memory is there for {self.most_ids:,}",
                "give more with --memory-limit, or prepare a part of the log",
            )

    @property
    def known_ids(self) -> int:
        """How many users and items have a code, those without an event too."""
        return sum(map(len, self._codes.values()))

    def kind(self, name: str) -> pl.Categorical:
        """See `Codes`, of the users or the items."""
        return self._codes[name].kind

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.events.collect_schema().names()

    def settle(self, events: pl.LazyFrame) -> None:
        """Give the times their meaning: `events` with times changed; those without one are left out."""
        self.hold(events.filter(pl.col("timestamp").is_not_null()))

    def hold(self, events: pl.LazyFrame) -> None:
        """Have other events, of the same users and items."""
        self.events = events
        vars(self).pop("tally", None)
        self.size = int(self.tally["user"].sum())

    def ids(self, name: str) -> pl.Series:
        """The ids of the users or the items, by code; some may have no event any more."""
        return self._codes[name].ids()

    @cached_property
    def tally(self) -> dict[str, Int64]:
        """How many `events` each user and each item has, by code; everything is added."""
        found = {name: np.zeros(len(codes), dtype=np.int64) for name, codes in self._codes.items()}
        for batch in self.events.select(IDS).collect_batches():
            for name, counts in found.items():
                counts += np.bincount(batch[name].to_numpy(), minlength=len(counts))
        return found

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Events, and users and items that have one."""
        users, items = (int((self.tally[name] > 0).sum()) for name in IDS)
        return self.size, users, items

    def counts(self, name: str) -> pl.DataFrame:
        """How many `events` each `id` of the users or the items has that has one, by first appearance."""
        return pl.DataFrame({"id": self.ids(name), "events": self.tally[name]}).filter(pl.col("events") > 0)

    def frame(self) -> pl.DataFrame:
        """All events with their ids, in order of time where rounding to seconds would lose it, else of the file."""
        events = self.events.collect(engine="streaming")
        events = events.sort("moment", maintain_order=True) if "moment" in events.columns else events
        events = events.with_columns(self.ids(name).gather(events[name]).alias(name) for name in IDS)
        return events.drop("line", "source", "moment", strict=False)
