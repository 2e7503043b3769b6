"""Negatives for the `candidates` protocol: for each target, known items that its device has not met before.

Shapes: N targets, C candidates, V items, E events.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from duetgen.data.store import FIRST_ITEM, PADDING, Int32, Int64, Targets

NEGATIVES: Final = 99
DRAWS: Final = 160
"""Items drawn for a target before those met, repeated or equal to the target are thrown out."""

CHUNK: Final = 8_192
CELLS: Final = 2**23


class Met:
    """When each device met each item first.

    Args:
        events: int32 [E].
        offsets: int64 [U+1].
        vocabulary: V.
    """

    def __init__(self, events: Int32, offsets: Int64, vocabulary: int) -> None:
        device_E = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
        # unique() gives the first position of each pair, for events are in order within a device.
        self.keys, self.first = np.unique(device_E * vocabulary + events, return_index=True)
        self.vocabulary = vocabulary

    def before(self, device: Int64, item: Int64, position: Int64) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether the device met the item before the (absolute) position; shapes broadcast."""
        key = device * self.vocabulary + item
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.asarray((self.keys[at] == key) & (self.first[at] < position))


def draw(events: Int32, offsets: Int64, targets: Targets, vocabulary: int, rng: np.random.Generator) -> Int32:
    """Draw negatives uniformly, without repeats, from known items that are neither the target nor met before it.

    Args:
        events: int32 [E].
        offsets: int64 [U+1].
        targets: N of them.
        vocabulary: V.
        rng: source of randomness; the same state gives the same draws.

    Returns:
        int32 [N, 99]; where fewer items are left than that, padded with 0 on the right.
    """
    out = np.zeros((len(targets), NEGATIVES), dtype=np.int32)
    if not len(targets) or vocabulary <= FIRST_ITEM:
        return out
    met = Met(events, offsets, vocabulary)
    for begin in range(0, len(targets), CHUNK):
        chunk = slice(begin, begin + CHUNK)
        some = targets.take(chunk)
        chosen_NC, full_N = _by_rejection(events, some, met, rng)
        out[chunk] = chosen_NC
        short = np.flatnonzero(~full_N)
        step = max(CELLS // vocabulary, 1)
        for first in range(0, len(short), step):
            rows = short[first : first + step]
            out[begin + rows] = _exactly(events, some.take(rows), met, rng)
    return out


def _by_rejection(
    events: Int32, targets: Targets, met: Met, rng: np.random.Generator
) -> tuple[Int32, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The first 99 that are allowed among a fixed number of draws; and for which targets there were as many."""
    drawn_ND = rng.integers(FIRST_ITEM, met.vocabulary, size=(len(targets), DRAWS))
    allowed_ND = drawn_ND != events[targets.position_N][:, None]
    allowed_ND &= ~met.before(targets.device_N[:, None], drawn_ND, targets.position_N[:, None])
    # A stable sort puts equal items side by side, the earlier draw first: the others are repeats.
    by_item_ND = np.argsort(drawn_ND, axis=1, kind="stable")
    sorted_ND = np.take_along_axis(drawn_ND, by_item_ND, axis=1)
    repeat_ND = np.zeros_like(allowed_ND)
    np.put_along_axis(repeat_ND, by_item_ND[:, 1:], sorted_ND[:, 1:] == sorted_ND[:, :-1], axis=1)
    allowed_ND &= ~repeat_ND
    full_N = allowed_ND.sum(axis=1) >= NEGATIVES
    first_NC = np.argsort(~allowed_ND, axis=1, kind="stable")[:, :NEGATIVES]
    return np.take_along_axis(drawn_ND, first_NC, axis=1).astype(np.int32), full_N


def _exactly(events: Int32, targets: Targets, met: Met, rng: np.random.Generator) -> Int32:
    """A random order of all allowed items, cut to 99: for small catalogues and long histories."""
    rows = len(targets)
    allowed_NV = np.ones((rows, met.vocabulary), dtype=bool)
    allowed_NV[:, :FIRST_ITEM] = False
    allowed_NV[np.arange(rows), events[targets.position_N]] = False
    for row, (start, position) in enumerate(zip(targets.start_N, targets.position_N)):
        allowed_NV[row, events[start:position]] = False
    order_NV = np.argsort(np.where(allowed_NV, rng.random(allowed_NV.shape), np.inf), axis=1)[:, :NEGATIVES]
    chosen = np.where(np.take_along_axis(allowed_NV, order_NV, axis=1), order_NV, PADDING).astype(np.int32)
    return np.pad(chosen, ((0, 0), (0, NEGATIVES - chosen.shape[1])), constant_values=PADDING)
