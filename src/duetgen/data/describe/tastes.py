"""What histories tell of what comes next, by a model that is counted and not trained.

An item is where those who chose it are: each device gets a random direction, and an item the sum of the directions of
the devices that have it in their training part (random indexing; M. Sahlgren, 2005). So items are near that the same
devices choose. A device's own direction is taken out wherever it is measured, and what all items have in common too. A
taste is the mean of the items of a piece of history, and two are compared by their cosine.

Shapes: U devices, M of them, V items, E events, D directions, N targets, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from duetgen.data.describe.description import Drift, Reach
from duetgen.data.store import FIRST_ITEM, Dataset, Int64

Floats = npt.NDArray[np.float32]

WIDTH: Final = 64
MOST_DEVICES: Final = 2_000
"""Devices that are measured, drawn by the seed."""

MOST_EVENTS: Final = 2_000_000
"""Training events that items are placed by: those of devices that are drawn until there are so many."""

LEAST_DEVICES: Final = 30
"""Fewest devices, or targets, that anything is said of."""

LEAST_EVENTS: Final = 20
"""Fewest training events of a device whose early and late taste are compared."""

RECENT: Final = 10
LENGTHS: Final = (1, 2, 5, RECENT, 20, 50, 100, 200)
"""Events of history that are compared."""

WEIGHTS: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""What older events may count for beside the recent ones."""

LEAST_OWN: Final = 0.02
"""Cosine that a device's halves must have more than strangers' for a drift to be told."""

LEAST_HISTORY: Final = 50
"""Fewest events before a target by which lengths are compared: the same targets for every length up to that."""

NEGATIVES: Final = 100


@dataclass(frozen=True)
class Places:
    """Where items and devices are.

    Attributes:
        item_VD: sums of directions.
        row_U: of `direction_MD`, for each device; 0 for those that items were not placed by.
        direction_MD: of the devices, the first one zero.
        count_V: events that each item was placed by.
        centre_D: what all items have in common.
    """

    item_VD: Floats
    row_U: npt.NDArray[np.int32]
    direction_MD: Floats
    count_V: Int64
    centre_D: Floats

    def of(self, items: npt.NDArray[np.integer], device: int, own: npt.NDArray[np.bool_]) -> Floats:
        """Places of items as others see them: without the direction of a device where the item is its own."""
        place_MD = self.item_VD[items] - np.where(own[:, None], self.direction_MD[self.row_U[device]], 0.0)
        length_M = np.linalg.norm(place_MD, axis=1, keepdims=True)
        unit_MD = place_MD / np.maximum(length_M, 1e-6) - self.centre_D
        return np.where(length_M > 1e-6, unit_MD, 0.0).astype(np.float32)


def place_items(dataset: Dataset, rng: np.random.Generator) -> Places:
    """Place the items by the training part."""
    lengths_U = dataset.bounds[:, 0]
    order_U = rng.permutation(dataset.devices)
    chosen_U = order_U[np.cumsum(lengths_U[order_U]) - lengths_U[order_U] < MOST_EVENTS]
    row_U = np.zeros(dataset.devices, dtype=np.int32)
    row_U[chosen_U] = np.arange(1, len(chosen_U) + 1)
    direction_MD = np.zeros((len(chosen_U) + 1, WIDTH), dtype=np.float32)
    direction_MD[1:] = rng.standard_normal((len(chosen_U), WIDTH), dtype=np.float32)
    pieces = [np.unique(np.asarray(training(dataset, device))) for device in chosen_U.tolist()]
    item_E = np.concatenate(pieces)
    row_E = np.repeat(row_U[chosen_U], [len(piece) for piece in pieces])
    known_E = item_E >= FIRST_ITEM
    item_E, row_E = item_E[known_E], row_E[known_E]
    count_V = np.bincount(item_E, minlength=dataset.vocabulary).astype(np.int64)
    item_VD = np.stack(
        [np.bincount(item_E, direction_MD[row_E, axis], minlength=dataset.vocabulary) for axis in range(WIDTH)],
        axis=1,
    ).astype(np.float32)
    unit_VD = item_VD / np.maximum(np.linalg.norm(item_VD, axis=1, keepdims=True), 1e-6)
    centre_D = (count_V @ unit_VD / max(1, int(count_V.sum()))).astype(np.float32)
    return Places(item_VD, row_U, direction_MD, count_V, centre_D)


def training(dataset: Dataset, device: int) -> npt.NDArray[np.int32]:
    """The training events of a device."""
    start = int(dataset.offsets[device])
    return dataset.events[start : start + int(dataset.bounds[device, 0])]


def cosine(one_ND: Floats, other_ND: Floats) -> npt.NDArray[np.float64]:
    """Cosine of each pair of rows; 0 where one is nothing."""
    scale_N = np.linalg.norm(one_ND, axis=1) * np.linalg.norm(other_ND, axis=1)
    return np.where(scale_N > 1e-9, (one_ND * other_ND).sum(axis=1) / np.maximum(scale_N, 1e-9), 0.0)


