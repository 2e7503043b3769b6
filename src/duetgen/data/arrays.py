"""Writing the arrays of a dataset folder; `store` describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from duetgen.data import candidates
from duetgen.data.errors import NoTargetsError
from duetgen.data.filters import Indexed
from duetgen.data.sources.duet_text.placing import place_given, place_rows
from duetgen.data.sources.duet_text.rows import TextRows
from duetgen.data.sources.log import Log
from duetgen.data.store import FIRST_ITEM, Part, Step, find_targets

PARTS: tuple[Part, ...] = ("valid", "test")


def write_arrays(folder: Path, indexed: Indexed, log: Log, seed: int) -> None:
    """Write sequences, candidates, items and devices.

    Raises:
        NoTargetsError: a part has nothing to learn or to predict.
    """
    if not (indexed.bounds[:, 0] >= 2).any():
        raise NoTargetsError(
            "the training part has no device with two events, so nothing can be learnt",
            "use more data or a lower filter",
        )
    _save(folder, "sequences/events", indexed.events)
    _save(folder, "sequences/offsets", indexed.offsets)
    _save(folder, "sequences/bounds", indexed.bounds)
    if indexed.timestamps is not None:
        _save(folder, "sequences/timestamps", indexed.timestamps)
    vocabulary = FIRST_ITEM + len(indexed.items)
    for number, part in enumerate(PARTS):
        targets = find_targets(indexed.offsets, indexed.bounds, part)
        if not len(targets):
            raise NoTargetsError(
                f"the {'validation' if part == 'valid' else part} part has no event with another before it",
                "use more data, other shares, or --split leave-one-out",
            )
        rng = np.random.default_rng([seed, number])
        _save(folder, f"candidates/{part}", candidates.draw(indexed.events, indexed.offsets, targets, vocabulary, rng))
    items = pl.DataFrame(
        {"index": np.arange(FIRST_ITEM, vocabulary, dtype=np.int32), "item": indexed.items, "count": indexed.counts}
    )
    titles = log.titles if log.titles is not None else pl.DataFrame(schema={"item": pl.String, "title": pl.String})
    items = items.join(titles, on="item", how="left", maintain_order="left").select("index", "item", "title", "count")
    items.write_parquet(folder / "items.parquet")
    devices = pl.DataFrame({"index": np.arange(len(indexed.users), dtype=np.int32), "user": indexed.users})
    devices.write_parquet(folder / "devices.parquet")


def write_rows(folder: Path, indexed: Indexed, rows: TextRows) -> Step:
    """Write the rows of the text format and the candidates that came with the test events."""
    _save(folder, "given/test", place_given(rows, indexed))
    placed, dropped = place_rows(rows, indexed)
    for name in ("device", "window", "trigger", "target", "label"):
        array = next(getattr(placed, f"{name}_{end}") for end in ("R", "RL") if hasattr(placed, f"{name}_{end}"))
        _save(folder, f"rows/{name}", array)
    return Step(
        name="training rows",
        reason="rows (not events) at or after the validation event of their user, or with a window that is nowhere in "
        "its sequence, are no training rows",
        events_in=len(rows.label_R),
        events_out=len(rows.label_R) - dropped,
        users_in=len(np.unique(rows.user_R)),
        users_out=len(np.unique(placed.device_R)),
        items_in=len(np.unique(rows.target_R)),
        items_out=len(np.unique(placed.target_R)),
    )


def _save(folder: Path, name: str, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    path = folder / f"{name}.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)
