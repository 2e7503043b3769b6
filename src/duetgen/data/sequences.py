"""Events in order: one user after the other, each in order of time.

Shapes: E events, U users, I raw items.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import polars as pl

from duetgen.data.places import first_of, offsets_of, sort_by
from duetgen.data.store import Bool, Int8, Int32, Int64

PIECE: Final = 2**18
"""Events that are looked at at once, where arrays of all are not to be held: as many as the processor keeps near."""
EVENT_COLUMNS: Final = ("item_E", "time_E", "row_E", "part_E")
DTYPES: Final[dict[str, type[np.generic]]] = {
    "users": np.int64,
    "offsets": np.int64,
    "item_E": np.int32,
    "time_E": np.int64,
    "row_E": np.int32,
    "part_E": np.int8,
    "bounds": np.int64,
}


@dataclass(frozen=True)
class Sequences:
    """Events of some users grouped by user (by first appearance in the log) and ordered by time, ties as in the log.

    Attributes:
        users: int64 [U]: codes of the users.
        offsets: int64 [U+1].
        item_E: int32: code of each event's item.
        time_E: seconds, or None.
        row_E: the event's row in the log.
        part_E: 0 training, 2 test, where the log came divided, or None.
        bounds: once they are divided, how many events of each user are training, and training or validation: int64
            [U, 2]; None before.
    """

    users: Int64
    offsets: Int64
    item_E: Int32
    time_E: Int64 | None
    row_E: Int32
    part_E: Int8 | None
    bounds: Int64 | None = None

    @property
    def lengths(self) -> Int64:
        """Events of each user: int64 [U]."""
        return np.diff(self.offsets)

    @property
    def user_E(self) -> Int64:  # noqa: N802
        """Position of each event's user among these."""
        return np.repeat(np.arange(len(self.users), dtype=np.int64), self.lengths)

    @property
    def within_E(self) -> Int64:  # noqa: N802
        """Position of each event among its user's."""
        return np.arange(len(self.item_E), dtype=np.int64) - np.repeat(self.offsets[:-1], self.lengths)

    @property
    def training_E(self) -> Bool:  # noqa: N802
        """Whether each event of divided sequences is training."""
        assert self.bounds is not None
        return first_of(self.lengths, self.bounds[:, 0])

    def count(self, some_E: Bool) -> Int64:
        """How many of each user's events are among some: int64 [U]."""
        return np.add.reduceat(some_E, self.offsets[:-1], dtype=np.int64)

    def keep(self, keep_U: Bool) -> Self:
        """Only the users where `keep_U`."""
        if keep_U.all():
            return self
        bounds = None if self.bounds is None else self.bounds[keep_U]
        kept = replace(self, users=self.users[keep_U], offsets=offsets_of(self.lengths[keep_U]), bounds=bounds)
        return kept._of_events(np.repeat(keep_U, self.lengths), self)

    def only(self, keep_E: Bool) -> Self:
        """Only the events where `keep_E`, of which every user has one."""
        lengths = np.bincount(self.user_E[keep_E], minlength=len(self.users))
        return replace(self, offsets=offsets_of(lengths))._of_events(keep_E, self)

    def _of_events(self, keep_E: Bool, whole: Self) -> Self:
        kept = {name: array[keep_E] for name in EVENT_COLUMNS if (array := getattr(whole, name)) is not None}
        return replace(self, **kept)

    def join(self, other: Sequences) -> Sequences:
        """The events of both, each user's in order: of equal times these come first, and without time all of them."""
        users = np.union1d(self.users, other.users)
        lengths = np.zeros(len(users), dtype=np.int64)
        for one in (self, other):
            lengths[np.searchsorted(users, one.users)] += one.lengths
        offsets = offsets_of(lengths)
        begin_U = offsets[np.searchsorted(users, other.users)]
        place_E = np.repeat(begin_U, other.lengths) + other.within_E + self._not_after(other)
        own_E = np.ones(int(offsets[-1]), dtype=bool)
        own_E[place_E] = False
        joined: dict[str, Any] = {}
        for name in EVENT_COLUMNS:
            if (mine := getattr(self, name)) is not None:
                joined[name] = np.empty(len(own_E), dtype=mine.dtype)
                joined[name][own_E] = mine
                joined[name][place_E] = getattr(other, name)
        return replace(self, users=users, offsets=offsets, **joined)

    def _not_after(self, other: Sequences) -> Int64:
        """How many events of each other event's user are not after it: int64, one for each event of `other`."""
        ends = np.append(self.offsets[:-1], 0), np.append(self.offsets[1:], 0)
        at_U = np.searchsorted(self.users, other.users)
        at_U[~np.isin(other.users, self.users)] = len(self.users)
        begin_E, high_E = (np.repeat(end_U[at_U], other.lengths) for end_U in ends)
        if self.time_E is None or other.time_E is None:
            return np.asarray(high_E - begin_E)
        low_E, middle_E = np.copy(begin_E), high_E - 1  # Most come after all that stands: the last is looked at first.
        while len(open_E := np.flatnonzero(low_E < high_E)):
            middle = middle_E[open_E]
            later = self.time_E[middle] > other.time_E[open_E]
            high_E[open_E] = np.where(later, middle, high_E[open_E])
            low_E[open_E] = np.where(later, low_E[open_E], middle + 1)
            middle_E = (low_E + high_E) // 2
        return np.asarray(low_E - begin_E)

    def save(self, folder: Path, but: Self | None = None) -> None:
        """Write the arrays as files of a new folder, `but` those that are another's too."""
        folder.mkdir(parents=True)
        for field in fields(self):
            array = getattr(self, field.name)
            if array is not None and array is not getattr(but, field.name, None):
                np.asarray(array, DTYPES[field.name]).tofile(folder / field.name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        arrays: dict[str, Any] = {field.name: None for field in fields(cls)}
        return cls(**arrays | {path.name: _mapped(path) for path in folder.iterdir()})


def _mapped(path: Path) -> Any:
    """An array of sequences from its file: with nothing around it, so that it is there at once."""
    array = np.zeros(0, dtype=DTYPES[path.name])
    if path.stat().st_size:
        with path.open("rb") as file:
            array = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=array.dtype)
    return array.reshape(-1, 2) if path.name == "bounds" else array


