"""A limit of time for what is awaited in a request, at next to no cost: one sweep a moment for all of them.

`asyncio.timeout` makes and cancels a timer for each request, though hardly any ever expires.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Final

SWEEP_SECONDS: Final = 0.25
"""How often is looked; a limit is exceeded by at most so much."""


class Deadlines:
    """The limits of a worker's requests.

    Args:
        seconds: how long each may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._watched: dict[asyncio.Task[Any], float] = {}
        self.expired: set[asyncio.Task[Any]] = set()

    def watch(self) -> Watch:
        """Limit the block: it raises TimeoutError when it takes too long."""
        return Watch(self)

    def enter(self, task: asyncio.Task[Any]) -> None:
        """Begin to watch a task."""
        self._watched[task] = time.monotonic() + self.seconds

    def leave(self, task: asyncio.Task[Any]) -> None:
        """End it."""
        self._watched.pop(task, None)

    async def sweep(self) -> None:
        """Cancel what takes too long, for ever."""
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self.seconds))
            now = time.monotonic()
            for task in [task for task, deadline in self._watched.items() if deadline <= now]:
                self.leave(task)
                self.expired.add(task)
                task.cancel()


class Watch:
    """The block that is limited."""

    __slots__ = ("_deadlines", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._deadlines.enter(task)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.leave(self._task)
        if self._task in self._deadlines.expired:
            self._deadlines.expired.discard(self._task)
            if kind is asyncio.CancelledError:
                self._task.uncancel()
                raise TimeoutError from value
