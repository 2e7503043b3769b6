"""HTTP connections with one deadline for a whole exchange, counted bytes, and answers of bounded size.

A socket's timeout bounds one read; a server that sends a byte a second would hold a device for ever. Here every read
and write gets what is left of the exchange's time.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
from typing import Any, cast

import msgspec

from duetgen.device.address import parse_address
from duetgen.device.errors import CloudUnreachableError


class Traffic(msgspec.Struct):
    """What went over the network, in bytes, headers included (TLS's own bytes are not)."""

    sent: int = 0
    received: int = 0


class _TimedReader(io.RawIOBase):
    def __init__(self, owner: TimedSocket, raw: io.RawIOBase) -> None:
        self._owner, self._raw = owner, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._owner.arm()
        count = cast("int | None", self._raw.readinto(buffer))
        self._owner.traffic.received += count or 0
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
            super().close()


class TimedSocket:
    """What `http.client` needs of a socket, every operation ending at `deadline` (of `time.monotonic`)."""

    def __init__(self, sock: socket.socket, traffic: Traffic, deadline: float) -> None:
        self.sock, self.traffic, self.deadline = sock, traffic, deadline

    def arm(self) -> None:
        """Give the next operation what is left of the time."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the exchange took too long")
        self.sock.settimeout(left)

    def sendall(self, data: bytes) -> None:
        """Send everything."""
        self.arm()
        self.sock.sendall(data)
        self.traffic.sent += len(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """A reader."""
        raw = cast(io.RawIOBase, self.sock.makefile("rb", buffering=0))
        return io.BufferedReader(_TimedReader(self, raw))

    def close(self) -> None:
        """Close; a reader still open keeps the connection."""
        self.sock.close()

    def abort(self) -> None:
        """Break the connection, whoever waits on it."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class ConnectionPool:
    """Kept-alive connections to one cloud, shared by any number of devices; as many as exchanges at the same time.

    Args:
        url: `http://host:port` or `https://…`, with an optional path before `/v1`.
        tls: for another trust than the system's.

    Raises:
        InvalidDeviceConfigError: no such URL.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.address = parse_address(url)
        self.tls = tls
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._closed = False

    def take(self, timeout: float, fresh: bool) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        address = self.address
        with self._lock:
            if self._closed:
                raise CloudUnreachableError("the device is closed", "open it again")
            reused = bool(self._idle) and not fresh
            if reused:
                connection = self._idle.pop()
            elif address.secure:
                self.tls = self.tls or ssl.create_default_context()
                connection = http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=self.tls)
            else:
                connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
            self._busy.add(connection)
            return connection, reused

    def give(self, connection: http.client.HTTPConnection, keep: bool) -> None:
        """Hand a connection back: kept for the next exchange, or closed."""
        with self._lock:
            self._busy.discard(connection)
            keep = keep and not self._closed and connection.sock is not None
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def close(self) -> None:
        """Close every connection; exchanges that are under way break off."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._busy:
                timed = cast(Any, connection.sock)
                if isinstance(timed, TimedSocket):
                    timed.abort()
        for connection in idle:
            connection.close()
