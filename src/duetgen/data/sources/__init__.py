"""Readers: each turns an input into one event table in file order, with what came beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from duetgen.data.errors import BadSettingError, InputMissingError, UnknownSourceError
from duetgen.data.log import Columns, Log, Note, Progress
from duetgen.data.sources.delimited import LAYOUTS, read_delimited
from duetgen.data.sources.detect import detect
from duetgen.data.sources.reviews import read_reviews
from duetgen.data.sources.table import read_table
from duetgen.data.synthetic import SyntheticConfig, read_synthetic

SOURCES: Final = (
    "auto",
    *LAYOUTS,
    "amazon-reviews",
    "table",
    "duet-text",
    "synthetic",
)
"""Names for `duet prepare SOURCE INPUT`; `auto` tells the source from the file."""

__all__ = ["SOURCES", "Columns", "Log", "Note", "Progress", "detect", "read"]


def read(
    path: Path | None,
    source: str = "auto",
    *,
    columns: Columns | None = None,
    test_input: Path | None = None,
    synthetic: SyntheticConfig | None = None,
) -> Log:
    """Read an input.

    Args:
        path: the file (for the text format perhaps its folder); None for `synthetic`.
        source: one of `SOURCES`.
        columns: names of a table's columns.
        test_input: the file of test events, for tables and the text format.
        synthetic: size and seed of the simulated log.

    Raises:
        DuetError: any refusal of `duetgen.data.errors` on reading.
    """
    if source not in SOURCES:
        raise UnknownSourceError(f"there is no source {source!r}", f"choose one of {', '.join(SOURCES)}")
    if source == "synthetic":
        if path is not None or test_input is not None:
            raise BadSettingError("the source synthetic reads no file", "leave the input out")
        return read_synthetic(synthetic or SyntheticConfig())
    if path is None:
        raise InputMissingError(f"the source {source} needs an input", "name the log file")
    path = Path(path)
    kind = detect(path) if source == "auto" else source
    if columns is not None and columns != Columns() and kind != "table":
        if source != "auto":
            raise BadSettingError(f"{kind} has fixed columns", "leave the column names out, or name the source table")
        kind = "table"
    if kind == "duet-text":
        from duetgen.data.text_format import read_text_format

        return read_text_format(path, test_input)
    if test_input is None:
        return _read_one(path, kind, columns)
    return _read_two(path, Path(test_input), kind, columns)


def _read_one(path: Path, kind: str, columns: Columns | None) -> Log:
    if kind in LAYOUTS:
        return read_delimited(path, kind)
    if kind == "amazon-reviews":
        return read_reviews(path)
    return read_table(path, columns)


def _read_two(path: Path, test_path: Path, kind: str, columns: Columns | None) -> Log:
    """A log that came divided: the events of the second file are the test."""
    import polars as pl

    train, test = _read_one(path, kind, columns), _read_one(test_path, kind, columns)
    if train.events.columns != test.events.columns:
        raise BadSettingError(
            f"{path.name} has {', '.join(train.events.columns)} and {test_path.name} {', '.join(test.events.columns)}",
            "the two files must have the same columns",
        )
    parts = [log.events.with_columns(part=pl.lit(part, pl.UInt8)) for log, part in ((train, 0), (test, 2))]
    files = train.files + [file for file in test.files if file not in train.files]
    return Log(kind, pl.concat(parts), train.titles, files, train.notes + test.notes)
