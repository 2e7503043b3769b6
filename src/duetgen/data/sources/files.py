"""Input files as bytes: checked, decompressed as they are read, and folders of parts as the files they hold."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from duetgen.data.errors import (
    InputCorruptError,
    InputEmptyError,
    InputIsFolderError,
    InputMissingError,
    InputTooLargeError,
    InputTruncatedError,
    InputUnreadableError,
    NotTextError,
)
from duetgen.data.sources.archive import open_member
from duetgen.wire import limits

WELL_KNOWN: Final = ("u.data", "ratings.dat", "ratings.csv", "train.txt", "train.txt.gz", "interactions.csv.gz")
TITLE_TABLES: Final = ("items.csv", "movies.csv")
"""Names of tables of titles that are looked for beside a log, or among its parts."""

ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
PACKED: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
FOREIGN: Final = {
    b"ARROW1": "an Arrow or Feather file",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
}
"""How files begin that people name, and that are not read; what to do is to write them as CSV or Parquet."""

TAR: Final = (257, b"ustar")


def require_file(path: Path) -> None:
    """Refuse a path that is no readable, non-empty regular file of acceptable size.

    Raises:
        InputMissingError, InputIsFolderError, InputUnreadableError, InputEmptyError, InputTooLargeError
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise InputMissingError(f"there is no file {path}", "check the path") from cause
    except (OSError, ValueError) as cause:
        raise InputUnreadableError(f"cannot read {path}: {cause}", "check the path and its permissions") from cause
    if stat.S_ISDIR(status.st_mode):
        raise InputIsFolderError(f"{path} is a folder, not a log file", _inside(path))
    if not stat.S_ISREG(status.st_mode):
        raise InputUnreadableError(f"{path} is not a regular file", "save the log to a file first")
    if not os.access(path, os.R_OK):
        raise InputUnreadableError(f"cannot read {path}: permission denied", "make the file readable")
    if status.st_size == 0:
        raise InputEmptyError(f"{path} is empty", "check how the file was downloaded or exported")
    if status.st_size > limits.MAX_INPUT_BYTES:
        raise InputTooLargeError(
            f"{path} has {status.st_size:,} bytes; at most {limits.MAX_INPUT_BYTES:,} are read", "cut the log in parts"
        )


def parts_of(path: Path) -> list[Path]:
    """The files of an input: itself, or the parts in a folder as Spark, Dask and the like write it.

    Empty and hidden files, those that begin with `_`, and a table of titles among others are no parts. Parts are in the
    order of the numbers in their names.

    Raises:
        InputIsFolderError: the folder holds nothing, or files with different endings, or a link to a folder.
        InputMissingError, InputUnreadableError: a part is a link to nothing, or no regular file.
        InputTooLargeError: it holds too many.
    """
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    for file in path.rglob("*"):
        if any(name.startswith((".", "_")) for name in file.relative_to(path).parts):
            continue
        if file.is_file() and not file.stat().st_size:
            continue
        if file.is_file():
            found.append(file)
            if len(found) > limits.MAX_PARTS:
                raise InputTooLargeError(f"{path} holds more than {limits.MAX_PARTS:,} files", "join the parts")
        elif file.is_symlink() or not file.is_dir():
            require_file(file)  # What cannot be read is no part to leave out in silence.
    found = [file for file in found if not names_titles(file)] or found
    endings = {
        "".join(file.suffixes[-2:] if file.suffix in (".gz", ".bz2", ".xz") else [file.suffix]) for file in found
    }
    if not found or len(endings) > 1:
        raise _no_parts(path, sorted(endings))
    return sorted(found, key=lambda file: [(int(n or 0), word) for n, word in NUMBERS.findall(str(file))])


def names_titles(path: Path) -> bool:
    """Whether a file is called as tables of titles beside a log are."""
    return path.name.removesuffix(".gz") in TITLE_TABLES


def _no_parts(path: Path, endings: list[str]) -> InputIsFolderError:
    what = f"files with the endings {', '.join(end or 'none' for end in endings[:8])}" if endings else "no file"
    return InputIsFolderError(f"{path} is a folder that holds {what}, and no parts of one log", _inside(path))


def _inside(path: Path) -> str:
    inside = [name for name in WELL_KNOWN if (path / name).is_file()]
    return f"did you mean {path / inside[0]}?" if inside else "name the log file inside it"


NUMBERS: Final = re.compile(r"(\d{0,18})(\D*)")


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, unpacked if it is gzip, bzip2, xz, or a zip with one file in it, whatever its name.

    Raises:
        InputTruncatedError, InputCorruptError: packed content that ends early or is damaged, when it is met.
        InputUnreadableError: the operating system refuses.
        ArchiveMembersError, ArchiveUnsafeError: see `open_member`.
        NotTextError: a file of a known kind that is no log.
    """
    require_file(path)
    try:
        with contextlib.ExitStack() as stack:
            # Every stream here can be peeked into, which their common type does not say.
            stream: Any = stack.enter_context(path.open("rb"))
            if stream.peek(4).startswith(ZIP_MAGIC):
                stream = stack.enter_context(open_member(path, stream))
            start = stream.peek(6)
            unpack = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), None)
            if unpack is not None:
                stream = stack.enter_context(unpack(stream))
                if stream.peek(6).startswith((*PACKED, *ZIP_MAGIC)):
                    raise NotTextError(f"{path} is packed twice", "unpack it once")
            elif start.startswith(ZIP_MAGIC):
                raise NotTextError(f"{path} is a zip in a zip", "unpack it once")
            _refuse_foreign(path, stream.peek(512))
            yield stream
    except EOFError as cause:
        raise InputTruncatedError(f"{path} ends in the middle of its packed stream", "download it again") from cause
    except (zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile) as cause:
        raise InputCorruptError(f"{path} is damaged: {cause}", "download or copy it again") from cause
    except OSError as cause:
        if not cause.errno:  # bz2 says "Invalid data stream" so.
            raise InputCorruptError(f"{path} is damaged: {cause}", "download or copy it again") from cause
        raise InputUnreadableError(f"cannot read {path}: {cause.strerror or cause}", "check the file") from cause


def _refuse_foreign(path: Path, start: bytes) -> None:
    kind = next((kind for magic, kind in FOREIGN.items() if start.startswith(magic)), None)
    if start[TAR[0] :].startswith(TAR[1]):
        kind = "a tar archive"
    if kind is not None:
        raise NotTextError(f"{path} is {kind}, not a log that is read here", "write the log as CSV or Parquet")
