"""Telling the source from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from duetgen.data.errors import (
    InputIsFolderError,
    MissingColumnError,
    SourceUndetectedError,
    WrongSourceError,
)
from duetgen.data.sources.amazon import Ratings, Ratings2014, Ratings2018, is_rating_line, which
from duetgen.data.sources.duet_text.files import FIELDS
from duetgen.data.sources.duet_text.format import DuetText
from duetgen.data.sources.files import parts_of
from duetgen.data.sources.header import separator_of, split_line
from duetgen.data.sources.kinds import KINDS
from duetgen.data.sources.lines import BLANKS, sample
from duetgen.data.sources.raw import form_of
from duetgen.data.sources.sequences import Sequences
from duetgen.data.sources.source import Head, Reader, Source
from duetgen.data.sources.table import Table
from duetgen.data.sources.times import look_like_times
from duetgen.errors import DuetError

MOST_FIELDS: Final = 50
NAME_THEM: Final = "name the source, or the --separator of a table; `duet prepare --help` lists them"


LOGS: Final = tuple(pattern for source in KINDS.values() if isinstance(source, Reader) for pattern in source.logs)
"""Patterns of the names that logs have where they are published."""


def text_folder(path: Path) -> bool:
    """Whether a folder holds the two files of the text format."""
    return path.is_dir() and all(
        any((path / f"{name}.txt{end}").is_file() for end in ("", ".gz")) for name in ("train", "test")
    )


def detect(path: Path, *, columns: bool = False) -> str:
    """The kind of source that a file, a folder or an archive is.

    Args:
        path: of the input.
        columns: whether it is said which columns are what: then it is one of those that take that.

    Raises:
        SourceUndetectedError: it is like none; the hint says how a log without a header is read.
        SourceAmbiguousError: a headerless ratings file whose user and item columns cannot be told apart.
        DuetError: the file cannot be read, or is a table whose columns are not known: what its reader would say.
    """
    if text_folder(path):
        return DuetText.name
    parts = parts_of(path, LOGS)
    if len(parts) > 1 and not columns:
        return _of_parts(path, parts)
    head = Head.of(parts[0])
    for source in KINDS.values():
        if columns and (not takes_columns(source) or isinstance(source, Table)):
            continue
        if source.tells(head):
            return source.name
    if columns:
        return Table.name
    if is_rating_line(head.first):
        return which(parts[0], head.lines)
    raise undetected(head)


def takes_columns(source: Source) -> bool:
    """Whether it can be said which columns of such a log are what."""
    return isinstance(source, Reader) and source.takes_columns


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


def undetected(head: Head) -> SourceUndetectedError:
    """The refusal of a file without a header, or of no log at all."""
    first = head.first
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
        if len(ids) > 2 and separator_of(first) == BLANKS and KINDS[Sequences.name].fits(head):
            hint += f"; if it is a user with its items, name the source {Sequences.name}"
    return SourceUndetectedError(f"{head.path} is in no format known here; it begins {shown!r}", hint)


def check(path: Path, source: Source) -> None:
    """Refuse a file whose beginning is not that of the source named; a table is refused by its reader.

    Raises:
        WrongSourceError: with what it looks like.
    """
    if isinstance(source, Table):
        return
    head = Head.of(path)
    # A row of the text format with a wrong label is told by its reader.
    if source.fits(head) or (isinstance(source, DuetText) and head.first.count(";") == FIELDS - 1):
        return
    if isinstance(source, Ratings) and is_rating_line(head.first):
        other = Ratings2014 if source.item_first else Ratings2018
        raise WrongSourceError(
            f"{path} is not {source.name}: product ids (ASINs) are where that format has users",
            f"name {other.name} instead",
        )
    hint = NAME_THEM
    try:
        found = detect(path)
        if found != source.name:
            hint = f"it looks like {found}: name that, or auto"
    except DuetError:
        pass
    raise WrongSourceError(f"{path} is not in the format {source.name}", hint)
