"""What the endpoints of a worker share, and what goes on beside them while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

from duetgen.cloud.access import Access, Grant
from duetgen.cloud.clock import Clock
from duetgen.cloud.config import ServiceConfig
from duetgen.cloud.deadlines import Deadlines
from duetgen.cloud.exchange import Headers
from duetgen.cloud.log import Log
from duetgen.cloud.metrics import Recorder
from duetgen.cloud.open_files import none_left
from duetgen.cloud.peers import Peers
from duetgen.cloud.rates import RateLimiter
from duetgen.cloud.registry import Registry
from duetgen.cloud.tokens import open_reader

DRAIN_SIGNAL = signal.SIGUSR1
"""Tells a worker that it is stopped in a moment."""
WRITE_SECONDS = 0.5
"""How often a worker's totals are put where the others find them."""
STARVED_SECONDS = 7.0
"""How long a worker does without a file to open. Connections are fewer than the files that it may open, but TLS
handshakes are no connections yet; when they have taken all files, the server does nothing any more but try for another.
Longer than the 5.5 seconds within which granian takes two ends of a worker for a fault of the service."""


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
        peers = Peers(run_folder)
        self.recorder = Recorder(peers, self._model_ids)
        self.registry = Registry(
            [Path(source) for source in config.sources], config.trusted, self.log, self.recorder.timed, peers
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
        self.draining = False
        """Every answer says that its connection ends."""
        self.stopping = False
        self._look = asyncio.Event()

    async def grant(self, headers: Headers) -> Grant:
        """The grant of a request, taken from the bearer's share of requests; the open mode has no bearers.

        Raises:
            UnauthenticatedError, TokensUnavailableError: see `Access.grant`.
            RateLimitedError: the share is used up.
        """
        found = await self.access.grant(headers.authorization)
        if found.scope is not None:
            self.limiter.take(found.caller)
        return found

    def _model_ids(self) -> tuple[list[str], str | None, list[str]]:
        versions = self.registry.versions
        latest = versions.latest(None) if versions.newest else None
        return list(versions.served), latest, list(self.registry.refused.values())

    def _tokens_changed(self, reason: str | None) -> None:
        if reason is None:
            self.log.write("info", "tokens readable")
        else:
            self.log.write("error", "tokens unreadable", reason=reason)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load what is to be served, then keep looking for more until the end."""
        await self._refresh()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._look.set)
            loop.add_signal_handler(DRAIN_SIGNAL, self._drain)
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
            self.draining = self.stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.recorder.totals.waiting, self.recorder.totals.looked = 0, 0.0
            self.recorder.write()
            if self.store is not None:
                await self.store.aclose()

    def _drain(self) -> None:
        self.draining = True

    async def _refresh(self) -> None:
        self.registry.adopt(await asyncio.to_thread(self.registry.refresh))
        self.recorder.totals.looked = self.registry.looked

    async def _watch(self) -> None:
        said = ""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self.config.poll_seconds)
            self._look.clear()
            try:
                await self._refresh()
                said = ""
            except Exception as cause:  # whatever it is, the versions in service stay
                if said != repr(cause):
                    said = repr(cause)
                    self.log.write("error", "registry", reason=said)

    async def _write(self) -> None:
        parent = os.getppid()
        fed = time.monotonic()
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            if not none_left():
                fed = time.monotonic()
            elif time.monotonic() - fed > STARVED_SECONDS:
                # Another takes its place, with all files to open; SIGTERM the server would not heed.
                self.log.write("error", "no files left")
                os.kill(os.getpid(), signal.SIGKILL)
            if self.run_folder is not None and os.getppid() != parent:
                # Nobody is left to stop this worker, or to pass its log on: it must not go on holding the port.
                os.kill(os.getpid(), signal.SIGTERM)
            self.recorder.totals.waiting = self.waiting
            self.recorder.write()
