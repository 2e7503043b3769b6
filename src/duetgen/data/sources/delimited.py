"""Logs of one event a line with a fixed separator: MovieLens, and Amazon ratings without a header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from duetgen.data.sources.events import EventTable
from duetgen.data.sources.header import is_number
from duetgen.data.sources.lines import blocks, fields
from duetgen.data.sources.titles import Titles


@dataclass(frozen=True)
class Layout:
    """How a log of one event a line is laid out.

    Attributes:
        separator: between fields.
        columns: names of the fields, in order.
        header: the first line, exactly, or None if there is none.
        titles: where the titles of the items are, beside the log; None: in a table with a header.
    """

    separator: str
    columns: tuple[str, ...]
    header: str | None = None
    titles: Titles | None = None

    @property
    def quoted(self) -> bool:
        """Whether fields may be in quotes: in CSV they may."""
        return self.separator == ","


LAYOUTS: Final = {
    "movielens-100k": Layout("\t", ("user", "item", "rating", "timestamp"), titles=Titles("u.item", "|", "latin-1")),
    "movielens-1m": Layout("::", ("user", "item", "rating", "timestamp"), titles=Titles("movies.dat", "::", "latin-1")),
    "movielens-csv": Layout(
        ",",
        ("user", "item", "rating", "timestamp"),
        header="userId,movieId,rating,timestamp",
    ),
    "amazon-2014-csv": Layout(",", ("user", "item", "rating", "timestamp")),
    "amazon-2018-csv": Layout(",", ("item", "user", "rating", "timestamp")),
}


def fits(layout: Layout, lines: list[str]) -> bool:
    """Whether the first line is of this layout: its header, or as many fields and no header.

    A file whose first line fits and whose others do not is a file of this kind with a mistake in it; one whose first
    line does not fit is another kind of file.
    """
    if layout.header is not None:
        return lines[0].strip() == layout.header
    first = lines[0].split(layout.separator)
    return len(first) == len(layout.columns) and (is_number(first[-1]) or is_number(first[-2]))


def read_delimited(path: Path, kind: str, table: EventTable, part: int | None = None) -> None:
    """Read a log of the layout `kind` into the event table.

    Raises:
        DuetError: any refusal of reading and typing, naming the line.
    """
    layout = LAYOUTS[kind]
    header = layout.header is not None
    for block in blocks(path, quoted=layout.quoted):
        if header:
            blank = next((i for i, line in enumerate(block.lines) if line.strip()), len(block.lines))
            header, block = blank == len(block.lines), block.skip(blank + 1)
        frame = fields(block, layout.separator, len(layout.columns), quoted=layout.quoted)
        frame = frame.rename({str(i): name for i, name in enumerate(layout.columns)})
        table.add(frame, path, part=part)
