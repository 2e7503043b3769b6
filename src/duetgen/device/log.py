"""The event log: what the device has seen, kept on the device, the newest `MAX_LOG_EVENTS` events.

What is in it counts as met: ids alone, some 25 bytes each on disk and at most twice that before the file is written
anew. A device that hides what was met hides no more than that, and evaluation counts the same way.

Events are original item ids, so that a new version with other indices can read them. On disk each is one record,
appended by one write: CRC-32 of the rest, length, running number, id in UTF-8. A record that is damaged, or was torn
by a crash, is skipped: those after it are found again. The file is written anew, aside, when it holds twice what is
kept. A disk that is full costs the persistence of events, never the events: the next append that succeeds writes all.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import ClassVar, Final

import numpy as np

from duetgen.device.state import StateFolder
from duetgen.wire.limits import MAX_ID_BYTES, MAX_LOG_EVENTS

HEAD: Final = struct.Struct("<IHQ")
"""CRC-32, bytes of the id, running number from 1."""
SLACK: Final = 64
FAR: Final = np.uint64(2**32)
"""No record's number is so far beyond the one before."""
STRIDE: Final = 2**14
"""Bytes that are searched at once for the next record."""
NAMELESS: Final = ""
"""What is kept of an id that no item can have, for its length."""


def encode_record(number: int, item: str) -> bytes:
    """One event as it lies on disk."""
    name = item.encode()
    rest = HEAD.pack(0, len(name), number)[4:] + name
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def decode_record(content: bytes, at: int, after: int) -> tuple[int, str, int] | None:
    """The record that begins at a byte: its number, above `after`, its id, and where it ends. None if there is none."""
    if at + HEAD.size > len(content):
        return None
    check, length, number = HEAD.unpack_from(content, at)
    end = at + HEAD.size + length
    if length > MAX_ID_BYTES or end > len(content) or number <= after:
        return None
    if zlib.crc32(memoryview(content)[at + 4 : end]) != check:
        return None
    try:
        return number, content[at + HEAD.size : end].decode(), end
    except UnicodeDecodeError:
        return None


def next_record(content: bytes, at: int, after: int) -> int:
    """Where the next whole record begins, beyond the damaged one at a byte; the content's length if there is none.

    Mostly the damaged record's length is still right, and tells; it is believed where the numbers fit. Else every byte
    may be a beginning: that a wrong one passes for a record has the chance of a CRC-32.
    """
    if at + HEAD.size <= len(content):
        _, length, number = HEAD.unpack_from(content, at)
        hop: int = at + HEAD.size + length
        found = decode_record(content, hop, after)
        if found is not None and found[0] in (number + 1, after + 2):
            return hop
    for begin in range(at + 1, len(content), STRIDE):
        for there in beginnings(content[begin : begin + STRIDE + HEAD.size - 1], after):
            if decode_record(content, begin + there, after) is not None:
                return begin + there
    return len(content)


def beginnings(content: bytes, after: int) -> list[int]:
    """Bytes at which a number lies that a next record may have."""
    found = []
    for first in range(min(8, len(content) - HEAD.size + 1)):
        skip = first + HEAD.size - 8
        number_N = np.frombuffer(content, "<u8", (len(content) - skip) // 8, skip)
        found.append(first + 8 * np.flatnonzero(number_N - np.uint64(after + 1) < FAR))
    return sorted(np.concatenate(found).tolist()) if found else []


def decode_records(content: bytes) -> tuple[list[tuple[int, str]], bool]:
    """All whole records, their numbers rising, and whether there is nothing else."""
    records: list[tuple[int, str]] = []
    at, whole, last = 0, True, 0
    while at < len(content):
        found = decode_record(content, at, last)
        if found is None:
            at, whole = next_record(content, at, last), False
            continue
        last, item, at = found
        records.append((last, item))
    return records, whole


class EventLog:
    """The last `capacity` events, oldest first. Thread-safe; reading never waits for the disk.

    Args:
        state: folder to keep them in; None keeps them in memory alone.
        capacity: how many are kept.

    Attributes:
        count: events ever observed.
        breaks: how often the count and what is kept parted: all was forgotten, or the count leapt.
    """

    file_name: ClassVar[str] = "events.log"

    def __init__(self, state: StateFolder | None, capacity: int = MAX_LOG_EVENTS) -> None:
        self.capacity, self.count, self.breaks = capacity, 0, 0
        self._items: deque[str] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._order = threading.Lock()
        """Held while events are put into memory and onto disk, so that both have them in one order."""
        self._written = 0
        self._file = None if state is None else state.file("events.log", self._content)
        if self._file is not None:
            content = self._file.read((2 * capacity + SLACK) * (HEAD.size + MAX_ID_BYTES))
            records, whole = decode_records(content or b"")
            self._items.extend(item for _, item in records)
            self.count, self._written = records[-1][0] if records else 0, len(records)
            self._file.stale = content is not None and not whole

    def __len__(self) -> int:
        return len(self._items)

    def at_least(self, count: int) -> None:
        """Count from `count` on, where the log was lost and something else remembers how much there was."""
        with self._lock:
            if count > self.count:
                self.count = count
                self.breaks += 1
                if self._file is not None:
                    self._file.stale = True

    def last(self, length: int) -> list[str]:
        """The last `length` events at most, oldest first."""
        return self.snapshot(length)[0]

    def snapshot(self, length: int) -> tuple[list[str], int]:
        """The last `length` events and the number of events ever observed, of one moment."""
        with self._lock:
            newest_first = islice(reversed(self._items), max(0, length))
            return list(newest_first)[::-1], self.count

    def since(self, count: int) -> tuple[list[str], int, int]:
        """What was observed after the first `count` events ever, as far as it is kept; `count` and `breaks`."""
        with self._lock:
            fresh = min(len(self._items), max(0, self.count - count))
            return list(islice(reversed(self._items), fresh))[::-1], self.count, self.breaks

    def append(self, items: Iterable[str]) -> None:
        """Observe events, oldest first."""
        with self._order:
            records = []
            with self._lock:
                for item in items:
                    self._items.append(kept := self._keepable(item))
                    self.count += 1
                    records.append(encode_record(self.count, kept))
            if self._file is None or not records:
                return
            if self._written + len(records) > 2 * self.capacity + SLACK:
                self._file.save()
            else:
                self._written += len(records)
                self._file.append(b"".join(records))

    @staticmethod
    def _keepable(item: str) -> str:
        return item if len(item.encode()) <= MAX_ID_BYTES else NAMELESS

    def _content(self) -> bytes | None:
        with self._lock:
            if not self._items:
                self._written = 0
                return None
            self._written = len(self._items)
            first = self.count - self._written + 1
            return b"".join(encode_record(first + i, item) for i, item in enumerate(self._items))

    def clear(self) -> bool:
        """Forget every event, on disk too. Whether all is gone.

        The count goes on, so that no older theta looks fresh.
        """
        with self._order:
            with self._lock:
                self._items.clear()
                self._written = 0
                self.breaks += 1
            return self._file is None or self._file.erase()
