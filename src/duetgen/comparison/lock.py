"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from duetgen.errors import DuetError

LOCK: Final = ".lock"


class FolderBusyError(DuetError):
    """Another process works in the same folder."""

    code = "folder-busy"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the operating system lets go of it when the process ends, however it ends.

    Raises:
        FolderBusyError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Not on this system: two at once are the user's own care.
        yield
        return
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            raise FolderBusyError(
                f"another process works in {folder}", "wait for it to end, or choose another --out"
            ) from cause
        yield
    finally:
        os.close(handle)
