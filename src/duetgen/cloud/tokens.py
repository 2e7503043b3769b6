"""The store of tokens: which digest belongs to which device, with which scope. Tokens themselves are never stored.

SQLite, in one file that the workers read and `duet tokens` writes. Another store needs the same few methods.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from duetgen.cloud.errors import InvalidTokensError, TokensUnavailableError
from duetgen.wire.authentication import token_digest
from duetgen.wire.messages import DeviceId

Scope: TypeAlias = Literal["device", "batch", "admin"]

TOKEN_BYTES: Final = 32
"""Random bytes of a token: beyond guessing."""
SCHEMA: Final = """
create table if not exists tokens (
    digest text primary key,
    scope text not null check (scope in ('device', 'batch', 'admin')),
    device text check ((device is not null) = (scope = 'device')),
    note text not null,
    created integer not null
) without rowid;
create index if not exists tokens_device on tokens (device);
"""


class Token(msgspec.Struct, frozen=True):
    """What is known of a token.

    Attributes:
        digest: of the token, in hexadecimal; see `wire.authentication.token_digest`.
        scope: what its bearer may do.
        device: whose parameters it may ask for; None unless the scope is `device`.
        note: for people.
        created: seconds since 1970.
    """

    digest: str
    scope: Scope
    device: str | None
    note: str
    created: int


class TokenStore(Protocol):
    """What the service needs of a store."""

    def find(self, digest: str) -> Token | None:
        """The token of a digest, if it is known and not revoked."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class SQLiteTokens:
    """Tokens in an SQLite file.

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
        path = self.path.resolve()
        try:
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
            self._database.execute("select digest, scope, device, note, created from tokens limit 1")
            self._inode = path.stat().st_ino
        except (sqlite3.Error, OSError) as cause:
            raise InvalidTokensError(
                f"{self.path} cannot be opened as a store of tokens: {cause}", "make one with `duet tokens add`"
            ) from cause

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def find(self, digest: str) -> Token | None:
        """The token of a digest, if it is known and not revoked.

        Raises:
            TokensUnavailableError: the file cannot be read just now.
        """
        try:
            if self.path.stat().st_ino != self._inode:
                # The file was replaced, by a copy that was brought back for example.
                self._database.close()
                self._open()
            row = self._database.execute(
                "select digest, scope, device, note, created from tokens where digest = ?", (digest,)
            ).fetchone()
        except (sqlite3.Error, OSError, InvalidTokensError) as cause:
            raise TokensUnavailableError("the store of tokens cannot be read", "look at its file and disk") from cause
        return None if row is None else Token(*row)

    def add(self, scope: Scope, device: str | None, note: str = "") -> str:
        """Make a token, remember its digest and return it: it is not seen again.

        Raises:
            InvalidTokensError: scope and device do not go together, the id of the device is malformed, or the file
                cannot be written.
        """
        if (scope == "device") != (device is not None):
            raise InvalidTokensError(
                "a token of scope device is for one device, one of another scope for none",
                "`duet tokens add DEVICE`, or `duet tokens add --scope batch`",
            )
        if device is not None:
            try:
                msgspec.convert(device, DeviceId)
            except msgspec.ValidationError as cause:
                raise InvalidTokensError(
                    "the id of a device is 1 to 128 letters, digits and . _ : -", "rename the device"
                ) from cause
        token = secrets.token_hex(TOKEN_BYTES)
        with self._writing():
            row = (token_digest(token), scope, device, note, int(time.time()))
            self._database.execute("insert into tokens values (?, ?, ?, ?, ?)", row)
        return token

    def revoke(self, *, digest: str | None = None, device: str | None = None) -> int:
        """Forget the tokens whose digest begins so, or all of a device; how many they were.

        Raises:
            InvalidTokensError: the file cannot be written.
        """
        with self._writing():
            if device is not None:
                return self._database.execute("delete from tokens where device = ?", (device,)).rowcount
            return self._database.execute(
                "delete from tokens where substr(digest, 1, ?) = ?", (len(digest or "-"), digest)
            ).rowcount

    def all(self) -> list[Token]:
        """All tokens, oldest first."""
        with self._writing():
            rows = self._database.execute(
                "select digest, scope, device, note, created from tokens order by created, digest"
            ).fetchall()
        return [Token(*row) for row in rows]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._database:
                yield
        except sqlite3.Error as cause:
            raise InvalidTokensError(f"{self.path} cannot be changed: {cause}", "look at its file and disk") from cause
