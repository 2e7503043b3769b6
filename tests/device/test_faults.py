"""Each fault of the network, the cloud, the clock and the disk by its name, over real sockets.

After every one of them the device ranks exactly as the hand-made reference does with the last good theta, or with
theta = 0; and it asks again and recovers once the fault is gone.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from duetgen.device import Always, Device, PatienceConfig
from duetgen.device.client import HttpCloud, retry_after
from duetgen.device.errors import BadAnswerError
from duetgen.wire.limits import MAX_CLOCK_SKEW_MS
from duetgen.wire.messages import ParametersAnswer, ParametersRequest

from .cloud import FakeCloud, Handler, Server, wait_until
from .conftest import HISTORY, Tiny
from .test_device import expect, personal, sent

replace = msgspec.structs.replace
DAY_MS = 86_400_000
QUICK = PatienceConfig(first=0.01, longest=0.05, failures=1000)


def make(tiny: Tiny, url: str, **options: Any) -> Device:
    settled = {"token": "secret", "device_id": "d1", "policy": Always(), "background": False, "patience": QUICK}
    return Device(tiny.root, cloud=url, **{**settled, **options})


def head(handler: Handler, length: int, *, status: str = "200 OK") -> None:
    handler.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode())


def truncated(handler: Handler, content: bytes) -> None:
    head(handler, len(content))
    handler.wfile.write(content[: len(content) // 2])


def truncated_without_saying(handler: Handler, content: bytes) -> None:
    head(handler, len(content) // 2)
    handler.wfile.write(content[: len(content) // 2])


def empty(handler: Handler, content: bytes) -> None:
    head(handler, 0)


def bit_flipped(handler: Handler, content: bytes) -> None:
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 4
    head(handler, len(content))
    handler.wfile.write(bytes(damaged))


def not_http(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n" + content)


def login_page(handler: Handler, content: bytes) -> None:
    page = b"<html>Please log in to the wireless network</html>"
    head(handler, len(page))
    handler.wfile.write(page)


def redirect(handler: Handler, content: bytes) -> None:
    head(handler, 0, status="302 Found\r\nLocation: http://192.0.2.1/")


def endless_header(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n")


def many_headers(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(500)) + b"\r\n")


def said_too_large(handler: Handler, content: bytes) -> None:
    head(handler, 10**12)


def sent_too_large(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"\0" * 2_000_000)


def compressed(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbomb")


def negative_length(handler: Handler, content: bytes) -> None:
    head(handler, -5)


def broken_chunks(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + content)


def deeply_nested(handler: Handler, content: bytes) -> None:
    head(handler, 10_000)
    handler.wfile.write(b"\x91" * 10_000)


def hangs_up(handler: Handler, content: bytes) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


ON_THE_WIRE = [
    truncated,
    truncated_without_saying,
    empty,
    bit_flipped,
    not_http,
    login_page,
    redirect,
    endless_header,
    many_headers,
    said_too_large,
    sent_too_large,
    compressed,
    negative_length,
    broken_chunks,
    deeply_nested,
    hangs_up,
]


def check_fault(tiny: Tiny, server: Server, device: Device, begin: Callable[[], None], end: Callable[[], None]) -> str:
    """A fault before the first theta, and one after it; then it goes away. Returns what was refused, or the failure."""
    begin()
    device.observe("item-3")
    assert not device.refresh(wait=True)
    expect(device, tiny, [3], None)
    status = device.status()
    assert status.source == "global"
    end()
    assert device.refresh(wait=True)
    expect(device, tiny, [3], sent(tiny, [3]))
    begin()
    device.observe("item-5")
    assert not device.refresh(wait=True)
    expect(device, tiny, [3, 5], sent(tiny, [3]))
    end()
    assert device.refresh(wait=True)
    expect(device, tiny, [3, 5], sent(tiny, [3, 5]))
    assert device.status().last_error == ""
    (cause,) = {**status.refused, **status.failures}
    return cause


@pytest.mark.parametrize("fault", ON_THE_WIRE, ids=lambda fault: fault.__name__)
def test_answer(tiny: Tiny, server: Server, fault: Callable[[Handler, bytes], None]) -> None:
    def begin() -> None:
        server.cloud.respond = fault

    def end() -> None:
        server.cloud.respond = None

    with make(tiny, server.url) as device:
        cause = check_fault(tiny, server, device, begin, end)
    assert cause in {"wrong-mac", "bad-answer", "cloud-unreachable", "cloud-refused", "malformed", "wrong-model"}


@pytest.mark.parametrize("fault", [said_too_large, sent_too_large])
def test_an_answer_that_is_too_large_is_refused_with_a_hint(
    tiny: Tiny, server: Server, fault: Callable[[Handler, bytes], None]
) -> None:
    server.cloud.respond = fault
    with pytest.raises(BadAnswerError) as refused:
        HttpCloud(server.url).parameters(ParametersRequest(tiny.model_id, "d1", [3]), 1000)
    assert refused.value.hint == "is this a duet cloud?"


def honest(cloud: FakeCloud, **changes: Any) -> Callable[[], None]:
    def begin() -> None:
        cloud.honest = lambda answer: replace(
            answer, **{name: value(answer) if callable(value) else value for name, value in changes.items()}
        )

    return begin


def calm(cloud: FakeCloud) -> Callable[[], None]:
    def end() -> None:
        cloud.honest = cloud.forged = lambda answer: answer

    return end


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("of another version", {"model_id": "f" * 64}, "wrong-model"),
        ("from the future", {"issued": lambda a: a.issued + MAX_CLOCK_SKEW_MS + 60_000}, "from-future"),
        (
            "expired",
            {"issued": lambda a: a.issued - 9 * DAY_MS, "expires": lambda a: a.expires - 9 * DAY_MS},
            "expired",
        ),
        ("of another encoding", {"dtype": "float32", "theta": bytes(80)}, "malformed"),
        ("not finite", {"theta": b"\x00\x7e" * 20}, "not-finite"),
        ("out of bounds", {"theta": b"\x00\x40" * 20}, "out-of-bounds"),
        ("too short", {"theta": b"\x00\x00" * 19}, "malformed"),
    ],
)
def test_answer_that_the_cloud_vouches_for(
    tiny: Tiny, server: Server, name: str, changes: dict[str, Any], reason: str
) -> None:
    cloud = server.cloud
    with make(tiny, server.url) as device:
        assert check_fault(tiny, server, device, honest(cloud, **changes), calm(cloud)) == reason


@pytest.mark.parametrize(
    ("name", "bias", "reason"),
    [
        ("an unknown item", "01 0024 1d 01 00", "malformed"),
        ("an item twice", "02 0024 01 00 01 01 00", "malformed"),
        ("too many items", "03 0024 01 01 01 01 01 01 00", "malformed"),
        ("cut", "01 0024 01", "malformed"),
        ("not finite", "01 007e 01 01 00", "not-finite"),
        ("out of bounds", "01 0024 01 ff 00", "out-of-bounds"),
    ],
)
def test_item_bias_that_the_cloud_vouches_for(biased: Tiny, server: Server, name: str, bias: str, reason: str) -> None:
    server.cloud.tinies[biased.model_id] = biased
    with make(biased, server.url) as device:
        device.observe("item-3")
        assert device.refresh(wait=True)
        honest(server.cloud, bias=bytes.fromhex(bias))()
        device.observe("item-5")
        assert not device.refresh(wait=True)
        np.testing.assert_allclose(device.score(range(2, 30)), personal(biased, [3], [3, 5]), atol=1e-5)
        assert device.status().refused == {reason: 1}
        calm(server.cloud)()
        assert device.refresh(wait=True)
        np.testing.assert_allclose(device.score(range(2, 30)), personal(biased, [3, 5], [3, 5]), atol=1e-5)


@pytest.mark.parametrize("field", ["model_id", "sequence", "issued", "expires", "theta", "mac"])
def test_answer_forged_on_the_way(tiny: Tiny, server: Server, field: str) -> None:
    cloud = server.cloud

    def forge(answer: ParametersAnswer) -> ParametersAnswer:
        value = getattr(answer, field)
        if isinstance(value, int):
            return replace(answer, **{field: value + 1})
        changed = "e" * 64 if isinstance(value, str) else bytes([value[0] ^ 1]) + value[1:]
        return replace(answer, **{field: changed})

    def begin() -> None:
        cloud.forged = forge

    with make(tiny, server.url) as device:
        assert check_fault(tiny, server, device, begin, calm(cloud)) == (
            "wrong-model" if field == "model_id" else "wrong-mac"
        )


def test_answer_replayed(tiny: Tiny, server: Server) -> None:
    cloud = server.cloud
    with make(tiny, server.url) as device:
        device.observe("item-3")
        assert device.refresh(wait=True)
        old = cloud.answers[0]
        device.observe("item-5")
        assert device.refresh(wait=True)
        cloud.forged = lambda answer: old
        device.observe("item-7")
        assert not device.refresh(wait=True)
        assert device.status().refused == {"older": 1}
        expect(device, tiny, [3, 5, 7], sent(tiny, [3, 5]))


def test_answer_of_another_device(tiny: Tiny, server: Server) -> None:
    with make(tiny, server.url, device_id="d2") as other:
        other.observe("item-9")
        assert other.refresh(wait=True)
    stolen = server.cloud.answers[0]
    server.cloud.forged = lambda answer: replace(stolen, sequence=answer.sequence)
    with make(tiny, server.url) as device:
        device.observe("item-3")
        assert not device.refresh(wait=True)
        assert device.status().refused == {"wrong-mac": 1}
        expect(device, tiny, [3], None)


def test_clock_skew_within_the_limit_is_borne_and_beyond_it_refused(tiny: Tiny, server: Server) -> None:
    for skew, reason in ((-280.0, None), (280.0, None), (-320.0, "from-future"), (9 * 86400.0, "expired")):
        with make(tiny, server.url, clock=lambda skew=skew: time.time() + skew) as device:
            device.observe("item-3")
            assert device.refresh(wait=True) == (reason is None)
            assert list(device.status().refused) == ([reason] if reason else [])
            expect(device, tiny, [3], None if reason else sent(tiny, [3]))


def test_theta_expires_while_the_device_is_offline(tiny: Tiny, server: Server) -> None:
    ahead = 0.0
    with make(tiny, server.url, clock=lambda: time.time() + ahead, grace=100.0) as device:
        device.observe("item-3")
        assert device.refresh(wait=True)
        ahead = 3600 + 99
        expect(device, tiny, [3], sent(tiny, [3]))
        ahead = 3600 + 101
        expect(device, tiny, [3], None)
        assert device.status().source == "global"


def test_offline_for_ever(tiny: Tiny) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with make(tiny, url, background=True) as device:
        for item in range(2, 30):
            device.observe(f"item-{item}")
            device.recommend(3)
        wait_until(lambda: device.status().failures.get("cloud-unreachable", 0) > 3)
        expect(device, tiny, list(range(2, 30)), None)


class SlowServer:
    """Accepts, then sends one byte of an answer whenever it likes."""

    def __init__(self, pause: float, content: bytes) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.pause, self.content, self.stopped = pause, content, False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while not self.stopped:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                for byte in self.content:
                    if self.stopped:
                        break
                    try:
                        connection.sendall(bytes([byte]))
                    except OSError:
                        break
                    time.sleep(self.pause)

    def stop(self) -> None:
        self.stopped = True
        self.socket.close()
        self.thread.join(timeout=2)


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000,
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 90,
        b"",
    ],
    ids=["slow body", "slow header", "says nothing"],
)
def test_slow_writer_does_not_hold_the_device_and_ranking_never_waits(tiny: Tiny, content: bytes) -> None:
    slow = SlowServer(0.02, content)
    try:
        client = HttpCloud(slow.url, "secret", timeout=0.4)
        with Device(tiny.root, cloud=client, token="secret", policy=Always(), patience=QUICK) as device:
            device.observe("item-3")
            begun = time.monotonic()
            longest = 0.0
            while device.status().requests == 0 or not device.status().failures:
                at = time.perf_counter()
                expect(device, tiny, [3], None)
                longest = max(longest, time.perf_counter() - at)
                assert time.monotonic() - begun < 5
            assert 0.3 < time.monotonic() - begun < 3 or content == b""
            assert longest < 0.3
    finally:
        slow.stop()


def test_slow_reader_does_not_hold_the_device(tiny: Tiny) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as deaf:
        client = HttpCloud(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.3)
        with Device(tiny.root, cloud=client, background=False) as device:
            device.observe("item-3")
            begun = time.monotonic()
            assert not device.refresh(wait=True)
            assert time.monotonic() - begun < 2
            assert device.status().failures == {"cloud-unreachable": 1}


def test_closing_breaks_off_a_request_under_way(tiny: Tiny) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as deaf:
        device = make(tiny, f"http://127.0.0.1:{deaf.getsockname()[1]}", background=True)
        device.observe("item-3")
        wait_until(lambda: device.status().requests == 1)
        time.sleep(0.05)
        begun = time.monotonic()
        device.close()
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("status", [429, 503])
def test_overload_is_borne_and_retry_after_honoured(tiny: Tiny, server: Server, status: int) -> None:
    cloud = server.cloud
    cloud.refusal = (status, {"Retry-After": "0.5"})
    with make(tiny, server.url, background=True, patience=PatienceConfig(first=0.01)) as device:
        device.observe("item-3")
        wait_until(lambda: device.status().failures.get("cloud-refused") == 1)
        cloud.refusal = None
        assert not device.refresh(wait=True)
        expect(device, tiny, [3], None)
        for _ in range(20):
            device.observe("item-3")
        wait_until(lambda: device.status().source == "theta")
        expect(device, tiny, [3] * 21, sent(tiny, [3] * HISTORY))
    assert cloud.times[1] - cloud.times[0] >= 0.5
    assert device.status().requests == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 500, 502])
def test_every_refusal_is_counted_and_ranking_goes_on(tiny: Tiny, server: Server, status: int) -> None:
    def begin() -> None:
        server.cloud.refusal = (status, {})

    def end() -> None:
        server.cloud.refusal = None

    with make(tiny, server.url) as device:
        assert check_fault(tiny, server, device, begin, end) == "cloud-refused"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3), ("0.5", 0.5), ("-1", 0), ("nan", None), ("inf", None), ("soon", None), (None, None)],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    from email.utils import formatdate

    found = retry_after(formatdate(time.time() + 30, usegmt=True))
    assert found is not None
    assert 28 < found <= 30


def test_after_repeated_failures_the_circuit_opens_and_few_requests_are_sent(tiny: Tiny, server: Server) -> None:
    server.cloud.refusal = (500, {})
    patience = PatienceConfig(first=0.001, failures=4, cooldown=30)
    with make(tiny, server.url, background=True, patience=patience) as device:
        device.observe("item-3")
        wait_until(lambda: device.status().circuit == "open")
        for _ in range(50):
            device.observe("item-4")
        time.sleep(0.1)
        assert device.status().requests == 4
        assert device.status().next_try_seconds > 10
        server.cloud.refusal = None
        assert device.refresh(wait=True)
        assert device.status().circuit == "closed"


KILLED = """
import socket, sys, time
port, path, whole = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "whole"
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", port))
server.listen(5)
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    content = open(path, "rb").read()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(content))
    if whole:
        connection.sendall(content)
    else:
        connection.sendall(content[: len(content) // 2])
        print("half", flush=True)
        time.sleep(60)
"""


def test_cloud_killed_with_sigkill_in_mid_answer_and_restarted(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    from duetgen.wire.messages import ParametersRequest

    answer = cloud.parameters(ParametersRequest(tiny.model_id, "d1", [3]))
    (tmp_path / "answer").write_bytes(msgspec.msgpack.encode(answer))

    def start(port: int, how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", KILLED, str(port), str(tmp_path / "answer"), how]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with start(0, "half") as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with make(tiny, f"http://127.0.0.1:{port}", background=True) as device:
            device.observe("item-3")
            assert process.stdout.readline() == "half\n"
            process.send_signal(signal.SIGKILL)
            wait_until(lambda: device.status().failures != {})
            expect(device, tiny, [3], None)
            with start(port, "whole") as again:
                wait_until(lambda: device.status().source == "theta")
                expect(device, tiny, [3], sent(tiny, [3]))
                again.kill()


def test_a_kept_connection_that_the_cloud_closed_costs_no_failure(tiny: Tiny, cloud: FakeCloud) -> None:
    first = Server(cloud)
    with make(tiny, first.url) as device:
        device.observe("item-3")
        assert device.refresh(wait=True)
        first.stop()
        (idle,) = device._cloud.pool._idle  # type: ignore[union-attr]
        idle.sock.sock.shutdown(socket.SHUT_RDWR)
        second = Server(cloud, first.server_address[1])
        assert device.refresh(wait=True)
        second.stop()
        assert device.status().failures == {}


KILLED_DEVICE = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from tests.device.cloud import FakeCloud
from tests.device.conftest import load_tiny
from duetgen.device import Always, Device
tiny = load_tiny(Path({root!r}))
cloud = FakeCloud(tiny)
cloud.sequence = int(time.time() * 1e6)
options = dict(token="secret", device_id="d1", policy=Always(), state={state!r}, background=False)
with Device(tiny.root, cloud=cloud, **options) as device:
    n = first = device.status().events
    while True:
        n += 1
        device.observe(f"item-{{2 + n % 28}}")
        device.keep_up()
        if n == first + 1:
            print("ready", flush=True)
"""


def test_device_killed_with_sigkill_while_writing(tiny: Tiny, tmp_path: Path) -> None:
    """Whenever it is killed, theta on disk is one that was accepted, for just the history that it was made from."""
    root = Path(__file__).parent.parent.parent
    script = KILLED_DEVICE.format(tests=str(root), root=str(tiny.root), state=str(tmp_path / "state"))
    count, made, rng = 0, 0, np.random.default_rng(0)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(float(rng.uniform(0.02, 0.15)))
            process.send_signal(signal.SIGKILL)
        with Device(tiny.root, token="secret", device_id="d1", state=tmp_path / "state") as device:
            theta = device._runtime.store.current
            assert theta is not None
            assert not device._runtime.store.damaged
            events = device.status().events
            assert events > count
            assert made <= theta.origin.events <= events
            made = theta.origin.events
            made_from = [2 + n % 28 for n in range(theta.origin.events - HISTORY + 1, theta.origin.events + 1)]
            assert theta.origin.history == made_from[-len(theta.origin.history) :]
            window = [2 + n % 28 for n in range(max(1, events - 4), events + 1)]
            expect(device, tiny, window, sent(tiny, theta.origin.history))
            count = events
    leftovers = [path.name for path in (tmp_path / "state").rglob(".*")]
    assert leftovers == []


FULL = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from tests.device.cloud import FakeCloud
from tests.device.conftest import load_tiny
from tests.device.test_device import expect, sent
from duetgen.device import Always, Device
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tiny = load_tiny(Path({root!r}))
options = dict(token="secret", device_id="d1", policy=Always(), state={state!r}, background=False)
with Device(tiny.root, cloud=FakeCloud(tiny), **options) as device:
    device.observe("item-3")
    assert device.keep_up()
    expect(device, tiny, [3], sent(tiny, [3]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
    for item in (4, 5):
        device.observe(f"item-{{item}}")
        assert device.keep_up()
    expect(device, tiny, [3, 4, 5], sent(tiny, [3, 4, 5]))
    assert device.status().disk_errors >= 4, device.status()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    errors = device.status().disk_errors
    device.observe("item-6")
    assert device.status().disk_errors == errors
with Device(tiny.root, **options) as device:
    expect(device, tiny, [3, 4, 5, 6], sent(tiny, [3, 4, 5]))
    assert device.status().theta.age_events == 1
assert b'"requests":3' in Path({state!r}, "requests.json").read_bytes()
"""


def test_disk_full_stops_no_ranking_and_all_is_written_once_there_is_room(tiny: Tiny, tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    script = FULL.format(tests=str(root), root=str(tiny.root), state=str(tmp_path / "state"))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_state_folder_vanishes(tiny: Tiny, server: Server, tmp_path: Path) -> None:
    import shutil

    with make(tiny, server.url, state=tmp_path / "state") as device:
        device.observe("item-3")
        assert device.refresh(wait=True)
        shutil.rmtree(tmp_path / "state")
        for item in range(4, 8):
            device.observe(f"item-{item}")
        assert device.refresh(wait=True)
        expect(device, tiny, [3, 4, 5, 6, 7], sent(tiny, [3, 4, 5, 6, 7]))
        assert device.status().disk_errors > 0


def test_the_state_folder_is_for_its_owner_alone(tiny: Tiny, tmp_path: Path) -> None:
    with Device(tiny.root, state=tmp_path / "state"):
        assert (tmp_path / "state").stat().st_mode & 0o077 == 0


def test_theta_that_makes_scores_not_finite_is_dropped(tiny: Tiny, server: Server) -> None:
    with make(tiny, server.url) as device:
        device.observe("item-3")
        assert device.refresh(wait=True)
        theta = device._runtime.store.current
        assert theta is not None
        theta.values_P.flags.writeable = True
        theta.values_P[0] = np.nan  # as a flipped bit in memory would
        expect(device, tiny, [3], None)
        assert device.status().refused == {"non-finite-scores": 1}
        assert device.status().source == "global"
