"""`POST /v1/parameters` and `POST /v1/parameters:batch`: a history in, theta out.

Plain ASGI: of the tenth of a millisecond that an answer takes, a framework's objects would be a good part.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from msgspec.structs import force_setattr
from starlette.types import Receive, Scope

from duetgen.cloud.access import Grant
from duetgen.cloud.errors import BodyTooLargeError, OverloadedError, RequestTimeoutError, StoppingError
from duetgen.cloud.exchange import (
    Answer,
    Decoder,
    Format,
    Headers,
    encode_json,
    encode_msgpack,
    format_of,
    read_body,
)
from duetgen.cloud.registry import Served
from duetgen.cloud.service import Service
from duetgen.cloud.thetas import Encoded
from duetgen.wire.authentication import answer_mac
from duetgen.wire.limits import MAX_BATCH_ANSWER_BYTES
from duetgen.wire.messages import BatchAnswer, BatchDevice, BatchRequest, Encoding, ParametersAnswer, ParametersRequest

MAX_READING: Final = 4096
"""Requests of a worker whose body is being read at once."""


class Parameters:
    """The two endpoints.

    Args:
        service: the worker they belong to.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._one = Decoder(ParametersRequest)
        self._many = Decoder(BatchRequest, inner="devices", inner_fields=len(BatchDevice.__struct_fields__))

    async def one(self, scope: Scope, receive: Receive, headers: Headers) -> Answer:
        """Answer one device."""
        service, totals = self._service, self._service.recorder.totals
        stages = totals.stages
        begun = time.perf_counter()
        grant = await service.access.grant(headers.authorization)
        if grant.device is not None:
            service.limiter.take(grant.device)
        body = await self._read(headers, receive)
        read = time.perf_counter()
        self._admit()
        try:
            form = headers.content or format_of(body)
            request = self._one.decode(body, form)
            device = request.device
            grant.may_ask_for(device)
            if grant.device is None:
                service.limiter.take(device)
            served = service.registry.versions.find(request.model_id, device)
            history_L = served.engine.history(request.history)
            if request.age_ms is not None:
                totals.age.observe(request.age_ms / 1000)
            stages["read"].observe(read - begun)
            stages["decode"].observe(time.perf_counter() - read)
            thetas, row = await served.gathering.theta(history_L)
            generated = time.perf_counter()
            encoded = thetas.encode(row, request.dtype, request.parts)
            answer = self._answer(served, grant, device, encoded, request.dtype)
            form = headers.answer(form)
            content = encode_msgpack(answer) if form == "msgpack" else encode_json(answer)
            ended = time.perf_counter()
            stages["encode"].observe(ended - generated)
            stages["total"].observe(ended - begun)
            totals.sent += len(content)
            totals.devices[f"{served.model_id} {request.dtype}"] += 1
        finally:
            service.waiting -= 1
        return Answer(200, content, form, device)

    async def batch(self, scope: Scope, receive: Receive, headers: Headers) -> Answer:
        """Answer many devices at once, for a token of scope `batch`."""
        service, totals = self._service, self._service.recorder.totals
        grant = await service.grant(headers)
        grant.must_have("batch", "admin")
        body = await self._read(headers, receive)
        self._admit()
        try:
            form = headers.content or format_of(body)
            request = self._many.decode(body, form)
            served = service.registry.versions.find(request.model_id, None)
            size = served.engine.answer_bytes(request.dtype, request.parts) * len(request.devices)
            if size > MAX_BATCH_ANSWER_BYTES:
                raise BodyTooLargeError(
                    f"the answer would have {size} bytes of theta, above {MAX_BATCH_ANSWER_BYTES}",
                    "ask for fewer devices a call",
                )
            form = headers.answer(form)
            content = await self._generate(served, grant, request, form)
            totals.sent += len(content)
            totals.devices[f"{served.model_id} {request.dtype}"] += len(request.devices)
        finally:
            service.waiting -= 1
        return Answer(200, content, form)

    async def _generate(self, served: Served, grant: Grant, request: BatchRequest, form: Format) -> bytes:
        engine, devices = served.engine, request.devices
        answers: list[ParametersAnswer] = []
        for begin in range(0, len(devices), engine.rows):
            # Not all of them at once: what is small in a request may be large to read.
            part = engine.histories([device.history for device in devices[begin : begin + engine.rows]])
            begun = time.perf_counter()
            thetas = engine.thetas(part)
            self._service.recorder.timed(time.perf_counter() - begun, len(part))
            for row in range(len(part)):
                encoded = thetas.encode(row, request.dtype, request.parts)
                answers.append(self._answer(served, grant, devices[begin + row].device, encoded, request.dtype))
            # Between calls of the generator, those who ask for themselves have their turn.
            await asyncio.sleep(0)
        return encode_msgpack(BatchAnswer(answers)) if form == "msgpack" else encode_json(BatchAnswer(answers))

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        service = self._service
        if service.stopping:
            raise StoppingError("the service is stopping", "ask again: another process answers")
        if service.waiting >= service.config.waiting or service.reading >= MAX_READING:
            raise overloaded()
        service.reading += 1
        try:
            with service.deadlines.watch():
                return await read_body(headers, receive)
        except TimeoutError as cause:
            raise RequestTimeoutError(
                f"the body did not arrive within {service.config.body_seconds:g} seconds", "send it faster"
            ) from cause
        finally:
            service.reading -= 1

    def _admit(self) -> None:
        if self._service.waiting >= self._service.config.waiting:
            raise overloaded()
        self._service.waiting += 1

    def _answer(self, served: Served, grant: Grant, device: str, encoded: Encoded, dtype: Encoding) -> ParametersAnswer:
        clock, totals = self._service.clock, self._service.recorder.totals
        totals.weights += len(encoded.scale) + len(encoded.theta)
        totals.bias += len(encoded.bias)
        now = clock.now()
        answer = ParametersAnswer(
            served.model_id, clock.next(), now, now + 1000 * self._service.config.ttl, dtype, *encoded, b""
        )
        # The code is over the answer itself, so it comes last; nobody else has seen the answer yet.
        force_setattr(answer, "mac", answer_mac(grant.key, device, answer))
        return answer


def overloaded() -> OverloadedError:
    """The refusal of what is too much at once."""
    return OverloadedError("more requests at once than the service takes", "ask again after Retry-After")