def measure_drift(dataset: Dataset, places: Places, rng: np.random.Generator) -> Drift | None:
    """Early taste against late taste; None where too few devices have enough events, or a taste of their own."""
    eligible_U = np.flatnonzero((dataset.bounds[:, 0] >= LEAST_EVENTS) & (places.row_U > 0))
    devices_M = rng.permutation(eligible_U)[:MOST_DEVICES]
    if len(devices_M) < LEAST_DEVICES:
        return None
    halves: list[list[Floats]] = [[], [], [], []]
    for device in devices_M.tolist():
        items = np.asarray(training(dataset, device))
        items = items[items >= FIRST_ITEM]
        half = len(items) // 2
        place = places.of(items, device, np.ones(len(items), dtype=bool))
        mixed = place[rng.permutation(len(items))]
        for kept, piece in zip(halves, (place[:half], place[half:], mixed[:half], mixed[half:])):
            kept.append(piece.mean(axis=0) if len(piece) else np.zeros(WIDTH, dtype=np.float32))
    early, late, one, other = (np.stack(kept) for kept in halves)
    found = [float(cosine(*pair).mean()) for pair in ((early, late), (one, other), (early, np.roll(late, 1, axis=0)))]
    own = found[1] - found[2]
    if own < LEAST_OWN:
        return None
    share = min(1.0, max(0.0, (found[1] - found[0]) / own))
    return Drift(devices=len(devices_M), early_late=found[0], mixed=found[1], others=found[2], share=share)


def measure_reach(dataset: Dataset, places: Places, rng: np.random.Generator) -> Reach | None:
    """How well the last 1, 2, 5, … events find the next; None where few targets have a long history."""
    targets = dataset.targets("valid")
    long_N = (targets.position_N - targets.start_N >= LEAST_HISTORY) & (places.row_U[targets.device_N] > 0)
    chosen = rng.permutation(np.flatnonzero(long_N))[:MOST_DEVICES]
    popular = places.count_V / max(1, int(places.count_V.sum()))
    wins: list[npt.NDArray[np.float64]] = []
    for device, position, start in zip(
        targets.device_N[chosen].tolist(), targets.position_N[chosen].tolist(), targets.start_N[chosen].tolist()
    ):
        history, target = np.asarray(dataset.events[start:position]), int(dataset.events[position])
        if target < FIRST_ITEM or not places.count_V[target] or target in history:
            continue
        drawn_C = rng.choice(len(popular), NEGATIVES, p=popular)
        drawn_C = drawn_C[~np.isin(drawn_C, history) & (drawn_C != target)]
        if len(drawn_C):
            items_C = np.concatenate([[target], drawn_C])
            place_CD = places.of(items_C, device, np.zeros(len(items_C), dtype=bool))
            own_M = np.isin(history, training(dataset, device))
            place_MD = places.of(history, device, own_M) * (history >= FIRST_ITEM)[:, None]
            wins.append(wins_of(place_CD, place_MD.astype(np.float32)))
    if len(wins) < LEAST_DEVICES:
        return None
    win_NLW = np.stack(wins)
    # A length that fewer targets have than the others would stand on other devices.
    full = np.flatnonzero(~np.isnan(win_NLW[:, :, 0]).any(axis=0))
    # A weight is chosen on the one half of the targets and measured on the other.
    halves = [win_NLW[half::2, full] for half in (0, 1)]
    best = [half.mean(axis=0).argmax(axis=-1) for half in reversed(halves)]
    auc_HL = [half.mean(axis=0)[np.arange(len(full)), weight] for half, weight in zip(halves, best)]
    auc_L = np.average(auc_HL, axis=0, weights=[len(half) for half in halves])
    return Reach(targets=len(wins), auc={LENGTHS[i]: float(auc) for i, auc in zip(full.tolist(), auc_L)})


def wins_of(place_CD: Floats, place_MD: Floats) -> npt.NDArray[np.float64]:
    """How often the first candidate is nearer than the others, by length of history and weight of what is older.

    NaN where the history is shorter.
    """
    win_LW = np.full((len(LENGTHS), len(WEIGHTS)), np.nan)
    recent_D = place_MD[-RECENT:].mean(axis=0)
    for i, length in enumerate(LENGTHS):
        if length > len(place_MD):
            continue
        for j, weight in enumerate(WEIGHTS):
            taste_D = place_MD[-length:].mean(axis=0)
            if length > RECENT:
                taste_D = recent_D + weight * place_MD[-length:-RECENT].mean(axis=0)
            score_C = cosine(place_CD, np.broadcast_to(taste_D, place_CD.shape))
            win_LW[i, j] = np.mean(score_C[0] > score_C[1:]) + np.mean(score_C[0] == score_C[1:]) / 2
    return win_LW
