"""What a source of logs is: a name, what tells its files, how they are read, and on what terms they are published."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import polars as pl

from duetgen.data.errors import BadJsonLineError
from duetgen.data.sources.files import TITLE_TABLES
from duetgen.data.sources.header import Found, find_columns, header_of, is_number
from duetgen.data.sources.lines import blocks, fields, sample
from duetgen.data.sources.log import Columns, Reading
from duetgen.data.sources.objects import names_of_object
from duetgen.data.sources.packing import bare
from duetgen.data.sources.raw import Form, Raw, form_of, read_raw
from duetgen.data.sources.titles import read_table

TABLE_COLUMNS: Final = ("user", "item", "rating", "timestamp")


@dataclass(frozen=True)
class Head:
    """The beginning of a log, by which its kind is told; `lines` is empty where it is Parquet."""

    path: Path
    form: Form
    lines: list[str]

    @classmethod
    def of(cls, path: Path) -> Head:
        """That of a file.

        Raises:
            DuetError: any refusal of reading a file.
        """
        form = form_of(path)
        return cls(path, form, [] if form == "parquet" else sample(path))

    @cached_property
    def first(self) -> str:
        """The first line that is not blank."""
        return self.lines[0].strip() if self.lines else ""

    @cached_property
    def names(self) -> list[str]:
        """What the first line calls its columns or fields."""
        if self.form == "text":
            return header_of(self.first)[1]
        try:
            return [] if self.form == "parquet" else names_of_object(self.first, self.form)
        except BadJsonLineError:
            return []


class Source(ABC):
    """A kind of log.

    Attributes:
        name: for `duet prepare SOURCE INPUT`.
        about: what its file is, for the help.
        licence: on what terms it is published, in a few words.
        citation: what to cite.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""

    @abstractmethod
    def fits(self, head: Head) -> bool:
        """Whether a log that begins so is of this kind.

        A file whose first line fits and whose others do not is a file of this kind with a mistake in it.
        """

    def tells(self, head: Head) -> bool:
        """Whether it is told to be of this kind where nobody names one."""
        return self.fits(head)


class Reader(Source):
    """A kind of log that is read as raw columns.

    Attributes:
        logs: patterns of the names that its log has where it is published, without endings of packing.
        takes_columns: whether it can be said which columns are what.
    """

    logs: ClassVar[tuple[str, ...]] = ()
    takes_columns: ClassVar[bool] = False

    @abstractmethod
    def read(self, path: Path, columns: Columns, reading: Reading) -> Iterator[Raw]:
        """The raw columns of a log, block by block.

        Raises:
            DuetError: any refusal of reading, naming the line.
        """

    def titles_beside(self, log: str) -> tuple[str, ...]:
        """Names that the file of titles beside a log of this name may have, without endings of packing."""
        return (*TITLE_TABLES, f"{bare(log).rsplit('.', 1)[0]}.item")

    def read_titles(self, path: Path, item: str | None) -> pl.DataFrame:
        """Titles by item of that file: columns `item`, `title`.

        Args:
            path: of the file.
            item: what the log calls its column of items.

        Raises:
            DuetError: any refusal of reading.
        """
        return read_table(path, item)


class Lines(Reader):
    """Logs of one event a line, without a header, with a fixed separator."""

    separator: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = TABLE_COLUMNS
    """What the fields of a line are, in order; an empty name is one that nobody needs."""

    def fits(self, head: Head) -> bool:
        """As many fields as there are columns, with numbers for rating or time."""
        values = head.first.split(self.separator)
        return head.form == "text" and len(values) == len(self.columns) and any(map(is_number, values[-2:]))

    def read(self, path: Path, columns: Columns, reading: Reading) -> Iterator[Raw]:
        """See `Reader`."""
        found = Found(list(self.columns), {name: i for i, name in enumerate(self.columns) if name})
        quoted = self.separator == ","
        for block in blocks(path, quoted=quoted):
            frame = fields(block, self.separator, len(self.columns), quoted=quoted)
            yield Raw(frame.select("line", **{role: pl.col(str(i)) for role, i in found.roles.items()}), "line", found)


class Named(Reader):
    """Logs whose columns, or fields of objects, have the names that the publisher gave them."""

    form: ClassVar[Form] = "text"
    columns: ClassVar[Columns]
    separator: ClassVar[str | None] = None
    """Between the fields of a line; None: told from the header."""

    def fits(self, head: Head) -> bool:
        """It has every column that is read."""
        wanted = {name for name in (getattr(self.columns, role) for role in (*TABLE_COLUMNS, "behaviour")) if name}
        return head.form == self.form and wanted <= set(head.names)

    def read(self, path: Path, columns: Columns, reading: Reading) -> Iterator[Raw]:
        """See `Reader`."""

        def find(names: list[str]) -> Found:
            found = find_columns(names, path, self.columns)
            wanted = {"user", "item", *(role for role in found.roles if getattr(self.columns, role))}
            known = {role: i for role, i in found.roles.items() if role in wanted}
            return Found(found.names, known)

        return read_raw(path, find, separator=self.separator)
