"""What every source yields: one event table in file order, with what came beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

if TYPE_CHECKING:
    from duetgen.data.text_rows import TextRows

Progress = Callable[[str], None]


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """Names of a table's columns; None: found by their usual names."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None


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
        events: `user`, `item` (text), perhaps `rating` (float64), `timestamp` (int64 seconds), and `part`
            (uint8: 0 training, 2 test) where the data came divided; in the order of the file.
        titles: `item`, `title` (text), or None.
        files: every file read.
        notes: what reading changed or dropped.
        rows: rows of the text format as they stand, or None.
    """

    kind: str
    events: pl.DataFrame
    titles: pl.DataFrame | None = None
    files: list[Path] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    rows: TextRows | None = None

    @property
    def size(self) -> int:
        """Number of events."""
        return len(self.events)
