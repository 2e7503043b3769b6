"""HTTP connections with one deadline for a whole exchange, counted bytes, and answers of bounded size.

A socket's timeout bounds one read; a server that sends a byte a second would hold a device for ever. Here every read
and write gets what is left of the exchange's time, and so do connecting, a proxy's tunnel and TLS.

An `https://` cloud is reached through a tunnel of the proxy, if there is one, which then learns the cloud's name and
port alone. An `http://` cloud's requests are the proxy's to read and to pass on.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
from typing import Any, Final, cast

import msgspec

from duetgen.device.address import Address, Proxy, find_proxy, parse_address
from duetgen.device.errors import CloudUnreachableError

PROXY_HINT: Final = "see what the proxy allows; `proxy` names another, or none"


class Traffic(msgspec.Struct):
    """What went over the network, in bytes, headers included (TLS's own bytes are not)."""

    sent: int = 0
    received: int = 0


def time_left(deadline: float) -> float:
    """Seconds until a moment of `time.monotonic`.

    Raises:
        TimeoutError: it is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the exchange took too long")
    return left


def connect(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to a host, by the first of its addresses that answers; each has an equal share of the time.

    Raises:
        OSError: none does.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError("the name has no address")
    for number, (family, kind, protocol, _, where) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(time_left(deadline) / (len(found) - number))
            sock.connect(where)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as cause:
            sock.close()
            failure = cause
    raise failure


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
        self.sock.settimeout(time_left(self.deadline))

    def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Begin TLS with who is at the other end, who must prove to be `host`."""
        self.sock = tls.wrap_socket(self.sock, server_hostname=host, do_handshake_on_connect=False)
        self.arm()
        self.sock.do_handshake()

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


def open_tunnel(timed: TimedSocket, proxy: Proxy, address: Address) -> None:
    """Have a proxy pass everything on to a cloud from now on.

    Raises:
        CloudUnreachableError: it does not.
    """
    head = {"Host": address.authority, **proxy.headers}
    lines = [f"CONNECT {address.authority} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    timed.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    response = http.client.HTTPResponse(cast(socket.socket, timed), method="CONNECT")
    try:
        response.begin()
    except ConnectionError:
        raise
    except (http.client.HTTPException, ValueError) as cause:
        raise CloudUnreachableError(f"the proxy {proxy.name} does not answer in HTTP", PROXY_HINT) from cause
    finally:
        response.close()
    if response.status != 200:
        raise refused_by(proxy, response.status)


def refused_by(proxy: Proxy, status: int) -> CloudUnreachableError:
    """What to raise where a proxy does not let through."""
    wants = ": it wants a name and password" if status == 407 else ""
    return CloudUnreachableError(f"the proxy {proxy.name} answers {status}{wants}", PROXY_HINT)


class ConnectionPool:
    """Kept-alive connections to one cloud, shared by any number of devices; as many as exchanges at the same time.

    Args:
        url: `http://host:port` or `https://…`, with an optional path before `/v1`.
        tls: for another trust than the system's.
        proxy: see `DeviceConfig.proxy`.

    Raises:
        InvalidDeviceConfigError: no such URL, or no such proxy.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self.address = parse_address(url)
        self.proxy = find_proxy(self.address, proxy)
        self.relay = None if self.address.secure else self.proxy
        """The proxy where it reads the requests and passes them on."""
        self.tls = tls
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def peer(self) -> str:
        """Whom the connections lead to, for texts."""
        return f"the proxy {self.proxy.name}" if self.proxy else self.address.url

    def request(self, path: str) -> tuple[str, dict[str, str]]:
        """How a request names a path of the cloud, and what headers it has for a relay."""
        target = self.address.prefix + path
        return (target, {}) if self.relay is None else (f"http://{self.address.authority}{target}", self.relay.headers)

    def open(self, connection: http.client.HTTPConnection, traffic: Traffic, deadline: float) -> None:
        """Connect, through the proxy if there is one.

        Raises:
            CloudUnreachableError: the proxy refuses.
            OSError: nobody answers, or not who should.
        """
        address, proxy = self.address, self.proxy
        host, port = (proxy.host, proxy.port) if proxy else (address.host, connection.port)
        timed = TimedSocket(connect(host, port, deadline), traffic, deadline)
        connection.sock = cast(Any, timed)
        if address.secure:
            if proxy:
                open_tunnel(timed, proxy, address)
            assert self.tls is not None
            timed.secure(self.tls, address.host)

    def take(self, fresh: bool) -> tuple[http.client.HTTPConnection, bool]:
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
                connection = http.client.HTTPSConnection(address.host, address.port, context=self.tls)
            else:
                connection = http.client.HTTPConnection(address.host, address.port)
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
