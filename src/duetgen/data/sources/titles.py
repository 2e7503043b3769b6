"""Titles of items, read from a table or a file of a known layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from duetgen.data.errors import MissingColumnError, WrongEncodingError
from duetgen.data.sources.header import SYNONYMS, Found, listed, plain
from duetgen.data.sources.ids import CONTROL, canonical, is_missing, text_of
from duetgen.data.sources.lines import blocks, fields, ragged_row
from duetgen.data.sources.raw import read_raw
from duetgen.wire import limits


def read_layout(path: Path, separator: str, encodings: tuple[str, ...], *, header: bool = False) -> pl.DataFrame:
    """Titles by item of a file of a known layout, the first column the item and the second the title.

    Args:
        path: of the file.
        separator: between fields, which are not quoted.
        encodings: the first that the file is valid in.
        header: whether the first line names the columns.

    Raises:
        DuetError: any refusal of reading a text file.
    """
    frames: list[pl.DataFrame] = []
    width = 0
    try:
        for block in blocks(path, encoding=encodings[0]):
            if not width:
                first = next((i for i, line in enumerate(block.lines) if line.strip()), None)
                if first is None:
                    continue
                width = block.lines[first].count(separator) + 1
                if width < 2:
                    raise ragged_row(path, block.line + first, width, 2)
                block = block.skip(first + 1) if header else block
            frame = fields(block, separator, width)
            frames.append(frame.select(item="0", title="1"))
    except WrongEncodingError:
        if len(encodings) == 1:
            raise
        return read_layout(path, separator, encodings[1:], header=header)
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
        raw.frame.select(canonical(text_of(raw.frame["item"])).alias("item"), text_of(raw.frame["title"]))
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


def tidy(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Titles in one line and cut to the limit, without missing ones and repeated items."""
    if not frames:
        return pl.DataFrame(schema={"item": pl.String, "title": pl.String})
    line = pl.col("title").str.replace_all(f"{CONTROL}+", " ").str.strip_chars()
    titles = pl.concat(frames).with_columns(title=line).filter(pl.col("item").is_not_null(), ~is_missing(line))
    titles = titles.unique("item", keep="first", maintain_order=True)
    long = titles["title"].str.len_bytes() > limits.MAX_TITLE_BYTES
    if long.any():
        # A character is at most four bytes, so this many characters are always within the limit.
        short = pl.col("title").str.slice(0, limits.MAX_TITLE_BYTES // 4)
        titles = titles.with_columns(title=pl.when(long).then(short).otherwise("title"))
    return titles
