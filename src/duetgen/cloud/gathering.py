"""Requests that wait at the same time are generated together; one that comes alone does not wait for others.

A worker has one thread. While it generates, more requests arrive; once it is back at its event loop, all of them become
ready in the same round. Each hands in its history and the round ends with one call of the generator for all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from duetgen.cloud.engine import Engine, History
from duetgen.cloud.errors import OverloadedError
from duetgen.cloud.thetas import Thetas
from duetgen.wire.limits import MAX_WAITING_BYTES

Place = tuple[Thetas, int]
"""Thetas that were generated together, and the row of one of them."""
Timed = Callable[[float, int], None]


class Gathering:
    """The histories that wait for one version's generator.

    Args:
        engine: the generator.
        timed: told of each call of the generator: seconds, and devices generated.
    """

    def __init__(self, engine: Engine, timed: Timed) -> None:
        self.engine, self._timed = engine, timed
        self._waiting: list[tuple[History, asyncio.Future[Place]]] = []
        self._held = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def theta(self, history_L: History) -> asyncio.Future[Place]:
        """Theta of a history, at the end of this round of the event loop.

        Raises:
            OverloadedError: the histories that wait take as much memory as they may.
        """
        if self._held + history_L.nbytes > MAX_WAITING_BYTES:
            raise OverloadedError("more histories at once than the service takes", "ask again after Retry-After")
        self._held += history_L.nbytes
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Place] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._generate)
        self._waiting.append((history_L, future))
        return future

    def _generate(self) -> None:
        # Those that gave up in the meantime (a timeout, a lost connection) need no answer.
        part = self._waiting[: self.engine.rows]
        del self._waiting[: self.engine.rows]
        self._held -= sum(history_L.nbytes for history_L, _ in part)
        taken = [pair for pair in part if not pair[1].done()]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._generate)
        if not taken:
            return
        histories = [history_L for history_L, _ in taken]
        begun = time.perf_counter()
        try:
            thetas = self.engine.thetas(histories)
        except Exception as cause:
            for _, future in taken:
                future.set_exception(cause)
            return
        self._timed(time.perf_counter() - begun, len(taken))
        for row, (_, future) in enumerate(taken):
            future.set_result((thetas, row))
