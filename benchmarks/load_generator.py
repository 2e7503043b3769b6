"""Load for the service, from a process of its own: raw sockets, keep-alive, one request at a time on a connection.

    python benchmarks/load_generator.py --url http://127.0.0.1:8000 --requests requests.msgpack --connections 32
        [--seconds 5] [--rate 3000]

Without `--rate` every connection asks again as soon as it is answered: the most that the service serves. With it, the
load is open: requests fall due at fixed times whatever the service does, wait for a free connection if there is none,
and their time counts from when they were due, so a stall shows in every request that it held up.

`requests.msgpack` is a list of [path, token, body]; connections take them in turn. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from pathlib import Path
from urllib.parse import urlsplit

import msgspec


class Connection(asyncio.Protocol):
    """One connection of the load."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.left = -1
        self.status = 0
        self.due = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.load.idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.load.lost(self)

    def ask(self, due: float) -> None:
        assert self.transport is not None
        self.due, self.busy = due, True
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        if self.left < 0:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            self.status = int(head[9:12])
            begin = head.index(b"content-length:") + 15
            stop = head.find(b"\r", begin)
            self.left = int(head[begin : stop if stop > 0 else None]) - (len(self.buffer) - end - 4)
            self.buffer = b""
        else:
            self.left -= len(data)
        if self.left <= 0:
            self.left, self.busy = -1, False
            self.load.answered(self)


class Load:
    """All connections, and what they found."""

    def __init__(self, requests: list[bytes], rate: float | None, connections: int, address: tuple[str, int]) -> None:
        self.requests, self.rate, self.address, self.count = requests, rate, address, connections
        self.turn = 0
        self.waiting: deque[float] = deque()
        self.free: deque[Connection] = deque()
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self.times: list[float] = []
        self.served: list[float] = []
        self.measuring = False
        self.ended = False

    def next_request(self) -> bytes:
        self.turn += 1
        return self.requests[self.turn % len(self.requests)]

    def idle(self, connection: Connection) -> None:
        if self.ended:
            return
        if self.rate is None:
            connection.ask(time.perf_counter())
        elif self.waiting:
            connection.ask(self.waiting.popleft())
        else:
            self.free.append(connection)

    def lost(self, connection: Connection) -> None:
        if connection.busy and not self.ended:
            self.broken += 1
        if not self.ended:
            asyncio.get_running_loop().create_task(self.connect())

    async def connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Connection(self), *self.address)
        except OSError:
            self.broken += 1
            if not self.ended:
                await asyncio.sleep(0.1)
                asyncio.get_running_loop().create_task(self.connect())

    def answered(self, connection: Connection) -> None:
        if self.measuring:
            now = time.perf_counter()
            self.statuses[connection.status] += 1
            if connection.status == 200:
                self.times.append(now - connection.due)
                self.served.append(now)
        self.idle(connection)

    async def run(self, seconds: float, warm: float) -> dict[str, object]:
        await asyncio.gather(*(self.connect() for _ in range(self.count)))
        begun = time.perf_counter()
        start, end, sent = begun + warm, begun + warm + seconds, 0
        while (now := time.perf_counter()) < end:
            self.measuring = now >= start
            if self.rate is not None:
                due = int((now - begun) * self.rate)
                while sent < due:
                    when = begun + sent / self.rate
                    sent += 1
                    while self.free and self.free[0].transport is None:
                        self.free.popleft()
                    if self.free:
                        self.free.popleft().ask(when)
                    else:
                        self.waiting.append(when)
            await asyncio.sleep(0.001 if self.rate is not None else 0.01)
        self.measuring, self.ended = False, True
        times = sorted(self.times) or [float("nan")]
        good = len(self.times)
        return {
            "rate": good / seconds,
            "offered": self.rate,
            "statuses": {str(k): v for k, v in sorted(self.statuses.items())},
            "broken": self.broken,
            "never_sent": len(self.waiting),
            "ms": {
                name: round(1000 * times[min(int(share * len(times)), len(times) - 1)], 3)
                for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
            },
        }


def http(path: str, token: str, body: bytes, host: str) -> bytes:
    """A request as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/msgpack\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    """Load and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=Path, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm", type=float, default=0.5)
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    url = urlsplit(options.url)
    assert url.hostname is not None
    assert url.port is not None
    parts = msgspec.msgpack.decode(options.requests.read_bytes(), type=list[tuple[str, str, bytes]])
    requests = [http(path, token, body, url.netloc) for path, token, body in parts]
    load = Load(requests, options.rate, options.connections, (url.hostname, url.port))
    print(json.dumps(asyncio.run(load.run(options.seconds, options.warm))))


if __name__ == "__main__":
    main()
