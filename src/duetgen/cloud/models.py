"""`GET /v1/models` and `GET /v1/models/{model_id}/{file}`: what is in service, and what a device downloads."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from duetgen.cloud.errors import InvalidRangeError, InvalidRequestError, NotFoundError, NotReadyError
from duetgen.cloud.exchange import MEDIA, Headers, encode_json, encode_msgpack
from duetgen.cloud.service import Service
from duetgen.wire.bundle import DEVICE_FILES, MANIFEST, SIGNATURE
from duetgen.wire.limits import MAX_DEVICE_BYTES
from duetgen.wire.messages import ModelsAnswer

MEDIA_TYPES: Final = {".json": "application/json", ".onnx": "application/octet-stream"}
DOWNLOADS: Final = (MANIFEST, SIGNATURE, *DEVICE_FILES)
"""What a device may have; the generator stays here."""
MAX_RANGE_BYTES: Final = 256
"""Longest `range` header: enough for a device that goes on with a download."""


class Models:
    """The two endpoints.

    Args:
        service: the worker they belong to.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list(self, request: Request) -> Response:
        """The versions in service, and the one for the device that asks."""
        headers = Headers(request.scope["headers"])
        grant = await self._service.access.grant(headers.authorization)
        device = request.query_params.get("device", grant.device)
        if device is not None:
            if not 0 < len(device) <= MAX_DEVICE_BYTES:
                raise InvalidRequestError("the query names a device of a malformed id", "give 1 to 128 characters")
            grant.may_ask_for(device)
        versions = self._service.registry.versions
        newest_first = sorted(versions.served.values(), key=lambda s: (s.manifest.created, s.model_id), reverse=True)
        answer = ModelsAnswer(versions.latest(device), [served.summary for served in newest_first])
        form = headers.answer()
        body = encode_msgpack(answer) if form == "msgpack" else encode_json(answer)
        return Response(body, media_type=MEDIA[form].decode(), headers={"cache-control": "no-store"})

    async def file(self, request: Request) -> Response:
        """A file of a version: for ever the same, so it may be kept for ever."""
        await self._service.access.grant(Headers(request.scope["headers"]).authorization)
        name = request.path_params["file"]
        if name not in DOWNLOADS:
            raise NotFoundError("a device has no such file", f"ask for {', '.join(DOWNLOADS)}")
        if request.path_params["model_id"] == "latest":
            raise NotFoundError("files are found by model_id", "see GET /v1/models for the latest")
        served = self._service.registry.versions.find(request.path_params["model_id"], None)
        path = served.bundle.root / name
        try:
            stat = path.stat()
        except OSError as cause:
            raise gone(name) from cause
        expected = served.manifest.files.get(name)
        if served.file_state.get(name) != (stat.st_ino, stat.st_mtime_ns, stat.st_size):
            raise gone(name)
        # The digest names the content; manifest and signature have none, but belong to their model_id.
        etag = f'"{expected.sha256 if expected else served.model_id + "-" + served.signature_tag}"'
        headers = {"etag": etag, "cache-control": "private, max-age=31536000, immutable", "accept-ranges": "bytes"}
        if etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        check_range(request.headers.get("range", ""), stat.st_size)
        media = MEDIA_TYPES[path.suffix]
        return FileResponse(path, media_type=media, headers=headers, stat_result=stat)


def gone(name: str) -> NotReadyError:
    """The refusal of a file that is not any more what was verified."""
    return NotReadyError(
        f"{name} of this version was changed or removed here", "ask again later, or for the latest version"
    )


def check_range(header: str, size: int) -> None:
    """Refuse a range that cannot be answered.

    Raises:
        InvalidRangeError: malformed, of several parts, or beyond the file.
    """
    if not header:
        return
    unit, _, span = header.partition("=")
    first, dash, last = span.strip().partition("-")
    good: bool = len(header) <= MAX_RANGE_BYTES and unit.strip() == "bytes" and bool(dash and first + last)
    good = good and all(part == "" or (part.isascii() and part.isdigit()) for part in (first, last))
    if good and first:
        good = int(first) < size and (not last or int(first) <= int(last))
    elif good:
        good = int(last) > 0
    if not good:
        raise InvalidRangeError(f"the file has {size} bytes, not that range", "ask for one range, as bytes=FIRST-LAST")
