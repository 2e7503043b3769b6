"""Where events stand: in files, in runs that lie one after the other, and in order.

Shapes: E events, U runs, S spans.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from duetgen.data.store import Bool, Int64

LOADING: Final = Lock()
"""Held while a header of NumPy's is read: in several threads Python 3.11 loses count of how deep `literal_eval` is."""


def mapped(path: Path) -> Any:
    """An array of NumPy's format, memory-mapped; threads may call it."""
    with LOADING:
        return np.load(path, mmap_mode="r")


def offsets_of(lengths: Int64) -> Int64:
    """Where each of some pieces begins, and the last ends: int64 [U+1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def places_of(begin_U: Int64, lengths: Int64) -> Int64:
    """The places of the events of some runs, one run after the other: int64 [E]."""
    place_E = np.arange(lengths.sum(), dtype=np.int64)
    place_E += np.repeat(begin_U - offsets_of(lengths)[:-1], lengths)
    return place_E


def first_of(lengths: Int64, counts: Int64) -> Bool:
    """Which events are among the first `counts` of their run: bool [E]."""
    return np.repeat(np.tile([True, False], len(lengths)), np.stack([counts, lengths - counts], axis=1).ravel())


def count_spans(counts_S: Int64, values_E: Int64, low: int, high: int, bits: int) -> None:
    """Add to `counts_S` how many values from `low` to `high` lie in each span; a span is two to the power of `bits`."""
    within = values_E[(values_E >= low) & (values_E <= high)]
    counts_S += np.bincount((within - low) >> bits, minlength=len(counts_S))


def sort_by(*keys_E: np.ndarray[Any, np.dtype[Any]]) -> Int64:
    """As `numpy.lexsort`: places in order of the last key, ties by the one before it, and at last as they stand.

    A whole number is sorted together with its place, in one word: more than ten times faster than sorting places by it.
    """
    place_E = np.arange(len(keys_E[0]), dtype=np.int64)
    for key_E in keys_E:
        key_E = key_E[place_E]
        if not (key_E[1:] >= key_E[:-1]).all():
            place_E = place_E[sorted_with_places(key_E)[1]]
    return place_E


def sorted_with_places(key_E: np.ndarray[Any, np.dtype[Any]]) -> tuple[np.ndarray[Any, np.dtype[Any]], Int64]:
    """Values in order, and the places that they had, which are in order among equal ones."""
    bits = len(key_E).bit_length()
    low, high = (key_E.min(), key_E.max()) if len(key_E) else (0, 0)
    if key_E.dtype.kind == "f" or (int(high) - int(low)).bit_length() + bits > 63:
        place_E = np.argsort(key_E, kind="stable")
        return key_E[place_E], place_E
    word_E = (key_E.astype(np.int64) - int(low)) << bits
    word_E |= np.arange(len(key_E))
    word_E.sort()
    return (word_E >> bits) + int(low), word_E & ((1 << bits) - 1)
