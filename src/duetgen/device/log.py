"""The event log: what the device has seen, kept on the device, the newest events only.

Events are original item ids, so that a new version with other indices can read them. On disk each is one record,
appended by one write: CRC-32 of the rest, length, running number, id in UTF-8. A record that was torn by a crash ends
the log; the file is written anew, aside, when it holds twice what is kept. A disk that is full costs the persistence of
events, never the events: the next append that succeeds writes all of them.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from duetgen.errors import OutputUnwritableError
from duetgen.files import write_bytes
from duetgen.wire.limits import MAX_ID_BYTES

HEAD: Final = struct.Struct("<IHQ")
"""CRC-32, bytes of the id, running number from 1."""
SLACK: Final = 64


def encode_record(number: int, item: str) -> bytes:
    """One event as it lies on disk."""
    name = item.encode("utf-8", "replace")
    rest = HEAD.pack(0, len(name), number)[4:] + name
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def decode_records(content: bytes) -> tuple[list[tuple[int, str]], int]:
    """All whole records, and how many bytes they take: what follows is torn."""
    records: list[tuple[int, str]] = []
    at = 0
    while at + HEAD.size <= len(content):
        check, length, number = HEAD.unpack_from(content, at)
        end = at + HEAD.size + length
        if length > MAX_ID_BYTES or end > len(content) or zlib.crc32(content[at + 4 : end]) != check:
            break
        if records and number != records[-1][0] + 1:
            break
        try:
            records.append((number, content[at + HEAD.size : end].decode()))
        except UnicodeDecodeError:
            break
        at = end
    return records, at


class EventLog:
    """The last `capacity` events, oldest first. Thread-safe.

    Args:
        path: file to keep them in; None keeps them in memory alone.
        capacity: how many are kept.

    Attributes:
        count: events ever observed.
        disk_errors: writes that the disk did not take.
    """

    def __init__(self, path: Path | None, capacity: int) -> None:
        self.path, self.capacity = path, capacity
        self.count = self.disk_errors = 0
        self._items: deque[str] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._file: int | None = None
        self._written = 0
        self._whole = False
        """Whether the file holds every event that is kept: else the next append writes it anew."""
        if path is not None:
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                content = file.read((2 * self.capacity + SLACK) * (HEAD.size + MAX_ID_BYTES))
        except OSError:
            return
        records, size = decode_records(content)
        if records:
            self._items.extend(item for _, item in records)
            self.count = records[-1][0]
        self._written, self._whole = len(records), size == len(content) == path.stat().st_size

    def grow(self, capacity: int) -> None:
        """Keep more events from now on, for a model that reads more."""
        with self._lock:
            if capacity > self.capacity:
                self.capacity, self._items = capacity, deque(self._items, maxlen=capacity)

    def at_least(self, count: int) -> None:
        """Count from `count` on, where the log was lost and something else remembers how much there was."""
        with self._lock:
            if count > self.count:
                self.count, self._whole = count, False

    def last(self, length: int) -> list[str]:
        """The last `length` events at most, oldest first."""
        with self._lock:
            return list(self._items)[-length:] if length else []

    def snapshot(self, length: int) -> tuple[list[str], int]:
        """The last `length` events and the number of events ever observed, of one moment."""
        with self._lock:
            return (list(self._items)[-length:] if length else []), self.count

    def append(self, items: Iterable[str]) -> None:
        """Observe events, oldest first. Ids longer than the limit are cut, which makes them unknown."""
        with self._lock:
            records = []
            for item in items:
                short = item.encode("utf-8", "replace")[:MAX_ID_BYTES].decode("utf-8", "ignore")
                self._items.append(short)
                self.count += 1
                records.append(encode_record(self.count, short))
            if self.path is not None and records:
                self._persist(self.path, records)

    def _persist(self, path: Path, records: list[bytes]) -> None:
        try:
            if not self._whole or self._written + len(records) > 2 * self.capacity + SLACK:
                self._rewrite(path)
                return
            if self._file is None:
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            content = b"".join(records)
            self._whole = False
            if os.write(self._file, content) == len(content):
                self._whole = True
                self._written += len(records)
        except (OSError, OutputUnwritableError):
            self.disk_errors += 1
            self._whole = False

    def _rewrite(self, path: Path) -> None:
        self._release()
        first = self.count - len(self._items) + 1
        write_bytes(path, b"".join(encode_record(first + i, item) for i, item in enumerate(self._items)))
        self._written, self._whole = len(self._items), True

    def _release(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def clear(self) -> None:
        """Forget every event, on disk too; the count goes on, so that no older theta looks fresh."""
        with self._lock:
            self._release()
            self._items.clear()
            if self.path is not None:
                self.path.unlink(missing_ok=True)
            self._written, self._whole = 0, False

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._release()
