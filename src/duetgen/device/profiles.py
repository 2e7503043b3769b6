"""What the model thinks of items, in a few numbers, from the device graph alone.

A device has no item embeddings to compare, whatever the backbone; but it can score. The profile of an item is its
scores, with theta = 0, after each of K histories of one anchor item, standardised over the catalogue: items that the
model serves to the same people have similar profiles. Anchors lie evenly spread over the item indices, and so does the
sample that mean and deviation are taken from: a device in any language finds the same ones.

Shapes: K anchors, N items, L window length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from duetgen.device.items import FIRST_ITEM
from duetgen.device.model import DeviceModel

ANCHORS: Final = 16
SAMPLE: Final = 512
"""Items that mean and deviation are taken from."""

Float64 = npt.NDArray[np.float64]


def spread(vocabulary: int, count: int) -> npt.NDArray[np.int64]:
    """So many item indices, or all, in the middle of as many equal parts of the catalogue: int64 [N]."""
    known = vocabulary - FIRST_ITEM
    count = min(count, known)
    return FIRST_ITEM + (2 * np.arange(count, dtype=np.int64) + 1) * known // (2 * count)


class ItemProfiles:
    """Profiles of one model's items, each computed when it is first asked for."""

    def __init__(self, model: DeviceModel) -> None:
        anchors_K = spread(model.vocabulary, ANCHORS)
        self.model = model
        self.anchors_KL = np.zeros((len(anchors_K), model.window), dtype=np.int64)
        self.anchors_KL[:, 0] = anchors_K
        raw_NK = self._raw(spread(model.vocabulary, SAMPLE))
        self.mean_K: Float64 = raw_NK.mean(0)
        self.deviation_K: Float64 = np.maximum(raw_NK.std(0), 1e-12)
        self._known: dict[int, Float64] = {}

    def _raw(self, items_N: npt.NDArray[np.int64]) -> Float64:
        candidates_KN = np.broadcast_to(items_N, (len(self.anchors_KL), len(items_N)))
        return self.model.score_rows(self.anchors_KL, candidates_KN).T.astype(np.float64)

    def __call__(self, items: Sequence[int]) -> Float64:
        """Profiles of items: [N, K]."""
        missing = sorted({item for item in items if item not in self._known})
        if missing:
            found_NK = (self._raw(np.array(missing, dtype=np.int64)) - self.mean_K) / self.deviation_K
            self._known.update(zip(missing, found_NK))
        return np.stack([self._known[item] for item in items]) if items else np.zeros((0, len(self.mean_K)))
