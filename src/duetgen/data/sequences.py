"""Events in order: one user after the other, each in order of time.

Shapes: E events, U users, I raw items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import polars as pl

from duetgen.data.store import Bool, Int8, Int32, Int64

PIECE: Final = 2**21
"""Events that are looked at at once, where arrays of all are not to be held."""


@dataclass(frozen=True)
class Sequences:
    """Events of some users grouped by user (by first appearance in the log) and ordered by time, ties as in the log.

    Attributes:
        users: int64 [U]: codes of the users.
        offsets: int64 [U+1].
        item_E: int32: code of each event's item.
        time_E: seconds, or None.
        row_E: the event's row in the log.
        part_E: 0 training, 1 validation, 2 test; before the events are divided as the log has it, or None.
    """

    users: Int64
    offsets: Int64
    item_E: Int32
    time_E: Int64 | None
    row_E: Int64
    part_E: Int8 | None

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

    def keep(self, keep_U: Bool) -> Self:
        """Only the users where `keep_U`."""
        if keep_U.all():
            return self
        kept = replace(self, users=self.users[keep_U], offsets=offsets_of(self.lengths[keep_U]))
        return kept._of_events(np.repeat(keep_U, self.lengths), self)

    def only(self, keep_E: Bool) -> Self:
        """Only the events where `keep_E`, of which every user has one."""
        lengths = np.bincount(self.user_E[keep_E], minlength=len(self.users))
        return replace(self, offsets=offsets_of(lengths))._of_events(keep_E, self)

    def _of_events(self, keep_E: Bool, whole: Self) -> Self:
        columns = ("item_E", "time_E", "row_E", "part_E")
        kept = {name: array[keep_E] for name in columns if (array := getattr(whole, name)) is not None}
        return replace(self, **kept)

    def save(self, folder: Path) -> None:
        """Write the arrays as files of a new folder."""
        folder.mkdir(parents=True)
        for field in fields(self):
            if (array := getattr(self, field.name)) is not None:
                np.save(folder / f"{field.name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        arrays: dict[str, Any] = {field.name: None for field in fields(cls)}
        return cls(**arrays | {path.stem: np.load(path, mmap_mode="r") for path in folder.iterdir()})


def offsets_of(lengths: Int64) -> Int64:
    """Where each of some pieces begins, and the last ends: int64 [U+1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def cut(lengths_U: Int64, most: int) -> Int64:
    """Where pieces of consecutive users begin, of which none has more than `most` events unless one user has them."""
    ends = np.cumsum(lengths_U)
    first = [0]
    while first[-1] < len(ends):
        done = int(ends[first[-1] - 1]) if first[-1] else 0
        first.append(max(int(np.searchsorted(ends, done + most, side="right")), first[-1] + 1))
    return np.array(first[:-1], dtype=np.int64)


def pieces(offsets: Int64) -> Iterator[tuple[slice, slice]]:
    """Consecutive devices, some millions of events at once: the slice of the devices, and that of their events."""
    first = cut(np.diff(offsets), PIECE)
    for begin, end in zip(first, np.append(first[1:], len(offsets) - 1)):
        yield slice(begin, end), slice(int(offsets[begin]), int(offsets[end]))


def codes(column: pl.Series) -> tuple[Int64, pl.Series]:
    """The values of a column as positions among its distinct values, which come by first appearance."""
    name = column.name
    distinct = column.unique(maintain_order=True)
    table = distinct.to_frame().with_row_index("code")
    code = column.to_frame().join(table, on=name, how="left", maintain_order="left")["code"]
    return code.to_numpy().astype(np.int64), distinct


def order(events: pl.DataFrame) -> Sequences:
    """Group by user and sort by (part, time), stable.

    Args:
        events: `user` and `item` as codes, `row`, perhaps `timestamp`, `moment` (the time before it was rounded, which
            orders equal times) and `part`; in the order of rows.
    """
    columns = {name: events[name].to_numpy() for name in events.columns}
    keys = [columns[name] for name in ("moment", "timestamp", "part") if name in columns]
    place = np.lexsort((*keys, columns["user"]))
    user_E = columns["user"][place]
    first = np.flatnonzero(np.diff(user_E, prepend=-1))
    return Sequences(
        users=user_E[first].astype(np.int64),
        offsets=np.append(first, len(user_E)).astype(np.int64),
        item_E=columns["item"][place].astype(np.int32),
        time_E=columns["timestamp"][place].astype(np.int64) if "timestamp" in columns else None,
        row_E=columns["row"][place].astype(np.int64),
        part_E=columns["part"][place].astype(np.int8) if "part" in columns else None,
    )
