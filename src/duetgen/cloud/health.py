"""`/healthz`, `/readyz`, `/metrics` and `/openapi.json`."""

from __future__ import annotations

import asyncio
import time

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from duetgen.cloud.errors import NotReadyError, StoppingError, TokensUnavailableError
from duetgen.cloud.openapi import document
from duetgen.cloud.registry import LOOK_SECONDS, Served
from duetgen.cloud.service import Service

CANARY_SECONDS = 1.0
"""For so long the last look at the canary counts, however often someone asks."""
STALE_SECONDS = 3 * LOOK_SECONDS
"""How much older than usual the last look into the registry may be."""


class Health:
    """The endpoints of those who run the service.

    Args:
        service: the worker they belong to.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._document = msgspec.json.encode(document())
        self._check: asyncio.Future[None] | None = None
        self._checked = ("", 0.0)

    async def alive(self, request: Request) -> Response:
        """The process answers."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(self, request: Request) -> Response:
        """There is something to serve, both of its graphs compute what was exported, and the registry and the store of
        tokens can be read.
        """
        if self._service.draining:
            raise StoppingError("the service is stopping", "ask another one")
        versions = self._service.registry.versions
        model_id = versions.latest(None)
        served = versions.find(model_id, None)
        age = time.monotonic() - self._service.registry.looked
        if age > self._service.config.poll_seconds + STALE_SECONDS:
            raise NotReadyError(f"the registry could not be looked at for {age:.0f} seconds", "see the log")
        try:
            await self._service.access.check()
        except TokensUnavailableError as cause:
            reason = cause.reason or "for the same reason as before"
            raise NotReadyError(f"the store of tokens cannot be read: {reason:.300}", "see the log") from cause
        try:
            await self._canary(served)
        except Exception as cause:
            raise NotReadyError(f"the canary of {model_id[:12]} fails: {cause!s:.300}", "see the log") from cause
        answer = {"status": "ready", "latest": model_id, "models": list(versions.served), "registry_age": round(age, 3)}
        body = msgspec.json.encode(answer)
        return Response(body, media_type="application/json")

    async def _canary(self, served: Served) -> None:
        """Run the canary, once for all who ask within a moment."""
        model_id, begun = self._checked
        done = self._check is None or self._check.done()
        if self._check is None or (done and (model_id != served.model_id or time.monotonic() - begun > CANARY_SECONDS)):
            self._checked = (served.model_id, time.monotonic())
            self._check = asyncio.ensure_future(asyncio.to_thread(served.engine.check))
        await asyncio.shield(self._check)

    async def metrics(self, request: Request) -> Response:
        """What Prometheus reads; for tokens of scope `admin`."""
        grant = await self._service.grant(request.scope["read_headers"])
        grant.must_have("admin")
        return Response(self._service.recorder.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Response(self._document, media_type="application/json")
