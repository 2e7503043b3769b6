"""What the workers of a service tell each other, in files of a folder that they share."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from duetgen.files import is_abandoned, lock


class Peers:
    """One worker among those of its service.

    It holds a lock for as long as it lives. The operating system lets go of it when the worker ends, however it ends;
    a process number would not do, for it may belong to another process by then.

    Args:
        folder: that the workers share; None: this worker is alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._name = folder, secrets.token_hex(8)
        if folder is not None:
            self._life = os.open(folder / f"worker-{self._name}", os.O_RDWR | os.O_CREAT, 0o600)
            lock(self._life)  # Never closed.

    def write(self, kind: str, content: bytes) -> None:
        """Leave something where the others find it, in place of what was left before; a full disk stops nothing."""
        if self._folder is not None:
            path = self._folder / f"{kind}-{self._name}"
            aside = path.with_name(f".{path.name}")
            with contextlib.suppress(OSError):
                aside.write_bytes(content)
                aside.replace(path)
                os.utime(self._life)  # What removes old files from /tmp leaves it alone, too.

    def others(self, kind: str) -> Iterator[tuple[bytes, bool]]:
        """What the other workers left, and whether each of them is still there."""
        for path in [] if self._folder is None else sorted(self._folder.glob(f"{kind}-*")):
            name = path.name.partition("-")[2]
            if name != self._name:
                with contextlib.suppress(OSError):
                    yield path.read_bytes(), not is_abandoned(path.with_name(f"worker-{name}"))
