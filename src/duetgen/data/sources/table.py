"""Any table with a header: CSV, TSV (plain or gzip) or Parquet; columns by name, given or usual."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from duetgen.data.errors import (
    AmbiguousColumnError,
    BadSettingError,
    InputCorruptError,
    InputTooLargeError,
    MissingColumnError,
    NotTextError,
)
from duetgen.data.log import Columns, Log
from duetgen.data.sources.columns import typed
from duetgen.data.sources.delimited import finish
from duetgen.data.sources.detect import PARQUET_MAGIC, is_parquet
from duetgen.data.sources.text import blocks, fields, require_file, sample
from duetgen.data.sources.titles import Titles
from duetgen.wire import limits

SYNONYMS: Final = {
    "user": ("user", "userid", "uid", "reviewerid", "customerid", "visitorid", "deviceid", "sessionid", "device"),
    "item": (
        "item",
        "itemid",
        "iid",
        "movieid",
        "asin",
        "productid",
        "articleid",
        "artistid",
        "businessid",
        "trackid",
        "bookid",
        "newsid",
        "product",
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
    "timestamp": ("timestamp", "time", "ts", "unixreviewtime", "unixtime", "date", "datetime"),
}
"""Usual names of the columns, without case, spaces and underscores."""

SEPARATORS: Final = (",", "\t", ";", "|")
ITEMS: Final = Titles("items.csv", ",", "utf-8", header=True)


def header_of(line: str) -> tuple[str, list[str]]:
    """Separator and column names of a header line."""
    separator = max(SEPARATORS, key=line.count)
    try:
        names = next(csv.reader([line], delimiter=separator, strict=True))
    except (csv.Error, StopIteration):
        names = line.split(separator)
    return separator, [name.strip() for name in names]


def find_columns(names: Sequence[str], path: Path, chosen: Columns | None = None) -> dict[str, int]:
    """Index of each column that is there: user and item always, rating and timestamp perhaps.

    Raises:
        MissingColumnError: no user or item column, or none of the name given.
        AmbiguousColumnError: two columns have a usual name of the same thing.
    """
    shown = ", ".join(name[:40] for name in names[:12]) + (", …" if len(names) > 12 else "")
    given = {name: getattr(chosen, name) for name in SYNONYMS} if chosen else {}
    found: dict[str, int] = {}
    for role, synonyms in SYNONYMS.items():
        if (name := given.get(role)) is not None:
            if name not in names:
                raise MissingColumnError(f"{path} has no column {name!r}", f"its columns are: {shown}")
            found[role] = list(names).index(name)
            continue
        taken = {name for name in given.values() if name is not None}
        plain = [name.lower().replace("_", "").replace(" ", "").replace("-", "") for name in names]
        hits = [i for i, name in enumerate(plain) if name in synonyms and names[i] not in taken]
        # The plainest name wins: `item` before `product_id`, `user` before `session_id`.
        exact = [i for i in hits if plain[i] in (role, f"{role}id")]
        hits = exact or hits
        if len(hits) > 1:
            which = ", ".join(names[i][:40] for i in hits[:5])
            raise AmbiguousColumnError(
                f"{path} has {len(hits)} columns that could be the {role}: {which}",
                f"say which with --{role}-column",
            )
        if hits:
            found[role] = hits[0]
        elif role in ("user", "item"):
            raise MissingColumnError(
                f"{path} has no column for the {role}", f"say which with --{role}-column; its columns are: {shown}"
            )
    if len(set(found.values())) < len(found):
        raise BadSettingError("one column is named for two things", "name a column each for user, item, rating, time")
    return found


def read_table(path: Path, columns: Columns | None = None) -> Log:
    """Read a table with a header.

    Raises:
        MissingColumnError, AmbiguousColumnError: see `find_columns`.
        DuetError: any refusal of reading and typing, naming the line.
    """
    if is_parquet(path):
        return finish("table", path, [_read_parquet(path, columns)], ITEMS)
    separator, names = header_of(sample(path)[0].removeprefix("\ufeff"))
    # The sample is read as Latin-1; names beyond ASCII need the encoding of the file.
    found: dict[str, int] = {}
    frames: list[pl.DataFrame] = []
    for block in blocks(path, quoted=True):
        if not found:
            first = next((i for i, line in enumerate(block.lines) if line.strip()), None)
            if first is None:
                continue
            names = header_of(block.lines[first])[1]
            found = find_columns(names, path, columns)
            block = block.skip(first + 1)
        frame = fields(block, separator, len(names), quoted=True)
        frame = frame.select("line", **{role: pl.col(str(i)) for role, i in found.items()})
        frames.append(typed(frame, path))
    return finish("table", path, frames, ITEMS)


def _read_parquet(path: Path, columns: Columns | None) -> pl.DataFrame:
    require_file(path)
    with path.open("rb") as file:
        if file.read(4) != PARQUET_MAGIC:
            raise NotTextError(f"{path} is Parquet inside gzip", "decompress it: Parquet compresses by itself")
    try:
        names = list(pl.read_parquet_schema(path))
        found = find_columns(names, path, columns)
        rows = pl.scan_parquet(path).select(pl.len()).collect().item()
        if rows > limits.MAX_EVENTS:
            raise InputTooLargeError(f"{path} has {rows:,} rows; at most {limits.MAX_EVENTS:,}", "cut the log in parts")
        frame = pl.read_parquet(path, columns=sorted({names[i] for i in found.values()}))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as cause:
        raise InputCorruptError(f"{path} is damaged Parquet: {cause}", "write or copy it again") from cause
    frame = frame.select(**{role: pl.col(names[i]) for role, i in found.items()}).with_row_index("line", offset=1)
    return typed(frame.with_columns(pl.col("line").cast(pl.Int64)), path, where="row")
