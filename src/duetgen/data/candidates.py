"""Negatives for the `candidates` protocol: for each target, known items that its device has not met before.

Shapes: N targets, C candidates, V items, E events.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from duetgen.data.places import offsets_of, places_of, sorted_with_places
from duetgen.data.store import FIRST_ITEM, PADDING, Int32, Int64, Targets

NEGATIVES: Final = 99
DRAWS: Final = 160
"""Items drawn for a target before those met, repeated or equal to the target are thrown out."""

CHUNK: Final = 8_192
"""Targets that are drawn for at once, each chunk with numbers of its own."""

KEPT: Final = 32
"""Chunks that are kept once they are drawn, of 3 MB each."""

CELLS: Final = 2**20
"""Items by targets that are put in a random order at once."""
HASHES: Final = 2**22
DRAW_BITS: Final = DRAWS.bit_length()
BLOCK: Final = 512
"""Targets whose draws are looked at at once, which the processor keeps near."""


class Met:
    """When each device met each item first.

    Args:
        events: int32 [E].
        offsets: int64 [U+1].
        vocabulary: V.
    """

    def __init__(self, events: Int32, offsets: Int64, vocabulary: int) -> None:
        device_E = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
        # Events are in order within a device, so the first place of each pair is that of its first event.
        key_E, place_E = sorted_with_places(device_E * vocabulary + events)
        new_E = np.diff(key_E, prepend=-1) > 0
        self.keys, self.first = key_E[new_E], place_E[new_E]
        self.vocabulary = vocabulary
        self._perhaps = np.zeros(HASHES, dtype=bool)
        self._perhaps[self.keys & (HASHES - 1)] = True

    def before(self, device: Int64, item: Int64, position: Int64) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether the device met the item before the (absolute) position; shapes broadcast."""
        key, position = np.broadcast_arrays(device * self.vocabulary + item, position)
        met = self._perhaps[key & (HASHES - 1)]  # Few are looked for among the keys, which takes longer.
        key, position = key[met], position[met]
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        met[met] = (self.keys[at] == key) & (self.first[at] < position)
        return np.asarray(met)


class Drawn:
    """The negatives of each target of a part, drawn from a seed when they are asked for: as an array, int32 [N, C].

    Args:
        events: int32 [E].
        offsets: int64 [U+1].
        targets: N of them, device by device.
        vocabulary: V.
        seed: whole numbers; the same ones give the same negatives.
    """

    def __init__(self, events: Int32, offsets: Int64, targets: Targets, vocabulary: int, seed: tuple[int, ...]) -> None:
        self.events, self.offsets, self.targets = events, offsets, targets
        self.vocabulary, self.seed = vocabulary, seed
        self.shape = (len(targets), NEGATIVES)
        self._chunk = lru_cache(KEPT)(self._draw_chunk)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Int64 | int) -> Int32:
        """The negatives of one target, int32 [C], or of some: int32 [M, C]."""
        index_M = np.atleast_1d(index)
        out = np.empty((len(index_M), NEGATIVES), dtype=np.int32)
        for chunk in np.unique(index_M // CHUNK).tolist():
            of_chunk_M = index_M // CHUNK == chunk
            out[of_chunk_M] = self._chunk(chunk)[index_M[of_chunk_M] % CHUNK]
        return out if np.ndim(index) else out[0]

    def _draw_chunk(self, chunk: int) -> Int32:
        targets = self.targets.take(slice(chunk * CHUNK, (chunk + 1) * CHUNK))
        # What the devices of these targets met, and no other's.
        device_D, own_N = np.unique(targets.device_N, return_inverse=True)
        begin_D = self.offsets[device_D]
        lengths = self.offsets[device_D + 1] - begin_D
        events, offsets = np.asarray(self.events)[places_of(begin_D, lengths)], offsets_of(lengths)
        moved_N = (offsets[:-1] - begin_D)[own_N]
        own = Targets(own_N, targets.position_N + moved_N, targets.start_N + moved_N)
        return draw(events, offsets, own, self.vocabulary, np.random.default_rng([*self.seed, chunk]))


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
    if not len(targets) or vocabulary <= FIRST_ITEM:
        return np.zeros((len(targets), NEGATIVES), dtype=np.int32)
    met = Met(events, offsets, vocabulary)
    out, full_N = _by_rejection(events, targets, met, rng)
    short = np.flatnonzero(~full_N)
    step = max(CELLS // vocabulary, 1)
    for first in range(0, len(short), step):
        rows = short[first : first + step]
        out[rows] = _exactly(events, targets.take(rows), met, rng)
    return out


def _by_rejection(
    events: Int32, targets: Targets, met: Met, rng: np.random.Generator
) -> tuple[Int32, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The first 99 that are allowed among a fixed number of draws; and for which targets there were as many."""
    drawn_ND = rng.integers(FIRST_ITEM, met.vocabulary, size=(len(targets), DRAWS))
    rows = [slice(first, first + BLOCK) for first in range(0, len(targets), BLOCK)]
    found = [_allowed(events, targets.take(some), met, drawn_ND[some]) for some in rows]
    return np.concatenate([first_NC for first_NC, _ in found]), np.concatenate([full_N for _, full_N in found])


def _allowed(
    events: Int32, targets: Targets, met: Met, drawn_ND: Int64
) -> tuple[Int32, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    allowed_ND = drawn_ND != events[targets.position_N][:, None]
    allowed_ND &= ~met.before(targets.device_N[:, None], drawn_ND, targets.position_N[:, None])
    # Sorted with their draws, equal items stand side by side, the earlier draw first: the others are repeats.
    sorted_ND = np.sort(drawn_ND << DRAW_BITS | np.arange(DRAWS), axis=1)
    row, at = np.nonzero(np.diff(sorted_ND >> DRAW_BITS) == 0)
    allowed_ND[row, sorted_ND[row, at + 1] & ((1 << DRAW_BITS) - 1)] = False
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
    place_NV = np.where(allowed_NV, rng.random(allowed_NV.shape), np.inf)
    count = min(NEGATIVES, met.vocabulary)
    first_NC = np.argpartition(place_NV, count - 1, axis=1)[:, :count]
    place_NC = np.take_along_axis(place_NV, first_NC, axis=1)
    order_NC = np.argsort(place_NC, axis=1)
    place_NC, first_NC = (np.take_along_axis(one_NC, order_NC, axis=1) for one_NC in (place_NC, first_NC))
    chosen = np.where(np.isfinite(place_NC), first_NC, PADDING).astype(np.int32)
    return np.pad(chosen, ((0, 0), (0, NEGATIVES - count)), constant_values=PADDING)
