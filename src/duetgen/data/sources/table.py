"""Any table of events: CSV and its kin, JSON lines or Parquet; columns by name, given or usual, or by number."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from duetgen.data.sources.events import EventTable
from duetgen.data.sources.header import Found, find_columns, listed, numbered_columns
from duetgen.data.sources.log import Columns, Reading
from duetgen.data.sources.raw import first_values, read_raw
from duetgen.data.sources.times import look_like_times

REVIEW: Final = Columns(user="reviewerID", item="asin", rating="overall", timestamp="unixReviewTime")
"""Fields of an Amazon review of 2014 or 2018."""


def read_table(
    path: Path, table: EventTable, columns: Columns | None, reading: Reading, part: int | None
) -> str | None:
    """Read a table into the event table.

    Returns:
        What the file calls its column of items.

    Raises:
        MissingColumnError, AmbiguousColumnError: see `find_columns`.
        DuetError: any refusal of reading and typing, naming the line.
    """
    columns = columns or Columns()

    def find(names: list[str]) -> Found:
        if reading.header:
            return find_columns(names, path, columns)
        return numbered_columns(len(names), path, columns)

    item, broken = None, 0
    for raw in read_raw(path, find, header=reading.header, separator=reading.separator):
        labels = raw.found.labels
        table.add(raw.frame, path, raw.where, labels=labels, part=part)
        if item is None and raw.found.unused:
            table.remark(f"columns not used: {listed(raw.found.unused)}")
            if "timestamp" not in raw.found.roles:
                values = first_values(path, raw.found, header=reading.header, separator=reading.separator)
                for name, some in zip(raw.found.names, values):
                    if name in raw.found.unused and name not in columns.ignore and look_like_times(some):
                        table.remark(f"the column {name} reads as times: --time-column {name} makes it the time")
        item, broken = labels["item"], broken + raw.broken
    if broken:
        table.remark(f"{broken:,} events have a line break inside quotes, in columns that are not used")
    return item if reading.header else None
