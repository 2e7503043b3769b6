"""A zip archive with one log in it, read in place: nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from duetgen.data.errors import (
    ArchiveMembersError,
    ArchiveUnsafeError,
    InputCorruptError,
    InputEmptyError,
    InputTooLargeError,
)
from duetgen.wire import limits

CLIMBS: Final = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:")
SHOWN: Final = 8


@contextlib.contextmanager
def open_member(path: Path, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """The one log in a zip archive.

    Raises:
        ArchiveUnsafeError: a name that leads out of the archive, or a link.
        ArchiveMembersError: several files, or one behind a password.
        InputEmptyError: no file.
        InputTooLargeError, InputCorruptError
    """
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as cause:
        raise InputCorruptError(f"{path} is damaged zip: {cause}", "download or copy it again") from cause
    with archive:
        member = only_member(path, archive.infolist())
        try:
            content = archive.open(member)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as cause:
            raise InputCorruptError(f"{path}: cannot unpack {member.filename}: {cause}", "unpack it first") from cause
        with content:
            yield content


def only_member(path: Path, members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The one file among the members; what systems add of their own is no file.

    Raises:
        DuetError: see `open_member`.
    """
    if len(members) > limits.MAX_ARCHIVE_MEMBERS:
        raise InputTooLargeError(f"{path} holds {len(members):,} files", "unpack it, and name the log")
    for member in members:
        if not member.filename:  # All before a zero byte; the rest of the library takes it for granted.
            raise InputCorruptError(f"{path} is damaged zip: a file in it has no name", "download or copy it again")
        if CLIMBS.search(member.orig_filename) or stat.S_ISLNK(member.external_attr >> 16):
            raise ArchiveUnsafeError(
                f"{path} holds {member.orig_filename[:60]!r}, which leads out of the archive",
                "do not unpack it; ask where it comes from",
            )
    files = [
        member
        for member in members
        if not member.is_dir() and not any(name.startswith((".", "__MACOSX")) for name in member.filename.split("/"))
    ]
    names = ", ".join(member.filename[:60] for member in files[:SHOWN]) + (", …" if len(files) > SHOWN else "")
    if any(member.filename == "[Content_Types].xml" for member in files):
        raise ArchiveMembersError(f"{path} is an Office document, not a log", "save the sheet as CSV")
    if not files:
        raise InputEmptyError(f"{path} holds no file", "check how the archive was made")
    if len(files) > 1:
        raise ArchiveMembersError(f"{path} holds {len(files):,} files: {names}", "unpack it, and name the log")
    if files[0].flag_bits & 1:
        raise ArchiveMembersError(f"{path}: {names} is behind a password", "unpack it, and name the log")
    return files[0]
