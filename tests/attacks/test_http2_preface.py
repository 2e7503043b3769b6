"""HTTP/2, which the service does not speak: a connection with its preface is closed, and not held."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cloud.test_live import Start

from .sockets import connect, wait_closed

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.mark.parametrize("sent", [PREFACE, PREFACE + SETTINGS, PREFACE[:10]])
def test_http2_preface_is_closed(live: Start, version: Path, sent: bytes) -> None:
    service = live(version, "--open", "--body-seconds", "1")
    connections = [connect(service) for _ in range(20)]
    for connection in connections:
        connection.sendall(sent)
    wait_closed(connections, 10)
    with service.client() as client:
        assert client.get("/healthz").status_code == 200
    for connection in connections:
        connection.close()
