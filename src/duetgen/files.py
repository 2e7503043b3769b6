"""Writing so that nothing is ever half-written: aside first, then one rename; reading that waits for nobody.

What is aside has a hidden name beside its place and is locked by who writes it, so that the next write to that place
tells what a killed process left there and sweeps it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Final

from duetgen.errors import OutputExistsError, OutputUnwritableError

ASIDE: Final = ".duet"
"""How a hidden name ends: `.NAME.xxxxxxxx.duet`."""
KEPT: Final = ".old"
"""Ends the name of a folder that waits for another to take its place, where the file system cannot exchange them."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
BLOCK: Final = 2**16
"""Free bytes below which a disk that takes no more is called full, where the cause is not told, as by numpy."""
TRIES: Final = 3
"""How often what is made aside is made again where it cannot be locked at once."""
CUT: Final = re.compile(r"\d+ requested and \d+ written")
"""What numpy says where a disk takes no more; what filled it may be removed by then."""
CLOSED: Final = {
    "dataset folder": ("manifest.json", "sequences/events.npy"),
    "bundle": ("manifest.json", "signature.json"),
}
"""Folders that hold their own files alone, and files by which they are known from outside. With another file in it, the
first does not grow, and the second is refused."""


def unwritable(path: Path, cause: OSError) -> OutputUnwritableError:
    """The refusal for an output that the operating system will not take."""
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() fails where links go round
    while not os.path.ismount(place) and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if cause.errno in FULL or (cause.errno is None and (free < BLOCK or CUT.search(str(cause)))):
        return OutputUnwritableError(
            f"no space left to write {path}: the disk at {place} has {free:,} bytes free",
            "free some space or choose another --out",
        )
    return OutputUnwritableError(
        f"cannot write {path}: {cause.strerror or cause}", "choose another --out, or make the folder writable"
    )


def open_regular(path: Path) -> BufferedReader:
    """A regular file, to be read; a pipe or a device is not waited for.

    Raises:
        OSError: it cannot be read, or is another kind of file.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path, limit: int = -1) -> bytes:
    """At most `limit` bytes of a regular file, or all.

    Raises:
        OSError: it cannot be read, or is another kind of file.
    """
    with open_regular(path) as file:
        return file.read(limit)


def write_bytes(path: Path, content: bytes, mode: int = 0o666, *, replace: bool = True) -> None:
    """Write a file whole or not at all, for those whom `mode` and the process's umask let read it.

    Raises:
        OutputExistsError: it is there, and not to be replaced.
        OutputUnwritableError: the file cannot be written.
    """
    aside: Path | None = None
    try:
        sweep(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        aside, handle = claim(path, lambda aside: os.open(aside, flags, mode))
        assert handle is not None
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if replace:
                aside.replace(path)
            else:
                _place(aside, path)
    except FileExistsError as cause:
        raise OutputExistsError(f"{path} exists and is never overwritten", "choose another --out") from cause
    except OSError as cause:
        raise unwritable(path, cause) from cause
    finally:
        if aside is not None:
            remove(aside)


def claim(path: Path, make: Callable[[Path], int | None]) -> tuple[Path, int | None]:
    """Something with a hidden name beside `path`, and locked: its place and its open handle.

    Who sweeps may find it before it is locked, and remove it, or hold its lock for a moment: then it is made again.

    Args:
        path: the place.
        make: makes it under a name, and opens it; None: it cannot be opened here.
    """
    tries = TRIES
    while True:
        aside, handle = beside(path), None
        with contextlib.nullcontext() if not tries else contextlib.suppress(FileNotFoundError):
            handle = make(aside)
            if handle is None or (lock(handle) and is_at(aside, handle)) or not tries:
                return aside, handle
        tries -= 1
        if handle is not None:
            os.close(handle)
        remove(aside)


def is_at(path: Path, handle: int) -> bool:
    """Whether what is open is what bears a name."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def beside(path: Path) -> Path:
    """A hidden name beside a place that nothing has."""
    return path.parent / f".{path.name}.{secrets.token_hex(4)}{ASIDE}"


