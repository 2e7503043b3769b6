"""Logs in, sequences out: sources, splits, filters, candidates, the leakage check, and the dataset folder.

`duetgen.data.prepare.prepare` makes a dataset folder of a log, `Dataset` opens one. Opening needs numpy and msgspec
only; polars is imported when something is prepared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duetgen.data.store import Dataset, Manifest, NotADatasetError, Rows, Targets, Version
from duetgen.errors import MissingExtraError
from duetgen.late import late

if TYPE_CHECKING:
    from duetgen.data.leakage import check
    from duetgen.data.prepare import PrepareConfig
    from duetgen.data.sources import SOURCES, Columns, Reading, detect
    from duetgen.data.sources.synthetic import SyntheticConfig

__all__ = [
    "SOURCES",
    "Columns",
    "Dataset",
    "Manifest",
    "NotADatasetError",
    "PrepareConfig",
    "Reading",
    "Rows",
    "SyntheticConfig",
    "Targets",
    "Version",
    "check",
    "detect",
]

_late = late(
    __name__,
    {
        "SOURCES": "sources",
        "Columns": "sources",
        "PrepareConfig": "prepare",
        "Reading": "sources",
        "SyntheticConfig": "sources.synthetic",
        "check": "leakage",
        "detect": "sources",
    },
)


def __getattr__(name: str) -> Any:
    try:
        return _late(name)
    except ModuleNotFoundError as cause:
        if cause.name != "polars":
            raise
        raise MissingExtraError("preparing logs needs polars", "install duetgen[train]") from cause
