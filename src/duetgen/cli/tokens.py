"""`duet tokens`: make, revoke and list the tokens that the cloud knows."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import Parameter
from rich.table import Table

from duetgen.cli import console
from duetgen.cli.prepare import UsageError
from duetgen.errors import MissingExtraError

if TYPE_CHECKING:
    from duetgen.cloud.tokens import TokenStore

tokens = cyclopts.App(name="tokens", help="Make, revoke and list the tokens that `duet serve --tokens` knows.")

Store = Annotated[
    str,
    Parameter(help="File of the store, or postgresql://USER@HOST/DATABASE; made when the first token is."),
]
Json = Annotated[bool, Parameter(negative="", help="Print as JSON.")]
FILE = "tokens.sqlite"
SHORTEST_DIGEST = 8


def open_store(where: str, *, write: bool) -> TokenStore:
    """The store.

    Raises:
        MissingExtraError: the cloud's packages are not here, or the one for PostgreSQL.
        InvalidTokensError: it cannot be opened.
    """
    try:
        from duetgen.cloud import tokens as stores
    except ImportError as cause:
        raise MissingExtraError(
            f"tokens need packages that are not here ({cause.name})", "pip install 'duetgen[cloud]'"
        ) from cause
    return stores.open_store(where, write=write)


@tokens.command
def add(
    device: Annotated[str | None, Parameter(help="The one device that the token is for.")] = None,
    /,
    *,
    store: Store = FILE,
    scope: Annotated[
        Literal["device", "batch", "admin"],
        Parameter(help="device: its own parameters; batch: many devices at once; admin: metrics as well."),
    ] = "device",
    note: Annotated[str, Parameter(help="For people.")] = "",
    seconds: Annotated[int | None, Parameter(help="For how long it is good [until it is revoked].")] = None,
    json: Json = False,
) -> None:
    """Make a token and print it: the store keeps its digest alone, so it is not seen again."""
    from duetgen.wire.authentication import token_digest

    opened = open_store(store, write=True)
    try:
        token = opened.add(scope, device, note, seconds)
    finally:
        opened.close()
    if json:
        console.print_json({"token": token, "digest": token_digest(token), "scope": scope, "device": device})
    else:
        print(token)


@tokens.command
def revoke(
    digest: Annotated[str | None, Parameter(help="Beginning of the token's digest, as `list` shows it.")] = None,
    /,
    *,
    store: Store = FILE,
    device: Annotated[str | None, Parameter(help="Instead: all tokens of this device.")] = None,
    json: Json = False,
) -> None:
    """Revoke tokens; the service refuses them within seconds."""
    if (digest is None) == (device is None):
        raise UsageError("which token? give the beginning of its digest, or --device", "see `duet tokens list`")
    if digest is not None and len(digest) < SHORTEST_DIGEST:
        raise UsageError(f"{digest} is too short to mean one token", f"give {SHORTEST_DIGEST} digits or more")
    from duetgen.cloud.errors import InvalidTokensError

    opened = open_store(store, write=True)
    try:
        revoked = opened.revoke(digest=digest, device=device)
    finally:
        opened.close()
    if not revoked:
        raise InvalidTokensError(f"there is no token of {device or digest}", "see `duet tokens list`")
    if json:
        console.print_json({"revoked": revoked})
    else:
        print(f"revoked {revoked} token{'s' * (revoked > 1)}")


@tokens.command(name="list")
def list_tokens(*, store: Store = FILE, json: Json = False) -> None:
    """List what is known of the tokens: digests, not the tokens themselves."""
    opened = open_store(store, write=False)
    try:
        found = opened.all()
    finally:
        opened.close()
    if json:
        console.print_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("digest", "scope", "device", "created", "expires", "note"):
        table.add_column(title)
    for token in found:
        expires = "" if token.expires is None else told(token.expires)
        table.add_row(token.digest[:16], token.scope, token.device or "", told(token.created), expires, token.note)
    console.results.print(table)


def told(seconds: int) -> str:
    """A time, as people read it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M")