def _place(aside: Path, path: Path) -> None:
    """Give a file its name, which nothing has yet; where there are no links, the name is taken first."""
    try:
        os.link(aside, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            aside.replace(path)
        except OSError:
            remove(path)
            raise


@contextlib.contextmanager
def new_folder(path: Path, *, marker: str, own: Collection[str] = (), overwrite: bool = False) -> Iterator[Path]:
    """A folder that appears at `path` whole, when the block ends, or not at all.

    Args:
        path: where the folder shall be.
        marker: name of the file by which a folder of the same kind is known (`manifest.json`): with `overwrite`, only
            such a folder, or an empty one, is replaced.
        own: names of the other files of the folder that is replaced; if it holds anything else, it stays.
        overwrite: replace a folder of the same kind.

    Yields:
        The folder to write into, beside `path`.

    Raises:
        OutputExistsError: something else is at `path`, or in the folder that is there.
        OutputUnwritableError: the folder cannot be made, or the disk is full.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link at `path`
    try:
        check_outside(path)
        sweep(path)
        occupied = is_occupied(path)
        if occupied and not (overwrite and path.is_dir() and (path / marker).is_file()):
            kind = "a folder with other content" if path.is_dir() else "a file"
            hint = "choose another --out, or remove it first"
            if path.is_dir() and (path / marker).is_file():
                kind, hint = "the result of an earlier run", "give --overwrite to replace it, or choose another --out"
            raise OutputExistsError(f"{path} exists and is {kind}", hint)
        if occupied:
            check_own(path, {marker, *own})
        path.parent.mkdir(parents=True, exist_ok=True)
        with folder_aside(path) as aside:
            try:
                yield aside
                if not (occupied or overwrite) and is_occupied(path):
                    raise OutputExistsError(f"another process has made {path} meanwhile", "choose another --out")
                put(aside, path)
            except OSError as cause:  # Told of before what filled the disk is removed.
                raise unwritable(path, cause) from cause
    except OSError as cause:
        raise unwritable(path, cause) from cause


def is_occupied(path: Path) -> bool:
    """Whether anything but an empty folder is there."""
    return path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir())))


def check_outside(path: Path) -> None:
    """Refuse a place inside a dataset folder or a bundle.

    Raises:
        OutputExistsError: naming it.
    """
    for above in Path(os.path.realpath(path)).parents:
        for kind, names in CLOSED.items():
            if all((above / name).is_file() for name in names):
                raise OutputExistsError(
                    f"{path} is inside the {kind} {above}, which holds its own files alone",
                    "choose another --out, outside of it",
                )


def check_own(folder: Path, own: Collection[str]) -> None:
    """Refuse to replace a folder that holds anything but its own files.

    Raises:
        OutputExistsError: naming what it holds.
    """
    folders = {above.as_posix() for name in own for above in PurePosixPath(name).parents}
    for found in sorted(folder.rglob("*")):
        name = found.relative_to(folder).as_posix()
        if name not in (folders if found.is_dir() else own):
            raise not_of_it(folder, name)


def not_of_it(folder: Path, name: str) -> OutputExistsError:
    """The refusal to replace a folder that holds something of somebody else's."""
    return OutputExistsError(
        f"{folder} holds {name}, which is not of it and would be lost", "move it away, or choose another --out"
    )


@contextlib.contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """A new folder with a hidden name beside `path`; what bears that name when the block ends is removed."""

    def make(aside: Path) -> int | None:
        aside.mkdir()
        return os.open(aside, os.O_RDONLY) if os.name == "posix" else None

    aside, handle = claim(path, make)
    try:
        yield aside
    finally:
        remove(aside)
        if handle is not None:
            os.close(handle)


def put(aside: Path, path: Path) -> None:
    """Rename a folder to `path`; what is there gets the folder's name, so that one of the two is always there."""
    if not os.path.lexists(path):
        aside.rename(path)
    elif not exchange(aside, path):
        kept = aside.with_name(aside.name + KEPT)
        path.rename(kept)
        try:
            aside.rename(path)
        except OSError:
            kept.rename(path)
            raise
        kept.rename(aside)


def exchange(one: Path, other: Path) -> bool:
    """Give two folders each other's name in one step; False where the system or the file system cannot."""
    if os.name != "posix":
        return False
    import ctypes

    library = ctypes.CDLL(None)
    names, here, swap = (os.fsencode(one), os.fsencode(other)), -100, 2
    if linux := getattr(library, "renameat2", None):
        return bool(linux(here, names[0], here, names[1], swap) == 0)
    if macos := getattr(library, "renamex_np", None):
        return bool(macos(*names, swap) == 0)
    return False


def sweep(path: Path) -> None:
    """Remove what a killed process left aside for `path`, or put it back where `path` is gone.

    What another process still writes is locked and stays, as does everything where nothing can be locked.
    """
    name = re.compile(rf"(\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(ASIDE)})({re.escape(KEPT)})?")
    with contextlib.suppress(OSError):
        left = [found for one in os.listdir(path.parent) if (found := name.fullmatch(one))]  # noqa: PTH208
        for found in sorted(left, key=lambda one: one[2] is None):
            aside = path.parent / found[0]
            back = found[2] is not None and not os.path.lexists(path)
            # Still locked while it is taken: nobody claims it in between.
            with abandoned(path.parent / found[1] if back else aside) as free:
                if free and back:
                    aside.rename(path)
                elif free:
                    remove(aside)


def is_abandoned(path: Path) -> bool:
    """Whether nobody holds the lock of a file or folder."""
    with abandoned(path) as free:
        return free


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of a file or folder; where that is so, it is held until the block ends."""
    if path.is_symlink() or not path.exists():
        yield True
        return
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        yield False
        return
    try:
        yield lock(handle)
    finally:
        os.close(handle)


def lock(handle: int) -> bool:
    """Lock an open file or folder for this process until it is closed; False where another holds it, or none can.

    The operating system lets go of it when the process ends, however it ends.
    """
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, as far as that goes."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
