"""Readers: each turns an input into one event table in file order, with what came beside it.

Where to find what: `detect` tells the kind of a file; `files`, `archive` and `lines` read bytes and lines; `raw` reads
any table as raw columns; `header` says which column is what; `ids` decides what an id is and `times` what a time is;
`events` makes the event table of raw columns; `titles` finds the titles of items. `delimited` and `table` are sources.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from duetgen.data.errors import BadSettingError, InputMissingError, UnknownSourceError
from duetgen.data.sources.delimited import LAYOUTS, read_delimited
from duetgen.data.sources.detect import check, detect
from duetgen.data.sources.duet_text.files import files_of
from duetgen.data.sources.duet_text.format import read_text_format
from duetgen.data.sources.events import EventTable
from duetgen.data.sources.files import parts_of
from duetgen.data.sources.log import Columns, Log, Note, Progress, Reading
from duetgen.data.sources.synthetic import SyntheticConfig, read_synthetic
from duetgen.data.sources.table import REVIEW, read_table
from duetgen.data.sources.titles import titles_of
from duetgen.errors import did_you_mean

SOURCES: Final = (
    "auto",
    *LAYOUTS,
    "amazon-reviews",
    "table",
    "duet-text",
    "synthetic",
)
"""Names for `duet prepare SOURCE INPUT`; `auto` tells the source from the file."""

__all__ = ["SOURCES", "Columns", "Log", "Note", "Progress", "Reading", "detect", "read"]


def read(
    path: Path | None,
    source: str = "auto",
    *,
    columns: Columns | None = None,
    reading: Reading | None = None,
    test_input: Path | None = None,
    synthetic: SyntheticConfig | None = None,
) -> Log:
    """Read an input.

    Args:
        path: the file, or the folder of its parts (for the text format perhaps its folder); None for `synthetic`.
        source: one of `SOURCES`.
        columns: which columns of a table are what; under `auto` they make it a table.
        reading: how it is read.
        test_input: the file of test events, for tables and the text format.
        synthetic: size and seed of the simulated log.

    Raises:
        DuetError: any refusal of `duetgen.data.errors` on reading.
    """
    columns, reading = columns or Columns(), reading or Reading()
    if source not in SOURCES:
        hint = did_you_mean(source, SOURCES, f"choose one of {', '.join(SOURCES)}")
        raise UnknownSourceError(f"there is no source {source!r}", hint)
    if source == "synthetic":
        if path is not None or test_input is not None:
            raise BadSettingError("the source synthetic reads no file", "leave the input out")
        return read_synthetic(synthetic or SyntheticConfig())
    if path is None:
        raise InputMissingError(f"the source {source} needs an input", "name the log file")
    path = Path(path)
    told = columns != Columns() or reading.of_table
    kind = source if source != "auto" else "table" if told else detect(path)
    if told and kind != "table":
        raise BadSettingError(
            f"{kind} has fixed columns", "leave the options for columns out, or name the source table"
        )
    if kind == "duet-text":
        for file in files_of(path, test_input):
            check(file, kind)
        return read_text_format(path, test_input)
    return _read_files(path, test_input, kind, columns, reading)


def _read_files(path: Path, test_path: Path | None, kind: str, columns: Columns, reading: Reading) -> Log:
    """The event table of an input, or of one that came divided: the events of the second are the test."""
    table = EventTable(reading)
    files: list[Path] = []
    item: str | None = None
    for part, given in enumerate((path, test_path)):
        if given is None:
            continue
        for file in parts_of(Path(given)):
            number = None if test_path is None else 2 * part
            check(file, kind)
            if kind in LAYOUTS:
                read_delimited(file, kind, table, number)
            elif kind == "amazon-reviews":
                read_table(file, table, REVIEW, Reading(), number)
            else:
                item = read_table(file, table, columns, reading, number) or item
            files += [file] if file not in files else []
    events, notes = table.finish()
    titles = None if reading.titles else table.titles()
    if titles is None:
        layout = LAYOUTS[kind].titles if kind in LAYOUTS else None
        titles, beside, remark = titles_of(path, layout, item, reading.titles)
        files += [beside] if beside is not None else []
        table.remark(remark)
    if titles is not None and len(titles) and not titles["item"].is_in(events["item"].unique().implode()).any():
        table.remark(
            f"{len(titles):,} titles were read, and none is of an item of the log: "
            f"they are of items such as {titles['item'][0]!r}, the log has {events['item'][0]!r}"
        )
    return Log(kind, events, titles, files, notes, remarks=table.remarks)
