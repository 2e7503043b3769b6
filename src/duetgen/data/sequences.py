"""The event table in order: one device after the other, each in order of time.

Shapes: E events, U users, I raw items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from duetgen.data.store import Bool, Int64


@dataclass(frozen=True)
class Sequences:
    """Events grouped by user (by first appearance in the log) and ordered by time, ties as in the log.

    Attributes:
        users: text [U].
        items: text [I], by first appearance in the log; `item_E` are positions in it.
        offsets: int64 [U+1].
        item_E: raw item of each event.
        time_E: seconds, or None.
        row_E: the event's row in the event table.
        part_E: 0 training, 2 test, where the data came divided; else None.
    """

    users: pl.Series
    items: pl.Series
    offsets: Int64
    item_E: Int64
    time_E: Int64 | None
    row_E: Int64
    part_E: Int64 | None

    @property
    def lengths(self) -> Int64:
        """Events of each user: int64 [U]."""
        return np.diff(self.offsets)

    @property
    def user_E(self) -> Int64:  # noqa: N802
        """User of each event."""
        return np.repeat(np.arange(len(self.users), dtype=np.int64), self.lengths)

    @property
    def within_E(self) -> Int64:  # noqa: N802
        """Position of each event among its user's."""
        return np.arange(len(self.item_E), dtype=np.int64) - np.repeat(self.offsets[:-1], self.lengths)

    def keep(self, keep_U: Bool) -> Sequences:
        """Only the users where `keep_U`; raw items keep their codes."""
        keep_E = np.repeat(keep_U, self.lengths)
        return replace(
            self,
            users=self.users.filter(pl.Series(keep_U)),
            offsets=np.concatenate([[0], np.cumsum(self.lengths[keep_U])]).astype(np.int64),
            item_E=self.item_E[keep_E],
            time_E=None if self.time_E is None else self.time_E[keep_E],
            row_E=self.row_E[keep_E],
            part_E=None if self.part_E is None else self.part_E[keep_E],
        )


def codes(column: pl.Series) -> tuple[Int64, pl.Series]:
    """The values of a column as positions among its distinct values, which come by first appearance."""
    name = column.name
    distinct = column.unique(maintain_order=True)
    table = distinct.to_frame().with_row_index("code")
    code = column.to_frame().join(table, on=name, how="left", maintain_order="left")["code"]
    return code.to_numpy().astype(np.int64), distinct


def order(events: pl.DataFrame) -> Sequences:
    """Group by user and sort by (part, time), stable."""
    user, users = codes(events["user"])
    item, items = codes(events["item"])
    time = events["timestamp"].to_numpy().astype(np.int64) if "timestamp" in events.columns else None
    part = events["part"].to_numpy().astype(np.int64) if "part" in events.columns else None
    keys = [key for key in (time, part, user) if key is not None]
    row = np.lexsort(keys).astype(np.int64)
    return Sequences(
        users=users,
        items=items,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(users)))]).astype(np.int64),
        item_E=item[row],
        time_E=None if time is None else time[row],
        row_E=row,
        part_E=None if part is None else part[row],
    )
