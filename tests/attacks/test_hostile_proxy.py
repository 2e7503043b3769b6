"""A proxy that means ill: it holds no device for long, fills no memory, leads nowhere else, learns and tells nothing.

Each attack meets a request that the proxy reads, to an open cloud, and the opening of a tunnel to one over TLS.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from tests.device.proxy import Proxy

from duetgen.device.client import HttpCloud
from duetgen.device.errors import BadAnswerError, CloudRefusedError, CloudUnreachableError
from duetgen.errors import DuetError
from duetgen.wire.messages import ParametersRequest

TIMEOUT = 0.4
REQUEST = ParametersRequest("0" * 64, "d1", [3])
TOKEN, PASSWORD = "t0ken-t0ken", "pass/word"
FAILURES = (CloudUnreachableError, CloudRefusedError, BadAnswerError)

Attack = Callable[[socket.socket], None]


def flood(connection: socket.socket, head: bytes, content: bytes) -> None:
    connection.sendall(head)
    for _ in itertools.count():
        connection.sendall(content)


def trickle(connection: socket.socket, content: bytes) -> None:
    for byte in itertools.cycle(content):
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def endless_header_line(connection: socket.socket) -> None:
    flood(connection, b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65536)


def endless_headers(connection: socket.socket) -> None:
    flood(connection, b"HTTP/1.1 200 OK\r\n", b"X-More: y\r\n" * 1000)


def endless_status_line(connection: socket.socket) -> None:
    flood(connection, b"HTTP/1.1 200 ", b"O" * 65536)


def endless_interim_answers(connection: socket.socket) -> None:
    flood(connection, b"", b"HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n" * 100)


def endless_body(connection: socket.socket) -> None:
    flood(connection, b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"x" * 65536)


def slow_header(connection: socket.socket) -> None:
    trickle(connection, b"HTTP/1.1 200 OK\r\n" + b"X-Slow: z\r\n" * 1000)


def slow_interim_answers(connection: socket.socket) -> None:
    trickle(connection, b"HTTP/1.1 100 Continue\r\n\r\n")


def never_answers(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1)


def closes_early(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def closes_within_the_header(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 Conn")
    connection.shutdown(socket.SHUT_RDWR)


def redirects(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % elsewhere.encode())


def asks_for_a_password_again_and_again(connection: socket.socket) -> None:
    connection.sendall(b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="%s"\r\n\r\n' % TOKEN.encode())


def repeats_what_it_was_told(connection: socket.socket) -> None:
    told = f"{TOKEN} {PASSWORD} dTpwYXNzL3dvcmQ="
    connection.sendall(f"HTTP/1.1 403 {told}\r\nX-Token: {told}\r\nContent-Length: 0\r\n\r\n".encode())


def speaks_another_language(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


def switches_protocols(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")


def says_yes_and_speaks_for_the_cloud(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def says_yes_and_is_silent(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    never_answers(connection)


ATTACKS = [
    endless_header_line,
    endless_headers,
    endless_status_line,
    endless_interim_answers,
    endless_body,
    slow_header,
    slow_interim_answers,
    never_answers,
    closes_early,
    closes_within_the_header,
    redirects,
    asks_for_a_password_again_and_again,
    repeats_what_it_was_told,
    speaks_another_language,
    switches_protocols,
    says_yes_and_speaks_for_the_cloud,
    says_yes_and_is_silent,
]
elsewhere = ""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy("u", PASSWORD)
    yield proxy
    proxy.stop()


def refusal(client: HttpCloud) -> DuetError:
    with pytest.raises(FAILURES) as refused:
        client.parameters(REQUEST, 1000)
    return refused.value


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_attack(proxy: Proxy, attack: Attack, scheme: str) -> None:
    global elsewhere
    proxy.hostile = attack
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        elsewhere = f"{scheme}://127.0.0.1:{other.getsockname()[1]}/"
        url = f"{scheme}://cloud.invalid"
        client = HttpCloud(url, TOKEN, timeout=TIMEOUT, proxy=f"http://u:{PASSWORD.replace('/', '%2f')}@{proxy.name}")
        tracemalloc.start()
        begun = time.monotonic()
        cause = refusal(client)
        taken, (_, peak) = time.monotonic() - begun, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        client.close()
        with pytest.raises(BlockingIOError):
            other.accept()
    assert taken < TIMEOUT + 2
    assert peak < 16 * 2**20
    shown = f"{cause} {cause.hint}"
    assert not any(secret in shown for secret in (TOKEN, PASSWORD, "dTpwYXNzL3dvcmQ="))
    assert len(proxy.heads) == 1
    # A proxy that only tunnels never sees what the cloud is told.
    assert (f"Bearer {TOKEN}" in proxy.heads[0]) == (scheme == "http")


def test_closing_breaks_off_a_tunnel_that_does_not_open(proxy: Proxy) -> None:
    proxy.hostile = never_answers
    client = HttpCloud("https://cloud.invalid", TOKEN, proxy=proxy.url)
    failed: list[DuetError] = []
    thread = threading.Thread(target=lambda: failed.append(refusal(client)))
    thread.start()
    while not proxy.heads:
        time.sleep(0.005)
    begun = time.monotonic()
    client.close()
    thread.join()
    assert time.monotonic() - begun < 5
    assert isinstance(failed[0], CloudUnreachableError)


def test_a_tunnel_that_fails_is_not_used_again(proxy: Proxy) -> None:
    proxy.hostile = says_yes_and_speaks_for_the_cloud
    client = HttpCloud("https://cloud.invalid", TOKEN, timeout=TIMEOUT, proxy=proxy.url)
    for tries in (1, 2):
        assert isinstance(refusal(client), CloudUnreachableError)
        assert len(proxy.heads) == tries
        assert client.pool._idle == []
