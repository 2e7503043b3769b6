"""`GET /v1/models` and `GET /v1/models/{model_id}/{file}`: what is in service, and what a device downloads."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from duetgen.cloud.errors import (
    InvalidRangeError,
    InvalidRequestError,
    NotFoundError,
    NotReadyError,
    PreconditionFailedError,
)
from duetgen.cloud.exchange import MEDIA, Headers, encode_json, encode_msgpack
from duetgen.cloud.service import Service
from duetgen.wire.bundle import DEVICE_FILES, MANIFEST, SIGNATURE
from duetgen.wire.messages import DeviceId, ModelsAnswer

MEDIA_TYPES: Final = {".json": "application/json", ".onnx": "application/octet-stream"}
DISK_SECONDS: Final = 5.0
"""How long a file is looked for."""
DISK_THREADS: Final = 4
SPAN: Final = re.compile(rb"(\d*)-(\d*)")
DOWNLOADS: Final = (MANIFEST, SIGNATURE, *DEVICE_FILES)
"""What a device may have; the generator stays here."""


class Models:
    """The two endpoints.

    Args:
        service: the worker they belong to.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        # Of its own: threads that a hanging disk holds are missed by nobody else.
        self._disk = ThreadPoolExecutor(DISK_THREADS)

    async def list(self, request: Request) -> Response:
        """The versions in service, and the one for the device that asks."""
        headers: Headers = request.scope["read_headers"]
        grant = await self._service.grant(headers)
        device = asked_device(request) or grant.device
        if device is not None:
            grant.may_ask_for(device)
            if grant.scope is None:
                self._service.limiter.take(device)
        versions = self._service.registry.versions
        newest_first = sorted(versions.served.values(), key=lambda s: (s.manifest.created, s.model_id), reverse=True)
        answer = ModelsAnswer(versions.latest(device), [served.summary for served in newest_first])
        form = headers.answer()
        body = encode_msgpack(answer) if form == "msgpack" else encode_json(answer)
        return Response(body, media_type=MEDIA[form].decode(), headers={"cache-control": "no-store"})

    async def file(self, request: Request) -> Response:
        """A file of a version: for ever the same, so it may be kept for ever."""
        headers: Headers = request.scope["read_headers"]
        await self._service.grant(headers)
        name = request.path_params["file"]
        if name not in DOWNLOADS:
            raise NotFoundError("a device has no such file", f"ask for {', '.join(DOWNLOADS)}")
        if request.path_params["model_id"] == "latest":
            raise NotFoundError("files are found by model_id", "see GET /v1/models for the latest")
        served = self._service.registry.versions.find(request.path_params["model_id"], None)
        path = served.bundle.root / name
        try:
            looking = asyncio.get_running_loop().run_in_executor(self._disk, path.stat)
            stat = await asyncio.wait_for(looking, DISK_SECONDS)
        except OSError as cause:  # TimeoutError is one
            raise gone(name) from cause
        expected = served.manifest.files.get(name)
        if served.file_state.get(name) != (stat.st_ino, stat.st_mtime_ns, stat.st_size):
            raise gone(name)
        # The digest names the content; manifest and signature have none, but belong to their model_id.
        etag = f'"{expected.sha256 if expected else served.model_id + "-" + served.signature_tag}"'
        said = {"etag": etag, "cache-control": "private, max-age=31536000, immutable", "accept-ranges": "bytes"}
        if not named(headers.found.get(b"if-match", b"*"), etag):
            raise PreconditionFailedError("the file is not one that If-Match names", "ask without If-Match")
        if named(headers.found.get(b"if-none-match", b"").replace(b"W/", b""), etag):
            return Response(status_code=304, headers=said)
        wanted = headers.found.get(b"range", b"")
        whole = request.method != "GET" or headers.found.get(b"if-range", etag.encode()) != etag.encode()
        if whole or not in_part(wanted, stat.st_size):
            wanted = b""
        # What the response reads of the request is decided here; and a file that never changes has no date.
        request.scope["headers"] = [(b"range", wanted)] if wanted else []
        response = FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=said, stat_result=stat)
        del response.headers["last-modified"]
        return response


def asked_device(request: Request) -> str | None:
    """The device that the query names; None: none.

    Raises:
        InvalidRequestError: several, or what is no id of a device.
    """
    devices = request.query_params.getlist("device")
    try:
        if len(devices) > 1:
            raise ValueError
        return msgspec.convert(devices[0], DeviceId) if devices else None
    except ValueError as cause:  # msgspec's own error is one as well
        raise InvalidRequestError(
            "the query names several devices, or one of a malformed id", "give one of 1 to 128 letters, digits, . _ : -"
        ) from cause


def named(tags: bytes, etag: str) -> bool:
    """Whether a list of entity tags has this one; `*` stands for any."""
    listed = [tag.strip() for tag in tags.split(b",")]
    return b"*" in listed or etag.encode() in listed


def gone(name: str) -> NotReadyError:
    """The refusal of a file that is not any more what was verified."""
    return NotReadyError(
        f"{name} of this version was changed or removed here, or cannot be read",
        "ask again later, or for the latest version",
    )


def in_part(header: bytes, size: int) -> bool:
    """Whether a part of a file is to be sent; a unit that is not known, or several parts, give the whole.

    Raises:
        InvalidRangeError: malformed, or beyond the file.
    """
    unit, _, spans = header.partition(b"=")
    if unit.strip().lower() != b"bytes":
        return False
    found = [SPAN.fullmatch(span.strip()) for span in spans.split(b",")]
    # The one who asks for several must be ready to get the whole; one of them must be there.
    if all(match is None or not begins_within(match[1], match[2], size) for match in found):
        raise InvalidRangeError(size)
    return len(found) == 1


def begins_within(first: bytes, last: bytes, size: int) -> bool:
    """Whether a file has some of the bytes from first to last; without a first one, of so many at its end."""
    if not first:
        return bool(last) and int(last) > 0
    return int(first) < size and (not last or int(first) <= int(last))
