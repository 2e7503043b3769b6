"""What the device model and the generator read for each target; no loop over targets anywhere.

Shapes: N targets, B targets of a batch, H distinct histories of a batch, L history length (L_d device, L_g generator),
E events, U devices with targets, V items.
"""

from __future__ import annotations

import numpy as np

from duetgen.data.gather import gather
from duetgen.data.store import PADDING, Dataset, Int32, Int64, Targets
from duetgen.evaluation.conditions import Condition
from duetgen.evaluation.errors import NothingToEvaluateError


def windows(dataset: Dataset, targets: Targets, length: int) -> Int64:
    """What the device model reads: the last `length` events before each target, int64 [N, L_d]."""
    return gather(dataset.events, targets.start_N, targets.position_N, length)


def history_ends(targets: Targets, staleness: int) -> Int64:
    """Where the generator's reading ends: `staleness` events before the target, but after the device's first event.

    A device asks for its first parameters at its first event, so there is always one event to read.
    """
    return np.maximum(targets.position_N - staleness, targets.start_N + 1)


def histories(dataset: Dataset, targets: Targets, length: int, staleness: int = 0) -> Int64:
    """What the generator reads: the last `length` events that end `staleness` events before, int64 [N, L_g]."""
    return gather(dataset.events, targets.start_N, history_ends(targets, staleness), length)


def target_items(dataset: Dataset, targets: Targets) -> Int64:
    """The item of each target: int64 [N]."""
    return dataset.events[targets.position_N].astype(np.int64)


def history_lengths(targets: Targets) -> Int64:
    """How many events lie before each target: int64 [N]."""
    return targets.position_N - targets.start_N


def another_device(targets: Targets, seed: int) -> Int64:
    """For each target, the index of a target of another device: int64 [N].

    The devices stand in one random circle, and each takes from the next: nobody gets its own, everybody gives once.
    The j-th target of a device gets the j-th of its giver, beginning again where the giver has fewer.

    Raises:
        NothingToEvaluateError: there is only one device.
    """
    device_U, first_U, slot_N, count_U = np.unique(
        targets.device_N, return_index=True, return_inverse=True, return_counts=True
    )
    if len(device_U) < 2:
        raise NothingToEvaluateError(
            "another device's parameters need at least two devices with targets",
            "leave the condition `another` out, or use a longer log",
        )
    order_U = np.random.default_rng([seed, 1]).permutation(len(device_U))
    giver_U = np.empty_like(order_U)
    giver_U[order_U] = np.roll(order_U, -1)
    within_N = np.arange(len(targets)) - first_U[slot_N]
    giver_N = giver_U[slot_N]
    return np.asarray(first_U[giver_N] + within_N % count_U[giver_N], dtype=np.int64)


def random_items(dataset: Dataset, shape: tuple[int, int], seed: int) -> Int32:
    """Items drawn by their popularity in the training part; padding is never drawn: int32 of the given shape."""
    weight_V = dataset.training_counts().astype(np.float64)
    weight_V[PADDING] = 0
    if not weight_V.any():
        weight_V[PADDING + 1 :] = 1
    cumulative_V = np.cumsum(weight_V)
    drawn = np.random.default_rng([seed, 2]).random(shape) * cumulative_V[-1]
    last = int(np.flatnonzero(weight_V)[-1])
    items: Int32 = np.minimum(np.searchsorted(cumulative_V, drawn, side="right"), last).astype(np.int32)
    return items


class HistoryReader:
    """The generator's histories under one condition, batch by batch, each distinct one once.

    Args:
        dataset: the dataset folder.
        everyone: all targets of the part; another device is sought among them.
        index_N: which of them are measured.
        condition: see `Condition`; not `zero`.
        length: L_g.
        seed: of the assignment of other devices, or of the random items.
    """

    def __init__(
        self, dataset: Dataset, everyone: Targets, index_N: Int64, condition: Condition, length: int, seed: int
    ) -> None:
        self.length = length
        source_N = another_device(everyone, seed)[index_N] if condition.kind == "another" else index_N
        source = everyone.take(source_N)
        self.start_N, self.end_N = source.start_N, history_ends(source, condition.staleness)
        self.events_E = dataset.events
        if condition.kind == "random":
            # Each device gets a made-up log of its own, and reads as much of it as it would of the real one.
            device_U, slot_N = np.unique(source.device_N, return_inverse=True)
            self.events_E = random_items(dataset, (len(device_U), length), seed).ravel()
            read_N = np.minimum(self.end_N - self.start_N, length)
            self.start_N = slot_N.astype(np.int64) * length
            self.end_N = self.start_N + read_N

    def read(self, rows: slice) -> tuple[Int64, Int64]:
        """Distinct histories [H, L_g] of some targets, and which of them each target takes: int64 [B]."""
        end_H, first_H, which_B = np.unique(self.end_N[rows], return_index=True, return_inverse=True)
        return gather(self.events_E, self.start_N[rows][first_H], end_H, self.length), which_B.astype(np.int64)
