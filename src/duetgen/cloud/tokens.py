"""Tokens and their stores: which digest belongs to which device, with which scope. Tokens themselves are never stored.

A store is an SQLite file, or a PostgreSQL database that is named by its URL. `duet tokens` writes to it, and the
workers of the service read.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from duetgen.cloud.errors import InvalidTokensError
from duetgen.errors import MissingExtraError
from duetgen.wire.authentication import token_digest
from duetgen.wire.messages import DeviceId

Scope: TypeAlias = Literal["device", "batch", "admin"]

MAX_SECONDS: Final = 10 * 365 * 86_400
"""The longest time that a token that expires is good for."""
TOKEN_BYTES: Final = 32
"""Random bytes of a token: beyond guessing."""
SCHEMES: Final = ("postgresql://", "postgres://")
"""What a URL of PostgreSQL begins with."""


class Token(msgspec.Struct, frozen=True):
    """What is known of a token; its fields are the columns of a store.

    Attributes:
        digest: of the token, in hexadecimal; see `wire.authentication.token_digest`.
        scope: what its bearer may do.
        device: whose parameters it may ask for; None unless the scope is `device`.
        note: for people.
        created: seconds since 1970.
        expires: the same: until when it is good; None: until it is revoked.
    """

    digest: str
    scope: Scope
    device: str | None
    note: str
    created: int
    expires: int | None = None


class TokenReader(Protocol):
    """What the service needs of a store."""

    async def find(self, digest: str) -> Token | None:
        """The token of a digest, if it is known and not revoked.

        Raises:
            TokensUnavailableError: the store cannot be read just now.
        """
        ...

    async def aclose(self) -> None:
        """Let go of it."""
        ...


class TokenStore(Protocol):
    """What `duet tokens` needs of a store."""

    def add(self, scope: Scope, device: str | None, note: str = "", seconds: int | None = None) -> str:
        """Make a token, remember its digest and return it: it is not seen again. Those that expired are forgotten.

        Raises:
            InvalidTokensError: scope and device do not go together, the id of the device is malformed, or the store
                cannot be written.
        """
        ...

    def revoke(self, *, digest: str | None = None, device: str | None = None) -> int:
        """Forget the tokens whose digest begins so, or all of a device; how many they were.

        Raises:
            InvalidTokensError: the store cannot be written.
        """
        ...

    def all(self) -> list[Token]:
        """All tokens, oldest first.

        Raises:
            InvalidTokensError: the store cannot be read.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def make_token(scope: Scope, device: str | None, note: str, seconds: int | None = None) -> tuple[str, Token]:
    """A new token, and what a store remembers of it.

    Args:
        scope: what its bearer may do.
        device: whose parameters it may ask for.
        note: for people.
        seconds: for how long it is good; None: until it is revoked.

    Raises:
        InvalidTokensError: scope and device do not go together, the id of the device is malformed, or the time is none.
    """
    if seconds is not None and not 1 <= seconds <= MAX_SECONDS:
        raise InvalidTokensError(f"a token cannot be good for {seconds} seconds", f"give 1 to {MAX_SECONDS}")
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
    now = int(time.time())
    return token, Token(token_digest(token), scope, device, note, now, None if seconds is None else now + seconds)


def is_url(where: str) -> bool:
    """Whether a store is named by URL; anything else is the path of a file.

    Raises:
        InvalidTokensError: a URL, but not of PostgreSQL. It is not quoted: it may hold a password.
    """
    if where.startswith(SCHEMES):
        return True
    if "://" in where:
        raise InvalidTokensError(
            "a store of tokens is a file or a PostgreSQL database, not another kind of URL",
            "give a path, or postgresql://USER@HOST/DATABASE",
        )
    return False


def open_store(where: str, *, write: bool = False) -> TokenStore:
    """The store at a path or URL.

    Args:
        where: it is.
        write: make it if it is not there, and change it; otherwise it is only read.

    Raises:
        InvalidTokensError: it cannot be opened, or is no store of tokens.
        MissingExtraError: the package for PostgreSQL is not here.
    """
    if not is_url(where):
        from duetgen.cloud.sqlite_tokens import SQLiteTokens

        return SQLiteTokens(Path(where), write=write)
    try:
        from duetgen.cloud.postgres_tokens import PostgresTokens
    except ImportError as cause:
        raise missing() from cause
    return PostgresTokens(where, write=write)


def open_reader(where: str) -> TokenReader:
    """The store at a path or URL, for a worker of the service.

    Raises:
        InvalidTokensError: a file that is no store of tokens, or a malformed URL. A database is not asked yet.
        MissingExtraError: the package for PostgreSQL is not here.
    """
    if not is_url(where):
        from duetgen.cloud.sqlite_tokens import SQLiteTokens

        return SQLiteTokens(Path(where))
    try:
        from duetgen.cloud.postgres_reader import PostgresReader
    except ImportError as cause:
        raise missing() from cause
    return PostgresReader(where)


def missing() -> MissingExtraError:
    """The refusal where PostgreSQL cannot be spoken with."""
    return MissingExtraError(
        "tokens in PostgreSQL need a package that is not here (psycopg)", "pip install 'duetgen[postgres]'"
    )
