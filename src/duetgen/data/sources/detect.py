"""Telling the source from the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import polars as pl

from duetgen.data.errors import (
    AmbiguousColumnError,
    InputIsFolderError,
    MissingColumnError,
    SourceAmbiguousError,
    SourceUndetectedError,
    WrongSourceError,
)
from duetgen.data.sources.delimited import LAYOUTS, fits
from duetgen.data.sources.duet_text.files import FIELDS
from duetgen.data.sources.files import parts_of
from duetgen.data.sources.header import find_columns, header_of, is_header, is_number, separator_of, split_line
from duetgen.data.sources.lines import blocks, fields, sample, stray_quotes
from duetgen.data.sources.raw import form_of
from duetgen.data.sources.times import look_like_times, parse_iso
from duetgen.errors import DuetError

ASIN: Final = re.compile(r"(B0[0-9A-Z]{8}|[0-9]{9}[0-9X])\Z")
TEXT_ROW: Final = re.compile(r"[^;]+;[^;,]+;[^;]*;[^;]*;\s*[01](\.0*)?\s*\Z")
MOST: Final = 0.9
MOST_FIELDS: Final = 50
MOST_STARS: Final = 10
NAME_THEM: Final = "name the source, or the --separator of a table; `duet prepare --help` lists them"


def text_folder(path: Path) -> bool:
    """Whether a folder holds the two files of the text format."""
    return path.is_dir() and all(
        any((path / f"{name}.txt{end}").is_file() for end in ("", ".gz")) for name in ("train", "test")
    )


def detect(path: Path) -> str:
    """The kind of source that a file, or a folder of parts, is.

    Raises:
        SourceUndetectedError: it is like none; the hint says how a log without a header is read.
        SourceAmbiguousError: a headerless ratings file whose user and item columns cannot be told apart.
        DuetError: the file cannot be read, or is a table whose columns are not known: what its reader would say.
    """
    if text_folder(path):
        return "duet-text"
    parts = parts_of(path)
    if len(parts) > 1:
        return _of_parts(path, parts)
    path = parts[0]
    form = form_of(path)
    if form == "parquet":
        return "table"
    lines = sample(path)
    first = lines[0].strip()
    if form == "json":
        return "amazon-reviews" if '"reviewerID"' in first and '"asin"' in first else "table"
    if TEXT_ROW.match(first):
        return "duet-text"
    if first.startswith("[{") or first == "[":
        raise SourceUndetectedError(f"{path} is one JSON array", "write one object a line, for example `jq -c '.[]'`")
    for kind in ("movielens-csv", "movielens-1m"):
        if fits(LAYOUTS[kind], lines):
            return kind
    try:
        find_columns(header_of(first)[1], path)
    except AmbiguousColumnError:  # Names that are known twice are names.
        raise
    except DuetError:
        if is_header(first):
            raise
    else:
        return "table"
    if fits(LAYOUTS["movielens-100k"], lines):
        return "movielens-100k"
    if is_rating_line(first.split(",")):
        return amazon_kind(path, lines)
    raise undetected(path, first)


def _of_parts(folder: Path, parts: list[Path]) -> str:
    """The kind of a folder's first part; that the others are like it shows when they are read.

    Raises:
        InputIsFolderError: the first part is no log, and another one is unlike it.
        DuetError: see `detect`.
    """
    try:
        return detect(parts[0])
    except MissingColumnError:
        first = sample(parts[0])[0]
        other = next((part for part in parts[1:] if form_of(part) == "text" and sample(part)[0] != first), None)
        if other is None:
            raise
        raise InputIsFolderError(
            f"{folder} holds files with different columns: {parts[0].name}, {other.name}", "name the log file inside it"
        ) from None


def is_rating_line(values: list[str]) -> bool:
    """Whether the fields of a line are two ids, a rating of some stars, and a time."""
    if len(values) != 4 or not is_number(values[2]) or not is_number(values[3]):
        return False
    dated = any(parse_iso(value) is not None and not value.isdigit() for value in values[:2])
    return 0 <= float(values[2]) <= MOST_STARS and not dated


def undetected(path: Path, first: str) -> SourceUndetectedError:
    """The refusal of a file without a header, or of no log at all."""
    shown = first if len(first) <= 60 else first[:57] + "…"
    fields_ = split_line(first, separator_of(first))
    hint = NAME_THEM
    times = [i for i, field in enumerate(fields_, 1) if look_like_times([field.strip()])]
    ids = [i for i in range(1, len(fields_) + 1) if i not in times[-1:]]
    if 2 <= len(ids) <= MOST_FIELDS:
        time = times[-1] if times else "N where there is time" if len(fields_) > 2 else None
        hint = (
            f"if each line is an event, say which columns are which: --no-header --user-column {ids[0]} "
            f"--item-column {ids[1]}" + ("" if time is None else f" --time-column {time}")
        )
    return SourceUndetectedError(f"{path} is in no format known here; it begins {shown!r}", hint)


def _asin_share(lines: list[str], column: int) -> float:
    values = [parts[column] for line in lines if len(parts := line.split(",")) == 4]
    return sum(bool(ASIN.match(value)) for value in values) / max(len(values), 1)


def swapped(lines: list[str], *, item_first: bool) -> bool:
    """Whether product ids are clearly where this layout has users."""
    first, second = _asin_share(lines, 0), _asin_share(lines, 1)
    users, items = (second, first) if item_first else (first, second)
    return users >= MOST and items <= 1 - MOST


def amazon_kind(path: Path, lines: list[str]) -> str:
    """Which of the two headerless Amazon layouts, by the column of product ids (ASINs).

    Raises:
        SourceAmbiguousError: they are in neither column alone: a guess would swap people and items.
    """
    if swapped(lines, item_first=False):
        return "amazon-2018-csv"
    if swapped(lines, item_first=True):
        return "amazon-2014-csv"
    for block in blocks(path, quoted=True):
        broken = fields(block, ",", 4, quoted=True).filter(
            pl.any_horizontal(pl.exclude("line").str.contains("\n", literal=True))
        )
        if len(broken):
            raise stray_quotes(path, broken["line"][0])
    raise SourceAmbiguousError(
        f"{path} has no header, and nothing tells which of its first two columns is the user",
        "say it: --no-header --user-column 1 --item-column 2 --time-column 4, or the other way round; of Amazon's "
        "ratings name amazon-2014-csv (user first) or amazon-2018-csv (item first)",
    )


def check(path: Path, kind: str) -> None:
    """Refuse a file whose first lines are not of the kind named; a table is refused by its reader.

    Raises:
        WrongSourceError: with what it looks like.
    """
    if kind == "amazon-reviews" and form_of(path) != "json":
        raise why_not(path, kind)
    if kind == "duet-text" and sample(path)[0].count(";") != FIELDS - 1:
        raise why_not(path, kind)
    if kind not in LAYOUTS:
        return
    layout, lines = LAYOUTS[kind], sample(path)
    if not fits(layout, lines):
        raise why_not(path, kind)
    if kind.startswith("amazon-") and swapped(lines, item_first=layout.columns[0] == "item"):
        other = "amazon-2014-csv" if kind == "amazon-2018-csv" else "amazon-2018-csv"
        raise WrongSourceError(
            f"{path} is not {kind}: product ids (ASINs) are where that format has users", f"name {other} instead"
        )


def why_not(path: Path, kind: str) -> WrongSourceError:
    """The refusal of a file that is not of the kind named, with what it looks like."""
    hint = NAME_THEM
    try:
        found = detect(path)
        if found != kind:
            hint = f"it looks like {found}: name that, or auto"
    except DuetError:
        pass
    return WrongSourceError(f"{path} is not in the format {kind}", hint)
