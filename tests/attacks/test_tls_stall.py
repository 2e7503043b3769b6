"""TLS handshakes that are begun and not finished."""

from __future__ import annotations

import contextlib
import resource
import ssl
from pathlib import Path

import httpx
import pytest
from tests.cloud.conftest import Live, until
from tests.cloud.test_live import Start, make_certificate

from .sockets import connect, log_lines, wait_closed


def client_hello() -> bytes:
    """The first message of a handshake."""
    sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = ssl.create_default_context().wrap_bio(received, sent, server_hostname="cloud")
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return sent.read()


def serve(live: Start, version: Path, folder: Path, **options: str) -> tuple[Live, ssl.SSLContext]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make_certificate(certificate, key)
    service = live(version, "--open", "--certificate", certificate, "--key", key, **options)
    return service, ssl.create_default_context(cafile=str(certificate))


def answers(service: Live, context: ssl.SSLContext) -> bool:
    with (
        contextlib.suppress(httpx.HTTPError),
        httpx.Client(base_url=service.url, verify=context, trust_env=False, timeout=5) as client,
    ):
        return client.get("/healthz").status_code == 200
    return False


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"\x16", client_hello()[:40], client_hello()], ids=["0", "1", "half", "hello"])
def test_stalled_handshakes_are_closed_and_harm_nobody(live: Start, version: Path, tmp_path: Path, sent: bytes) -> None:
    service, context = serve(live, version, tmp_path)
    stalled = [connect(service) for _ in range(200)]
    for connection in stalled:
        connection.sendall(sent)
    assert answers(service, context)
    wait_closed(stalled, 20)
    assert answers(service, context)
    for connection in stalled:
        connection.close()


@pytest.mark.slow
def test_stalled_handshakes_that_take_all_files(live: Start, version: Path, tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1000:
        pytest.skip("this process may not open so many connections")
    service, context = serve(live, version, tmp_path, ulimit="-n 256")
    stalled = [connect(service) for _ in range(600)]
    until(lambda: answers(service, context), seconds=60)
    assert "no files left" in [line["event"] for line in log_lines(service)]
    for connection in stalled:
        connection.close()
