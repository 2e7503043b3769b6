"""Any table of events: CSV and its kin, JSON lines or Parquet; columns by name, given or usual, or by number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from duetgen.data.errors import MissingColumnError, SourceUndetectedError
from duetgen.data.sources.header import Found, find_columns, is_header, numbered_columns, or_no_header
from duetgen.data.sources.log import Columns, Reading
from duetgen.data.sources.raw import Raw, read_raw
from duetgen.data.sources.source import Head, Reader


class Table(Reader):
    """A table of one's own."""

    name = "table"
    about = "CSV, TSV and the like, JSON lines, Parquet, or a folder of such parts; columns by name, or by number"
    logs: ClassVar[tuple[str, ...]] = ("interactions.csv", "interactions.parquet")
    takes_columns = True

    def fits(self, head: Head) -> bool:
        """It has columns for the user and the item.

        Raises:
            SourceUndetectedError: it is one JSON array.
            MissingColumnError, AmbiguousColumnError: it has a header, and not these columns.
        """
        if head.form != "text":
            return True
        if head.first.startswith("[{") or head.first == "[":
            raise SourceUndetectedError(
                f"{head.path} is one JSON array", "write one object a line, for example `jq -c '.[]'`"
            )
        try:
            find_columns(head.names, head.path)
        except MissingColumnError as cause:
            if is_header(head.first):
                raise or_no_header(cause) from None
            return False
        return True

    def read(self, path: Path, columns: Columns, reading: Reading) -> Iterator[Raw]:
        """See `Reader`."""

        def find(names: list[str]) -> Found:
            if reading.header:
                return find_columns(names, path, columns)
            return numbered_columns(len(names), path, columns)

        return read_raw(path, find, header=reading.header, separator=reading.separator)
