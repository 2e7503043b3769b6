"""Tokens in PostgreSQL: a database that is away, slow, somebody else's; rights; passwords."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from duetgen.cloud import ServiceConfig, create_app, postgres_reader
from duetgen.cloud.errors import InvalidTokensError, TokensUnavailableError
from duetgen.cloud.postgres import parse_url
from duetgen.cloud.postgres_reader import PostgresReader
from duetgen.cloud.postgres_tokens import PostgresTokens
from duetgen.cloud.tokens import is_url, open_reader, open_store
from duetgen.errors import MissingExtraError
from duetgen.wire.authentication import token_digest

from .conftest import Live, Run, TestClient, until
from .database import DATABASE, PASSWORD, QUOTED, Server
from .test_access import ASK, bearer
from .test_parameters import post, refused

SECRETS = (PASSWORD, QUOTED, "secret")


@pytest.fixture
def store(postgres: Server) -> Iterator[PostgresTokens]:
    with closing(PostgresTokens(postgres.url(), write=True)) as made:
        yield made


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that failed is left alone for a moment only."""
    monkeypatch.setattr(postgres_reader, "PAUSE_SECONDS", 0.1)


def started(server: Server) -> None:
    """Start the server, if it is not running."""
    server.stop()
    server.start()


def with_reader(url: str, use: Callable[[PostgresReader], Any]) -> None:
    """Run a coroutine with a reader, for half a minute at most."""

    async def run() -> None:
        reader = PostgresReader(url)
        try:
            async with asyncio.timeout(30):
                await use(reader)
        finally:
            await reader.aclose()

    asyncio.run(run())


def one_line(error: InvalidTokensError) -> str:
    """A refusal as it is printed, which says no password."""
    text = f"{error.message} {error.hint}"
    assert "\n" not in text
    assert not any(secret in text for secret in SECRETS)
    return text


def test_database_that_is_stopped_is_no_ones_fault_and_counts_again_when_it_is_back(
    postgres: Server, store: PostgresTokens, version: Path, brief: None, capsys: pytest.CaptureFixture[str]
) -> None:
    device, other = store.add("device", "kiosk-1"), store.add("admin", None)
    config = ServiceConfig(sources=(str(version),), tokens=postgres.url(), token_seconds=0.1, rate=0)
    with TestClient(create_app(config)) as client:
        assert post(client, ASK, **bearer(device)).status_code == 200
        postgres.stop()
        try:
            until(lambda: post(client, ASK, **bearer(device)).status_code == 503)
            for _ in range(3):
                response = post(client, ASK, **bearer(other))
                refused(response, 503, "tokens-unavailable")
                assert int(response.headers["retry-after"]) > 0
            assert "store of tokens cannot be read" in client.get("/readyz").json()["message"]
        finally:
            started(postgres)
        until(lambda: post(client, ASK, **bearer(device)).status_code == 200)
        assert client.get("/readyz").status_code == 200
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [(line["event"], line.get("reason")) for line in lines if line["event"].startswith("tokens")]
    assert told[0][0] == "tokens unreadable"
    assert told[-1] == ("tokens readable", None)
    assert len(told) == len(set(told)) < 5


def test_connection_lost_in_the_meantime_fails_nobody(postgres: Server, store: PostgresTokens) -> None:
    digest = token_digest(store.add("admin", None))

    async def use(reader: PostgresReader) -> None:
        assert await reader.find(digest)
        postgres.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{DATABASE}'")
        assert await reader.find(digest)
        store.close()
        postgres.stop()
        postgres.start()
        assert await reader.find(digest)

    with_reader(postgres.url(), use)


def test_event_loop_goes_on_while_the_database_is_slow(postgres: Server, store: PostgresTokens, brief: None) -> None:
    digest = token_digest(store.add("admin", None))

    async def use(reader: PostgresReader) -> None:
        assert await reader.find(digest)
        with psycopg.connect(postgres.url()) as other:
            other.execute("lock table tokens")
            asked = asyncio.create_task(reader.find(digest))
            rounds = 0
            while not asked.done():
                await asyncio.sleep(0.01)
                rounds += 1
            with pytest.raises(TokensUnavailableError):
                await asked
        assert rounds > 5
        await asyncio.sleep(0.15)
        assert await reader.find(digest)

    with_reader(postgres.url(), use)


