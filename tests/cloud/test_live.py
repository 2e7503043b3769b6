"""The service as it runs: processes, sockets, signals, load."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import numpy as np
import pytest
from tests.certificates import make_certificate

from duetgen.cloud import ServiceConfig, create_app
from duetgen.cloud.app import Front
from duetgen.cloud.errors import CannotListenError, InvalidSettingError
from duetgen.cloud.server import Address, reserved
from duetgen.cloud.sqlite_tokens import SQLiteTokens
from duetgen.cloud.startup import check_settings
from duetgen.wire.authentication import answer_key, verify
from duetgen.wire.bundle import open_bundle
from duetgen.wire.messages import ErrorAnswer, ModelsAnswer, ParametersAnswer

from .conftest import Live, Run, TestClient, until
from .test_parameters import CODEC, GOOD, JSON, post, read, refused
from .versions import make_version, theta

Start = Callable[..., Live]


def connect(service: Live) -> socket.socket:
    url = urlsplit(service.url)
    assert url.hostname is not None
    return socket.create_connection((url.hostname, url.port or 0), timeout=20)


def raw(body: bytes, length: int | None = None, path: str = "/v1/parameters") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: cloud\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


def receive(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer."""
    content = b""
    while b"\r\n\r\n" not in content:
        part = connection.recv(65536)
        if not part:
            return 0, content
        content += part
    head, _, body = content.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
    while len(body) < length and (part := connection.recv(65536)):
        body += part
    return int(head[9:12]), body


def test_serves_a_real_bundle_and_says_when_it_is_ready(live: Start, bundle_folder: Path) -> None:
    service = live(bundle_folder, "--open")
    bundle = open_bundle(bundle_folder)
    assert service.ready["models"] == [bundle.manifest.model_id]
    assert service.ready["mode"] == "open"
    with service.client() as client:
        assert client.get("/readyz").json()["latest"] == bundle.manifest.model_id
        canary = bundle.canary()
        answer = read(post(client, {**GOOD, "history": canary.history}), ParametersAnswer)
    found = bundle.codec().decode(answer.scale, answer.theta, answer.dtype)
    np.testing.assert_allclose(found, canary.theta, atol=1e-5)


def test_tokens_logs_and_metrics_of_two_workers(live: Start, version: Path, tmp_path: Path) -> None:
    store = SQLiteTokens(tmp_path / "tokens.sqlite", write=True)
    device, admin = store.add("device", "kiosk-1"), store.add("admin", None)
    service = live(version, "--tokens", store.path, "--workers", "2", "--rate", "0", "--log-requests")
    sequences = []
    for _ in range(40):
        with service.client(headers={"authorization": f"Bearer {device}"}) as client:
            answer = read(post(client, GOOD), ParametersAnswer)
            assert verify(answer_key(device), "kiosk-1", answer)
            sequences.append(answer.sequence)
    assert sequences == sorted(set(sequences))

    def counted() -> bool:
        with service.client(headers={"authorization": f"Bearer {admin}"}) as client:
            return 'duet_requests_total{endpoint="parameters",status="200"} 40.0' in client.get("/metrics").text

    until(counted)
    assert store.revoke(device="kiosk-1") == 1
    store.close()

    def locked_out() -> bool:
        statuses = set()
        for _ in range(6):
            with service.client(headers={"authorization": f"Bearer {device}"}) as client:
                statuses.add(post(client, GOOD).status_code)
        return statuses == {401}

    until(locked_out)
    assert service.stop() == 0
    lines = [json.loads(line) for line in service.log().splitlines()]
    assert len({line["device"] for line in lines if line.get("device")}) == 1
    for secret in (device, admin, "kiosk-1"):
        assert secret not in service.log()


