"""Packed streams: gzip, bzip2, xz and zstd, unpacked as they are read, a little at a time."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from duetgen.errors import MissingExtraError
from duetgen.wire import limits

ZSTD_PIECE: Final = 1024
"""Packed bytes that are taken at once: they can be 32 MiB of zeros, and not more."""

ZSTD_WINDOW: Final = 2**27
"""Largest window that is granted to a zstd stream, in bytes: that of `zstd --long`."""

ENDINGS: Final = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz")
"""Endings of names that say how a file is packed."""


class Zstd(io.RawIOBase):
    """The content of a zstd stream of one or more frames."""

    def __init__(self, stream: Any) -> None:
        try:
            import zstandard
        except ModuleNotFoundError as cause:
            raise MissingExtraError("a log packed with zstd needs zstandard", "install duetgen[train]") from cause
        self.damaged = zstandard.ZstdError
        self._stream = stream
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        self._frame: Any = None
        self._out = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, or less of it.

        Raises:
            EOFError: the stream ends inside a frame.
            OSError: it is damaged; without a number.
        """
        try:
            while not self._out and self._fill():
                pass
        except self.damaged as cause:
            raise OSError(str(cause)) from cause
        count = min(len(buffer), len(self._out))
        buffer[:count] = self._out[:count]
        self._out = self._out[count:]
        return count

    def _fill(self) -> bool:
        """Take a piece in; False at the end."""
        piece = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
        piece = piece or self._stream.read(ZSTD_PIECE)
        if not piece:
            if self._frame is not None and not self._frame.eof:
                raise EOFError
            return False
        if self._frame is None or self._frame.eof:
            self._frame = self._decompressor.decompressobj()
        self._out = self._frame.decompress(piece)
        return True


def _zstd(stream: Any) -> io.BufferedReader:
    return io.BufferedReader(Zstd(stream), 2**17)


PACKED: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x50\x2a\x4d\x18": _zstd,  # A frame to skip, with which a file begins that pzstd packed.
}
"""What unpacks a stream, by how it begins."""


def opener_of(start: bytes) -> Callable[[Any], Any] | None:
    """What unpacks a stream that begins so; None where it is not packed."""
    return next((opener for magic, opener in PACKED.items() if start.startswith(magic)), None)


def bare(name: str) -> str:
    """A file's name without the endings that say how it is packed."""
    while name.endswith(ENDINGS):
        name = name.rsplit(".", 1)[0]
    return name


def most_rows(path: Path) -> int:
    """How many rows a Parquet file may have: it can say in a few bytes that one row comes again and again."""
    size = path.stat().st_size
    return min(limits.MAX_EVENTS, max(limits.UNPACKED_ROWS, limits.MAX_UNPACKED_RATIO * size))


def most_unpacked(path: Path) -> int:
    """How many bytes a file may unpack to: more than any log would, and too few for a bomb to do harm."""
    size = path.stat().st_size
    return min(limits.MAX_DECOMPRESSED_BYTES, max(limits.UNPACKED_BYTES, limits.MAX_UNPACKED_RATIO * size))
