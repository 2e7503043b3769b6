"""Items: what an id is, the same in every call of a device, and which index a version has for it.

An id is text. A whole number stands for its digits, as a table's column of numbers does; anything else is refused, so
that nothing is ranked or remembered as an item that nobody meant.

Shapes: N ids.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import repeat
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from duetgen.device.errors import InvalidItemsError

Int64 = npt.NDArray[np.int64]

PADDING: Final = 0
UNKNOWN: Final = 1
FIRST_ITEM: Final = 2
LAST: Final = np.finfo(np.float32).min
"""What the unknown item scores where it is ranked: no device can show it, so it stands behind every known item."""
EXACT: Final = 2**53
"""Up to here a float is one whole number and no other."""
DIGITS: Final = 512
HINT: Final = "give ids as text, one by one: observe(*ids), rank(ids)"


def item_id(value: object) -> str:
    """The id that a value stands for.

    Raises:
        InvalidItemsError: for none.
    """
    if isinstance(value, str):
        # A subclass may compare and hash as it likes; its text may not.
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        whole = int(value)
        if whole.bit_length() <= DIGITS:
            return str(whole)
    if isinstance(value, (float, np.floating)) and abs(float(value)) <= EXACT and float(value).is_integer():
        return str(int(value))
    kind = type(value).__name__
    named = f"{kind} {value}" if isinstance(value, (float, np.floating, bool)) else kind
    raise InvalidItemsError(f"an item's id is text or a whole number, not {named}", HINT)


def item_list(values: Iterable[object]) -> list[Any]:
    """The values of a list of ids, whatever kind of list it is.

    Raises:
        InvalidItemsError: it is none; a lone text is none, though it can be taken apart into letters.
    """
    if not isinstance(values, (str, bytes, bytearray, memoryview)):
        if isinstance(values, list):
            return values.copy()
        try:
            iterator = iter(values)
        except TypeError:
            pass
        else:
            return list(iterator)
    raise InvalidItemsError(f"{type(values).__name__} is given where a list of ids is needed", HINT)


def find_items(index_of: dict[str, int], values: list[Any]) -> tuple[list[str], Int64]:
    """The ids of values, and their item indices: int64 [N]; `UNKNOWN` for those that are not in `index_of`.

    Raises:
        InvalidItemsError: a value is no id.
    """
    # One call of C for all: looking them up one by one takes longer than the graph takes to score them.
    if len(values) > 1:
        try:
            return values, _as_array(itemgetter(*values)(index_of))
        except (KeyError, TypeError):  # some are unknown, or no text as they stand
            pass
    ids = values if all(kind is str for kind in set(map(type, values))) else [item_id(value) for value in values]
    return ids, _as_array(tuple(map(index_of.get, ids, repeat(UNKNOWN))))


def _as_array(index_N: tuple[int, ...]) -> Int64:
    # Half the time of what numpy has for it.
    return np.frombuffer(struct.pack(f"{len(index_N)}q", *index_N), dtype=np.int64)
