"""What a device has met, as far as its log remembers: an array of counts that follows the log event by event.

Shapes: C candidates, V item indices.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import numpy.typing as npt

from duetgen.device.items import FIRST_ITEM, Int64
from duetgen.device.log import EventLog
from duetgen.device.model import DeviceModel

Bool = npt.NDArray[np.bool_]


class MetItems:
    """The items in a log, by a version's indices. Thread-safe.

    Args:
        log: what the device has seen.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._lock = threading.Lock()
        self._model: DeviceModel | None = None
        self._indices: deque[int] = deque(maxlen=log.capacity)
        self._count = self._breaks = 0
        self._counts_V = np.zeros(0, dtype=np.int32)

    def of(self, model: DeviceModel) -> Bool:
        """Which items were met: bool [V]; never padding or the unknown item."""
        with self._lock:
            self._catch_up(model)
            met_V: Bool = self._counts_V > 0
        return met_V

    def among(self, model: DeviceModel, index_C: Int64) -> Bool:
        """Which of some item indices were met: bool [C], in a time that the catalogue's size does not matter to."""
        with self._lock:
            self._catch_up(model)
            met_C: Bool = self._counts_V.take(index_C) > 0
        return met_C

    def _catch_up(self, model: DeviceModel) -> None:
        items, count, breaks = self.log.since(self._count)
        if model is not self._model or breaks != self._breaks or len(items) != count - self._count:
            items, count, breaks = self.log.since(0)
            self._model, self._counts_V = model, np.zeros(model.vocabulary, dtype=np.int32)
            self._indices.clear()
        if items:
            self._follow(model, items)
        self._count, self._breaks = count, breaks

    def _follow(self, model: DeviceModel, items: list[str]) -> None:
        index_N = model.indices(items).tolist()
        out = max(0, len(self._indices) + len(index_N) - self.log.capacity)
        np.subtract.at(self._counts_V, [self._indices.popleft() for _ in range(out)], 1)
        np.add.at(self._counts_V, index_N, 1)
        self._counts_V[:FIRST_ITEM] = 0
        self._indices.extend(index_N)
