"""Writing the arrays of a dataset folder; `store` describes them.

Shapes: E events, U devices, I raw items, V item indices with padding and unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from duetgen.data.errors import NoTargetsError
from duetgen.data.filters import Core, Indexed, Vocabulary
from duetgen.data.places import offsets_of
from duetgen.data.sequences import Sequences
from duetgen.data.sources.duet_text.placing import place_given, place_rows
from duetgen.data.sources.duet_text.rows import TextRows
from duetgen.data.store import FIRST_ITEM, PARTS, Step, find_targets


def write_sequences(
    folder: Path, divided: Iterable[Sequences], core: Core, vocabulary: Vocabulary, users: pl.Series, items: pl.Series
) -> Indexed:
    """Write the sequences of the users that stay, partition after partition.

    Args:
        folder: of the dataset.
        divided: sequences with their bounds.
        core: which users stay.
        vocabulary: index of each raw item.
        users: ids by code.
        items: ids by code.
    """
    codes, lengths, bounds = [], [], []
    met_I = np.zeros(len(vocabulary.index_I), dtype=bool)
    with ExitStack() as stack:
        events, times = (
            stack.enter_context(GrowingArray(folder / f"sequences/{name}.npy", dtype))
            for name, dtype in (("events", np.int32), ("timestamps", np.int64))
        )
        for stays_U, sequences in zip(core.stays, divided):
            kept = sequences.keep(stays_U)
            events.append(vocabulary.index_I[kept.item_E])
            if kept.time_E is not None:
                times.append(kept.time_E)
            met_I[kept.item_E] = True
            codes.append(kept.users)
            lengths.append(kept.lengths)
            bounds.append(np.asarray(kept.bounds))
    if not times.size:
        times.path.unlink()
    offsets = offsets_of(np.concatenate(lengths))
    _save(folder, "sequences/offsets", offsets)
    _save(folder, "sequences/bounds", np.concatenate(bounds))
    return Indexed(
        users=users.gather(np.concatenate(codes)),
        items=items.gather(vocabulary.items),
        counts=vocabulary.counts,
        events=np.load(events.path, mmap_mode="r"),
        offsets=offsets,
        bounds=np.concatenate(bounds),
        timestamps=np.load(times.path, mmap_mode="r") if times.size else None,
        met_I=met_I,
    )


class GrowingArray:
    """An array of one dimension in a file of NumPy's format, written a piece at a time."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self.path, self.dtype, self.size = path, np.dtype(dtype), 0
        path.parent.mkdir(exist_ok=True)

    def __enter__(self) -> GrowingArray:
        self._file = self.path.open("wb")
        self._write_header()
        return self

    def _write_header(self) -> None:
        # The header has the same length for every size: NumPy leaves room for a shape that grows.
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": self.dtype.str, "fortran_order": False, "shape": (self.size,)}
        )

    def append(self, piece: np.ndarray[Any, np.dtype[Any]]) -> None:
        """Add a piece at the end."""
        piece = np.ascontiguousarray(piece, dtype=self.dtype)
        self._file.write(piece.data)
        self.size += len(piece)

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()


def write_tables(folder: Path, indexed: Indexed, titles: pl.DataFrame) -> None:
    """Write the ids: `items.parquet` and `devices.parquet`.

    Args:
        folder: of the dataset.
        indexed: its arrays.
        titles: `item`, `title`, each item once.

    Raises:
        NoTargetsError: a part has nothing to learn or to predict.
    """
    if not (indexed.bounds[:, 0] >= 2).any():
        raise NoTargetsError(
            "the training part has no device with two events, so nothing can be learnt",
            "use more data or a lower filter",
        )
    for part in PARTS:
        if not len(find_targets(indexed.offsets, indexed.bounds, part)):
            raise NoTargetsError(
                f"the {'validation' if part == 'valid' else part} part has no event with another before it",
                "use more data, other shares, or --split leave-one-out",
            )
    index = np.arange(FIRST_ITEM, FIRST_ITEM + len(indexed.items), dtype=np.int32)
    items = pl.DataFrame({"index": index, "item": indexed.items, "count": indexed.counts})
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
