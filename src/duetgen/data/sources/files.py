"""Input files as bytes: checked, decompressed as they are read, and folders of parts as the files they hold."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import IO, Any, Final

from duetgen.data.errors import (
    ArchiveMembersError,
    InputCorruptError,
    InputEmptyError,
    InputIsFolderError,
    InputMissingError,
    InputTooLargeError,
    InputTruncatedError,
    InputUnreadableError,
    NotTextError,
)
from duetgen.data.sources.archive import is_tar, is_zip, names_in, only_one, open_member
from duetgen.data.sources.packing import ENDINGS, bare, opener_of
from duetgen.wire import limits

TITLE_TABLES: Final = ("items.csv", "movies.csv")
"""Names of tables of titles that are looked for beside a log, or among its parts."""
DESCRIPTIONS: Final = ("README", "LICENSE", "LICENCE", "COPYING", "CITATION", "CHANGELOG")
"""Names, whatever their ending, of what people put beside a log to say what it is."""

FOREIGN: Final = {
    b"ARROW1": "an Arrow or Feather file",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
}
"""How files begin that people name, and that are not read; what to do is to write them as CSV or Parquet."""

INSTEAD: Final = {
    (b"<!doctype html", b"<html"): (
        "a web page",
        "it came in place of the log: open it in a browser, and get the log again",
    ),
    (b"version https://git-lfs",): ("a pointer of Git LFS", "get the log itself with `git lfs pull`"),
}
"""How texts begin, in small letters, that come in place of a log; and what to do."""

MAX_LAYERS: Final = 6
"""Archives and packings around a log."""


def on_disk(path: Path) -> tuple[Path, str]:
    """The file itself, and the rest of a path that goes on inside it: the name of a file in an archive, or empty."""
    with contextlib.suppress(OSError):  # A name that no file can have is refused later.
        for parent in (path, *path.parents):
            if parent.is_file():
                return parent, "" if parent == path else path.relative_to(parent).as_posix()
            if parent.exists():
                break
    return path, ""


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
        raise InputIsFolderError(f"{path} is a folder, not a log file", "name the log file inside it")
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


def parts_of(path: Path, logs: tuple[str, ...] = ()) -> list[Path]:
    """The files of an input: itself, the log in a folder or an archive as it is published, or the parts in a folder.

    A folder of parts is one as Spark, Dask and the like write it. Empty and hidden files, those that begin with `_`,
    and a readme, a licence or a table of titles among others are no parts. Parts are in the order of the numbers in
    their names.

    Args:
        path: a file, a folder, or a path into an archive.
        logs: patterns of the names that logs have where they are published.

    Raises:
        InputIsFolderError: the folder holds nothing, or files with different endings, or a link to a folder.
        ArchiveMembersError: the archive holds several files, and no or more than one log.
        InputMissingError, InputUnreadableError: a part is a link to nothing, or no regular file.
        InputTooLargeError: it holds too many.
    """
    folder = path.is_dir()
    names = None if folder else names_inside(path)
    if not folder and names is None:
        return [path]
    found = _files_below(path) if names is None else [path / name for name in names]
    found = [file for file in found if not names_titles(file)] or found
    known = [file for file in found if any(fnmatchcase(bare(file.name), pattern) for pattern in logs)]
    depth = min((len(file.parts) for file in known), default=0)
    highest = [file for file in known if len(file.parts) == depth]
    if len(highest) == 1:
        return parts_of(highest[0], logs)
    if highest and len(highest) < len(found):
        raise _several(path, highest)
    found = [file for file in found if not _describes(file)] or found
    if names is not None:
        only_one(path, [str(file.relative_to(path)) for file in found])
        return found
    packed = {suffix for suffix in ENDINGS if suffix != ".tar"}
    endings = {"".join(file.suffixes[-2:] if file.suffix in packed else [file.suffix]) for file in found}
    if not found or len(endings) > 1:
        raise _no_parts(path, sorted(endings))
    return sorted(found, key=lambda file: [(int(n or 0), word) for n, word in NUMBERS.findall(str(file))])


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for file in folder.rglob("*"):
        if any(name.startswith((".", "_")) for name in file.relative_to(folder).parts):
            continue
        if file.is_file() and not file.stat().st_size:
            continue
        if file.is_file():
            found.append(file)
            if len(found) > limits.MAX_PARTS:
                raise InputTooLargeError(f"{folder} holds more than {limits.MAX_PARTS:,} files", "join the parts")
        elif file.is_symlink() or not file.is_dir():
            require_file(file)  # What cannot be read is no part to leave out in silence.
    return found


def names_titles(path: Path) -> bool:
    """Whether a file is called as tables of titles beside a log are."""
    return bare(path.name) in TITLE_TABLES


def _describes(path: Path) -> bool:
    return path.name.partition(".")[0].upper() in DESCRIPTIONS


def beside(path: Path, names: tuple[str, ...]) -> Path | None:
    """The first file of one of these names, packed or not, in the folder of a file, be it on disk or in an archive."""
    file, inside = on_disk(path)
    if not inside:
        for name, ending in product(names, ("", *ENDINGS)):
            found = file.parent / f"{name}{ending}"
            if found != file and found.is_file() and found.stat().st_size:
                return found
        return None
    archive = next(parent for parent in path.parents if parent == file or _is_archive(parent))
    near = [archive / name for name in names_inside(archive) or ()]
    near = [other for other in near if other.parent == path.parent and other != path]
    return next((found for name in names for found in near if bare(found.name) == name), None)


def _is_archive(path: Path) -> bool:
    try:
        return names_inside(path) is not None
    except InputMissingError:
        return False


def _several(path: Path, logs: list[Path]) -> InputIsFolderError | ArchiveMembersError:
    names = ", ".join(str(file.relative_to(path))[:60] for file in sorted(logs)[:8])
    message, hint = f"{path} holds {len(logs)} logs: {names}", f"name one, as {min(logs)}"
    return InputIsFolderError(message, hint) if path.is_dir() else ArchiveMembersError(message, hint)


def _no_parts(path: Path, endings: list[str]) -> InputIsFolderError:
    what = f"files with the endings {', '.join(end or 'none' for end in endings[:8])}" if endings else "no file"
    return InputIsFolderError(
        f"{path} is a folder that holds {what}, and no parts of one log", "name the log file inside it"
    )


NUMBERS: Final = re.compile(r"(\d{0,18})(\D*)")


def names_inside(path: Path) -> list[str] | None:
    """The names of the files in an archive; None where it is none.

    Raises:
        DuetError: see `open_input`.
    """
    file, inside = on_disk(path)
    require_file(file)
    status = file.stat()
    return _names_inside(file, inside, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _names_inside(file: Path, inside: str, size: int, changed: int) -> list[str] | None:
    """Kept, for a packed tar is read from end to end to tell them."""
    with _unpacked(file, inside, listing=True) as stream:
        start = stream.peek(512)  # type: ignore[attr-defined]
        return names_in(file, stream) if is_zip(start) or is_tar(start) else None


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, unpacked if it is gzip, bzip2, xz, zstd, zip or tar, whatever its name.

    Args:
        path: of the file; it may go on inside an archive, and must where that holds several files.

    Raises:
        InputTruncatedError, InputCorruptError: packed content that ends early or is damaged, when it is met.
        InputUnreadableError: the operating system refuses.
        ArchiveMembersError, ArchiveUnsafeError, InputMissingError: see `open_member`.
        NotTextError: a file of a known kind that is no log.
    """
    file, inside = on_disk(path)
    with _unpacked(file, inside) as stream:
        _refuse_foreign(path, stream.peek(512))  # type: ignore[attr-defined]
        yield stream


