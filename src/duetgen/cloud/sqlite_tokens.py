"""Tokens in an SQLite file."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from duetgen.cloud.errors import InvalidTokensError, TokensUnavailableError
from duetgen.cloud.sql_tokens import COLUMNS, EXTEND, LOOK, LOOK_BEFORE, SQLTokens
from duetgen.cloud.tokens import Token

SCHEMA: Final = """
create table if not exists tokens (
    digest text primary key,
    scope text not null check (scope in ('device', 'batch', 'admin')),
    device text check ((device is not null) = (scope = 'device')),
    note text not null,
    created integer not null,
    expires bigint
) without rowid;
create index if not exists tokens_device on tokens (device);
"""


class SQLiteTokens(SQLTokens):
    """Tokens in an SQLite file: a store and a reader.

    Args:
        path: of the file.
        write: make the file if it is not there, and change it; otherwise it is only read, and a file that is not there
            yet, or not any more, is refused.

    Raises:
        InvalidTokensError: it cannot be opened, or is no store of tokens.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        self.path, self._write = path, write
        self._open()

    def _open(self) -> None:
        self._inode = -1  # Until it is open: the next look tries again, also where the file of before has come back.
        path = self.path.resolve()
        try:
            if path.exists() and not path.is_file():
                # A pipe would be waited for.
                raise OSError(errno.EINVAL, "it is no regular file")
            # A reader waits no longer than a moment for a writer: it is a service's event loop that waits.
            self._database = sqlite3.connect(
                f"{path.as_uri()}?mode={'rwc' if self._write else 'ro'}",
                uri=True,
                timeout=5 if self._write else 0.1,
                check_same_thread=False,
            )
            if self._write:
                path.chmod(0o600)
                self._database.executescript(SCHEMA)
                self._extend()
            self._database.execute(LOOK)
            self._inode = path.stat().st_ino
        except (sqlite3.Error, OSError) as cause:
            hint = "look at its folder and disk" if self._write else "make one with `duet tokens add`"
            raise InvalidTokensError(f"{self.path} cannot be opened as a store of tokens: {cause}", hint) from cause

    def _extend(self) -> None:
        """Let a file of before tokens could expire have such tokens."""
        self._database.execute(LOOK_BEFORE)
        # Another process may do it at the same time.
        with contextlib.suppress(sqlite3.OperationalError):
            self._database.execute(EXTEND)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    async def aclose(self) -> None:
        """Let go of the file."""
        self.close()

    async def find(self, digest: str) -> Token | None:
        """The token of a digest, if it is known and not revoked. Microseconds: it is read at once.

        Raises:
            TokensUnavailableError: the file cannot be read just now.
        """
        try:
            if self.path.stat().st_ino != self._inode:
                # The file was replaced, by a copy that was brought back for example.
                self._database.close()
                self._open()
            row = self._database.execute(f"select {COLUMNS} from tokens where digest = ?", (digest,)).fetchone()
        except (sqlite3.Error, OSError, InvalidTokensError) as cause:
            raise TokensUnavailableError(str(cause)) from cause
        return None if row is None else Token(*row)

    def _run(self, statement: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
        try:
            with self._database:
                cursor = self._database.execute(statement, values)
                return cursor.fetchall(), cursor.rowcount
        except sqlite3.Error as cause:
            raise InvalidTokensError(f"{self.path} cannot be changed: {cause}", "look at its file and disk") from cause
