"""The folder of a long job: one process at a time works in it, the same job takes it up, and another may replace it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from duetgen.errors import DuetError, OutputExistsError
from duetgen.files import ASIDE, check_outside, folder_aside, not_of_it, put, sweep, unwritable

LOCK: Final = ".lock"


class FolderBusyError(DuetError):
    """Another process works in the same folder."""

    code = "folder-busy"


@dataclass(frozen=True)
class Job:
    """What a folder is made for.

    Attributes:
        name: what such a folder is called: `a run folder`.
        other: what one of another job is told to hold: `a run with other settings or data`.
        marker: name of the file by which the folder is known; it appears when the job has begun.
        begin: writes what a folder of the job begins with into a folder.
        differs: in what the folder that is there, which has the marker, is of another job; empty where it is of this.
        own: names of what else the job puts there; a folder that holds anything but these is not replaced.
        early: those that may be there before the marker is.
    """

    name: str
    other: str
    marker: str
    begin: Callable[[Path], None]
    differs: Callable[[], str]
    own: frozenset[str]
    early: frozenset[str] = frozenset()

    def check(self, root: Path, overwrite: bool) -> None:
        """Refuse a place that the job cannot have.

        Raises:
            OutputExistsError: something else is there, or in the folder that would be replaced; or the place is inside
                a dataset folder.
        """
        check_outside(root)
        if os.path.lexists(root) and not root.is_dir():
            raise OutputExistsError(f"{root} is a file", "choose another --out")
        if (root / self.marker).is_file():
            if not overwrite and (difference := self.differs()):
                raise OutputExistsError(
                    f"{root} holds {self.other}: {difference}",
                    "give the same to go on with it, --overwrite to replace it, or another --out",
                )
            if overwrite and (name := strange(root, {self.marker, *self.own})):
                raise not_of_it(root, name)
        elif root.is_dir() and strange(root, self.early):
            raise OutputExistsError(f"{root} exists and is not {self.name}", "choose another --out")


def strange(root: Path, own: Collection[str]) -> str:
    """The name of something in the folder of a job that has none of these names; empty where there is nothing."""
    names = sorted(path.name for path in root.iterdir())
    return next((name for name in names if name not in (LOCK, *own) and not name.endswith(ASIDE)), "")


@contextlib.contextmanager
def work_in(root: Path, job: Job, *, overwrite: bool = False) -> Iterator[None]:
    """Make the folder of a job, take up one of the same job, or replace one of its kind, and hold it for this process.

    A folder that is replaced stays until the new one has begun: killed at any moment, one of them is there.

    Raises:
        OutputExistsError: something else is there.
        OutputUnwritableError: it cannot be made.
        FolderBusyError: another process works in it.
    """
    root = Path(os.path.realpath(root))
    with contextlib.ExitStack() as held:
        try:
            sweep(root)
            job.check(root, overwrite)
            if not root.exists():
                held.callback(remove_empty, root)
            root.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone_in(root))
            job.check(root, overwrite)  # Another process may have made it since.
            if not (root / job.marker).is_file():
                job.begin(root)
            elif overwrite:
                with folder_aside(root) as aside:
                    job.begin(aside)
                    put(aside, root)
                    held.enter_context(alone_in(root))
        except OSError as cause:
            raise unwritable(root, cause) from cause
        yield


def remove_empty(folder: Path) -> None:
    """Remove the folder of a job that has not begun."""
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the operating system lets go of it when the process ends, however it ends.

    Raises:
        FolderBusyError: another process holds it.
        OSError: the folder is gone, or cannot be written to.
    """
    try:
        import fcntl
    except ImportError:  # Not on this system: two at once are the user's own care.
        yield
        return
    path = folder / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            os.close(handle)
            raise FolderBusyError(
                f"another process works in {folder}", "wait for it to end, or choose another --out"
            ) from cause
        except OSError:  # Not on this file system, as above.
            break
        if _is_at(handle, path):
            break
        os.close(handle)  # The one before removed it, or the whole folder, after this one had opened it.
    try:
        yield
    finally:
        if _is_at(handle, path):
            path.unlink(missing_ok=True)
        os.close(handle)


def sweep_lock(folder: Path) -> None:
    """Remove the lock that a killed process left, if nobody holds it."""
    if (folder / LOCK).exists():
        with contextlib.suppress(FolderBusyError, OSError), alone_in(folder):
            pass


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False
