"""The state folder of a device: one process at a time.

```
device.json    the device's id, where none was given
events.log     what the device has seen, see `log`
theta/         the last good theta of each version kept, see `store`
requests.json  requests of the day
versions/, versions.json   downloaded versions, see `updates`
lock           held by the process that runs the device
```
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Final

import msgspec

from duetgen.device.errors import StateInUseError
from duetgen.errors import OutputUnwritableError
from duetgen.files import unwritable, write_bytes
from duetgen.wire.limits import MAX_DEVICE_BYTES

DEVICE_ID: Final = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_DEVICE_BYTES}}}")


class _Identity(msgspec.Struct):
    device: str


class StateFolder:
    """A state folder, made if need be, and held until `release`.

    Args:
        root: the folder; only its owner may read it.

    Raises:
        StateInUseError: another process holds it.
        OutputUnwritableError: it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / "theta").mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as cause:
            raise unwritable(root, cause) from cause
        self._hold()
        # What a crash left half-written beside its place.
        for folder in (root, root / "theta"):
            for path in folder.glob(".*"):
                if path.is_file():
                    path.unlink(missing_ok=True)

    def _hold(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such lock on Windows: an application there holds its folder itself
            return
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            self.release()
            raise StateInUseError(
                f"another device runs on {self.root}", "close it first, or give each device a folder of its own"
            ) from cause

    def device_id(self) -> str:
        """The device's id: made at the first start, kept after."""
        path = self.root / "device.json"
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            found = msgspec.json.decode(path.read_bytes(), type=_Identity).device
            if DEVICE_ID.fullmatch(found):
                return found
        made = f"device-{secrets.token_hex(8)}"
        with contextlib.suppress(OutputUnwritableError):
            write_bytes(path, msgspec.json.encode(_Identity(made)))
        return made

    def release(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = None
