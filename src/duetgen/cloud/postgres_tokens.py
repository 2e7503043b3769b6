"""Tokens in a PostgreSQL database, as `duet tokens` reads and writes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import msgspec
import psycopg

from duetgen.cloud.errors import InvalidTokensError
from duetgen.cloud.postgres import parse_url, reason
from duetgen.cloud.tokens import Scope, Token, make_token

SECONDS: Final = 5
"""How long the database may take to answer, and to be connected to."""
SCHEMA: Final = """
create table if not exists tokens (
    digest text primary key,
    scope text not null check (scope in ('device', 'batch', 'admin')),
    device text check ((device is not null) = (scope = 'device')),
    note text not null,
    created bigint not null
);
create index if not exists tokens_device on tokens (device);
"""
LOCK: Final = "select pg_advisory_xact_lock(7236848463)"
"""Two that make the table at the same time would both fail; the number is any that nobody else uses."""


class PostgresTokens:
    """A store of tokens in a database.

    Args:
        url: of the database.
        write: make the table if it is not there; otherwise a database without it is refused.

    Raises:
        InvalidTokensError: it cannot be opened, or is no store of tokens.
    """

    def __init__(self, url: str, *, write: bool = False) -> None:
        database = parse_url(url, connect_seconds=SECONDS, statement_seconds=SECONDS)
        self._name = database.name
        try:
            self._database = psycopg.connect(**database.parameters)
        except (psycopg.Error, UnicodeError) as cause:
            raise self._refusal(
                "cannot be opened as a store of tokens", cause, "look at the database, its address and its users"
            ) from cause
        try:
            self._look(write)
        except BaseException:
            self._database.close()
            raise

    def _look(self, write: bool) -> None:
        look = "select digest, scope, device, note, created from tokens limit 1"
        try:
            try:
                self._database.execute(look)
            except psycopg.errors.UndefinedTable:
                if not write:
                    raise
                # Only now: who may write rows need not have the right to make tables.
                with self._database.transaction():
                    self._database.execute(LOCK)
                    self._database.execute(SCHEMA)
                self._database.execute(look)
        except psycopg.errors.UndefinedTable as cause:
            raise InvalidTokensError(
                f"{self._name} has no table of tokens", "make it with `duet tokens add`"
            ) from cause
        except psycopg.Error as cause:
            raise self._refusal(
                "cannot be opened as a store of tokens",
                cause,
                "name a database whose table `tokens` was made by `duet tokens add`, and a user with rights to it",
            ) from cause

    def _refusal(self, what: str, cause: BaseException, hint: str) -> InvalidTokensError:
        return InvalidTokensError(f"{self._name} {what}: {reason(cause)}", hint)

    def close(self) -> None:
        """Let go of the connection."""
        self._database.close()

    def add(self, scope: Scope, device: str | None, note: str = "") -> str:
        """Make a token, remember its digest and return it: it is not seen again.

        Raises:
            InvalidTokensError: scope and device do not go together, the id of the device is malformed, or the database
                cannot be written.
        """
        token, entry = make_token(scope, device, note)
        with self._using():
            self._database.execute(
                "insert into tokens (digest, scope, device, note, created) values (%s, %s, %s, %s, %s)",
                msgspec.structs.astuple(entry),
            )
        return token

    def revoke(self, *, digest: str | None = None, device: str | None = None) -> int:
        """Forget the tokens whose digest begins so, or all of a device; how many they were.

        Raises:
            InvalidTokensError: the database cannot be written.
        """
        with self._using():
            if device is not None:
                return self._database.execute("delete from tokens where device = %s", (device,)).rowcount
            return self._database.execute(
                "delete from tokens where substr(digest, 1, %s) = %s", (len(digest or "-"), digest)
            ).rowcount

    def all(self) -> list[Token]:
        """All tokens, oldest first.

        Raises:
            InvalidTokensError: the database cannot be read.
        """
        with self._using():
            rows = self._database.execute(
                "select digest, scope, device, note, created from tokens order by created, digest"
            ).fetchall()
        return [Token(*row) for row in rows]

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, UnicodeError) as cause:
            raise self._refusal("cannot be used", cause, "look at the database and the user's rights") from cause
