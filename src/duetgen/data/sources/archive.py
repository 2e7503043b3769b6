"""Archives, zip and tar, read in place: nothing is unpacked to disk.

A path may go on inside an archive, `ml-1m.zip/ml-1m/ratings.dat`: the file of that name in it.
"""

from __future__ import annotations

import contextlib
import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from duetgen.data.errors import (
    ArchiveMembersError,
    ArchiveUnsafeError,
    InputCorruptError,
    InputEmptyError,
    InputMissingError,
    InputTooLargeError,
)
from duetgen.data.sources.packing import most_unpacked
from duetgen.wire import limits

CLIMBS: Final = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:")
SHOWN: Final = 8
ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
TAR_MAGIC: Final = (257, b"ustar")
LONG_HEADERS: Final = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)


def is_zip(start: bytes) -> bool:
    """Whether a stream that begins so is a zip."""
    return start.startswith(ZIP_MAGIC)


def is_tar(start: bytes) -> bool:
    """Whether a stream that begins so is a tar."""
    return start[TAR_MAGIC[0] :].startswith(TAR_MAGIC[1])


def names_in(path: Path, stream: IO[bytes]) -> list[str]:
    """The names of the files in a zip or a tar, in its order; what systems add of their own is no file.

    Raises:
        ArchiveUnsafeError: a name that leads out of the archive, or a link.
        ArchiveMembersError: a file behind a password, or an Office document.
        InputTooLargeError, InputCorruptError
    """
    if not is_tar(stream.peek(512)):  # type: ignore[attr-defined]
        with _zip(path, stream) as archive:
            return [member.filename for member in _files_of_zip(path, archive)]
    names: list[str] = []
    for _, member in _members_of_tar(path, stream):
        names.append(member.name)
        if len(names) > limits.MAX_ARCHIVE_MEMBERS:
            raise InputTooLargeError(f"{path} holds more than {limits.MAX_ARCHIVE_MEMBERS:,} files", "unpack it")
    return names


@contextlib.contextmanager
def open_member(path: Path, stream: IO[bytes], inside: str) -> Iterator[tuple[IO[bytes], str]]:
    """A file in an archive, and the rest of the path, which leads into that file where it is an archive too.

    Args:
        path: of the archive, for refusals.
        stream: of the archive; a zip must be able to seek.
        inside: the name of the file; empty: there is one alone.

    Raises:
        ArchiveMembersError: several files, and none is named.
        InputMissingError: there is none of that name.
        InputEmptyError: no file.
        DuetError: see `names_in`.
    """
    if is_tar(stream.peek(512)):  # type: ignore[attr-defined]
        for tar, member in _members_of_tar(path, stream):
            if not inside or _leads(inside, member.name):
                content: Any = tar.extractfile(member)
                yield content, inside[len(member.name) + 1 :]
                return
        raise _no_file(path, inside)
    with _zip(path, stream) as archive:
        files = _files_of_zip(path, archive)
        if not inside:
            only_one(path, [member.filename for member in files])
        named = next((member for member in files if not inside or _leads(inside, member.filename)), None)
        if named is None:
            raise _no_file(path, inside)
        try:
            packed = archive.open(named)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as cause:
            raise InputCorruptError(f"{path}: cannot unpack {named.filename}: {cause}", "unpack it first") from cause
        with packed:
            yield packed, inside[len(named.filename) + 1 :]


def only_one(path: Path, names: list[str]) -> None:
    """Refuse an archive that does not hold one file alone.

    Raises:
        InputEmptyError, ArchiveMembersError
    """
    if not names:
        raise InputEmptyError(f"{path} holds no file", "check how the archive was made")
    if len(names) > 1:
        listed = ", ".join(name[:60] for name in names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        raise ArchiveMembersError(
            f"{path} holds {len(names):,} files: {listed}", f"name the log in it, as {path}/{names[0][:60]}"
        )


def _leads(inside: str, name: str) -> bool:
    return inside == name or inside.startswith(f"{name}/")


def _no_file(path: Path, inside: str) -> InputMissingError | InputEmptyError:
    if not inside:
        return InputEmptyError(f"{path} holds no file", "check how the archive was made")
    return InputMissingError(f"{path} holds no file {inside[:100]}", "`unzip -l` or `tar -tf` lists what it holds")


def _zip(path: Path, stream: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as cause:
        raise InputCorruptError(f"{path} is damaged zip: {cause}", "download or copy it again") from cause


def _files_of_zip(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > limits.MAX_ARCHIVE_MEMBERS:
        raise InputTooLargeError(f"{path} holds {len(members):,} files", "unpack it, and name the log")
    for member in members:
        if not member.filename:  # All before a zero byte; the rest of the library takes it for granted.
            raise InputCorruptError(f"{path} is damaged zip: a file in it has no name", "download or copy it again")
        if CLIMBS.search(member.orig_filename) or stat.S_ISLNK(member.external_attr >> 16):
            raise _unsafe(path, member.orig_filename)
    files = [member for member in members if not member.is_dir() and not _of_the_system(member.filename)]
    if any(member.filename == "[Content_Types].xml" for member in files):
        raise ArchiveMembersError(f"{path} is an Office document, not a log", "save the sheet as CSV")
    if locked := [member.filename for member in files if member.flag_bits & 1]:
        raise ArchiveMembersError(f"{path}: {locked[0][:60]} is behind a password", "unpack it, and name the log")
    return files


def _unsafe(path: Path, name: str) -> ArchiveUnsafeError:
    return ArchiveUnsafeError(
        f"{path} holds {name[:60]!r}, which leads out of the archive", "do not unpack it; ask where it comes from"
    )


def _of_the_system(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != "." for part in name.split("/"))


class Entry(tarfile.TarInfo):
    """A member of a tar, whose headers are no longer than a name needs."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in LONG_HEADERS and self.size > limits.MAX_LINE_BYTES:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class Bounded(io.RawIOBase):
    """A stream that is read up to a limit: what is skipped in a tar is read too."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream, self.left = path, stream, most_unpacked(path)

    def read(self, size: int = -1) -> bytes:
        """As that of the stream.

        Raises:
            InputTooLargeError: there is more than the limit.
        """
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise InputTooLargeError(f"{self.path} unpacks to more than it should", "cut the log in parts")
        return data


def _members_of_tar(path: Path, stream: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The files of a tar, one by one: each can be read until the next is asked for."""
    try:
        with tarfile.open(fileobj=Bounded(path, stream), mode="r|", tarinfo=Entry) as archive:
            for member in archive:
                if CLIMBS.search(member.name) or not (member.isreg() or member.isdir()) or member.issparse():
                    raise _unsafe(path, member.name)
                if member.isreg() and not _of_the_system(member.name):
                    yield archive, member
                archive.members.clear()  # type: ignore[attr-defined]  # They are kept otherwise, all of them.
    except (tarfile.TarError, ValueError, UnicodeError) as cause:
        raise InputCorruptError(f"{path} is damaged tar: {cause}", "download or copy it again") from cause