@contextlib.contextmanager
def _unpacked(path: Path, inside: str, *, listing: bool = False) -> Iterator[IO[bytes]]:
    """The stream behind all layers; to list what an archive holds, the archive itself."""
    require_file(path)
    try:
        with contextlib.ExitStack() as stack:
            # Every stream here can be peeked into, which their common type does not say.
            stream: Any = stack.enter_context(path.open("rb"))
            packed = archived = False
            for _ in range(MAX_LAYERS):
                start = stream.peek(512)
                if (opener := opener_of(start)) is not None:
                    if packed:
                        raise NotTextError(f"{path} is packed twice", "unpack it once")
                    stream, packed = stack.enter_context(opener(stream)), True
                elif is_zip(start) and (packed or archived):
                    raise NotTextError(f"{path} is a zip in a zip", "unpack it once")
                elif (is_zip(start) or is_tar(start)) and not (listing and not inside):
                    stream, inside = stack.enter_context(open_member(path, stream, inside))
                    packed, archived = False, True
                else:
                    break
            if inside:
                raise InputMissingError(f"there is no file {path}/{inside}", "check the path")
            yield stream
    except EOFError as cause:
        raise InputTruncatedError(f"{path} ends in the middle of its packed stream", "download it again") from cause
    except (zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError) as cause:
        raise InputCorruptError(f"{path} is damaged: {cause}", "download or copy it again") from cause
    except OSError as cause:
        if not cause.errno:  # bz2 says "Invalid data stream" so.
            raise InputCorruptError(f"{path} is damaged: {cause}", "download or copy it again") from cause
        raise InputUnreadableError(f"cannot read {path}: {cause.strerror or cause}", "check the file") from cause


def _refuse_foreign(path: Path, start: bytes) -> None:
    kind = next((kind for magic, kind in FOREIGN.items() if start.startswith(magic)), None)
    if kind is not None:
        raise NotTextError(f"{path} is {kind}, not a log that is read here", "write the log as CSV or Parquet")
    text = start.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for begins, (what, hint) in INSTEAD.items():
        if text.startswith(begins):
            raise NotTextError(f"{path} is {what}, not a log", hint)
