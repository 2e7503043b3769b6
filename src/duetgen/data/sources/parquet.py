"""Parquet: fields of structures are `outer.inner`, and a column of lists gives an event for each of their entries."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from duetgen.data.errors import InputCorruptError, InputTooLargeError, NotTextError, WrongEncodingError
from duetgen.data.sources.files import on_disk
from duetgen.data.sources.header import Find, Found
from duetgen.data.sources.lines import SAMPLE_ROWS, unequal_lists
from duetgen.data.sources.packing import most_rows

# A zone that is an offset, as `+05:30`, has no name, and ends the process else. Moments are in UTC whatever the zone.
os.environ.setdefault("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", "1")

PARQUET_MAGIC: Final = b"PAR1"

BATCH_ROWS: Final = 2**19
"""Rows that are read at once."""

BATCH_LISTS: Final = 2**12
"""The same of rows that hold lists."""


def scan(path: Path) -> pl.LazyFrame:
    """A Parquet file as it stands: its name is no pattern, and its folder names no columns."""
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


def columns_of(schema: pl.Schema) -> dict[str, pl.Expr]:
    """The columns of Parquet by name; the fields of a structure as `outer.inner`."""
    found: dict[str, pl.Expr] = {}

    def take(name: str, kind: object, column: pl.Expr) -> None:
        if isinstance(kind, pl.Struct):
            for field in kind.fields:
                take(f"{name}.{field.name}", field.dtype, column.struct.field(field.name))
        elif isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct):
            for field in kind.inner.fields:
                entries = column.list.eval(pl.element().struct.field(field.name))
                take(f"{name}.{field.name}", pl.List(field.dtype), entries)
        else:
            found.setdefault(name, column)

    for name, kind in sorted(schema.items(), key=lambda one: isinstance(one[1], pl.Struct)):
        take(name, kind, pl.col(name))
    return found


def first_of_parquet(path: Path, names: Sequence[str]) -> list[list[str]]:
    """The first values of each column, as text; none of what is no text, number or time."""
    table = scan(path).head(SAMPLE_ROWS).select(**columns_of(scan(path).collect_schema())).collect()
    found = []
    for name in names:
        values = table[name].explode() if table.schema[name] == pl.List else table[name]
        found.append([] if values.dtype.is_nested() else [str(value) for value in values.drop_nulls()])
    return found


def read_parquet(path: Path, find: Find) -> Iterator[tuple[pl.DataFrame, Found]]:
    """The columns that `find` chooses, and `line`, the number of the row, batch by batch.

    Raises:
        DuetError: any refusal of `find`, and of reading, naming the row.
    """
    with on_disk(path)[0].open("rb") as file:
        if file.read(4) != PARQUET_MAGIC:
            raise NotTextError(f"{path} is Parquet inside an archive", "unpack it: Parquet compresses by itself")
    try:
        columns = columns_of(scan(path).collect_schema())
        found = find(list(columns))
        chosen = {role: columns[found.names[i]] for role, i in found.roles.items()}
        table = scan(path).select(**chosen).with_row_index("line", offset=1)
        table = table.with_columns(pl.col("line").cast(pl.Int64))
        first = table.head(0).collect()
        lists = [role for role, kind in first.schema.items() if kind == pl.List and role != "title"]
        rows = table.select(pl.col(lists[0]).list.len().sum() if lists else pl.len()).collect().item()
        if rows > (most := most_rows(path)):
            raise InputTooLargeError(f"{path} has {rows:,} rows; at most {most:,} are read", "cut the log in parts")
        yield _with_text(_unfolded(first, lists, path, found), path, found), found
        size = BATCH_LISTS if lists else BATCH_ROWS
        for frame in table.collect_batches(chunk_size=size, maintain_order=True):
            yield _with_text(_unfolded(frame, lists, path, found), path, found), found
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as cause:
        raise InputCorruptError(f"{path} is damaged Parquet: {cause}", "write or copy it again") from cause


def _unfolded(frame: pl.DataFrame, lists: list[str], path: Path, found: Found) -> pl.DataFrame:
    """A row for each entry of the lists of a row; one without a value where they are empty.

    Raises:
        RaggedRowError: lists of one row have different lengths.
    """
    if not lists:
        return frame
    lengths = [pl.col(role).list.len().fill_null(0) for role in lists]
    unequal = frame.filter(pl.any_horizontal(one != lengths[0] for one in lengths))
    if len(unequal):
        raise unequal_lists(path, "row", unequal["line"][0], [found.labels[role] for role in lists])
    full = [pl.when(length > 0).then(pl.col(role)) for role, length in zip(lists, lengths)]
    return frame.with_columns(full).explode(lists)


def _with_text(frame: pl.DataFrame, path: Path, found: Found) -> pl.DataFrame:
    """Bytes as text: many writers of Parquet do not say that a column is UTF-8.

    Raises:
        WrongEncodingError: they are none, in another column than that of titles.
    """
    for role in (role for role, kind in frame.schema.items() if kind == pl.Binary):
        try:
            text = frame[role].cast(pl.String)
        except pl.exceptions.ComputeError:
            text = pl.Series(role, list(map(_decoded_bytes, frame[role])), dtype=pl.String)
            if role != "title":
                wrong = frame.filter(text.is_null() & pl.col(role).is_not_null())
                raise WrongEncodingError(
                    f"{path} row {wrong['line'][0]}: the column {found.labels[role]} holds bytes that are not UTF-8",
                    "write the column as text or integers",
                ) from None
        frame = frame.with_columns(text)
    return frame


def _decoded_bytes(value: bytes | None) -> str | None:
    """The text that bytes are; None where they are none."""
    with contextlib.suppress(UnicodeDecodeError):
        return None if value is None else value.decode()
    return None
