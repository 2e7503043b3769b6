"""The events that stand in a dataset folder, user by user: taken where they lie, for some users at once.

Shapes: E events, U users taken, S users that stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duetgen.data.places import mapped, offsets_of, places_of
from duetgen.data.sequences import Sequences
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Int32, Int64


@dataclass(frozen=True)
class Runs:
    """Every user that stands has a run of events; those of the devices come first, then of who is left out.

    Attributes:
        sequences: the folder of a dataset's arrays.
        aside: a folder of what they lack: `offsets` [S+1]; `events` and `timestamps` of who is left out, with codes of
            items from `FIRST_ITEM` on; and where the unknown item stands (`unknown_at`) for which code (`unknown`).
    """

    sequences: Path
    aside: Path

    @property
    def lengths(self) -> Int64:
        """Events of each user: int64 [S]."""
        return np.asarray(np.diff(self._load(self.aside, "offsets")))

    def take(self, users: Int64) -> Sequences:
        """The runs of users whose codes ascend; rows are places among all events that stand."""
        begin_U, end_U = (self._load(self.aside, "offsets")[users + step] for step in (0, 1))
        offsets, row_E = offsets_of(end_U - begin_U), places_of(begin_U, end_U - begin_U)
        timed = (self.sequences / "timestamps.npy").exists()
        time_E = self._gather("timestamps", row_E) if timed else None
        return Sequences(users, offsets, self._items(row_E), time_E, row_E.astype(np.int32), part_E=None)

    def _items(self, row_E: Int64) -> Int32:
        item_E: Int32 = self._gather("events", row_E) - np.int32(FIRST_ITEM)
        unknown = np.flatnonzero(item_E == UNKNOWN - FIRST_ITEM)
        at = np.searchsorted(self._load(self.aside, "unknown_at"), row_E[unknown])
        item_E[unknown] = self._load(self.aside, "unknown")[at]
        return item_E

    def _gather(self, name: str, row_E: Int64) -> Any:
        devices, others = (self._load(folder, name) for folder in (self.sequences, self.aside))
        split = int(np.searchsorted(row_E, len(devices)))
        if split < len(row_E):
            return np.concatenate([devices[row_E[:split]], others[row_E[split:] - len(devices)]])
        side_by_side = split and row_E[-1] - row_E[0] == split - 1
        return devices[row_E[0] : row_E[-1] + 1] if side_by_side else devices[row_E]

    @staticmethod
    def _load(folder: Path, name: str) -> Any:
        return mapped(folder / f"{name}.npy")