def cut(lengths_U: Int64, most: int) -> Int64:
    """Where pieces of consecutive users begin, of which none has more than `most` events unless one user has them."""
    ends = np.cumsum(lengths_U)
    first = [0]
    while first[-1] < len(ends):
        done = int(ends[first[-1] - 1]) if first[-1] else 0
        first.append(max(int(np.searchsorted(ends, done + most, side="right")), first[-1] + 1))
    return np.array(first[:-1], dtype=np.int64)


def pieces(offsets: Int64, *arrays_E: np.ndarray[Any, np.dtype[Any]] | None) -> Iterator[tuple[slice, slice]]:
    """Consecutive devices, some millions of events at once: the slice of the devices, and that of their events.

    Args:
        offsets: of the devices.
        arrays_E: what is read by piece; where they are mapped, no more of them stays in memory than a piece.
    """
    first = cut(np.diff(offsets), PIECE)
    for begin, end in zip(first, np.append(first[1:], len(offsets) - 1)):
        yield slice(begin, end), slice(int(offsets[begin]), int(offsets[end]))
        for array_E in arrays_E:
            pages = getattr(array_E, "base", None)
            if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # Not every system has it.
                pages.madvise(mmap.MADV_DONTNEED)


def codes(column: pl.Series) -> tuple[Int64, pl.Series]:
    """The values of a column as positions among its distinct values, which come by first appearance."""
    name = column.name
    distinct = column.unique(maintain_order=True)
    table = distinct.to_frame().with_row_index("code")
    code = column.to_frame().join(table, on=name, how="left", maintain_order="left")["code"]
    return code.to_numpy().astype(np.int64), distinct


def order(events: pl.DataFrame | dict[str, np.ndarray[Any, np.dtype[Any]]]) -> Sequences:
    """Group by user and sort by (part, time), stable.

    Args:
        events: columns `user` and `item` as codes, `row`, perhaps `timestamp`, `moment` (the time before it was
            rounded, which orders equal times) and `part`; in the order of rows.
    """
    columns = {name: events[name].to_numpy() for name in events.columns} if isinstance(events, pl.DataFrame) else events
    by = ("moment", "timestamp", "part", "user")
    place = sort_by(*(columns[name] for name in by if name in columns))
    user_E = columns["user"][place]
    first = np.flatnonzero(np.diff(user_E, prepend=-1))
    return Sequences(
        users=user_E[first].astype(np.int64),
        offsets=np.append(first, len(user_E)).astype(np.int64),
        item_E=columns["item"][place].astype(np.int32),
        time_E=columns["timestamp"][place].astype(np.int64) if "timestamp" in columns else None,
        row_E=columns["row"][place].astype(np.int32),
        part_E=columns["part"][place].astype(np.int8) if "part" in columns else None,
    )
