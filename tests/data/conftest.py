"""Tiny logs, written by hand."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from duetgen.data.sequences import Sequences, order
from duetgen.data.spool import Spool

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(name, content)`: a file with this content; gzipped if the name ends in .gz."""

    def to(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return path

    return to


def ordered(table: pl.DataFrame) -> Sequences:
    """The sequences of an event table; codes of users and items are by first appearance."""
    spool = Spool.of(table)
    return order(spool.events.with_row_index("row").collect())
