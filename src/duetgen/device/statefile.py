"""One file of the state folder: written whole or not at all, or longer by whole pieces; bounded when it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from duetgen.files import open_regular, write_bytes
from duetgen.wire.limits import MAX_STATE_BYTES

if TYPE_CHECKING:
    from duetgen.device.state import StateFolder

T = TypeVar("T")
NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
"""A pipe in a file's place would hold whoever opens it."""


class StateFile:
    """Made by `StateFolder.file`.

    Attributes:
        stale: whether the file does not hold what it should.
    """

    def __init__(self, folder: StateFolder, name: str, content: Callable[[], bytes | None]) -> None:
        self.folder, self.path, self.content = folder, folder.root / name, content
        self.stale = False
        self._there = False
        self._handle: int | None = None
        self._size = 0

    def read(self, limit: int) -> bytes | None:
        """The last `limit` bytes at most; None if it is not there, or is no file that can be read."""
        try:
            with open_regular(self.path) as file:
                self._size, self._there = os.fstat(file.fileno()).st_size, True
                file.seek(max(0, self._size - limit))
                return file.read(limit)
        except OSError:
            return None

    def load(self, kind: type[T]) -> T | None:
        """The struct that it holds as JSON; None for anything else, whatever that is."""
        content = self.read(MAX_STATE_BYTES)
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None if content is None else msgspec.json.decode(content, type=kind)
        return None

    def save(self) -> bool:
        """Write it whole. Whether the disk took it; if not, the next write that succeeds in the folder writes it."""
        with self.folder.lock:
            self.stale = True
            return self.folder.attempt(self.write)

    def write(self) -> None:
        """Write it whole.

        Raises:
            OSError, OutputUnwritableError: the disk does not take it.
        """
        self.close()
        content = self.content()
        if content is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            write_bytes(self.path, content, 0o600)
            self._size = len(content)
        self.stale, self._there = False, content is not None

    def lost(self) -> bool:
        """Whether somebody removed it: it was there, and was not erased."""
        return self._there and not os.path.lexists(self.path)

    def append(self, more: bytes) -> bool:
        """Make it longer, by one write; or write it whole, where it is not what it was. Whether the disk took it."""
        with self.folder.lock:
            return self.folder.attempt(lambda: self._append(more))

    def _append(self, more: bytes) -> None:
        if self.stale or not self._attached():
            self.stale = True
            self.write()
            return
        assert self._handle is not None
        self.stale = True
        if os.write(self._handle, more) != len(more):
            raise OSError("the disk took a part")
        self._size += len(more)
        self.stale = False

    def _attached(self) -> bool:
        """Whether the open file is the one at the path, and as long as it was left."""
        try:
            if self._handle is None:
                self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | NO_WAIT)
            mine, there = os.fstat(self._handle), self.path.stat()
        except OSError:
            return False
        return os.path.samestat(mine, there) and there.st_size == self._size

    def erase(self) -> bool:
        """Remove it. Whether it is gone."""
        with self.folder.lock:
            self.close()
            gone = self.folder.erase(self.path)
            # What is left of it is never made longer, and goes with the next write that succeeds.
            self.stale = self._there = not gone
            return gone

    def close(self) -> None:
        """Let go of the open file; it opens again by itself."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None
