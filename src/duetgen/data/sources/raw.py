"""Any table as raw columns, block by block: CSV and its kin, with a header or without, JSON lines, or Parquet.

Logs and files of titles are both read so: who reads says which columns it wants, by their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import polars as pl

from duetgen.data.errors import BadSettingError, MissingColumnError
from duetgen.data.sources.dates import parse_date
from duetgen.data.sources.files import open_input
from duetgen.data.sources.header import Find, Found, header_of, is_number, or_no_header, separator_of, split_line
from duetgen.data.sources.lines import BLANKS, SAMPLE_ROWS, Block, blocks, fields, sample, stray_quotes
from duetgen.data.sources.objects import first_of_objects, read_objects
from duetgen.data.sources.parquet import PARQUET_MAGIC, first_of_parquet, read_parquet

SEPARATOR_NAMES: Final = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "blanks": BLANKS, "\\t": "\t"}
"""Names for separators that are hard to type."""


Form = Literal["parquet", "json", "python", "text"]
"""What a file is made of: Parquet, an object a line as JSON or as Python prints it, or lines of fields."""

PYTHON: Final = re.compile(r"\{\s*u?'|\{\s*u\"")
"""How a dictionary begins that Python printed."""


@dataclass(frozen=True)
class Raw:
    """Columns as they stand: one for each role that was found, and `line`.

    Attributes:
        frame: the columns.
        where: what `line` counts: lines of text, or rows.
        found: the columns of the whole table.
        broken: events that have a line break inside quotes, in a column that is not used.
        unfolded: whether an event is an entry of a list.
    """

    frame: pl.DataFrame
    where: str
    found: Found
    broken: int = 0
    unfolded: bool = False


def form_of(path: Path) -> Form:
    """The form of a file, by how it begins."""
    with open_input(path) as stream:
        if stream.read(4) == PARQUET_MAGIC:
            return "parquet"
    first = sample(path)[0].lstrip()
    if PYTHON.match(first):
        return "python"
    return "json" if first.startswith("{") else "text"


def read_raw(path: Path, find: Find, *, header: bool = True, separator: str | None = None) -> Iterator[Raw]:
    """The columns that `find` chooses among the table's names (without a header: among numbers from 1).

    Raises:
        DuetError: any refusal of `find`, and of reading, naming the line.
    """
    form = form_of(path)
    if form != "text" and not (header and separator is None):
        raise BadSettingError(
            f"{path} has fields with names, and neither a header nor a separator",
            "leave --no-header and --separator out",
        )
    if form == "parquet":
        yield from (_of_lists(frame, "row", found) for frame, found in read_parquet(path, find))
    elif form != "text":
        yield from (_of_lists(frame, "line", found) for frame, found in read_objects(path, find, form))
    else:
        yield from _read_text(path, find, header, separator)


def _of_lists(frame: pl.DataFrame, where: str, found: Found) -> Raw:
    return Raw(frame, where, found, unfolded=bool((frame["line"].diff() == 0).any()))


def first_values(path: Path, found: Found, *, header: bool = True, separator: str | None = None) -> list[list[str]]:
    """The first values of each column of a table, as text; of the form of `read_raw`, which has read it."""
    form = form_of(path)
    if form == "parquet":
        return first_of_parquet(path, found.names)
    if form != "text":
        return first_of_objects(path, form, found.names)
    lines = sample(path)[: SAMPLE_ROWS + 1]
    between = separator_named(separator) or separator_of(lines[0])
    rows = [[field.strip() for field in split_line(line, between)] for line in lines[int(header) :]]
    rows = [row for row in rows if len(row) == len(found.names)]
    return [[row[i] for row in rows if row[i]] for i in range(len(found.names))]


def separator_named(text: str | None) -> str | None:
    """The separator that a name or the characters themselves stand for.

    Raises:
        BadSettingError: it is none.
    """
    if text is None:
        return None
    separator = SEPARATOR_NAMES.get(text.strip().lower() or text, text)
    if separator in (" ", BLANKS):
        return BLANKS
    if not separator or len(separator) > 4 or any(char.isalnum() or char in '"\r\n' for char in separator):
        raise BadSettingError(f"{text!r} is no separator", f"one to four signs, or {', '.join(SEPARATOR_NAMES)}")
    return separator


def _read_text(path: Path, find: Find, header: bool, separator: str | None) -> Iterator[Raw]:
    told = separator_named(separator)
    separator = told or separator_of(sample(path)[0])
    quoted = separator != BLANKS and len(separator) == 1
    found: Found | None = None
    for block in blocks(path, quoted=quoted):
        if found is None:
            first = next((i for i, line in enumerate(block.lines) if line.strip()), None)
            if first is None:
                continue
            line = block.lines[first]
            names = header_of(line, separator)[1]
            try:
                found = find(names if header else [str(i + 1) for i in range(len(names))])
            except MissingColumnError as cause:
                if told is not None and len(names) == 1 < len(header_of(line)[1]):
                    other = next(name for name, sign in SEPARATOR_NAMES.items() if sign == separator_of(line))
                    hint = f"its first line has another separator: --separator {other}"
                    raise MissingColumnError(cause.message, hint) from cause
                if header:
                    raise or_no_header(cause) from cause
                raise
            block = block.skip(first + 1) if header else block
        frame = fields(block, separator, len(found.names), quoted=quoted)
        broken = _broken(frame, block, found, path, separator)
        yield Raw(_chosen(frame, found), "line", found, broken)


def _chosen(frame: pl.DataFrame, found: Found) -> pl.DataFrame:
    return frame.select("line", **{role: pl.col(str(i)) for role, i in found.roles.items()})


def _broken(frame: pl.DataFrame, block: Block, found: Found, path: Path, separator: str) -> int:
    """How many events have a line break inside quotes.

    Raises:
        BadQuotesError: it is in a column that is used, or what the quotes hold are events: a stray quote has swallowed
            the lines between.
    """
    if not block.quotes:
        return 0
    held = {str(i) for role, i in found.roles.items() if role != "title"}
    breaks = [pl.col(name).str.contains("\n", literal=True).alias(name) for name in frame.columns if name != "line"]
    table = frame.select("line", *breaks).filter(pl.any_horizontal(pl.exclude("line")))
    for row in table.iter_rows(named=True):
        if any(row[name] for name in held) or _holds_events(block, row["line"], found, separator):
            raise stray_quotes(path, row["line"])
    return len(table)


def _holds_events(block: Block, line: int, found: Found, separator: str) -> bool:
    """Whether the line on which quotes open and the one after it are events each, with a number or date as time."""
    role = found.roles.get("timestamp", found.roles.get("rating"))
    if role is None:
        return False
    at = line - block.line
    for text in block.lines[at : at + 2]:
        parts = text.split(separator)
        value = parts[role].strip(' "') if len(parts) == len(found.names) else ""
        if not is_number(value) and parse_date(value) is None:
            return False
    return True
