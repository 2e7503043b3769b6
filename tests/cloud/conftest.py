"""Services to test: in this process, and as processes of their own on sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from duetgen.cli.app import main
from duetgen.cloud import ServiceConfig, create_app

from .database import DATABASE, Server, programs
from .versions import make_version

with warnings.catch_warnings():
    # It would rather have another package than httpx, which is not here.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

COMMAND = [sys.executable, "-W", "error", "-c", "from duetgen.cli import main; main()"]


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1; copy it before changing it."""
    root = tmp_path_factory.mktemp("cloud") / "version"
    make_version(root)
    return root


@pytest.fixture(scope="session")
def advised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 with opinions; it gives both parts of theta."""
    root = tmp_path_factory.mktemp("cloud") / "advised"
    make_version(root, parts="both")
    return root


@pytest.fixture
def client(version: Path) -> Iterator[TestClient]:
    """A service in the open mode, in this process."""
    with TestClient(create_app(ServiceConfig(sources=(str(version),), rate=0))) as made:
        yield made


class Live:
    """`duet serve` as a process of its own, its limits changed by `ulimit` if that is given."""

    def __init__(self, folder: Path, *arguments: str | Path, ulimit: str = "") -> None:
        self.errors = folder / f"stderr-{time.monotonic_ns()}"
        command = [*COMMAND, "serve", *map(str, arguments), "--port", "0", "--json"]
        if ulimit:
            command = ["sh", "-c", f'ulimit {ulimit}; exec "$@"', "sh", *command]
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log()
        self.ready: dict[str, Any] = json.loads(line)
        self.url: str = self.ready["url"]

    def log(self) -> str:
        return self.errors.read_text()

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False, **options)

    def stop(self) -> int:
        """SIGINT, at which it does not drain first."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(40)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """`live(BUNDLE, …)`: a service on a free port; it is stopped after the test."""
    made: list[Live] = []

    def start(*arguments: str | Path, ulimit: str = "") -> Live:
        made.append(Live(tmp_path, *arguments, ulimit=ulimit))
        return made[-1]

    yield start
    for service in made:
        service.stop()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run(VERB, …)`: the command in this process, to its end: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        found = capsys.readouterr()
        return code, found.out, found.err

    return call


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server; the tests that stop it start it again."""
    found = programs()
    if found is None:
        pytest.skip("there is no PostgreSQL server to test with")
    made = Server(found)
    try:
        made.start()
        made.execute(f"create database {DATABASE}")
        yield made
    finally:
        made.remove()


@pytest.fixture
def postgres(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, with an empty database `duet`, and nothing in the environment that would lead elsewhere."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    server.execute("drop table if exists tokens", DATABASE)
    return server


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store of each kind may be made."""
    if request.param == "sqlite":
        return str(tmp_path / "tokens.sqlite")
    url: str = request.getfixturevalue("postgres").url(DATABASE)
    return url


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.03)
