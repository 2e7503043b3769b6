"""The pages that the service shows: the demo, where a browser is a device, and the dashboard.

They are built from `web/` and lie beside this module, all of them read when a worker starts: a request names one of
them or nothing. A page loads nothing from elsewhere, and its policy says so: script and styles come with the page, and
are allowed by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from duetgen.cloud.errors import NotFoundError

MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
INLINE: Final = re.compile(rb"<(script|style)[^>]*>(.*?)</\1>", re.DOTALL)
HEADERS: Final = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Kept, but asked for again each time: with the same tag it does not travel.
    "cache-control": "no-cache",
}


class Pages:
    """The files of both pages.

    Args:
        demo: whether the demo is shown as well.
    """

    def __init__(self, demo: bool) -> None:
        self._contents = {
            name: (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', policy(content))
            for name, content in read_all(files("duetgen.cloud") / "static")
            if demo or not name.startswith("demo/")
        }

    async def page(self, request: Request) -> Response:
        """A page by its folder, or one of its files."""
        path = request.url.path.removeprefix("/")
        name = f"{path}index.html" if path.endswith("/") else path
        if f"{path}/index.html" in self._contents:
            return RedirectResponse(f"{path}/", headers=HEADERS)
        found = self._contents.get(name)
        if found is None:
            raise NotFoundError("there is nothing at this path", "see /openapi.json")
        content, etag, allowed = found
        headers = {**HEADERS, "etag": etag, "content-security-policy": allowed}
        if etag.encode() in request.scope["read_headers"].found.get(b"if-none-match", b""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=MEDIA_TYPES[name.rpartition(".")[2]], headers=headers)


def policy(content: bytes) -> str:
    """What a file may load and run: a page its own script and styles, a worker the scripts beside it."""
    allowed = {"script": "", "style": ""}
    for kind, inline in INLINE.findall(content):
        digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
        allowed[kind.decode()] += f" 'sha256-{digest}'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self'{allowed['script']}",
            "worker-src 'self'",
            "connect-src 'self'",
            f"style-src 'self'{allowed['style']}",
            "img-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def read_all(folder: Traversable, before: str = "") -> list[tuple[str, bytes]]:
    """Every file in a folder, by its path inside."""
    found = []
    for entry in folder.iterdir():
        name = f"{before}{entry.name}"
        found += read_all(entry, f"{name}/") if entry.is_dir() else [(name, entry.read_bytes())]
    return found
