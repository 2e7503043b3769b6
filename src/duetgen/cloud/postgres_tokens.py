"""Tokens in a PostgreSQL database, as `duet tokens` reads and writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from duetgen.cloud.errors import InvalidTokensError
from duetgen.cloud.postgres import parse_url, reason
from duetgen.cloud.sql_tokens import EXTEND, LOOK, LOOK_BEFORE, SQLTokens

SECONDS: Final = 5
"""How long the database may take to answer, and to be connected to."""
SCHEMA: Final = """
create table if not exists tokens (
    digest text primary key,
    scope text not null check (scope in ('device', 'batch', 'admin')),
    device text check ((device is not null) = (scope = 'device')),
    note text not null,
    created bigint not null,
    expires bigint
);
create index if not exists tokens_device on tokens (device);
"""
LOCK: Final = "select pg_advisory_xact_lock(7236848463)"
"""Two that make the table at the same time would both fail; the number is any that nobody else uses."""


class PostgresTokens(SQLTokens):
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
        try:
            try:
                self._database.execute(LOOK.encode())
            except psycopg.errors.UndefinedTable:
                if not write:
                    raise
                # Only now: who may write rows need not have the right to make tables.
                with self._database.transaction():
                    self._database.execute(LOCK)
                    self._database.execute(SCHEMA)
                self._database.execute(LOOK.encode())
            except psycopg.errors.UndefinedColumn:
                if not write:
                    raise
                # A table of before tokens could expire, or somebody else's, which is left alone.
                self._database.execute(LOOK_BEFORE.encode())
                self._database.execute(EXTEND.replace("column", "column if not exists").encode())
                self._database.execute(LOOK.encode())
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

    def _run(self, statement: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
        try:
            cursor = self._database.execute(statement.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else [], cursor.rowcount
        except (psycopg.Error, UnicodeError) as cause:
            raise self._refusal("cannot be used", cause, "look at the database and the user's rights") from cause
