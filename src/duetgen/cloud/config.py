"""What a service is started with: one frozen value, handed to every worker process."""

from __future__ import annotations

from typing import Final

import msgspec

DEFAULT_TTL: Final = 86_400
"""Seconds until a device shall have asked again: a day."""


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of the service.

    Attributes:
        sources: bundle folders, and registry folders of several bundles.
        trusted: public keys that may sign, in hexadecimal; None takes any.
        tokens: path or URL of the token store; None is the open development mode, without tokens.
        ttl: seconds until an answer expires.
        rate: requests a second that each device may make, over time, to each worker; 0: no limit.
        burst: requests that a device may make at once.
        waiting: requests of a worker that may wait to be generated; more are shed.
        body_seconds: how long a body may take to arrive.
        poll_seconds: how often registry folders are looked at.
        token_seconds: how long a token that was found is taken for granted: the longest that a revoked one lives on.
        origins: of web pages that may ask (CORS).
        demo: show the demo page, where a browser is a device.
        log_requests: log every request, not refusals and changes alone.
        run_folder: folder that the workers of one service share while it runs: marks, counters.
        workers: how many there are.
        log_key: key of the hashes of devices in the log; None: one of this worker's own.
        clock_offset: microseconds to add to the machine's monotonic clock to get those since 1970: fixed for all
            workers, so that the sequence of answers grows whatever is done to the clock.
    """

    sources: tuple[str, ...]
    trusted: frozenset[str] | None = None
    tokens: str | None = None
    ttl: int = DEFAULT_TTL
    rate: float = 10.0
    burst: int = 100
    waiting: int = 256
    body_seconds: float = 10.0
    poll_seconds: float = 1.0
    token_seconds: float = 2.0
    origins: tuple[str, ...] = ()
    demo: bool = False
    log_requests: bool = False
    run_folder: str | None = None
    workers: int = 1
    log_key: bytes | None = None
    clock_offset: int | None = None

    @property
    def open(self) -> bool:
        """Whether anyone may ask: the development mode."""
        return self.tokens is None
