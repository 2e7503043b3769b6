"""What attackers send by hand, and what they get."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from tests.cloud.conftest import Live


def connect(service: Live, seconds: float = 20) -> socket.socket:
    """A connection."""
    url = urlsplit(service.url)
    assert url.hostname is not None
    return socket.create_connection((url.hostname, url.port or 0), timeout=seconds)


def ask(service: Live, sent: bytes, *, end: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the one answer on a connection of its own; with `end`, nothing more is sent."""
    with connect(service) as connection:
        connection.sendall(sent)
        if end:
            connection.shutdown(socket.SHUT_WR)
        content = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                content += part
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]), headers, body


def wait_closed(connections: Iterable[socket.socket], seconds: float) -> None:
    """Wait until the service has closed all of them."""
    deadline = time.monotonic() + seconds
    for connection in connections:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass


def log_lines(service: Live) -> list[dict[str, Any]]:
    """The log: nothing but JSON objects."""
    lines = [json.loads(line) for line in service.log().splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines
