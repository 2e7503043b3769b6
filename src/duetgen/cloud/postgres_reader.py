"""Tokens in a PostgreSQL database, as a worker of the service looks them up.

The event loop never waits for the database. Tokens that are asked for while a lookup is under way are looked up
together in the next, so a worker has one connection and one statement at a time, however many devices ask. What fails
or takes too long is answered as unavailable, and so is everything in the pause after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any, Final

import psycopg

from duetgen.cloud.errors import TokensUnavailableError
from duetgen.cloud.postgres import parse_url, reason
from duetgen.cloud.sql_tokens import COLUMNS
from duetgen.cloud.tokens import Token

LOOKUP_SECONDS: Final = 1.0
"""How long a lookup may take, connecting included."""
STATEMENT_SECONDS: Final = 0.5
"""After how long the database itself gives one up, so that it does not go on for nobody."""
CONNECT_SECONDS: Final = 2
"""How long connecting may take: the least that libpq knows. It may outlast the lookup that began it."""
PAUSE_SECONDS: Final = 1.0
"""How long a database that failed is left alone."""
LOOK_UP: Final = f"select {COLUMNS} from tokens where digest = any(%s)".encode()

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresReader:
    """Looks tokens up in a database. It is connected to with the first lookup, in the process and loop that asks.

    Args:
        url: of the database.

    Raises:
        InvalidTokensError: the URL is malformed.
    """

    def __init__(self, url: str) -> None:
        self._parameters = parse_url(
            url, connect_seconds=CONNECT_SECONDS, statement_seconds=STATEMENT_SECONDS, always=True
        ).parameters
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._asked: dict[str, asyncio.Future[Token | None]] = {}
        self._again = 0.0

    async def find(self, digest: str) -> Token | None:
        """The token of a digest, if it is known and not revoked.

        Raises:
            TokensUnavailableError: the database cannot be read just now.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._again:
            raise TokensUnavailableError
        future = self._asked.get(digest)
        if future is None:
            future = self._asked[digest] = loop.create_future()
            if self._working is None:
                self._working = loop.create_task(self._work())
        # Whoever gives up must not take the answer from others who ask for the same.
        return await asyncio.shield(future)

    async def aclose(self) -> None:
        """Let go of the connection."""
        tasks = [task for task in (self._working, self._connecting) if task is not None]
        if self._connection is not None:
            hang_up(self._connection)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    async def _work(self) -> None:
        try:
            while self._asked:
                taken, self._asked = self._asked, {}
                try:
                    found = await self._look_up(list(taken))
                except Exception as cause:  # whatever it is, those who wait must be answered
                    self._again = asyncio.get_running_loop().time() + PAUSE_SECONDS
                    refused = [*taken.values(), *self._asked.values()]
                    self._asked = {}
                    refuse(refused, cause)
                else:
                    for digest, future in taken.items():
                        if not future.done():
                            future.set_result(found.get(digest))
        finally:
            self._working = None

    async def _look_up(self, digests: list[str]) -> dict[str, Token]:
        deadline = asyncio.get_running_loop().time() + LOOKUP_SECONDS
        kept = self._connection
        if kept is not None and not kept.closed:
            try:
                return await ask(kept, digests, deadline)
            except psycopg.Error:
                # It was closed in the meantime: the database was started again, for example.
                if not kept.closed:
                    raise
        return await ask(await self._connected(deadline), digests, deadline)

    async def _connected(self, deadline: float) -> Connection:
        """A new connection; an attempt that takes longer than a lookup goes on, for the next one."""
        loop = asyncio.get_running_loop()
        if self._connecting is None:
            self._connecting = loop.create_task(self._connect())
            # Perhaps nobody asks for it any more.
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        connecting = self._connecting
        done, _ = await asyncio.wait({connecting}, timeout=max(deadline - loop.time(), 0))
        if not done:
            raise late()
        connecting.result()
        assert self._connection is not None
        return self._connection

    async def _connect(self) -> None:
        try:
            if self._connection is not None:
                await self._connection.close()
            self._connection = None
            self._connection = await psycopg.AsyncConnection.connect(**self._parameters)
        finally:
            self._connecting = None


async def ask(connection: Connection, digests: list[str], deadline: float) -> dict[str, Token]:
    """The tokens of digests that are known, by digest.

    Raises:
        TimeoutError: no answer until the deadline; the connection is closed.
        psycopg.Error: the database refuses, or the connection breaks.
    """
    loop = asyncio.get_running_loop()
    timer = loop.call_at(deadline, hang_up, connection)
    try:
        cursor = await connection.execute(LOOK_UP, (digests,))
        return {row[0]: Token(*row) for row in await cursor.fetchall()}
    except psycopg.Error as cause:
        if loop.time() >= deadline:
            raise late() from cause
        raise
    finally:
        timer.cancel()


def hang_up(connection: Connection) -> None:
    """Break a connection, so that nobody waits for it: asking the database to stop would be waiting, too."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def refuse(futures: list[asyncio.Future[Token | None]], cause: Exception) -> None:
    """Tell those who wait that there will be no answer."""
    for future in futures:
        if not future.done():
            future.set_exception(TokensUnavailableError(reason(cause)))


def late() -> TimeoutError:
    """Why a lookup was given up."""
    return TimeoutError("the database does not answer in time")
