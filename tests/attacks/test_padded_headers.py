"""Headers padded to be long, or ever different: refused before anything is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cloud.conftest import TestClient
from tests.cloud.test_live import Start
from tests.cloud.test_parameters import GOOD, post, refused

from duetgen.cloud import ServiceConfig, create_app
from duetgen.cloud.access import Access
from duetgen.cloud.sqlite_tokens import SQLiteTokens

READ = ("authorization", "accept", "content-type", "content-encoding", "range", "if-none-match", "if-match", "if-range")


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("value", ["a" * 513, "Bearer " + "a" * 600, ("*/*," * 200)])
def test_header_that_is_read_is_bounded(client: Any, name: str, value: str) -> None:
    refused(post(client, GOOD, **{name: value}), 431, "headers-too-large")
    refused(client.get("/v1/models", headers={name: value}), 431, "headers-too-large")


def test_header_is_bounded_over_all_its_lines(client: Any) -> None:
    lines = [("accept", "text/html;level=1")] * 40
    refused(client.get("/v1/models", headers=lines), 431, "headers-too-large")


def test_header_that_may_come_once_is_refused_twice(client: Any) -> None:
    for name in ("authorization", "content-type", "range", "if-range", "host"):
        lines = [(name, "Bearer a"), (name, "Bearer b")]
        refused(client.get("/v1/models", headers=lines), 400, "invalid-request")


@pytest.fixture
def guarded(tmp_path: Path, version: Path) -> Iterator[tuple[Any, str, Access]]:
    """A service that asks for tokens, a device's token, and what the service remembers of tokens."""
    store = SQLiteTokens(tmp_path / "tokens.sqlite", write=True)
    token = store.add("device", "kiosk-1")
    store.close()
    app: Any = create_app(ServiceConfig(sources=(str(version),), tokens=str(tmp_path / "tokens.sqlite"), rate=0))
    with TestClient(app) as made:
        yield made, token, app.service.access


def test_token_is_remembered_once_however_it_is_written(guarded: tuple[Any, str, Access]) -> None:
    client, token, access = guarded
    for spaces in range(1, 200):
        sent = f"{'Bearer' if spaces % 2 else 'bEARER'}{' ' * spaces}{token}"
        assert client.get("/v1/models", headers={"authorization": sent}).status_code == 200
    for number in range(200):
        refused(client.get("/v1/models", headers={"authorization": f"Bearer {number}"}), 401, "unauthenticated")
    assert len(access._known) == 1
    assert all(token not in str(kept) for kept in access._known.items())


def test_open_mode_remembers_no_token(version: Path) -> None:
    app: Any = create_app(ServiceConfig(sources=(str(version),), rate=0))
    with TestClient(app) as client:
        for number in range(50):
            assert client.get("/v1/models", headers={"authorization": f"Bearer {number}"}).status_code == 200
    assert not app.service.access._known


@pytest.mark.slow
def test_memory_after_10000_padded_requests(live: Start, version: Path) -> None:
    from .fuzz import padded_requests, resident

    service = live(version, "--open", "--rate", "0")
    padded_requests(service.url, 2000)
    before = resident(service.ready["pid"])
    padded_requests(service.url, 10_000)
    assert resident(service.ready["pid"]) - before < 20 * 2**20