def test_body_of_100_megabytes_is_refused_and_not_held(live: Start, version: Path) -> None:
    service = live(version, "--open")
    with connect(service) as connection:
        connection.sendall(raw(b"", length=100_000_000))
        status, body = receive(connection)
        assert (status, msgspec.json.decode(body, type=ErrorAnswer).code) == (413, "body-too-large")
    with connect(service) as connection, contextlib.suppress(OSError):
        # Sent in pieces of unsaid length, until the service has had enough.
        connection.sendall(b"POST /v1/parameters HTTP/1.1\r\nhost: cloud\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(1600):
            connection.sendall(b"10000\r\n" + b"\x00" * 65536 + b"\r\n")
    with service.client() as client:
        assert post(client, GOOD).status_code == 200


def test_slow_body_is_given_up_and_harms_nobody(live: Start, version: Path) -> None:
    service = live(version, "--open", "--body-seconds", "1")
    slow = [connect(service) for _ in range(20)]
    body = msgspec.msgpack.encode(GOOD)
    for connection in slow:
        connection.sendall(raw(body[:5], length=len(body)))
    with service.client() as client:
        assert post(client, GOOD).status_code == 200
        for connection in slow:
            status, answer = receive(connection)
            assert (status, msgspec.json.decode(answer, type=ErrorAnswer).code) == (408, "request-timeout")
            connection.close()
        assert post(client, GOOD).status_code == 200


def test_slow_reader_and_lost_callers_harm_nobody(live: Start, version: Path) -> None:
    service = live(version, "--open", "--rate", "0")
    devices = [{"device": f"d{index}", "history": [3]} for index in range(1024)]
    body = msgspec.msgpack.encode({"model_id": "latest", "devices": devices, "dtype": "float32"})
    readers = [connect(service) for _ in range(5)]
    for connection in readers:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(raw(body, path="/v1/parameters:batch"))
    for _ in range(30):
        lost = connect(service)
        lost.sendall(raw(b"\x81", length=100))
        lost.close()
    with service.client() as client:
        for _ in range(20):
            assert post(client, GOOD).status_code == 200
    for connection in readers:
        connection.close()
    with service.client() as client:
        assert client.get("/readyz").status_code == 200


def test_path_traversal_as_sent_by_hand(live: Start, version: Path) -> None:
    service = live(version, "--open")
    for path in (
        "/v1/models/../../etc/passwd",
        "/../../../etc/passwd",
        "/v1/models/%2e%2e%2f/manifest.json",
        "//etc/passwd",
    ):
        with connect(service) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: cloud\r\n\r\n".encode())
            assert receive(connection)[0] == 404


def test_publishing_and_rolling_back_under_load_fails_no_request(live: Start, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    ids = [make_version(registry / "v1", 1)]
    service = live(registry, "--open", "--rate", "0", "--poll", "0.1", "--workers", "2")
    outcomes: Counter[tuple[int, str]] = Counter()
    stop = threading.Event()

    def ask(device: str) -> None:
        """A device: it runs what is recommended, and changes when another is."""
        model_id, count = "", 0
        with service.client() as client:
            while not stop.is_set():
                if count % 10 == 0:
                    headers = {"accept": JSON}
                    model_id = read(client.get("/v1/models", headers=headers), ModelsAnswer).latest
                response = post(client, {**GOOD, "device": device, "model_id": model_id})
                answer = read(response, ParametersAnswer)
                number = ids.index(model_id) + 1
                expected = theta([3, 5, 7], number)
                right = np.array_equal(CODEC.decode(answer.scale, answer.theta, answer.dtype), expected)
                outcomes[response.status_code, model_id if right else "wrong"] += 1
                count += 1

    def ask_all(device: str) -> None:
        try:
            ask(device)
        except BaseException as cause:
            outcomes[0, repr(cause)] += 1

    def moved(model_id: str) -> Callable[[], bool]:
        before = outcomes[200, model_id]
        return lambda: outcomes[200, model_id] > before + 20 or any(status != 200 for status, _ in outcomes)

    threads = [threading.Thread(target=ask_all, args=(f"d{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(moved(ids[0]))
        ids.append("")
        ids[1] = make_version(tmp_path / "v2", 2)
        (tmp_path / "v2").replace(registry / "v2")
        until(moved(ids[1]))
        make_version(registry / "v3", 3, lying=True)
        (registry / "latest").write_text(ids[0])
        os.kill(service.ready["pid"], signal.SIGHUP)
        until(moved(ids[0]))
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert set(outcomes) == {(200, ids[0]), (200, ids[1])}
    assert "canary-failed" in service.log()


def test_sighup_looks_at_once(live: Start, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    make_version(registry / "v1", 1)
    service = live(registry, "--open", "--poll", "3600")
    second = make_version(registry / "v2", 2)
    time.sleep(0.5)
    with service.client(headers={"accept": JSON}) as client:
        assert read(client.get("/v1/models"), ModelsAnswer).latest != second
        os.kill(service.ready["pid"], signal.SIGHUP)
        until(lambda: read(client.get("/v1/models"), ModelsAnswer).latest == second)


def test_stop_finishes_what_was_accepted_and_refuses_the_rest(live: Start, version: Path) -> None:
    service = live(version, "--open")
    body = msgspec.msgpack.encode(GOOD)
    with connect(service) as accepted:
        accepted.sendall(raw(body[:10], length=len(body)))
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)

        def closed() -> bool:
            try:
                connect(service).close()
            except OSError:
                return True
            return False

        until(closed)
        accepted.sendall(body[10:])
        status, answer = receive(accepted)
        assert status == 200
        assert msgspec.msgpack.decode(answer, type=ParametersAnswer).theta
    assert service.stop() == 0


def test_stop_under_load_says_on_kept_connections_that_they_end(live: Start, version: Path) -> None:
    service = live(version, "--open", "--rate", "0")
    url = urlsplit(service.url)
    statuses: list[Counter[int]] = []

    def ask() -> None:
        told = Counter[int]()
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=20)
        last = None
        while last is None:
            for path in ("/v1/models", "/readyz"):
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                told[answer.status] += 1
                last = answer.getheader("connection")
                if last is not None:
                    break
        assert last == "close"
        assert connection.sock is None
        statuses.append(told)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    service.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(20)
    assert len(statuses) == 4
    assert all(set(told) <= {200, 503} and told[200] > 1 for told in statuses)
    assert service.process.wait(40) == 0


def test_worker_that_drains_is_not_ready_and_answers_each_connection_once_more(version: Path) -> None:
    front = create_app(ServiceConfig(sources=(str(version),), rate=0))
    assert isinstance(front, Front)
    with TestClient(front) as client:
        assert "connection" not in post(client, GOOD).headers
        front.service.draining = True
        response = post(client, GOOD)
        assert (response.status_code, response.headers["connection"]) == (200, "close")
        response = client.get("/readyz")
        refused(response, 503, "stopping")
        assert response.headers["connection"] == "close"


def test_killed_worker_is_replaced(live: Start, version: Path) -> None:
    service = live(version, "--open")
    children = Path(f"/proc/{service.ready['pid']}/task/{service.ready['pid']}/children").read_text().split()
    workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 1
    os.kill(int(workers[0]), signal.SIGKILL)

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError), service.client() as client:
            return post(client, GOOD).status_code == 200
        return False

    until(answers)


def test_workers_do_not_outlive_the_service(live: Start, version: Path) -> None:
    service = live(version, "--open")
    service.process.kill()
    service.process.wait(10)

    def closed() -> bool:
        try:
            connect(service).close()
        except OSError:
            return True
        return False

    until(closed)


async def flood(service: Live, seconds: float, connections: int) -> Counter[tuple[int, bool]]:
    """Far more at once than the service takes; statuses, and whether they say when to come back."""
    url = urlsplit(service.url)
    found: Counter[tuple[int, bool]] = Counter()
    request = raw(msgspec.msgpack.encode({**GOOD, "history": [3] * 200}))
    end = time.monotonic() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        while time.monotonic() < end:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r")[0]))
            found[int(head[9:12]), b"retry-after:" in head] += 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return found


def test_overload_is_shed_and_over_within_two_seconds(live: Start, version: Path) -> None:
    service = live(version, "--open", "--rate", "0", "--waiting", "8")
    ready: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        with service.client() as client:
            while not stop.is_set():
                ready.append(client.get("/readyz").status_code)
                time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    # 8 may wait: 100 connections that always ask are far more than five times what is taken.
    found = asyncio.run(flood(service, 3, 100))
    stop.set()
    watcher.join()
    assert found[200, False] > 50
    assert found[503, True] > 50
    assert set(found) == {(200, False), (503, True)}
    assert set(ready) == {200}
    with service.client() as client:

        def quick() -> bool:
            sent = time.monotonic()
            return post(client, GOOD).status_code == 200 and time.monotonic() - sent < 0.2

        until(quick)


def test_tls(live: Start, version: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    service = live(version, "--open", "--certificate", certificate, "--key", key)
    assert service.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(base_url=service.url, verify=context, trust_env=False) as client:
        assert post(client, GOOD).status_code == 200


def test_web_pages_may_ask_only_if_their_origin_is_named(client: Any, version: Path) -> None:
    from duetgen.cloud import ServiceConfig, create_app

    from .conftest import TestClient

    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("/v1/parameters", headers=asked).headers
    named = create_app(ServiceConfig(sources=(str(version),), origins=("https://shop.example",)))
    with TestClient(named) as other:
        assert other.options("/v1/parameters", headers=asked).headers["access-control-allow-origin"]
        strange = {**asked, "origin": "https://other.example"}
        assert "access-control-allow-origin" not in other.options("/v1/parameters", headers=strange).headers
        answered = post(other, GOOD, origin="https://shop.example")
        assert answered.headers["access-control-allow-origin"] == "https://shop.example"


def test_cloud_never_imports_torch_or_polars() -> None:
    code = (
        "import sys, duetgen.cloud, duetgen.cloud.server, duetgen.cloud.startup, duetgen.cloud.trust; "
        "print([m for m in ('torch', 'polars', 'lightning_fabric', 'onnx', 'cyclopts') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], "open-mode"),
        (["--open", "--host", "0.0.0.0"], "open-mode"),
        (["--open", "--tokens", "x"], "open-mode"),
        (["--tokens", "nowhere.sqlite"], "invalid-tokens"),
        (["--open", "--trust", "nonsense"], "invalid-trust"),
        (["--open", "--trust", "0" * 64], "nothing-to-serve"),
        (["--open", "--certificate", "nowhere.pem"], "invalid-certificate"),
        (["--open", "--workers", "0"], "invalid-setting"),
        (["--open", "--host", "203.0.113.7"], "open-mode"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(run: Run, version: Path, arguments: list[str], code: str) -> None:
    status, _, errors = run("serve", version, "--port", "0", *arguments)
    assert status == 2
    assert errors.strip().splitlines()[-2].endswith(f"[{code}]")


def test_port_that_is_taken_is_said(run: Run, version: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, errors = run("serve", version, "--open", "--port", str(taken.getsockname()[1]))
    assert status == 2
    assert "[cannot-listen]" in errors


def test_tokens_verbs(run: Run) -> None:
    token = run("tokens", "add", "kiosk-1", "--note", "front door")[1].strip()
    assert len(token) == 64
    made = json.loads(run("tokens", "add", "--scope", "batch", "--json")[1])
    listed = json.loads(run("tokens", "list", "--json")[1])
    assert {entry["scope"] for entry in listed} == {"device", "batch"}
    assert made["digest"] in {entry["digest"] for entry in listed}
    assert token not in run("tokens", "list")[1]
    assert run("tokens", "revoke", made["digest"][:12])[0] == 0
    status, _, errors = run("tokens", "revoke", made["digest"][:12])
    assert status == 2
    assert "[invalid-tokens]" in errors
    assert "[usage]" in run("tokens", "revoke", "abc")[2]


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_port_that_there_is_not_is_not_taken_for_another(port: int) -> None:
    with pytest.raises(CannotListenError, match=f"there is no port {port}"), reserved(Address(port=port)):
        pass


@pytest.mark.parametrize(
    "origin",
    [
        "x",
        "shop.example",
        "https://shop.example/",
        "https://Shop.example",
        "https://shop.example:443",
        "http://a.b:80",
        "",
    ],
)
def test_what_no_browser_sends_as_its_origin_is_refused(origin: str) -> None:
    with pytest.raises(InvalidSettingError, match="--cors"):
        check_settings(ServiceConfig(sources=(), origins=(origin,)), open_mode=True)


@pytest.mark.parametrize("origin", ["https://shop.example", "http://127.0.0.1:8080", "https://[::1]:8443", "null", "*"])
def test_origins_of_browsers(origin: str) -> None:
    check_settings(ServiceConfig(sources=(), origins=(origin,)), open_mode=True)
