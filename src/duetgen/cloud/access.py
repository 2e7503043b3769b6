"""Who may ask, and for what: the bearer token of a request to a grant."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from duetgen.cloud.errors import ForbiddenError, TokensUnavailableError, UnauthenticatedError
from duetgen.cloud.tokens import Scope, Token, TokenReader
from duetgen.wire.authentication import answer_key, token_digest
from duetgen.wire.limits import MAX_TOKEN_BYTES

MAX_REMEMBERED: Final = 100_000
"""Tokens that a worker keeps at hand."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the bearer of a token may do.

    Attributes:
        scope: `device`, for the one device; `batch`, for many at once; `admin`, for metrics as well; `open`, all of it.
        device: the device it was made for; None: not for one.
        key: of the answers' codes.
        caller: stands for the bearer where requests are counted.
    """

    scope: Scope | None
    device: str | None
    key: bytes
    caller: str

    def may_ask_for(self, device: str) -> None:
        """Refuse another device's token.

        Raises:
            ForbiddenError: the token is not for this device.
        """
        if self.scope == "device" and self.device != device:
            raise ForbiddenError("the token was made for another device", "use the token of this device")

    def must_have(self, *scopes: Scope) -> None:
        """Refuse a token without any of these scopes.

        Raises:
            ForbiddenError: it has none of them.
        """
        if self.scope is not None and self.scope not in scopes:
            raise ForbiddenError(
                f"the token has the scope {self.scope}, not {' or '.join(scopes)}",
                f"make one with `duet tokens add --scope {scopes[0]}`",
            )


class Access:
    """Finds grants.

    Args:
        store: of tokens; None is the open mode: everyone may do everything, and answers are under the key of whatever
            token is sent, or of the empty one.
        seconds: how long a token that was found is taken for granted.
        changed: told why the store cannot be read, once for each reason; and None when it can be read again.
    """

    def __init__(
        self, store: TokenReader | None, seconds: float, changed: Callable[[str | None], None] = lambda reason: None
    ) -> None:
        self._store, self._seconds, self._changed = store, seconds, changed
        self._reason: str | None = None
        self._known: dict[str, tuple[Grant, float]] = {}
        """By digest of the token, in the order of the last look-up."""

    async def grant(self, authorization: bytes | None) -> Grant:
        """The grant of an `Authorization` header.

        Raises:
            UnauthenticatedError: there is no token, or not a known one.
            TokensUnavailableError: the store cannot be read.
        """
        scheme, _, content = (authorization or b"").partition(b" ")
        content = content.strip()
        bearer = scheme.lower() == b"bearer" and 0 < len(content) <= MAX_TOKEN_BYTES and content.isascii()
        token = content.decode("ascii") if bearer else ""
        if self._store is None:
            return Grant(None, None, answer_key(token), "open")
        if not token:
            raise UnauthenticatedError(
                "the request has no token", "send `Authorization: Bearer TOKEN`, made with `duet tokens add`"
            )
        now = time.monotonic()
        digest = token_digest(token)
        known = self._known.get(digest)
        if known is not None and known[1] > now:
            return known[0]
        found, left = await self._find(self._store, token, digest)
        self._known.pop(digest, None)
        self._known[digest] = (found, now + min(self._seconds, left))
        if len(self._known) > MAX_REMEMBERED:
            # The one that was looked up longest ago.
            del self._known[next(iter(self._known))]
        return found

    async def check(self) -> None:
        """Look whether the store can be read.

        Raises:
            TokensUnavailableError: it cannot, for the reason that it tells.
        """
        if self._store is not None:
            try:
                await self._look_up(self._store, "")
            except TokensUnavailableError as error:
                raise TokensUnavailableError(self._reason) from error

    async def _find(self, store: TokenReader, token: str, digest: str) -> tuple[Grant, float]:
        """The grant of a token, and for how many seconds it is good."""
        entry = await self._look_up(store, digest)
        if entry is None:
            raise UnauthenticatedError(
                "the token is not known, or was revoked", "make a new one with `duet tokens add`"
            )
        left = math.inf if entry.expires is None else entry.expires - time.time()
        if left <= 0:
            raise UnauthenticatedError("the token has expired", "get a new one from whoever made this one")
        return Grant(entry.scope, entry.device, answer_key(token), entry.device or digest), left

    async def _look_up(self, store: TokenReader, digest: str) -> Token | None:
        try:
            entry = await store.find(digest)
        except TokensUnavailableError as error:
            if error.reason is not None and error.reason != self._reason:
                self._reason = error.reason
                self._changed(error.reason)
            raise
        if self._reason is not None:
            self._reason = None
            self._changed(None)
        return entry
