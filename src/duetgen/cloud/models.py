"""`GET /v1/models`, `/v1/models/{model_id}` and `/v1/models/{model_id}/{file}`: what is in service, and what a device
downloads, in one answer or file by file.
"""

from __future__ import annotations

import asyncio
import os
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from duetgen.cloud.errors import (
    InvalidRangeError,
    InvalidRequestError,
    NotFoundError,
    NotReadyError,
    PreconditionFailedError,
)
from duetgen.cloud.exchange import MEDIA, Headers, encode_json, encode_msgpack
from duetgen.cloud.registry import Served
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
PIECE: Final = 2**18
FOR_EVER: Final = "private, max-age=31536000, immutable"


class Models:
    """The endpoints.

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
        device = await self._device(request)
        versions = self._service.registry.versions
        newest_first = sorted(versions.served.values(), key=lambda s: (s.manifest.created, s.model_id), reverse=True)
        answer = ModelsAnswer(versions.latest(device), [served.summary for served in newest_first])
        form = headers.answer()
        body = encode_msgpack(answer) if form == "msgpack" else encode_json(answer)
        return Response(body, media_type=MEDIA[form].decode(), headers={"cache-control": "no-store"})

    async def version(self, request: Request) -> Response:
        """All that a device has of a version, as one tar file; `latest` is the version for the device that asks."""
        device = await self._device(request)
        model_id = request.path_params["model_id"]
        served = self._service.registry.versions.find(model_id, device)
        # What the others are verified by comes first, the large one last.
        names = (MANIFEST, SIGNATURE, *reversed(served.manifest.device_files))
        sizes = {path: stat.st_size for path, stat in (await self._stats(served, *names)).items()}
        length = sum(tarfile.BLOCKSIZE + size + padding(size) for size in sizes.values()) + 2 * tarfile.BLOCKSIZE
        kept = "no-store" if model_id == "latest" else FOR_EVER
        headers = {"cache-control": kept, "content-length": str(length)}
        return StreamingResponse(archive(sizes), media_type="application/x-tar", headers=headers)

    async def _device(self, request: Request) -> str | None:
        """The device that a caller asks for, and may ask for."""
        grant = await self._service.grant(request.scope["read_headers"])
        device = asked_device(request) or grant.device
        if device is not None:
            grant.may_ask_for(device)
            if grant.scope is None:
                self._service.limiter.take(device)
        return device

    async def _stats(self, served: Served, *names: str) -> dict[Path, os.stat_result]:
        """Files, with what the disk says of them.

        Raises:
            NotReadyError: one is not any more what was verified.
        """
        paths = [served.bundle.root / name for name in names]
        try:
            looking = asyncio.get_running_loop().run_in_executor(self._disk, lambda: [path.stat() for path in paths])
            stats = await asyncio.wait_for(looking, DISK_SECONDS)
        except OSError as cause:  # TimeoutError is one
            raise gone(names[0]) from cause
        for name, stat in zip(names, stats, strict=True):
            if served.file_state.get(name) != (stat.st_ino, stat.st_mtime_ns, stat.st_size):
                raise gone(name)
        return dict(zip(paths, stats, strict=True))

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
        [(path, stat)] = (await self._stats(served, name)).items()
        expected = served.manifest.files.get(name)
        # The digest names the content; manifest and signature have none, but belong to their model_id.
        etag = f'"{expected.sha256 if expected else served.model_id + "-" + served.signature_tag}"'
        said = {"etag": etag, "cache-control": FOR_EVER, "accept-ranges": "bytes"}
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


def padding(size: int) -> int:
    """Bytes behind a file in a tar file."""
    return -size % tarfile.BLOCKSIZE


def archive(sizes: dict[Path, int]) -> Iterator[bytes]:
    """Files of these sizes as a tar file, in a few pieces."""
    piece = bytearray()
    for path, size in sizes.items():
        head = tarfile.TarInfo(path.name)
        head.size = size
        piece += head.tobuf()
        with path.open("rb") as file:
            while part := file.read(PIECE):
                piece += part
                if len(piece) >= PIECE:
                    yield bytes(piece)
                    piece.clear()
        piece += bytes(padding(size))
    yield bytes(piece + bytes(2 * tarfile.BLOCKSIZE))


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
