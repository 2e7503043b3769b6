"""One device that asks without end, on whatever route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cloud.conftest import TestClient
from tests.cloud.test_parameters import GOOD, JSON, refused

from duetgen.cloud import ServiceConfig, create_app
from duetgen.cloud.sqlite_tokens import SQLiteTokens

BURST = 5


@pytest.fixture
def guarded(tmp_path: Path, version: Path) -> Iterator[tuple[Any, SQLiteTokens]]:
    """A service whose devices may ask five times, and its store of tokens."""
    store = SQLiteTokens(tmp_path / "tokens.sqlite", write=True)
    config = ServiceConfig(sources=(str(version),), tokens=str(store.path), rate=0.001, burst=BURST)
    with TestClient(create_app(config)) as made:
        yield made, store
    store.close()


ROUTES: dict[str, tuple[str, str, bytes]] = {
    "parameters": ("POST", "/v1/parameters", msgspec.json.encode({**GOOD, "device": "d"})),
    "malformed": ("POST", "/v1/parameters", b"{"),
    "of another device": ("POST", "/v1/parameters", msgspec.json.encode({**GOOD, "device": "e"})),
    "batch": ("POST", "/v1/parameters:batch", b"{}"),
    "models": ("GET", "/v1/models", b""),
    "models of another device": ("GET", "/v1/models?device=e", b""),
    "version": ("GET", "/v1/models/latest", b""),
    "version of another device": ("GET", "/v1/models/latest?device=e", b""),
    "file": ("GET", f"/v1/models/{'0' * 64}/items.json", b""),
    "metrics": ("GET", "/metrics", b""),
}


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_counts_against_the_share_of_the_device(guarded: tuple[Any, SQLiteTokens], route: str) -> None:
    client, store = guarded
    method, path, body = ROUTES[route]
    headers = {"authorization": f"Bearer {store.add('device', 'd')}", "content-type": JSON}
    for _ in range(BURST):
        assert client.request(method, path, content=body, headers=headers).status_code not in (429, 500)
    for method, path, body in ROUTES.values():
        response = client.request(method, path, content=body, headers=headers)
        refused(response, 429, "rate-limited")
        assert int(response.headers["retry-after"]) > 0
    other = {**headers, "authorization": f"Bearer {store.add('device', 'other')}"}
    assert client.get("/v1/models", headers=other).status_code == 200


def test_open_mode_counts_by_the_device_that_is_named(version: Path) -> None:
    with TestClient(create_app(ServiceConfig(sources=(str(version),), rate=0.001, burst=BURST))) as client:
        for _ in range(BURST):
            assert client.get("/v1/models?device=d").status_code == 200
        refused(client.get("/v1/models?device=d"), 429, "rate-limited")
        assert client.get("/v1/models?device=e").status_code == 200
