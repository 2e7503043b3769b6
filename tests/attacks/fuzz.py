"""Messages that no good caller sends: none of them makes the service fail.

    python tests/attacks/fuzz.py --messages 200000 --sockets 20000 --padded 10000

The first are given to the application in this process, the second sent as bytes on sockets to a `duet serve`.
Prints one JSON object: answers by status, and the memory of the service before and after padded requests, in bytes. A
5xx other than 503 ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from duetgen.cloud import ServiceConfig, create_app
from duetgen.wire.messages import ErrorAnswer

METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW")
PATHS = (
    *("/v1/parameters", "/v1/parameters", "/v1/parameters:batch", "/v1/models", "/healthz", "/readyz", "/metrics"),
    *(
        "/openapi.json",
        "/v1/models/latest",
        "/v1/models/latest/items.json",
        "/v1/models/MODEL/items.json",
        "/v1/models/MODEL/../x",
        "/",
        "/%ff",
    ),
)
HEADERS: dict[str, tuple[str, ...]] = {
    "content-type": (
        "application/json",
        "application/msgpack",
        "text/xml",
        "application/json; charset=utf-16",
        "",
        ";",
    ),
    "accept": ("*/*", "application/msgpack;q=0", "a/b;q=2,,;;", "application/*;q=0.1, application/json;q=.5", "\xff"),
    "authorization": ("Bearer a", "Bearer " + "a" * 300, "Basic x", "", "Bearer \xfc", "a" * 5000),
    "range": ("bytes=1-2", "bytes=-", "bytes=9999999999999999999999-", "lines=1", "bytes=0-0,2-3", "=", "bytes=-\xb2"),
    "if-none-match": ("*", '"', "W/", ",,,", "a" * 600),
    "if-match": ("*", '"x"', ","),
    "if-range": ('"x"', "Wed, 21 Oct 2015 07:28:00 GMT"),
    "content-encoding": ("gzip", "identity", "br, gzip"),
    "content-length": ("-1", "1e3", "99999999999999999999", "0", "7"),
    "expect": ("100-continue", "nothing"),
    "host": ("b", ""),
    "origin": ("null",),
}
WAIT_SECONDS = 0.01
"""How long an answer is waited for before nothing more is said."""
QUERIES = ("", "", "?device=d", "?device=%F0%9F%98%80", "?device=a&device=b", "?%", "?device=" + "d" * 2000)
VALUES: tuple[Any, ...] = (
    None,
    0,
    -1,
    2**63,
    1.5,
    float("inf"),
    "",
    "latest",
    "é" * 200,
    b"\xff",
    [],
    [[]],
    {},
    [3] * 5000,
)


def some_body(rng: random.Random) -> bytes:
    """A request, changed in one of many ways."""
    history: Any = [rng.randrange(1, 99) for _ in range(rng.randrange(1, 20))]
    one: dict[str, Any] = {"model_id": "latest", "device": f"d{rng.randrange(50)}", "history": history}
    value: Any = one if rng.random() < 0.7 else {"model_id": "latest", "devices": [{"device": "d", "history": history}]}
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        value[rng.choice((*one, "dtype", "age_ms", "devices", "more"))] = rng.choice(VALUES)
    encode = rng.choice((msgspec.json.encode, msgspec.msgpack.encode))
    body = bytearray(encode(value))
    kind = rng.random()
    if kind < 0.2:
        del body[rng.randrange(len(body)) :]
    elif kind < 0.4:
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
    elif kind < 0.45:
        body += rng.randbytes(rng.randrange(20))
    elif kind < 0.5:
        body = bytearray(rng.choice((b"[", b"\x91", b'{"a":', b"\x81\xa1a")) * rng.randrange(5000))
    elif kind < 0.55:
        body = bytearray(rng.randbytes(rng.randrange(200)))
    return bytes(body)


def some_request(rng: random.Random, model_id: str) -> tuple[str, str, list[tuple[str, str]], bytes]:
    """Method, target, headers and body."""
    target = rng.choice(PATHS).replace("MODEL", model_id) + rng.choice(QUERIES)
    headers = [("host", "cloud")]
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        name = rng.choice(tuple(HEADERS))
        headers.append((name, rng.choice(HEADERS[name])))
    method = rng.choice(METHODS) if rng.random() < 0.3 else "POST" if "parameters" in target else "GET"
    return method, target, headers, some_body(rng) if rng.random() < 0.8 else b""


async def ask_in_process(
    app: Any, request: tuple[str, str, list[tuple[str, str]], bytes], cut: bool
) -> tuple[int, bytes]:
    """Status and body of what the application answers; a cut body ends with a lost connection."""
    method, target, headers, body = request
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    given = iter(({"type": "http.request", "body": body, "more_body": cut}, {"type": "http.disconnect"}))
    sent: list[Any] = []

    async def receive() -> Any:
        return next(given, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def check(status: int, body: bytes, head: bool) -> None:
    """Nothing is the service's fault, and what is refused says why.

    Raises:
        AssertionError: it is, or does not.
    """
    assert status < 500 or status == 503, (status, body[:300])
    if status >= 400 and not head:
        decode = msgspec.json.decode if body[:1] == b"{" else msgspec.msgpack.decode
        error = decode(body, type=ErrorAnswer)
        assert error.code
        assert error.message
        assert error.hint


async def in_process(bundle: Path, messages: int, rng: random.Random) -> Counter[int]:
    """Give messages to the application."""
    app: Any = create_app(ServiceConfig(sources=(str(bundle),), rate=0))
    found: Counter[int] = Counter()
    async with app.service.running():
        model_id = app.service.registry.versions.newest
        for _ in range(messages):
            request = some_request(rng, model_id)
            status, body = await ask_in_process(app, request, rng.random() < 0.05)
            check(status, body, request[0] == "HEAD")
            found[status] += 1
    return found


def raw(rng: random.Random, model_id: str) -> bytes:
    """A request as bytes, its framing and its letters changed now and then."""
    method, target, headers, body = some_request(rng, model_id)
    names = [name for name, _ in headers]
    framing = rng.random()
    if framing < 0.15:
        headers.append(("transfer-encoding", "chunked"))
        size = rng.choice((f"{len(body):x}", "zz", "-1", f"{len(body) + 5:x}", "ffffffffffffffffff"))
        body = size.encode() + b"\r\n" + body + rng.choice((b"\r\n0\r\n\r\n", b"", b"\r\nx"))
    elif "content-length" not in names and framing < 0.9:
        headers.append(("content-length", str(len(body) + rng.choice((0, 0, 0, 0, 7, -1)))))
    lines = [f"{method} {target} HTTP/{rng.choice(('1.1', '1.1', '1.1', '1.0', '2.0'))}"]
    lines += [f"{name}: {value}" for name, value in headers]
    content = bytearray("\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1") + body)
    if rng.random() < 0.15:
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def exchanged(host: str, port: int, sent: bytes) -> bytes:
    """What comes back on a connection that ends on both sides."""
    content = b""
    with (
        contextlib.suppress(OSError),  # closed before all was sent
        socket.create_connection((host, port), timeout=WAIT_SECONDS) as connection,
    ):
        connection.sendall(sent)
        # The answer to a request that is whole would be lost if this side ended at once.
        with contextlib.suppress(TimeoutError):
            content = connection.recv(65536)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(20)
        while part := connection.recv(65536):
            content += part
    return content


def over_sockets(url: str, model_id: str, messages: int, rng: random.Random) -> Counter[int]:
    """Send messages to a service; 0 counts those that get no answer but the end of the connection."""
    place = urlsplit(url)
    found: Counter[int] = Counter()
    for _ in range(messages):
        content = exchanged(place.hostname or "", place.port or 0, raw(rng, model_id))
        while content.startswith(b"HTTP/1.1 100"):
            content = content.partition(b"\r\n\r\n")[2]
        status = int(content[9:12]) if content.startswith(b"HTTP/1.") else 0
        assert status < 500 or status == 503, content[:500]
        found[status] += 1
    return found


def padded_requests(url: str, count: int) -> None:
    """Ask with headers that are long and ever different, some of them within what is read."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as connection:
        for number in range(count):
            pad = f"{number:08}" + "x" * (60_000 if number % 2 else 200)
            head = f"GET /v1/models?device=d{number} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {pad}\r\n\r\n"
            connection.sendall(head.encode())
            content = b""
            while b"\r\n\r\n" not in content:
                content += connection.recv(65536)
            head_, _, body = content.partition(b"\r\n\r\n")
            length = int(head_.lower().partition(b"content-length:")[2].partition(b"\r")[0])
            while len(body) < length:
                body += connection.recv(65536)


