"""Who may ask: tokens, their store, their scopes; what each may share of the service."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from duetgen.cloud import ServiceConfig, create_app
from duetgen.cloud.errors import InvalidTokensError, RateLimitedError
from duetgen.cloud.rates import MAX_BUCKETS, RateLimiter
from duetgen.cloud.sqlite_tokens import SQLiteTokens
from duetgen.wire.authentication import answer_key, token_digest, verify
from duetgen.wire.messages import BatchAnswer, ParametersAnswer

from .conftest import TestClient, until
from .test_parameters import JSON, post, read, refused

ASK: dict[str, Any] = {"model_id": "latest", "device": "kiosk-1", "history": [3]}
BATCH: dict[str, Any] = {"model_id": "latest", "devices": [{"device": "kiosk-1", "history": [3]}]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteTokens]:
    made = SQLiteTokens(tmp_path / "tokens.sqlite", write=True)
    yield made
    made.close()


@pytest.fixture
def guarded(store: SQLiteTokens, version: Path) -> Iterator[Any]:
    """A service that asks for tokens, in this process."""
    config = ServiceConfig(
        sources=(str(version),), tokens=str(store.path), token_seconds=0.1, rate=0, trusted=None, log_requests=True
    )
    with TestClient(create_app(config)) as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_own_token_is_answered_under_its_own_key(guarded: Any, store: SQLiteTokens) -> None:
    token = store.add("device", "kiosk-1")
    answer = read(post(guarded, ASK, **bearer(token)), ParametersAnswer)
    assert verify(answer_key(token), "kiosk-1", answer)
    assert not verify(answer_key(""), "kiosk-1", answer)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic {token}", "{token}", "Bearer {token}x", "Bearer ü", "Bearer " + "a" * 500],
)
def test_no_token_and_wrong_token_refused_everywhere(guarded: Any, store: SQLiteTokens, header: str) -> None:
    sent = {"authorization": header.format(token=store.add("device", "kiosk-1")).encode("utf-8")}
    sent = {} if header == "" else sent
    for response in (
        guarded.post("/v1/parameters", content=msgspec.msgpack.encode(ASK), headers={**sent, "accept": JSON}),
        guarded.post("/v1/parameters:batch", content=msgspec.msgpack.encode(BATCH), headers={**sent, "accept": JSON}),
        guarded.get("/v1/models", headers={**sent, "accept": JSON}),
        guarded.get(f"/v1/models/{'0' * 64}/manifest.json", headers={**sent, "accept": JSON}),
        guarded.get("/metrics", headers=sent),
    ):
        refused(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_token(guarded: Any) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert guarded.get(path).status_code == 200


def test_token_of_another_device_refused(guarded: Any, store: SQLiteTokens) -> None:
    token = store.add("device", "kiosk-2")
    refused(post(guarded, ASK, **bearer(token)), 403, "forbidden")
    refused(guarded.get("/v1/models?device=kiosk-1", headers={**bearer(token), "accept": JSON}), 403, "forbidden")


def test_scopes(guarded: Any, store: SQLiteTokens) -> None:
    device, batch, admin = store.add("device", "kiosk-1"), store.add("batch", None), store.add("admin", None)
    refused(post(guarded, BATCH, "/v1/parameters:batch", **bearer(device)), 403, "forbidden")
    for token in (batch, admin):
        found = read(post(guarded, BATCH, "/v1/parameters:batch", **bearer(token)), BatchAnswer)
        assert verify(answer_key(token), "kiosk-1", found.answers[0])
        assert post(guarded, ASK, **bearer(token)).status_code == 200
    refused(guarded.get("/metrics", headers=bearer(device)), 403, "forbidden")
    refused(guarded.get("/metrics", headers=bearer(batch)), 403, "forbidden")
    assert guarded.get("/metrics", headers=bearer(admin)).status_code == 200


def test_revoked_token_is_refused_within_a_moment(guarded: Any, store: SQLiteTokens) -> None:
    token = store.add("device", "kiosk-1")
    assert post(guarded, ASK, **bearer(token)).status_code == 200
    assert store.revoke(device="kiosk-1") == 1
    until(lambda: post(guarded, ASK, **bearer(token)).status_code == 401)


def test_store_brought_back_from_a_copy_counts(guarded: Any, store: SQLiteTokens, tmp_path: Path) -> None:
    other = SQLiteTokens(tmp_path / "other.sqlite", write=True)
    token = other.add("device", "kiosk-1")
    other.close()
    refused(post(guarded, ASK, **bearer(token)), 401, "unauthenticated")
    (tmp_path / "other.sqlite").replace(store.path)
    until(lambda: post(guarded, ASK, **bearer(token)).status_code == 200)


def test_store_that_is_gone_is_no_ones_fault_and_says_so(guarded: Any, store: SQLiteTokens) -> None:
    store.path.unlink()
    response = post(guarded, ASK, **bearer("a" * 64))
    refused(response, 503, "tokens-unavailable")
    assert int(response.headers["retry-after"]) > 0


def test_store_that_cannot_be_read_makes_the_service_unready_until_it_is_back(
    guarded: Any, store: SQLiteTokens, tmp_path: Path
) -> None:
    store.path.rename(tmp_path / "aside")
    for _ in range(2):
        response = guarded.get("/readyz")
        refused(response, 503, "not-ready")
        assert "store of tokens cannot be read: [Errno 2] No such file" in response.json()["message"]
    (tmp_path / "aside").rename(store.path)
    assert guarded.get("/readyz").status_code == 200


def test_tokens_and_ids_are_never_in_the_log(
    guarded: Any, store: SQLiteTokens, capsys: pytest.CaptureFixture[str]
) -> None:
    token = store.add("device", "kiosk-1")
    post(guarded, ASK, **bearer(token))
    post(guarded, {**ASK, "device": "kiosk-7"}, **bearer(token))
    post(guarded, {**ASK, "history": [77777777]}, **bearer(token))
    post(guarded, {**ASK, "secret-field": "secret-value"}, **bearer(token))
    post(guarded, ASK, **bearer("wrong-" + token))
    guarded.get(f"/secret-path/{token}", headers=bearer(token))
    written = capsys.readouterr().err
    assert written.count('"event": "request"') == 6
    for secret in (token, "kiosk", "77777777", "secret", token_digest(token), answer_key(token).hex()):
        assert secret not in written


def test_same_device_has_the_same_name_in_the_log_until_the_end(
    guarded: Any, store: SQLiteTokens, capsys: pytest.CaptureFixture[str]
) -> None:
    token = store.add("batch", None)
    for device in ("a", "a", "b"):
        post(guarded, {**ASK, "device": device}, **bearer(token))
    lines = [msgspec.json.decode(line) for line in capsys.readouterr().err.splitlines()]
    first, second, other = [line["device"] for line in lines if line["event"] == "request"]
    assert first == second != other


def test_tokens_are_not_in_the_store(store: SQLiteTokens) -> None:
    tokens = [store.add("device", "kiosk-1", "front door"), store.add("admin", None)]
    content = store.path.read_bytes()
    assert b"front door" in content
    for token in tokens:
        assert token.encode() not in content
        assert token_digest(token).encode() in content
    assert store.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_file_that_is_no_store_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(InvalidTokensError):
        SQLiteTokens(tmp_path / "other")


def test_database_of_something_else_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "other")
    database.execute("create table tokens (name text)")
    database.close()
    with pytest.raises(InvalidTokensError):
        SQLiteTokens(tmp_path / "other")


def test_device_beyond_its_share_is_told_when_to_come_back(version: Path) -> None:
    config = ServiceConfig(sources=(str(version),), rate=0.5, burst=2)
    with TestClient(create_app(config)) as client:
        assert [post(client, ASK).status_code for _ in range(2)] == [200, 200]
        response = post(client, ASK)
        refused(response, 429, "rate-limited")
        assert int(response.headers["retry-after"]) == 2
        assert post(client, {**ASK, "device": "kiosk-2"}).status_code == 200


def test_bucket_fills_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limiter = RateLimiter(rate=2, burst=3)
    for _ in range(3):
        limiter.take("a")
    with pytest.raises(RateLimitedError):
        limiter.take("a")
    now += 0.5
    limiter.take("a")
    now += 1000
    for _ in range(3):
        limiter.take("a")
    with pytest.raises(RateLimitedError):
        limiter.take("a")


def test_made_up_devices_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duetgen.cloud.rates.MAX_BUCKETS", 10)
    limiter = RateLimiter(rate=1, burst=1)
    for number in range(100):
        limiter.take(f"device-{number}")
    assert len(limiter._buckets) == 10
    assert MAX_BUCKETS > 10
