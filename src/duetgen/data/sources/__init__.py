"""Readers: each turns an input into one event table in file order, with what came beside it.

Where to find what: `kinds` is the table of all sources, `source` says what one is, and each has a file of its own that
tells it (`fits`) and reads it (`read`). `detect` tells the kind of a file, and `reading` brings all of it together.
`files`, `archive`, `packing` and `lines` read bytes and lines; `raw` reads any table as raw columns, `objects` and
`parquet` those of their form; `header` says which column is what; `ids` decides what an id is and `times`, with
`dates`, what a time is; `events` makes the event table of raw columns; `titles` reads the titles of items.
"""

from __future__ import annotations

from duetgen.data.sources.detect import detect
from duetgen.data.sources.log import Columns, Log, Note, Progress, Reading
from duetgen.data.sources.reading import SOURCES, read

__all__ = ["SOURCES", "Columns", "Log", "Note", "Progress", "Reading", "detect", "read"]
