"""Items: what an id is, the same in every call of a device, and which index a version has for it.

An id is text. A whole number stands for its digits, as a table's column of numbers does; anything else is refused, so
that nothing is ranked or remembered as an item that nobody meant.

Shapes: N ids.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, Final

import msgspec
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
NUMBER: Final = re.compile(r"0|-?[1-9][0-9]*")
"""A text that a whole number stands for."""
SPREAD: Final = 8
"""Entries of a table of numbers for each item, at most."""
HINT: Final = "give ids as text, one by one: observe(*ids), rank(ids)"


def item_id(value: object) -> str:
    """The id that a value stands for.

    Raises:
        InvalidItemsError: for none.
    """
    if isinstance(value, str):
        # A subclass may compare and hash as it likes; its text may not.
        text = value if type(value) is str else str.__str__(value)
        check_text(text)
        return text
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        whole = int(value)
        if whole.bit_length() <= DIGITS:
            return str(whole)
    if isinstance(value, (float, np.floating)) and abs(float(value)) <= EXACT and float(value).is_integer():
        return str(int(value))
    kind = type(value).__name__
    named = f"{kind} {value}" if isinstance(value, (float, np.floating, bool)) else kind
    raise InvalidItemsError(f"an item's id is text or a whole number, not {named}", HINT)


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot hold.

    Raises:
        InvalidItemsError: it has half of a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise InvalidItemsError("an item's id is text that UTF-8 can hold, without lone surrogates", HINT) from cause


def item_values(values: Iterable[object]) -> tuple[Any, ...] | Int64:
    """The values of a list of ids, whatever kind of list it is; whole numbers as an array of them. A copy.

    Raises:
        InvalidItemsError: it is none; a lone text is none, though it can be taken apart into letters.
    """
    if type(values) is np.ndarray and values.ndim == 1:
        if values.dtype.kind in "iu" and values.dtype != np.uint64:
            return values.astype(np.int64)
        if values.dtype.kind == "U":
            return tuple(values.tolist())
    if isinstance(values, (list, tuple)):
        return _numbers(values) if values and type(values[0]) is int else tuple(values)
    if not isinstance(values, (str, bytes, bytearray, memoryview)):
        try:
            iterator = iter(values)
        except TypeError:
            pass
        else:
            return tuple(iterator)
    raise InvalidItemsError(f"{type(values).__name__} is given where a list of ids is needed", HINT)


def _numbers(values: list[Any] | tuple[Any, ...]) -> tuple[Any, ...] | Int64:
    try:
        return _as_array(msgspec.convert(values, tuple[int, ...]))
    except (msgspec.ValidationError, UnicodeEncodeError, struct.error):  # not all are, or one is beyond 64 bits
        return tuple(values)


class ItemIndex:
    """The item index of each id of one version.

    Args:
        ids: by item index.

    Attributes:
        of: by id, known items alone.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.of = {name: index for index, name in enumerate(ids) if index >= FIRST_ITEM}
        numbers = {int(name): index for name, index in self.of.items() if NUMBER.fullmatch(name)}
        self._before = min(numbers, default=0) - 1
        self._table: npt.NDArray[np.int32] | None = None
        """By number less `_before`, from an unknown one before the lowest to one after the highest."""
        entries = max(numbers, default=0) - self._before + 2
        if numbers and entries <= SPREAD * len(ids) and abs(self._before) < EXACT:
            self._table = np.full(entries, UNKNOWN, dtype=np.int32)
            self._table[np.array(list(numbers)) - self._before] = list(numbers.values())

    def find(self, values: tuple[Any, ...] | Int64) -> tuple[tuple[Any, ...] | Int64, Int64]:
        """The ids of `item_values`, as texts or as an array of the numbers that stand for them, and their item indices:
        int64 [N]; `UNKNOWN` for those that the version does not have.

        Raises:
            InvalidItemsError: a value is no id.
        """
        if isinstance(values, np.ndarray):
            return self._find_numbers(values)
        # One call of C for all: looking them up one by one takes longer than the graph takes to score them.
        if len(values) > 1:
            try:
                return values, _as_array(itemgetter(*values)(self.of))
            except (KeyError, TypeError):  # some are unknown, or no text as they stand
                pass
        if set(map(type, values)) - {str}:
            return self._find_texts(tuple(map(item_id, values)))
        check_text("".join(values))
        return self._find_texts(values)

    def _find_texts(self, ids: tuple[str, ...]) -> tuple[tuple[str, ...], Int64]:
        return ids, _as_array(tuple(map(self.of.get, ids, repeat(UNKNOWN))))

    def _find_numbers(self, number_N: Int64) -> tuple[tuple[str, ...] | Int64, Int64]:
        if self._table is None:
            return self._find_texts(tuple(map(str, number_N.tolist())))
        return number_N, self._table.take(number_N - self._before, mode="clip").astype(np.int64)


def _as_array(number_N: tuple[int, ...]) -> Int64:
    # Half the time of what numpy has for it.
    return np.frombuffer(struct.Struct(f"{len(number_N)}q").pack(*number_N), dtype=np.int64)