def test_frozen_database_is_given_up(
    postgres: Server, store: PostgresTokens, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = token_digest(store.add("admin", None))

    async def use(reader: PostgresReader) -> None:
        assert await reader.find(digest)
        monkeypatch.setattr(postgres_reader, "LOOKUP_SECONDS", 0.3)
        postgres.signal(signal.SIGSTOP)
        try:
            # The first has a connection, the second waits for one.
            for _ in range(2):
                with pytest.raises(TokensUnavailableError, match="cannot be read") as refusal:
                    await reader.find(digest)
                assert refusal.value.reason == "the database does not answer in time"
                await asyncio.sleep(0.15)
        finally:
            postgres.signal(signal.SIGCONT)
        monkeypatch.setattr(postgres_reader, "LOOKUP_SECONDS", 10)
        assert await reader.find(digest)

    with_reader(postgres.url(), use)


def test_in_the_pause_after_a_failure_nobody_waits(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is missing: that is found once, and the next are refused at once, without a reason of their own."""
    monkeypatch.setattr(postgres_reader, "PAUSE_SECONDS", 3600)

    async def use(reader: PostgresReader) -> None:
        found = await asyncio.gather(*(reader.find(str(number)) for number in range(3)), return_exceptions=True)
        reasons = [error.reason for error in found if isinstance(error, TokensUnavailableError)]
        assert reasons == ['relation "tokens" does not exist'] * 3
        with pytest.raises(TokensUnavailableError) as refusal:
            await reader.find("a")
        assert refusal.value.reason is None

    with_reader(postgres.url(), use)


def test_those_who_ask_at_the_same_time_are_looked_up_together(
    postgres: Server, store: PostgresTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [token_digest(store.add("device", f"kiosk-{number}")) for number in range(10)]
    asked: list[int] = []
    ask = postgres_reader.ask

    async def counting(connection: Any, together: list[str], deadline: float) -> Any:
        asked.append(len(together))
        return await ask(connection, together, deadline)

    monkeypatch.setattr(postgres_reader, "ask", counting)

    async def use(reader: PostgresReader) -> None:
        tokens = await asyncio.gather(*(reader.find(digest) for digest in [*digests, *digests, "f" * 64]))
        devices = [f"kiosk-{number}" for number in range(10)]
        assert [token and token.device for token in tokens] == [*devices, *devices, None]

    with_reader(postgres.url(), use)
    assert asked == [11]


def test_one_who_gives_up_does_not_take_the_answer_from_others(postgres: Server, store: PostgresTokens) -> None:
    digest = token_digest(store.add("admin", None))

    async def use(reader: PostgresReader) -> None:
        first, second = (asyncio.create_task(reader.find(digest)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second

    with_reader(postgres.url(), use)


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("{address}/nowhere", 'database "nowhere" does not exist'),
        ("postgresql://nobody:secret@{place}/duet", 'authentication failed for user "nobody"'),
        ("postgresql://owner@{place}/duet", "no password supplied"),
        ("postgresql://owner:secret@127.0.0.1:1/duet", "Connection refused"),
        ("postgresql://owner:secret@[::1]:1,127.0.0.1:1/duet", "Connection refused"),
        ("postgres:///duet?host=/nowhere&password=secret", "No such file or directory"),
        ("{address}/duet?sslmode=never", "sslmode"),
        ("{address}/duet", "no table of tokens"),
        ("postgresql://owner:sec/ret@{place}/duet", "malformed"),
        ("postgresql://owner:sec?ret@{place}/duet", "malformed"),
        ("postgresql://owner:sec#ret@{place}/duet", "malformed"),
        ("postgresql://owner:sec@ret@{place}/duet", "malformed"),
        ("postgresql://owner:secret%zz@{place}/duet", "malformed"),
        ("postgresql://owner:secret%00@{place}/duet", "malformed"),
        ("postgresql://owner:secret/duet", "malformed"),
        ("postgresql://{place}/duet?passphrase=secret", "malformed"),
        ("postgresql://{place}/duet?password=secret@", "malformed"),
        ("postgresql://owner:secret\udcff@{place}/duet", "malformed"),
        ("mysql://owner:secret@{place}/duet", "another kind of URL"),
        ("postgresq://owner:secret@{place}/duet", "another kind of URL"),
    ],
)
def test_database_that_cannot_be_used_is_said_in_one_line_without_a_password(
    postgres: Server, url: str, cause: str
) -> None:
    place = f"127.0.0.1:{postgres.port}"
    url = url.format(place=place, address=f"postgresql://owner:{QUOTED}@{place}")
    with pytest.raises(InvalidTokensError) as refusal:
        open_store(url)
    text = one_line(refusal.value)
    assert cause in text
    assert not any(part in text for part in ("sec@", "ret@", "@ret", "sec/", "/ret"))


@pytest.mark.parametrize(
    "statement", ["create table tokens (name text)", "create view tokens as select 1 as digest, 'admin' as scope"]
)
def test_table_of_something_else_refused_and_left_alone(postgres: Server, statement: str) -> None:
    columns = "select column_name from information_schema.columns where table_name = 'tokens'"
    postgres.execute(statement, DATABASE)
    before = postgres.execute(columns, DATABASE)
    try:
        for write in (False, True):
            with pytest.raises(InvalidTokensError) as refusal:
                open_store(postgres.url(), write=write)
            assert "does not exist" in one_line(refusal.value)
        assert postgres.execute(columns, DATABASE) == before
    finally:
        postgres.execute("drop view tokens" if "view" in statement else "drop table tokens", DATABASE)


def test_rights_to_read_do_for_the_service_and_rights_to_rows_for_the_command(
    postgres: Server, store: PostgresTokens
) -> None:
    token = store.add("device", "kiosk-1")
    for name, rights in (("reader", "select"), ("writer", "select, insert, delete"), ("stranger", None)):
        postgres.execute(f"drop role if exists {name}", DATABASE)
        postgres.execute(f"create role {name} login", DATABASE)
        if rights:
            postgres.execute(f"grant {rights} on tokens to {name}", DATABASE)

    async def use(reader: PostgresReader) -> None:
        assert await reader.find(token_digest(token))

    try:
        with_reader(postgres.socket_url(user="reader"), use)
        with closing(open_store(postgres.socket_url(user="reader"))) as reader:
            assert len(reader.all()) == 1
            for refused_call in (lambda: reader.add("admin", None), lambda: reader.revoke(device="kiosk-1")):
                with pytest.raises(InvalidTokensError, match="permission denied"):
                    refused_call()
        with closing(open_store(postgres.socket_url(user="writer"), write=True)) as writer:
            writer.add("admin", None)
            assert writer.revoke(device="kiosk-1") == 1
        with pytest.raises(InvalidTokensError, match="permission denied"):
            open_store(postgres.socket_url(user="stranger"))
    finally:
        postgres.execute("drop table tokens", DATABASE)
        for name in ("reader", "writer", "stranger"):
            postgres.execute(f"drop role {name}", DATABASE)


def test_tokens_are_not_in_the_database(postgres: Server, store: PostgresTokens) -> None:
    token = store.add("admin", None, "prometheus")
    [[row]] = postgres.execute("select tokens::text from tokens", DATABASE)
    assert "prometheus" in row
    assert token not in row
    assert token_digest(token) in row


def test_settings_of_the_url_and_the_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=env")
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    found = parse_url("postgresql://h/d?connect_timeout=7", connect_seconds=5, statement_seconds=0.5).parameters
    assert found["connect_timeout"] == "7"
    assert found["options"] == "-c search_path=env -c statement_timeout=500"
    url = "postgresql://h/d?connect_timeout=7&options=-csearch_path%3Durl&application_name=mine"
    found = parse_url(url, connect_seconds=2, statement_seconds=5, always=True).parameters
    assert found["connect_timeout"] == 2
    assert found["options"] == "-csearch_path=url -c statement_timeout=5000"
    assert found["application_name"] == "mine"


def test_path_is_no_url() -> None:
    assert not is_url("tokens.sqlite")
    assert not is_url("/srv/duet/tokens.sqlite")
    assert is_url("postgres://h/d")


@pytest.mark.parametrize("open_it", [open_store, open_reader])
def test_missing_package_is_said(monkeypatch: pytest.MonkeyPatch, open_it: Callable[[str], Any]) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in ("postgres", "postgres_tokens", "postgres_reader"):
        monkeypatch.delitem(sys.modules, f"duetgen.cloud.{name}")
    with pytest.raises(MissingExtraError) as refusal:
        open_it("postgresql://h/d")
    assert refusal.value.hint == "pip install 'duetgen[postgres]'"


def test_tokens_verbs(postgres: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    at = ("--store", postgres.url(password=None))
    token = run("tokens", "add", "kiosk-1", "--note", "front door", *at)[1].strip()
    assert len(token) == 64
    made = json.loads(run("tokens", "add", "--scope", "batch", "--json", *at)[1])
    listed = json.loads(run("tokens", "list", "--json", *at)[1])
    assert {entry["digest"] for entry in listed} == {token_digest(token), made["digest"]}
    assert "front door" in run("tokens", "list", *at)[1]
    assert run("tokens", "revoke", made["digest"][:12], *at)[0] == 0
    assert "[invalid-tokens]" in run("tokens", "revoke", made["digest"][:12], *at)[2]
    assert run("tokens", "revoke", "--device", "kiosk-1", *at)[1] == "revoked 1 token\n"
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["tokens", "add", "kiosk-1", "--store", "{url}-not"], "invalid-tokens"),
        (["tokens", "list", "--store", "{url}-not", "--json"], "invalid-tokens"),
        (["tokens", "list", "{url}"], "usage"),
        (["tokens", "revoke", "{url}", "--store", "tokens.sqlite"], "invalid-tokens"),
        (["serve", "{version}", "--tokens", "{url}-not"], "invalid-tokens"),
        (["serve", "{version}", "--tokens", "{url}", "--open"], "open-mode"),
        (["serve", "{version}", "{url}", "--open"], "nothing-to-serve"),
        (["serve", "{version}", "--store", "{url}"], "usage"),
        (["serve", "{version}", "--port", "{url}"], "usage"),
    ],
)
def test_password_is_never_printed(postgres: Server, run: Run, version: Path, arguments: list[str], code: str) -> None:
    typed = [argument.format(url=postgres.url(), version=version) for argument in arguments]
    status, output, errors = run(*typed)
    assert status == 2
    assert code in (output if "--json" in arguments else errors)
    assert not any(secret in output + errors for secret in SECRETS)


def test_serves_by_url_from_start_to_end(
    postgres: Server, store: PostgresTokens, live: Callable[..., Live], version: Path
) -> None:
    token = store.add("device", "kiosk-1")
    service = live(version, "--tokens", postgres.url(), "--workers", "2", "--rate", "0", "--log-requests")
    assert service.ready["mode"] == "tokens"

    def statuses(token: str) -> set[int]:
        found = set()
        for _ in range(6):
            # Each connection may meet another worker.
            with service.client() as client:
                found.add(post(client, ASK, **bearer(token)).status_code)
        return found

    assert statuses(token) == {200}
    assert statuses("f" * 64) == {401}
    assert store.revoke(device="kiosk-1") == 1
    until(lambda: statuses(token) == {401})
    token = store.add("device", "kiosk-1")
    store.close()
    postgres.stop()
    try:
        until(lambda: statuses(token) == {503})
    finally:
        started(postgres)
    until(lambda: statuses(token) == {200})
    assert service.stop() == 0
    written = service.log()
    assert "tokens unreadable" in written
    assert not any(secret in written for secret in (*SECRETS, token))
