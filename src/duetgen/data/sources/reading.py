"""From an input to a log: its kind, its files, its events, its titles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import polars as pl

from duetgen.data.errors import BadSettingError, InputIsFolderError, InputMissingError, UnknownSourceError
from duetgen.data.sources.detect import LOGS, check, detect, takes_columns
from duetgen.data.sources.duet_text.files import files_of
from duetgen.data.sources.duet_text.format import read_text_format
from duetgen.data.sources.events import EventTable
from duetgen.data.sources.files import beside, on_disk, parts_of
from duetgen.data.sources.header import listed
from duetgen.data.sources.kinds import KINDS
from duetgen.data.sources.log import Columns, Log, Reading
from duetgen.data.sources.raw import Raw, first_values
from duetgen.data.sources.source import Reader
from duetgen.data.sources.synthetic import Synthetic, SyntheticConfig, read_synthetic
from duetgen.data.sources.table import Table
from duetgen.data.sources.times import look_like_times, of_days
from duetgen.data.sources.titles import read_table
from duetgen.data.spool import Spool
from duetgen.errors import DuetError, did_you_mean

SOURCES: Final = ("auto", *KINDS)
"""Names for `duet prepare SOURCE INPUT`; `auto` tells the source from the file."""
DIVIDED: Final = tuple(
    re.compile(rf"(?:^|[/._-])(?:{words})(?:[/._-]|$)", re.IGNORECASE) for words in ("train|training", "test|testing")
)
"""How a part is called that is to be trained on, and one that is to be tested on."""


def read(
    path: Path | None,
    source: str = "auto",
    *,
    columns: Columns | None = None,
    reading: Reading | None = None,
    test_input: Path | None = None,
    synthetic: SyntheticConfig | None = None,
    spool: Spool | None = None,
    numbers: bool = True,
) -> Log:
    """Read an input.

    Args:
        path: the file, the folder of its parts or of the published files, an archive, or a path into one; None for
            `synthetic`.
        source: one of `SOURCES`.
        columns: which columns of a table are what; under `auto` they make it a table.
        reading: how it is read.
        test_input: the file of test events, for all but `duet-text`, where it is the test file, and `synthetic`.
        synthetic: size and seed of the simulated log.
        spool: takes the events of files; None: one that goes when the log does.
        numbers: whether a unit of time says that times are numbers; else it is for those that are.

    Raises:
        DuetError: any refusal of `duetgen.data.errors` on reading.
    """
    columns, reading = columns or Columns(), reading or Reading()
    if source not in SOURCES:
        hint = did_you_mean(source, SOURCES, f"choose one of {', '.join(SOURCES)}")
        if Path(source).exists():
            hint = "one log is read; of several files put those of one log into a folder, and name that"
        raise UnknownSourceError(f"there is no source {source!r}", hint)
    if source == Synthetic.name:
        if path is not None or test_input is not None:
            raise BadSettingError("the source synthetic reads no file", "leave the input out")
        _read_in_one_way(source, columns, reading)
        return read_synthetic(synthetic or SyntheticConfig())
    if path is None:
        raise InputMissingError(f"the source {source} needs an input", "name the log file")
    path = Path(path)
    if test_input is not None and test_input.resolve() == path.resolve():
        raise BadSettingError(f"{path} is both the log and its test events", "name the file of test events alone")
    told = columns != Columns() or reading.of_table
    kind = KINDS[source if source != "auto" else detect(path, columns=told)]
    if told and not takes_columns(kind):
        raise BadSettingError(
            f"{kind.name} has fixed columns", "leave the options for columns out, or name the source table"
        )
    if isinstance(kind, Reader):
        logs = LOGS if source == "auto" or isinstance(kind, Table) else kind.logs or LOGS
        return _read_files(path, test_input, kind, logs, columns, EventTable(reading, spool, numbers=numbers))
    _read_in_one_way(kind.name, columns, reading)
    for file in files_of(path, test_input):
        check(file, kind)
    return read_text_format(path, test_input)


def _read_in_one_way(source: str, columns: Columns, reading: Reading) -> None:
    """Refuse options that would do nothing.

    Raises:
        BadSettingError: one is given.
    """
    if columns != Columns() or reading != Reading():
        raise BadSettingError(
            f"the source {source} is read in one way",
            "leave the options for columns, times, titles and what is dropped out",
        )


def of_folders(path: Path, parts: list[Path]) -> str | None:
    """A line on columns that the names of folders tell, as in `date=2024-01-01/part-0.parquet`; None where none do."""
    folders = [folder for part in parts for folder in part.relative_to(path).parts[:-1] if "=" in folder]
    names = sorted({folder.partition("=")[0] for folder in folders})
    return f"columns that the names of folders tell are not read: {', '.join(names)}" if names else None


def _read_files(
    path: Path, test_path: Path | None, kind: Reader, logs: tuple[str, ...], columns: Columns, table: EventTable
) -> Log:
    """The event table of an input, or of one that came divided: the events of the second are the test."""
    reading = table.reading
    files: list[Path] = []
    item: str | None = None
    for part, given in enumerate((path, test_path)):
        if given is None:
            continue
        parts = parts_of(Path(given), logs)
        check_undivided(Path(given), parts)
        table.remark(of_folders(Path(given), parts))
        for file in parts:
            check(file, kind)
            number = None if test_path is None else 2 * part
            item = _read_file(file, kind, table, columns, reading, number) or item
            files += [file] if file not in files else []
    spool, notes = table.finish()
    titles = None if reading.titles else table.titles()
    if titles is None:
        titles, source_of_titles = _titles_of(path, files[0], kind, item, reading.titles, table)
        files += [source_of_titles] if source_of_titles is not None else []
    if titles is not None and len(titles) and not titles["item"].is_in(spool.ids("item").implode()).any():
        table.remark(
            f"{len(titles):,} titles were read, and none is of an item of the log: "
            f"they are of items such as {titles['item'][0]!r}, the log has {spool.ids('item')[0]!r}"
        )
    on_disks = list(dict.fromkeys(on_disk(file)[0] for file in files))
    return Log(kind.name, spool, titles, on_disks, notes, remarks=table.remarks)


def check_undivided(folder: Path, parts: Sequence[Path]) -> None:
    """Refuse a folder whose files say that they are a training and a test part: as one log they are not divided.

    Raises:
        InputIsFolderError: naming two of them.
    """
    names = [part.relative_to(folder) for part in parts if part != folder]
    train, test = (next((name for name in names if word.search(str(name))), None) for word in DIVIDED)
    if train is not None and test is not None:
        raise InputIsFolderError(
            f"{folder} came divided: it holds {train} and {test}, which would be read as one log",
            f"name both: `duet prepare {folder / train} --test-input {folder / test}`",
        )


def _read_file(
    file: Path, kind: Reader, table: EventTable, columns: Columns, reading: Reading, part: int | None
) -> str | None:
    """Read a file into the event table; gives what it calls its column of items."""
    raw: Raw | None = None
    broken, unfolded = 0, False
    for number, raw in enumerate(ahead(kind.read(file, columns, reading))):
        if not number and isinstance(kind, Table):
            _tell_unused(file, raw, table, columns, reading)
        table.add(raw.frame, file, raw.where, labels=raw.found.labels, part=part)
        broken += raw.broken
        unfolded |= raw.unfolded
    if unfolded:
        table.remark("lists give an event for each of their entries, in their order")
    if broken:
        table.remark(f"{broken:,} events have a line break inside quotes, in columns that are not used")
    return raw.found.labels["item"] if raw is not None and reading.header else None


def ahead(blocks: Iterator[Raw]) -> Iterator[Raw]:
    """The blocks of a file; while one is worked on, another thread reads the next."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = pool.submit(next, blocks, None)
            yield block


