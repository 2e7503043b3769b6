"""Logs of one event a line with a fixed separator: MovieLens, and Amazon ratings without a header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from duetgen.data.errors import InputEmptyError, WrongSourceError
from duetgen.data.log import Log, Note
from duetgen.data.sources.columns import in_seconds, typed
from duetgen.data.sources.text import blocks, fields, sample
from duetgen.data.sources.titles import Titles, read_titles


@dataclass(frozen=True)
class Layout:
    """How a log of one event a line is laid out.

    Attributes:
        separator: between fields.
        columns: names of the fields, in order.
        header: the first line, exactly, or None if there is none.
        titles: where the titles of the items are, beside the log.
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
        titles=Titles("movies.csv", ",", "utf-8", header=True),
    ),
    "amazon-2014-csv": Layout(",", ("user", "item", "rating", "timestamp")),
    "amazon-2018-csv": Layout(",", ("item", "user", "rating", "timestamp")),
}


def is_number(text: str) -> bool:
    """Whether a field reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def fits(layout: Layout, lines: list[str]) -> bool:
    """Whether the first line is of this layout: its header, or as many fields and no header.

    A file whose first line fits and whose others do not is a file of this kind with a mistake in it; one whose first
    line does not fit is another kind of file.
    """
    if layout.header is not None:
        return lines[0].strip() == layout.header
    first = lines[0].split(layout.separator)
    return len(first) == len(layout.columns) and (is_number(first[-1]) or is_number(first[-2]))


def read_delimited(path: Path, kind: str) -> Log:
    """Read a log of the layout `kind`, with the titles beside it.

    Raises:
        WrongSourceError: the first line is not of this layout.
        DuetError: any refusal of reading and typing, naming the line.
    """
    from duetgen.data.sources.detect import swapped, why_not

    layout = LAYOUTS[kind]
    lines = sample(path)
    if not fits(layout, lines):
        raise why_not(path, kind)
    if kind.startswith("amazon-") and swapped(lines, item_first=layout.columns[0] == "item"):
        other = "amazon-2014-csv" if kind == "amazon-2018-csv" else "amazon-2018-csv"
        raise WrongSourceError(
            f"{path} is not {kind}: product ids (ASINs) are where that format has users", f"name {other} instead"
        )
    frames: list[pl.DataFrame] = []
    header = layout.header is not None
    for block in blocks(path, quoted=layout.quoted):
        if header:
            blank = next((i for i, line in enumerate(block.lines) if line.strip()), len(block.lines))
            header, block = blank == len(block.lines), block.skip(blank + 1)
        frame = fields(block, layout.separator, len(layout.columns), quoted=layout.quoted)
        frame = frame.rename({str(i): name for i, name in enumerate(layout.columns)})
        frames.append(typed(frame, path))
    return finish(kind, path, frames, layout.titles)


def finish(kind: str, path: Path, frames: list[pl.DataFrame], titles: Titles | None = None) -> Log:
    """One log of the typed blocks of a file.

    Raises:
        InputEmptyError: there is no event.
        MixedTimeUnitsError: see `in_seconds`.
    """
    events = pl.concat(frames, how="vertical_relaxed") if frames else pl.DataFrame()
    if not len(events):
        raise InputEmptyError(f"{path} holds no event", "check how the file was exported")
    events, change = in_seconds(events, path)
    notes = [Note("time", change, len(events), len(events))] if change else []
    files, table = [path], None
    if titles is not None and (beside := titles.beside(path)) is not None:
        table = read_titles(beside, titles)
        files.append(beside)
    return Log(kind, events, table, files, notes)
