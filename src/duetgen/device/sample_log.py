"""What a device of any modality has observed: its last samples, in memory and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import ClassVar, Final

import msgspec

from duetgen.device.state import StateFolder
from duetgen.wire.limits import MAX_GENERATOR_HISTORY, MAX_HISTORY_BYTES
from duetgen.wire.samples import SampleSpec

MAGIC: Final = b"DUETSAM1"
HEAD: Final = len(MAGIC) + 32


class _Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    count: int
    kind: SampleSpec
    samples: list[bytes]


class SampleLog:
    """The last samples, oldest first, packed. Thread-safe; reading never waits for the disk.

    On disk lies one file, written whole: magic, SHA-256 of the rest, the rest. What was torn or changed is no log, and
    neither are samples of another kind: the device came with another model.

    Args:
        state: folder to keep them in; None keeps them in memory alone.
        kind: of the samples.
        capacity: how many are kept.

    Attributes:
        count: samples ever observed.
    """

    file_name: ClassVar[str] = "samples.log"

    def __init__(self, state: StateFolder | None, kind: SampleSpec, capacity: int) -> None:
        self.kind, self.count = kind, 0
        self._samples: deque[bytes] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._file = None if state is None else state.file("samples.log", self._content)
        if self._file is not None:
            self._load(self._file.read(MAX_HISTORY_BYTES + 16 * MAX_GENERATOR_HISTORY + 2**10) or b"")

    def _load(self, content: bytes) -> None:
        payload = content[HEAD:]
        if content[:HEAD] != MAGIC + hashlib.sha256(payload).digest():
            return
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            kept = msgspec.msgpack.decode(payload, type=_Kept)
            if kept.count >= 0 and kept.kind == self.kind and all(map(self.kind.fits, kept.samples)):
                self.count = kept.count
                self._samples.extend(kept.samples)

    def _content(self) -> bytes | None:
        with self._lock:
            if not self._samples:
                return None
            payload = msgspec.msgpack.encode(_Kept(self.count, self.kind, list(self._samples)))
        return MAGIC + hashlib.sha256(payload).digest() + payload

    def __len__(self) -> int:
        return len(self._samples)

    def at_least(self, count: int) -> None:
        """Count from `count` on, where the log was lost and something else remembers how much there was."""
        with self._lock:
            self.count = max(self.count, count)

    def hold(self, capacity: int) -> None:
        """Keep as many from now on as a version reads; never fewer than before, for one may be gone back to."""
        with self._lock:
            if capacity > (self._samples.maxlen or 0):
                self._samples = deque(self._samples, capacity)

    def snapshot(self, length: int) -> tuple[list[bytes], int]:
        """The last `length` samples and the number ever observed, of one moment."""
        with self._lock:
            return list(islice(reversed(self._samples), max(0, length)))[::-1], self.count

    def append(self, samples: Iterable[bytes]) -> None:
        """Observe samples, oldest first."""
        with self._lock:
            for sample in samples:
                self._samples.append(sample)
                self.count += 1
        if self._file is not None:
            self._file.save()

    def clear(self) -> bool:
        """Forget every sample, on disk too; the count goes on, so no older theta looks fresh. Whether all is gone."""
        with self._lock:
            self._samples.clear()
        return self._file is None or self._file.erase()
