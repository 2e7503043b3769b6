"""One user a line, with its items: how sequences are published that somebody has put in order already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from duetgen.data.sources.header import Found
from duetgen.data.sources.lines import blocks
from duetgen.data.sources.log import Columns, Reading
from duetgen.data.sources.raw import Raw
from duetgen.data.sources.source import Head, Reader

ID: Final = re.compile(r"[\w.:-]+")
MOST: Final = 0.9
"""So many of the ids in such a file have a digit; words of a text have none."""


class Sequences(Reader):
    """A user and its items, oldest first, with blanks or tabs between; there is no time."""

    name = "sequences"
    about = "one user a line, then its items, oldest first, with blanks between"
    logs = ("sequential_data.txt",)

    def fits(self, head: Head) -> bool:
        """Ids with blanks between."""
        return head.form == "text" and all(map(ID.fullmatch, head.first.split()))

    def tells(self, head: Head) -> bool:
        """Lines of different lengths, each of another user."""
        rows = [line.split() for line in head.lines]
        if not self.fits(head) or len({len(row) for row in rows}) < 2 or len({row[0] for row in rows}) < len(rows):
            return False
        ids = [one for row in rows for one in row]
        coded = sum(any(map(str.isdigit, one)) for one in ids)
        return all(map(ID.fullmatch, ids)) and coded >= MOST * len(ids)

    def read(self, path: Path, columns: Columns, reading: Reading) -> Iterator[Raw]:
        """See `Reader`; a user without items has one event that lacks its item."""
        found = Found(["user", "item"], {"user": 0, "item": 1})
        for block in blocks(path):
            frame = block.lines.to_frame().with_columns(line=pl.int_range(pl.len(), dtype=pl.Int64) + block.line)
            ids = pl.col("text").str.extract_all(r"\S+")
            items = pl.when(ids.list.len() > 1).then(ids.list.slice(1))
            frame = frame.select("line", user=ids.list.first(), item=items).drop_nulls("user")
            yield Raw(frame.explode("item"), "line", found)
