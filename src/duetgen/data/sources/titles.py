"""Titles of items, from the file that a data set has beside its log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from duetgen.data.sources.text import blocks, fields, ragged_row
from duetgen.wire import limits


@dataclass(frozen=True)
class Titles:
    """A file of titles: its name, layout and encoding; the first column is the item, the second the title."""

    name: str
    separator: str
    encoding: str
    header: bool = False

    def beside(self, log: Path) -> Path | None:
        """The file, plain or gzip, in the folder of the log, or None."""
        for name in (self.name, f"{self.name}.gz"):
            path = log.parent / name
            if path.is_file() and path.stat().st_size:
                return path
        return None


def read_titles(path: Path, layout: Titles) -> pl.DataFrame:
    """Titles by item: columns `item`, `title`; empty titles are left out, of repeated items the first counts.

    Raises:
        DuetError: any refusal of reading a text file.
    """
    frames: list[pl.DataFrame] = []
    columns = ("0", "1")
    width = 0
    quoted = layout.separator == ","
    for block in blocks(path, encoding=layout.encoding, quoted=quoted):
        if not width:
            first = next((i for i, line in enumerate(block.lines) if line.strip()), None)
            if first is None:
                continue
            names = [name.strip().strip('"').lower() for name in block.lines[first].split(layout.separator)]
            width = len(names)
            if layout.header:
                block = block.skip(first + 1)
                if "title" in names and names[0] != "title":
                    columns = ("0", str(names.index("title")))
            if width < 2:
                raise ragged_row(path, block.line + first, width, 2)
        frame = fields(block, layout.separator, width, quoted=quoted)
        frames.append(frame.select(item=columns[0], title=pl.col(columns[1]).str.strip_chars()))
    if not frames:
        return pl.DataFrame(schema={"item": pl.String, "title": pl.String})
    return tidy(pl.concat(frames))


def tidy(titles: pl.DataFrame) -> pl.DataFrame:
    """Without empty titles and repeated items, and long titles cut to the limit."""
    titles = titles.drop_nulls().filter(pl.col("title") != "").unique("item", keep="first", maintain_order=True)
    long = titles["title"].str.len_bytes() > limits.MAX_TITLE_BYTES
    if long.any():
        # A character is at most four bytes, so this many characters are always within the limit.
        short = pl.col("title").str.slice(0, limits.MAX_TITLE_BYTES // 4)
        titles = titles.with_columns(title=pl.when(long).then(short).otherwise("title"))
    return titles
