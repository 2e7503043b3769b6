"""A small HTTP proxy on a loopback port: tunnels and passes on, and notes every head that it reads."""

from __future__ import annotations

import contextlib
import socket
import threading
from base64 import b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.device.cloud import LoopbackServer


class Handler(BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, *_: object) -> None:
        pass

    def parse_request(self) -> bool:
        whole = super().parse_request()
        if whole:
            self.server.heads.append(f"{self.requestline}\r\n{self.headers}")
            if self.server.hostile is not None:
                self.server.hostile(self.connection)
                return False
            if self.headers.get("Proxy-Authorization") != self.server.wanted:
                self.send_response(407)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return False
        return whole

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as origin:
            self.connection.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: small\r\n\r\n")
            back = threading.Thread(target=pump, args=(origin, self.connection), daemon=True)
            back.start()
            pump(self.connection, origin)
            back.join()
        self.close_connection = True

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        assert parts.scheme == "http", "a proxy is asked for a whole address"
        assert parts.hostname is not None
        assert self.headers["Host"] == parts.netloc
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        del self.headers["Proxy-Authorization"]
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        head = f"{self.command} {target} HTTP/1.0\r\n{self.headers}".replace("\n", "\r\n").replace("\r\r", "\r")
        with socket.create_connection((parts.hostname, parts.port or 80)) as origin:
            origin.sendall(head.encode() + body)
            pump(origin, self.connection)

    do_GET = do_POST


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until there are no more."""
    with contextlib.suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)


class Proxy(LoopbackServer):
    """A proxy.

    Attributes:
        heads: of the requests that it read.
        hostile: takes over each connection once its request is read.
        wanted: the Proxy-Authorization that it lets through.
    """

    def __init__(self, user: str = "", password: str = "") -> None:
        self.heads: list[str] = []
        self.hostile: Callable[[socket.socket], None] | None = None
        self.wanted = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}" if user else None
        super().__init__(Handler)