def _tell_unused(file: Path, raw: Raw, table: EventTable, columns: Columns, reading: Reading) -> None:
    unused = raw.found.unused
    if not unused:
        return
    table.remark(f"columns not used: {listed(unused)}")
    time = raw.found.roles.get("timestamp")
    if columns.timestamp is not None:
        return
    values = first_values(file, raw.found, header=reading.header, separator=reading.separator)
    if time is not None and not of_days(values[time]):
        return
    other = "makes it the time" if time is None else f"takes it for {raw.found.names[time]}, which has days alone"
    for name, some in zip(raw.found.names, values):
        if name not in unused or name in columns.ignore or (time is not None and of_days(some)):
            continue
        if look_like_times(some):
            table.remark(f"the column {name} reads as times: --time-column {name} {other}")


def _titles_of(
    path: Path, log: Path, kind: Reader, item: str | None, named: str | None, table: EventTable
) -> tuple[pl.DataFrame | None, Path | None]:
    """Titles and the file they are from: the one that is named, else one beside the log.

    A file that nobody named is a help and no condition: one that cannot be read, or names no titles, is left, and told.

    Raises:
        DuetError: the file that was named cannot be read.
    """
    if named is not None:
        return read_table(Path(named), item), Path(named)
    names = tuple(dict.fromkeys((*kind.titles_beside(log.name), *kind.titles_beside(path.name))))
    # Beside the parts of a folder, in the folder, and beside it.
    places = (log, path / log.name, path) if path.is_dir() else (log,)
    found = next((found for place in places if (found := beside(place, names)) is not None), None)
    if found is None:
        return None, None
    try:
        return kind.read_titles(found, item), found
    except DuetError as refusal:
        table.remark(f"{found.name} beside the log gives no titles: {refusal.message}")
        return None, None
