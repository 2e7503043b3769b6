"""What the endpoints of a worker share, and what goes on beside them while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from duetgen.cloud.access import Access
from duetgen.cloud.clock import Clock
from duetgen.cloud.config import ServiceConfig
from duetgen.cloud.deadlines import Deadlines
from duetgen.cloud.log import Log
from duetgen.cloud.metrics import Recorder
from duetgen.cloud.rates import RateLimiter
from duetgen.cloud.registry import Registry
from duetgen.cloud.tokens import open_reader

WRITE_SECONDS = 0.5
"""How often a worker's totals are put where the others find them."""


class Service:
    """One worker.

    Args:
        config: what it is started with.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        run_folder = None if config.run_folder is None else Path(config.run_folder)
        self.run_folder = run_folder
        self.log = Log(config.log_key or os.urandom(16), config.log_requests)
        self.recorder = Recorder(run_folder, self._model_ids)
        self.registry = Registry(
            [Path(source) for source in config.sources], config.trusted, self.log, self.recorder.timed, run_folder
        )
        self.store = None if config.tokens is None else open_reader(config.tokens)
        self.access = Access(self.store, config.token_seconds, self._tokens_changed)
        self.limiter = RateLimiter(config.rate, config.burst)
        self.clock = Clock(config.clock_offset)
        self.waiting = 0
        """Requests whose body was read and that are not answered yet."""
        self.reading = 0
        """Requests whose body is being read."""
        self.deadlines = Deadlines(config.body_seconds)
        self.stopping = False
        self._look = asyncio.Event()

    def _model_ids(self) -> tuple[list[str], str | None]:
        versions = self.registry.versions
        return list(versions.served), versions.latest(None) if versions.newest else None

    def _tokens_changed(self, reason: str | None) -> None:
        if reason is None:
            self.log.write("info", "tokens readable")
        else:
            self.log.write("error", "tokens unreadable", reason=reason)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load what is to be served, then keep looking for more until the end."""
        self.registry.adopt(await asyncio.to_thread(self.registry.refresh))
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._look.set)
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._write())]
        tasks.append(asyncio.create_task(self.deadlines.sweep()))
        # What is loaded by now stays: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        if self.run_folder is not None:
            (self.run_folder / f"ready-{os.getpid()}").touch()
        try:
            yield
        finally:
            self.stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.recorder.totals.waiting = 0
            self.recorder.write()
            if self.store is not None:
                await self.store.aclose()

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self.config.poll_seconds)
            self._look.clear()
            try:
                self.registry.adopt(await asyncio.to_thread(self.registry.refresh))
            except Exception as cause:  # whatever it is, the versions in service stay
                self.log.write("error", "registry", reason=repr(cause))

    async def _write(self) -> None:
        parent = os.getppid()
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            if self.run_folder is not None and os.getppid() != parent:
                # Nobody is left to stop this worker: it must not go on holding the port.
                self.log.write("error", "left alone")
                os.kill(os.getpid(), signal.SIGTERM)
            self.recorder.totals.waiting = self.waiting
            self.recorder.write()
