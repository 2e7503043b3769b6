"""Writing so that nothing is ever half-written: aside first, then one rename; reading that waits for nobody."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from duetgen.errors import OutputExistsError, OutputUnwritableError


def unwritable(path: Path, cause: OSError) -> OutputUnwritableError:
    """The refusal for an output that the operating system will not take."""
    if cause.errno == errno.ENOSPC:
        return OutputUnwritableError(f"no space left to write {path}", "free some space or choose another --out")
    return OutputUnwritableError(
        f"cannot write {path}: {cause.strerror or cause}", "choose another --out, or make the folder writable"
    )


def read_regular(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a regular file; of a pipe or a device nothing is read, nor waited for.

    Raises:
        OSError: it cannot be read, or is another kind of file.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with os.fdopen(handle, "rb") as file:
        return file.read(limit)


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all, for those whom `mode` names to read.

    Raises:
        OutputUnwritableError: the file cannot be written.
    """
    aside: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        aside = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(mode)
        aside.replace(path)
    except OSError as cause:
        if aside is not None:
            aside.unlink(missing_ok=True)
        raise unwritable(path, cause) from cause


@contextlib.contextmanager
def new_folder(path: Path, *, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """A folder that appears at `path` whole, when the block ends, or not at all.

    Args:
        path: where the folder shall be.
        marker: name of the file by which a folder of the same kind is known (`manifest.json`): with `overwrite`, only
            such a folder, or an empty one, is replaced.
        overwrite: replace a folder of the same kind.

    Yields:
        The folder to write into, beside `path`.

    Raises:
        OutputExistsError: something else is at `path`.
        OutputUnwritableError: the folder cannot be made, or the disk is full.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link at `path`
    try:
        occupied = path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir())))
        if occupied and not (overwrite and path.is_dir() and (path / marker).is_file()):
            kind = "a folder with other content" if path.is_dir() else "a file"
            hint = "choose another --out, or remove it first"
            if path.is_dir() and (path / marker).is_file():
                kind, hint = "the result of an earlier run", "give --overwrite to replace it, or choose another --out"
            raise OutputExistsError(f"{path} exists and is {kind}", hint)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as cause:
        raise unwritable(path, cause) from cause
    try:
        aside.chmod(0o755)
        yield aside
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            path.replace(old / "content")
            aside.replace(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            aside.replace(path)
    except OSError as cause:
        raise unwritable(path, cause) from cause
    finally:
        shutil.rmtree(aside, ignore_errors=True)
