"""Connections that say nothing, or not enough: closed in time, and nobody waits for them."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cloud.conftest import Live, until
from tests.cloud.test_live import Start

from .sockets import connect, log_lines, wait_closed


@contextlib.contextmanager
def silent(service: Live, count: int, said: bytes = b"") -> Iterator[list[object]]:
    """Connections that say so much and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 200:
        pytest.skip("this process may not open so many connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        connections = [stack.enter_context(connect(service)) for _ in range(count)]
        for connection in connections:
            connection.sendall(said)
        yield list(connections)
        wait_closed(connections, 30)


def answers(service: Live) -> bool:
    with service.client() as client:
        return client.get("/healthz").status_code == 200


@pytest.mark.parametrize("said", [b"", b"G", b"GET /healthz HTTP/1.1\r\nhost: c", b"\r\n"])
def test_silent_connections_are_closed_and_harm_nobody(live: Start, version: Path, said: bytes) -> None:
    service = live(version, "--open", "--body-seconds", "1")
    with silent(service, 100, said):
        assert answers(service)
    assert answers(service)


@pytest.mark.slow
def test_2000_silent_connections(live: Start, version: Path) -> None:
    service = live(version, "--open")
    with silent(service, 2000):
        for _ in range(20):
            assert answers(service)
    assert answers(service)


@pytest.mark.slow
def test_2000_silent_connections_where_1024_files_may_be_open(live: Start, version: Path) -> None:
    service = live(version, "--open", "--body-seconds", "1", ulimit="-n 1024")
    with silent(service, 2000):
        until(lambda: answers(service), seconds=30)
    assert answers(service)
    assert not [line for line in log_lines(service) if line["event"] == "no files left"]


def test_limit_of_open_files_is_raised_and_told(live: Start, version: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    service = live(version, "--open", ulimit="-S -n 256")
    assert {"event": "open files", "limit": hard}.items() <= log_lines(service)[2].items()
    children = Path(f"/proc/{service.ready['pid']}/task/{service.ready['pid']}/children").read_text().split()
    for process in (service.ready["pid"], *children):
        limits = Path(f"/proc/{process}/limits").read_text()
        assert f"Max open files            {hard} " in limits
