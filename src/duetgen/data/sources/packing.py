"""Packed streams: gzip, bzip2, xz and zstd, unpacked as they are read, a little at a time."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from duetgen.errors import MissingExtraError
from duetgen.wire import limits

PIECE: Final = 8192
"""Packed bytes that are taken at once."""

ZSTD_PIECE: Final = 1024
"""The same of zstd, which unpacks all that it is given: they can be 32 MiB of zeros, and not more."""

MOST: Final = 2**17
"""Bytes that are unpacked at once, of the others."""

ZSTD_WINDOW: Final = 2**27
"""Largest window that is granted to a zstd stream, in bytes: that of `zstd --long`."""

ENDINGS: Final = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz")
"""Endings of names that say how a file is packed."""


class Frame(Protocol):
    """What unpacks a stream up to the end of one frame, as `bz2` and `lzma` have it."""

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes of what was taken in."""

    @property
    def unused_data(self) -> bytes:
        """What was taken in and lies behind the frame."""

    def decompress(self, data: bytes, most: int, /) -> bytes:
        """Take a piece in."""


class Frames(io.RawIOBase):
    """The content of a packed stream of one or more frames. Zeros may lie between them and behind the last, as xz and
    tapes pad; nothing else may. (`bz2.open` and `lzma.open` take a damaged frame, or whatever else lies behind one, for
    the end.)

    Args:
        stream: what is packed.
        begin: makes what unpacks the next frame.
        damaged: what that raises.
        piece: packed bytes to take at once.
    """

    def __init__(self, stream: Any, begin: Callable[[], Frame], damaged: type[Exception], piece: int = PIECE) -> None:
        self._stream, self._begin, self._damaged, self._piece = stream, begin, damaged, piece
        self._frame: Frame | None = None
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
        except self._damaged as cause:
            raise OSError(str(cause)) from cause
        count = min(len(buffer), len(self._out))
        buffer[:count] = self._out[:count]
        self._out = self._out[count:]
        return count

    def _fill(self) -> bool:
        """Take a piece in; False at the end."""
        frame, piece = self._frame, b""
        if frame is None or frame.eof:
            piece = frame.unused_data.lstrip(b"\0") if frame else b""
            while not piece:
                taken = self._stream.read(self._piece)
                if not taken:
                    return False
                piece = taken.lstrip(b"\0")
            self._frame = frame = self._begin()
        elif frame.needs_input:
            piece = self._stream.read(self._piece)
            if not piece:
                raise EOFError
        self._out = frame.decompress(piece, MOST)
        return True


class ZstdFrame:
    """A frame of zstd, in the form of the others; whatever comes of a piece comes at once."""

    needs_input = True

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        """What was taken in and lies behind the frame."""
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, _: int, /) -> bytes:
        """Take a piece in."""
        return bytes(self._inner.decompress(data))


def _bzip2(stream: Any) -> io.BufferedReader:
    return io.BufferedReader(Frames(stream, bz2.BZ2Decompressor, OSError), 2**17)


def _xz(stream: Any) -> io.BufferedReader:
    return io.BufferedReader(Frames(stream, lzma.LZMADecompressor, lzma.LZMAError), 2**17)


def _zstd(stream: Any) -> io.BufferedReader:
    try:
        import zstandard
    except ModuleNotFoundError as cause:
        raise MissingExtraError("a log packed with zstd needs zstandard", "install duetgen[train]") from cause
    unpacking = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frames = Frames(stream, lambda: ZstdFrame(unpacking.decompressobj()), zstandard.ZstdError, ZSTD_PIECE)
    return io.BufferedReader(frames, 2**17)


PACKED: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": _bzip2,
    b"\xfd7zXZ\0": _xz,
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
