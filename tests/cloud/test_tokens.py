"""Stores of tokens: what holds for each kind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from duetgen.cloud import ServiceConfig, create_app
from duetgen.cloud.errors import InvalidTokensError, TokensUnavailableError
from duetgen.cloud.sqlite_tokens import SQLiteTokens
from duetgen.cloud.tokens import Scope, Token, TokenStore, open_reader, open_store
from duetgen.wire.authentication import token_digest

from .conftest import TestClient, until
from .test_access import ASK, bearer
from .test_parameters import post, refused


def find(where: str, *digests: str) -> list[Token | None]:
    """What a reader that is opened now finds."""

    async def look() -> list[Token | None]:
        reader = open_reader(where)
        try:
            return [await reader.find(digest) for digest in digests]
        finally:
            await reader.aclose()

    return asyncio.run(look())


class TestEveryStore:
    @pytest.fixture
    def store(self, where: str) -> Iterator[TokenStore]:
        made = open_store(where, write=True)
        yield made
        made.close()

    @pytest.mark.parametrize("scope", get_args(Scope))
    def test_token_added_is_found_listed_and_revoked(self, where: str, store: TokenStore, scope: Scope) -> None:
        device = "kiosk-1" if scope == "device" else None
        token = store.add(scope, device, "front door, ünder the 'clock'")
        digest = token_digest(token)
        [entry] = store.all()
        assert entry == Token(digest, scope, device, "front door, ünder the 'clock'", entry.created)
        assert find(where, digest, token_digest("other")) == [entry, None]
        assert store.revoke(digest=digest[:8]) == 1
        assert store.all() == []
        assert find(where, digest) == [None]

    def test_token_that_expires_is_good_until_then_and_forgotten_after(
        self, where: str, store: TokenStore, version: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = store.add("device", "kiosk-1", seconds=3600)
        [entry] = store.all()
        assert entry.expires == entry.created + 3600
        config = ServiceConfig(sources=(str(version),), tokens=where, token_seconds=0.0, rate=0)
        with TestClient(create_app(config)) as client:
            assert post(client, ASK, **bearer(token)).status_code == 200
            now = time.time()
            monkeypatch.setattr("duetgen.cloud.access.time.time", lambda: now + 3600)
            refused(post(client, ASK, **bearer(token)), 401, "unauthenticated")
        other = store.add("device", "kiosk-1")
        assert [found.digest for found in store.all()] == [token_digest(other)]

    @pytest.mark.parametrize("seconds", [0, -1, 10**12])
    def test_time_that_is_none_refused(self, store: TokenStore, seconds: int) -> None:
        with pytest.raises(InvalidTokensError):
            store.add("device", "kiosk-1", seconds=seconds)

    def test_store_of_before_tokens_could_expire_is_extended_by_who_writes(self, where: str, store: TokenStore) -> None:
        token = store.add("device", "kiosk-1")
        store._run("alter table tokens drop column expires")  # type: ignore[attr-defined]
        with pytest.raises(InvalidTokensError):
            open_store(where)
        again = open_store(where, write=True)
        assert [(found.digest, found.expires) for found in again.all()] == [(token_digest(token), None)]
        again.close()

    def test_tokens_listed_and_revoked_by_digest(self, store: TokenStore) -> None:
        first, second = store.add("device", "a"), store.add("device", "a")
        assert {token.digest for token in store.all()} == {token_digest(first), token_digest(second)}
        assert store.revoke(digest=token_digest(first)[:12]) == 1
        assert [token.digest for token in store.all()] == [token_digest(second)]
        assert store.revoke(digest="%") == 0
        assert store.revoke(digest="") == 0
        assert store.revoke(device="b") == 0

    def test_all_tokens_of_a_device_revoked(self, store: TokenStore) -> None:
        for device in ("a", "a", "b"):
            store.add("device", device)
        store.add("batch", None)
        assert store.revoke(device="a") == 2
        assert {token.device for token in store.all()} == {"b", None}

    @pytest.mark.parametrize(
        ("scope", "device"), [("device", None), ("batch", "a"), ("device", ""), ("device", "a b"), ("device", "a\n")]
    )
    def test_token_that_makes_no_sense_refused(self, store: TokenStore, scope: Any, device: str | None) -> None:
        with pytest.raises(InvalidTokensError):
            store.add(scope, device)
        assert store.all() == []

    def test_store_that_nobody_made_refused_and_not_made(self, where: str) -> None:
        for _ in range(2):
            with pytest.raises(InvalidTokensError) as refusal:
                open_store(where)
            assert "duet tokens add" in refusal.value.hint

    def test_store_opened_twice_to_write_is_one(self, where: str, store: TokenStore) -> None:
        token = store.add("admin", None)
        second = open_store(where, write=True)
        assert [entry.digest for entry in second.all()] == [token_digest(token)]
        second.close()

    def test_stores_made_at_the_same_time_are_one(self, where: str) -> None:
        failures: list[BaseException] = []

        def make() -> None:
            try:
                made = open_store(where, write=True)
                made.add("admin", None)
                made.close()
            except BaseException as cause:
                failures.append(cause)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        store = open_store(where)
        assert len(store.all()) == 4
        store.close()

    def test_service_answers_its_tokens_until_they_are_revoked(
        self, where: str, store: TokenStore, version: Any
    ) -> None:
        config = ServiceConfig(sources=(str(version),), tokens=where, token_seconds=0.1, rate=0)
        with TestClient(create_app(config)) as client:
            refused(post(client, ASK, **bearer("f" * 64)), 401, "unauthenticated")
            token = store.add("device", "kiosk-1")
            assert post(client, ASK, **bearer(token)).status_code == 200
            refused(post(client, {**ASK, "device": "kiosk-2"}, **bearer(token)), 403, "forbidden")
            assert store.revoke(device="kiosk-1") == 1
            until(lambda: post(client, ASK, **bearer(token)).status_code == 401)


def test_a_file_that_comes_back_after_junk_stood_in_its_place_is_read_again(tmp_path: Path) -> None:
    path, away = tmp_path / "tokens.sqlite", tmp_path / "away.sqlite"
    SQLiteTokens(path, write=True).close()

    async def look() -> None:
        reader = SQLiteTokens(path)
        path.rename(away)
        path.write_text("junk")
        with pytest.raises(TokensUnavailableError):
            await reader.find("0")
        path.unlink()
        away.rename(path)
        assert await reader.find("0") is None
        await reader.aclose()

    asyncio.run(look())
