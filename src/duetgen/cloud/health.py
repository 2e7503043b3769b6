"""`/healthz`, `/readyz`, `/metrics` and `/openapi.json`."""

from __future__ import annotations

import asyncio

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from duetgen.cloud.errors import NotReadyError, StoppingError
from duetgen.cloud.exchange import Headers
from duetgen.cloud.openapi import document
from duetgen.cloud.service import Service

CANARY_SECONDS = 1.0
"""For so long the last look at the canary counts, however often someone asks."""


class Health:
    """The endpoints of those who run the service.

    Args:
        service: the worker they belong to.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._document = msgspec.json.encode(document())
        self._looked = 0.0

    async def alive(self, request: Request) -> Response:
        """The process answers."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(self, request: Request) -> Response:
        """There is something to serve, and both of its graphs compute what was exported."""
        if self._service.stopping:
            raise StoppingError("the service is stopping", "ask another one")
        versions = self._service.registry.versions
        model_id = versions.latest(None)
        served = versions.find(model_id, None)
        loop = asyncio.get_running_loop()
        if loop.time() - self._looked > CANARY_SECONDS:
            try:
                await asyncio.to_thread(served.engine.check)
            except Exception as cause:
                raise NotReadyError(f"the canary of {model_id[:12]} fails: {cause}", "see the log") from cause
            self._looked = loop.time()
        body = msgspec.json.encode({"status": "ready", "latest": model_id, "models": list(versions.served)})
        return Response(body, media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        """What Prometheus reads; for tokens of scope `admin`."""
        grant = await self._service.access.grant(Headers(request.scope["headers"]).authorization)
        grant.must_have("admin")
        return Response(self._service.recorder.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Response(self._document, media_type="application/json")
