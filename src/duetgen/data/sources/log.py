"""What every source yields: one event table in file order, with what came beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec
import polars as pl

from duetgen.data.sources.duet_text.rows import TextRows
from duetgen.data.spool import Spool
from duetgen.documents import digest_of

Progress = Callable[[str], None]


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """Which columns of a table are what: names, or numbers from 1 without a header; None: found by usual names."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None
    behaviour: str | None = None
    title: str | None = None
    ignore: tuple[str, ...] = ()
    """Columns that are left out, whatever they are called."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a log is read.

    Attributes:
        header: whether the first line of a table names the columns.
        separator: between the fields of a table; None: told from the first line. `blanks` is one or more of them.
        time_unit: one of `sources.times.UNITS`, or None: told by the size of the numbers.
        drop_missing: leave out events without a user, an item or a time, and count them; else they are refused.
        keep_behaviours: values of the behaviour column whose events stay; none: all stay.
        titles: file of titles, read by the names of its columns; None: a well-known one beside the log.
    """

    header: bool = True
    separator: str | None = None
    time_unit: str | None = None
    drop_missing: bool = False
    keep_behaviours: tuple[str, ...] = ()
    titles: str | None = None

    @property
    def of_table(self) -> bool:
        """Whether anything is set that only tables have."""
        return not self.header or self.separator is not None


@dataclass(frozen=True)
class Note:
    """Something that reading changed or dropped; the counts are filled in by the manifest."""

    name: str
    reason: str
    events_in: int
    events_out: int


@dataclass(frozen=True)
class Log:
    """A log as read.

    Attributes:
        kind: name of the source.
        spool: the events: `user` and `item`, perhaps `rating` (float64), `timestamp` (int64 seconds), and `part`
            (uint8: 0 training, 2 test) where the data came divided; in the order of the file.
        titles: `item`, `title` (text), or None.
        files: every file read.
        notes: what reading changed or dropped.
        rows: rows of the text format as they stand, or None.
        remarks: what reading has to tell, one line each.
    """

    kind: str
    spool: Spool
    titles: pl.DataFrame | None = None
    files: list[Path] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    rows: TextRows | None = None
    remarks: list[str] = field(default_factory=list)

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of each of the files."""
        return [digest_of(path) for path in self.files]

    @cached_property
    def events(self) -> pl.DataFrame:
        """All events in memory, with their ids as text."""
        return self.spool.frame()
