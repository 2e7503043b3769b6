"""The service as an ASGI application: what every request passes, and the routes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from duetgen.cloud.config import ServiceConfig
from duetgen.cloud.errors import InternalError, MethodNotAllowedError, NotFoundError, ServiceError
from duetgen.cloud.exchange import MEDIA, Answer, DisconnectedError, Format, Header, Headers, send_body, send_error
from duetgen.cloud.health import Health
from duetgen.cloud.models import Models
from duetgen.cloud.pages import Pages
from duetgen.cloud.parameters import Parameters
from duetgen.cloud.service import Service
from duetgen.errors import DuetError

Endpoint = Callable[[Scope, Receive, Headers], Awaitable[Answer]]

PATHS: Final = {
    "/v1/parameters": "parameters",
    "/v1/parameters:batch": "batch",
    "/v1/models": "models",
    "/healthz": "healthz",
    "/readyz": "readyz",
    "/metrics": "metrics",
    "/openapi.json": "openapi",
}
"""Names of the endpoints, for counting: a path that somebody made up must not make up a series."""
PREFIXES: Final = {"/v1/models/": "file", "/demo": "page", "/dashboard": "page"}
"""The same for paths by their beginning."""
PAGES: Final = ("/demo", "/demo/", "/demo/{file}", "/dashboard", "/dashboard/", "/dashboard/{file}")
GONE: Final = 499
"""Counted where the caller went away before the answer."""


def create_app(config: ServiceConfig) -> ASGIApp:
    """The application of one worker."""
    front = Front(Service(config))
    if not config.origins:
        return front
    return CORSMiddleware(
        front,
        allow_origins=config.origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "range", "if-none-match"],
        expose_headers=["etag", "retry-after", "content-range", "server-timing"],
        max_age=3600,
    )


class Front:
    """What every request passes: the way to its endpoint, refusals as answers, counting, the log.

    Args:
        service: the worker.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        parameters = Parameters(service)
        # These two are nearly all of the traffic: they have no use for routing.
        self._direct: dict[str, Endpoint] = {
            "/v1/parameters": parameters.one,
            "/v1/parameters:batch": parameters.batch,
        }
        self._router = routes(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        if self.service.draining:
            send = partial(send_last, send)
        endpoint = self._direct.get(scope["path"]) or partial(self._routed, send)
        await self._answer(endpoint, scope, receive, send)

    async def _answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        begun, service = time.perf_counter(), self.service
        path = scope["path"]
        name = PATHS.get(path) or next((kind for begin, kind in PREFIXES.items() if path.startswith(begin)), "other")
        form: Format = "json"
        answer: Answer | None = None
        error: DuetError | None = None
        try:
            headers = Headers(scope["headers"], scope["http_version"])
            form = headers.answer(headers.content if scope["method"] == "POST" else None)
            if path in self._direct and scope["method"] != "POST":
                raise MethodNotAllowedError("POST")
            answer = await endpoint(scope, receive, headers)
            status = answer.status
        except DuetError as refusal:
            error = refusal
        except HTTPException as refusal:
            error = no_route(refusal)
        except DisconnectedError:
            status = GONE
        except Exception as cause:
            service.log.write("error", "defect", endpoint=name, kind=type(cause).__name__, where=origin(cause))
            error = InternalError("the service failed to answer", "please report it, with the service's log")
        try:
            if error is not None:
                status = getattr(error, "status", 500)
                service.recorder.totals.errors[error.code] += 1
                await send_error(send, error, form)
            elif answer is not None and answer.content is not None:
                await send_body(send, 200, answer.content, MEDIA[answer.form], timing(begun))
        except Exception:  # what sending raises when nobody is there any more depends on the server
            status = GONE
        service.recorder.totals.requests[f"{name} {status}"] += 1
        device = None if answer is None else answer.device
        service.log.request(name, status, None if error is None else error.code, device, begun)

    async def _routed(self, send: Send, scope: Scope, receive: Receive, headers: Headers) -> Answer:
        # Nothing is read of what comes behind the headers: a body that breaks off must not break off the answer.
        status = 0

        async def remember(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # With an application in the scope, the router raises what it does not find, for this class to answer.
        scope["app"], scope["read_headers"] = self, headers
        try:
            await self._router(scope, silence, remember)
        except Exception as cause:
            if status:
                raise DisconnectedError from cause
            raise
        return Answer(status)


def timing(begun: float) -> list[Header]:
    """How long an answer took here, in milliseconds: a device tells it from the time on the way."""
    return [(b"server-timing", b"cloud;dur=%.3f" % ((time.perf_counter() - begun) * 1000))]


async def send_last(send: Send, message: Message) -> None:
    """Send an answer that is the last of its connection."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (b"connection", b"close")]
    await send(message)


async def silence() -> Message:
    """Of a caller who says nothing more."""
    nothing: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await nothing


def no_route(refusal: HTTPException) -> ServiceError:
    """The refusal of what the router does not find."""
    if refusal.status_code == 405:
        return MethodNotAllowedError((refusal.headers or {})["Allow"])
    return NotFoundError("there is nothing at this path", "see /openapi.json")


def origin(cause: BaseException) -> str:
    """Where an exception was raised; not what it says, which may quote what was sent."""
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def routes(service: Service) -> Router:
    """Everything but the endpoints of parameters."""
    models, health, pages = Models(service), Health(service), Pages(service.config.demo)

    @contextlib.asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with service.running():
            yield

    return Router(
        routes=[
            Route("/v1/models", models.list),
            Route("/v1/models/{model_id}", models.version),
            Route("/v1/models/{model_id}/{file}", models.file),
            Route("/healthz", health.alive),
            Route("/readyz", health.ready),
            Route("/metrics", health.metrics),
            Route("/openapi.json", health.openapi),
            *(Route(path, pages.page) for path in PAGES),
        ],
        lifespan=lifespan,
        redirect_slashes=False,
    )
