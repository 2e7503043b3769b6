"""Titles of items: from the file that a data set has beside its log, or from one that is named.

A file that nobody named is a help and no condition: one that cannot be read, or names no titles, is left, and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import polars as pl

from duetgen.data.errors import MissingColumnError
from duetgen.data.sources.files import TITLE_TABLES
from duetgen.data.sources.header import SYNONYMS, Found, listed, plain
from duetgen.data.sources.ids import canonical
from duetgen.data.sources.lines import blocks, fields, ragged_row
from duetgen.data.sources.raw import read_raw
from duetgen.errors import DuetError
from duetgen.wire import limits


@dataclass(frozen=True)
class Titles:
    """A file of titles of a known layout without header: the first column is the item, the second the title."""

    name: str
    separator: str
    encoding: str


def beside(log: Path, layout: Titles | None) -> Path | None:
    """The file of titles, plain or gzip, beside the log or in the folder of its parts, or None."""
    names = (layout.name,) if layout else (*TITLE_TABLES, f"{log.name.removesuffix('.gz').rsplit('.', 1)[0]}.item")
    folders = (log, log.parent) if log.is_dir() else (log.parent,)
    for folder, name in product(folders, names):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file() and path != log and path.stat().st_size:
                return path
    return None


def read_layout(path: Path, layout: Titles) -> pl.DataFrame:
    """Titles by item of a file of a known layout: columns `item`, `title`.

    Raises:
        DuetError: any refusal of reading a text file.
    """
    frames: list[pl.DataFrame] = []
    width = 0
    for block in blocks(path, encoding=layout.encoding):
        if not width:
            first = next((i for i, line in enumerate(block.lines) if line.strip()), None)
            if first is None:
                continue
            width = block.lines[first].count(layout.separator) + 1
            if width < 2:
                raise ragged_row(path, block.line + first, width, 2)
        frame = fields(block, layout.separator, width)
        frames.append(frame.select(item="0", title="1"))
    return tidy(frames)


def read_table(path: Path, item: str | None = None) -> pl.DataFrame:
    """Titles by item of a table with a header (CSV and its kin, JSON lines, Parquet), by the names of its columns.

    Args:
        path: of the table.
        item: what the log calls its column of items.

    Raises:
        MissingColumnError: no column has the items, or none their titles.
        DuetError: any refusal of reading.
    """

    def find(names: list[str]) -> Found:
        return find_titles(names, path, item)

    frames = [
        raw.frame.select(canonical(raw.frame["item"].cast(pl.String)).alias("item"), pl.col("title").cast(pl.String))
        for raw in read_raw(path, find)
    ]
    return tidy(frames)


def find_titles(names: Sequence[str], path: Path, item: str | None = None) -> Found:
    """The column of items (called as in the log, or by a usual name) and that of titles (`title`, else `name`).

    Raises:
        MissingColumnError: one is not there, or two could be it.
    """
    simple = [plain(name) for name in names]
    of_item = [i for i, name in enumerate(names) if item is not None and plain(name) == plain(item)]
    of_item = of_item or [i for i, name in enumerate(simple) if name in ("item", "itemid")]
    of_item = of_item or [i for i, name in enumerate(simple) if name in SYNONYMS["item"]]
    of_item = of_item or [i for i, name in enumerate(simple) if name == "id"]
    of_title: list[int] = []
    for word in ("title", "name"):
        exact = [simple.index(name) for name in (f"item{word}", word) if name in simple]
        of_title = of_title or exact[:1] or [i for i, name in enumerate(simple) if name.endswith(word)]
    for what, hits in (("items", of_item), ("titles", of_title)):
        if len(hits) != 1:
            raise MissingColumnError(
                f"{path} has {len(hits) or 'no'} columns of {what}; its columns are: {listed(names)}",
                "call them `item` and `title`",
            )
    return Found(list(names), {"item": of_item[0], "title": of_title[0]})


def titles_of(
    log: Path, layout: Titles | None, item: str | None, named: str | None
) -> tuple[pl.DataFrame | None, Path | None, str | None]:
    """Titles, the file they are from, and a remark.

    Raises:
        DuetError: the file that was named cannot be read.
    """
    if named is not None:
        path = Path(named)
        return read_table(path, item), path, None
    found = beside(log, layout)
    if found is None:
        return None, None, None
    try:
        return (read_layout(found, layout) if layout else read_table(found, item)), found, None
    except DuetError as refusal:
        return None, None, f"{found.name} beside the log gives no titles: {refusal.message}"


def tidy(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Titles without empty ones and repeated items, and cut to the limit."""
    if not frames:
        return pl.DataFrame(schema={"item": pl.String, "title": pl.String})
    titles = pl.concat(frames).with_columns(pl.col("title").str.strip_chars())
    titles = titles.drop_nulls().filter(pl.col("title") != "").unique("item", keep="first", maintain_order=True)
    long = titles["title"].str.len_bytes() > limits.MAX_TITLE_BYTES
    if long.any():
        # A character is at most four bytes, so this many characters are always within the limit.
        short = pl.col("title").str.slice(0, limits.MAX_TITLE_BYTES // 4)
        titles = titles.with_columns(title=pl.when(long).then(short).otherwise("title"))
    return titles
