"""A server on this machine that gives files as publishers do, well or badly."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from duetgen.data.catalogue.entries import File

CONTENT = bytes(range(256)) * 4096
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Publisher(ThreadingHTTPServer):
    """A server whose ways a test sets; it remembers which ranges were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.ranges = True
        self.cuts: list[int] = []
        self.asked: list[str | None] = []
        self.status = 200
        self.lengths = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def file(self, path: str = "/set.zip", **known: Any) -> File:
        return File(name="set.zip", url=self.url + path, **known)


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server, start = self.server, 0
        if self.path.startswith("/to/"):
            self.answer(302, b"", {"Location": self.path.removeprefix("/to/")})
            return
        if self.path == "/page":
            self.answer(200, b"<html>sign in</html>", {"Content-Type": "text/html; charset=utf-8"})
            return
        if self.path.endswith(".md5"):
            self.answer(200, f"MD5 (set.zip) = {MD5}\n".encode(), {})
            return
        if server.status != 200:
            self.answer(server.status, b"no", {})
            return
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        headers = {"ETag": server.etag} if server.etag else {}
        status = 200
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(server.content):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(server.content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
        self.answer(status, server.content[start:], headers, server.cuts.pop(0) if server.cuts else None)

    def answer(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = True


@contextmanager
def publishing() -> Iterator[Publisher]:
    """A server that serves until the block ends."""
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