def resident(parent: int) -> int:
    """Memory of the workers of a service, in bytes."""
    total = 0
    for process in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes():
            total += int(Path(f"/proc/{process}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024
    return total


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="to serve; by default a small one is made")
    parser.add_argument("--messages", type=int, default=200_000, help="in this process")
    parser.add_argument("--sockets", type=int, default=20_000, help="over sockets")
    parser.add_argument("--padded", type=int, default=10_000, help="requests with padded headers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or Path(folder) / "bundle"
        if options.bundle is None:
            sys.path.insert(0, str(Path(__file__).parents[2]))
            from tests.cloud.versions import make_version

            make_version(bundle)
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            inside = asyncio.run(in_process(bundle, options.messages, rng))
        command = [
            sys.executable,
            "-m",
            "duetgen",
            "serve",
            bundle,
            "--open",
            "--port",
            "0",
            "--json",
            "--rate",
            "0",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as service:
            assert service.stdout is not None
            ready = json.loads(service.stdout.readline())
            try:
                outside = over_sockets(ready["url"], ready["models"][0], options.sockets, rng)
                padded_requests(ready["url"], options.padded // 5)
                before = resident(ready["pid"])
                padded_requests(ready["url"], options.padded)
                after = resident(ready["pid"])
            finally:
                service.terminate()
    counts = {"in_process": dict(sorted(inside.items())), "over_sockets": dict(sorted(outside.items()))}
    print(json.dumps({**counts, "memory_before": before, "memory_after_padded": after}))


if __name__ == "__main__":
    main()
