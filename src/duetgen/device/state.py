"""The state folder of a device: one process at a time, its files for their owner alone.

```
device.json    the device's id, where none was given
events.log     what the device has seen, see `log`; of a model of samples samples.log, see `sample_log`
theta/         the last good theta of each version kept, see `store`
requests.json  requests of the day
versions/, versions.json   downloaded versions, see `updates`
lock           held by the process that runs the device
```

What the disk does not take, or somebody removed, stays in memory, and is written with the next write that succeeds. A
folder that was removed and made anew is taken again, and everything is written into it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from duetgen.device.checks import DEVICE_ID
from duetgen.device.errors import StateInUseError
from duetgen.device.statefile import StateFile
from duetgen.errors import OutputUnwritableError
from duetgen.files import unwritable

NAMES: Final = ("device.json", "events.log", "samples.log", "requests.json", "versions.json")
THETA: Final = "theta"
ELSEWHERE: Final = "free some space or make the folder writable, or give another `state`"


class _Identity(msgspec.Struct):
    device: str


class StateFolder:
    """A state folder, made if need be, and held until `release`.

    Args:
        root: the folder; only its owner may read what is in it.

    Attributes:
        lock: held while anything in the folder changes.
        errors: writes and removals that the disk did not take.

    Raises:
        StateInUseError: another process holds it.
        OutputUnwritableError: it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        # The application may go to another folder; a user who is not there is part of a name, as in a shell.
        self.root = root = Path(os.path.expanduser(root)).absolute()  # noqa: PTH111 - the other one raises
        self.lock = threading.RLock()
        self.errors = 0
        self._files: dict[str, StateFile] = {}
        self._held: int | None = None
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / THETA).mkdir(mode=0o700, exist_ok=True)
            self._held = self._hold()
        except OSError as cause:
            raise OutputUnwritableError(unwritable(root, cause).message, ELSEWHERE) from cause
        self._tidy()

    def _hold(self) -> int:
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            import fcntl
        except ImportError:  # no such lock on Windows: an application there holds its folder itself
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            os.close(handle)
            raise StateInUseError(
                f"another device runs on {self.root}", "close it first, or give each device a folder of its own"
            ) from cause
        return handle

    def _tidy(self) -> None:
        """Remove what a crash left half-written, and nothing else; narrow what an earlier version wrote."""
        for path in self.asides():
            with contextlib.suppress(OSError):
                path.unlink()
        for path in (*(self.root / name for name in NAMES), *self.thetas()):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    path.chmod(0o600)

    def thetas(self) -> list[Path]:
        """Files of theta, of whatever version."""
        try:
            return sorted((self.root / THETA).glob("*.theta"))
        except OSError:
            return []

    def asides(self) -> list[Path]:
        """Files that were never finished: a crash left them, or a disk that took neither them nor their removal."""
        try:
            patterns = (*(f".{name}.*" for name in NAMES), f"{THETA}/.*.theta.*")
            return sorted(path for pattern in patterns for path in self.root.glob(pattern))
        except OSError:
            return []

    def file(self, name: str, content: Callable[[], bytes | None]) -> StateFile:
        """One of the folder's files.

        Args:
            name: path inside the folder.
            content: what it shall hold now, None for nothing; called whenever it is written whole.
        """
        with self.lock:
            self._files[name] = file = StateFile(self, name, content)
        return file

    def attempt(self, work: Callable[[], None]) -> bool:
        """Change something in the folder, then write whatever could not be written before. Whether the disk took it;
        what it did not is counted."""
        with self.lock:
            if not self._try(work):
                return False
            for file in list(self._files.values()):
                if file.stale or file.lost():
                    self._try(file.write)
            return True

    def _try(self, work: Callable[[], None]) -> bool:
        if self._held is None:
            return False
        try:
            self._take_again()
            work()
        except (OSError, OutputUnwritableError, StateInUseError):
            self.errors += 1
            return False
        return True

    def _take_again(self) -> None:
        """Hold the folder that lies at the path now: it may have been removed, and made anew."""
        assert self._held is not None
        mine = os.fstat(self._held)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(mine, (self.root / "lock").stat()):
                return
        held, before = self._hold(), self._held
        self._held = held
        os.close(before)
        for file in self._files.values():
            file.stale = True

    def erase(self, path: Path) -> bool:
        """Remove a file, at the least its content. Whether it is gone; what is not is counted.

        A folder made anew that another device took holds nothing of this one, and is left alone.
        """
        with self.lock:
            try:
                with self._holding():
                    self._remove(path)
            except (FileNotFoundError, NotADirectoryError):  # the folder is gone
                return True
            except StateInUseError:
                return self._held is not None
            except OSError:
                self.errors += 1
                return False
            return True

    @staticmethod
    def _remove(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, 0)
            raise

    @contextlib.contextmanager
    def _holding(self) -> Iterator[None]:
        """Hold the folder for a while, also after `release`, unless another device does."""
        if self._held is not None:
            self._take_again()
            yield
            return
        handle = self._hold()
        try:
            yield
        finally:
            os.close(handle)

    def drop(self, path: Path) -> None:
        """Remove a file that is not written any more."""
        with self.lock:
            self._files.pop(path.relative_to(self.root).as_posix(), None)
            self.erase(path)

    def device_id(self) -> str:
        """The device's id: made at the first start, kept after."""
        made = f"device-{secrets.token_hex(8)}"
        file = self.file("device.json", lambda: msgspec.json.encode(_Identity(made)))
        found = file.load(_Identity)
        if found is not None and DEVICE_ID.fullmatch(found.device):
            made = found.device
        else:
            file.save()
        return made

    def release(self) -> None:
        """Write what is left to write, if the disk takes it, and let another process have the folder."""
        with self.lock:
            if self._held is None:
                return
            self.attempt(lambda: None)
            for file in self._files.values():
                file.close()
            with contextlib.suppress(OSError):
                os.close(self._held)
            self._held = None
