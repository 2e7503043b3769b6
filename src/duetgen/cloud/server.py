"""Worker processes on one address: started, watched and stopped by granian."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer
from starlette.types import ASGIApp

from duetgen.cloud.app import create_app
from duetgen.cloud.clock import clock_offset
from duetgen.cloud.config import ServiceConfig
from duetgen.cloud.errors import CannotListenError, InvalidCertificateError, OpenModeError
from duetgen.cloud.log import HANDLERS, Log
from duetgen.cloud.open_files import raise_limit
from duetgen.cloud.service import DRAIN_SIGNAL

CONNECTIONS: Final = 16_384
"""Connections of a worker, where it may open so many files; what is too much of their requests is shed, not left
waiting in the kernel."""
OWN_FILES: Final = 128
"""Files that a worker opens beside its connections."""
STOP_SECONDS: Final = 30
"""How long requests may go on once nothing more is accepted."""
DRAIN_SECONDS: Final = 1.0
"""How long, after SIGTERM, all is answered as before, but for the word that the connection ends: whoever asks often
hears it in time, and asks another process next."""
READY_SECONDS: Final = 300


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and how.

    Attributes:
        host: an address or name of this machine.
        port: 0 takes a free one.
        certificate: PEM file for TLS; None: plain HTTP.
        key: PEM file of its private key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None

    @property
    def url(self) -> str:
        """Where a device finds it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"


def check_open(host: str) -> None:
    """Refuse the open mode where others than this machine could reach it.

    Raises:
        OpenModeError: the address is not a loopback one.
    """
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost":
        raise OpenModeError(f"--open answers anyone, and {host} is not this machine alone", "give --tokens FILE")


def check_certificate(address: Address) -> None:
    """Refuse files that are no certificate with its key.

    Raises:
        InvalidCertificateError: they are not.
    """
    if (address.certificate is None) != (address.key is None):
        raise InvalidCertificateError("TLS needs a certificate and its key", "give both --certificate and --key")
    if address.certificate is not None and address.key is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(address.certificate, address.key, password="")
        except (OSError, ValueError) as cause:
            raise InvalidCertificateError(
                f"{address.certificate} and {address.key} are no certificate and its key: {cause}",
                "give two PEM files; the key without a password",
            ) from cause


@contextlib.contextmanager
def reserved(address: Address) -> Iterator[Address]:
    """The address with its port settled, kept from others until the workers have it.

    Raises:
        CannotListenError: it cannot be had.
    """
    if not 0 <= address.port <= 65_535:  # The system would take its last 16 bits.
        raise CannotListenError(f"there is no port {address.port}", "choose one of 0 to 65535")
    try:
        family, kind, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as stack:
            if address.port:
                # The workers share their port, so another service that shares it too would go unnoticed.
                with socket.socket(family, kind) as alone:
                    alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    alone.bind(place)
            held = stack.enter_context(socket.socket(family, kind))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(place)
            settled = held.getsockname()
            yield msgspec.structs.replace(address, host=settled[0], port=settled[1])
    except (OSError, UnicodeError) as cause:
        raise CannotListenError(
            f"cannot listen on {address.host} port {address.port}: {cause}", "choose another --host or --port"
        ) from cause


class Workers(MPServer):
    """granian's processes; SIGHUP makes the workers look at the registry, where granian would replace them, and SIGTERM
    has them drain before they are stopped.
    """

    _draining = False

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """Pass SIGHUP on."""
        self._tell(signal.SIGHUP)

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Stop: at once on SIGINT and on a second SIGTERM."""
        if args[0] != signal.SIGTERM or self._draining:
            super().signal_handler_interrupt()  # type: ignore[no-untyped-call]
            return
        self._draining = True
        self._tell(DRAIN_SIGNAL)
        timer = threading.Timer(DRAIN_SECONDS, super().signal_handler_interrupt)
        timer.daemon = True
        timer.start()

    def _tell(self, number: signal.Signals) -> None:
        for worker in self.wrks:
            with contextlib.suppress(OSError, TypeError):
                os.kill(worker.inner.pid, number)


def load_app(config: ServiceConfig) -> ASGIApp:
    """What each worker process runs first."""
    # What a library prints on standard output belongs into the log.
    os.dup2(2, 1)
    logging.captureWarnings(True)
    # Until the application takes these over, they must not end the worker.
    for number in (signal.SIGHUP, DRAIN_SIGNAL):
        signal.signal(number, signal.SIG_IGN)
    return create_app(config)


def serve(config: ServiceConfig, address: Address, ready: Callable[[Address], None]) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Args:
        config: of the service; what the workers share is filled in here.
        address: where to listen.
        ready: called once when all workers answer.

    Raises:
        CannotListenError: the address cannot be had.
        InvalidCertificateError: TLS cannot be used.
        OpenModeError: the open mode on an address that others reach.
    """
    if config.open:
        check_open(address.host)
    check_certificate(address)
    run_folder = Path(tempfile.mkdtemp(prefix="duet-serve-"))
    try:
        with reserved(address) as settled:
            config = msgspec.structs.replace(
                config, run_folder=str(run_folder), log_key=secrets.token_bytes(16), clock_offset=clock_offset()
            )
            return run_workers(config, settled, run_folder, ready)
    finally:
        shutil.rmtree(run_folder, ignore_errors=True)


def run_workers(config: ServiceConfig, address: Address, run_folder: Path, ready: Callable[[Address], None]) -> int:
    """Run the worker processes to their end; the exit code."""
    files = raise_limit()
    connections = max(OWN_FILES, min(CONNECTIONS, files - OWN_FILES))
    Log(b"", False).write("info", "open files", limit=files, connections=connections)
    # A worker starts clean: a fork would carry over whatever threads and locks are here.
    multiprocessing.set_start_method("spawn", force=True)
    server = Workers(
        target="duetgen.cloud",
        address=address.host,
        port=address.port,
        interface=Interfaces.ASGI,
        # uvloop, but on Windows: a seventh faster.
        loop=Loops.auto,
        workers=config.workers,
        http=HTTPModes.http1,
        websockets=False,
        backlog=4096,
        backpressure=connections,
        http1_settings=HTTP1Settings(header_read_timeout=int(config.body_seconds * 1000), max_buffer_size=65_536),
        log_level=LogLevels.warning,
        log_dictconfig=HANDLERS,
        ssl_cert=address.certificate,
        ssl_key=address.key,
        workers_kill_timeout=STOP_SECONDS,
        respawn_failed_workers=True,
    )
    watcher = threading.Thread(
        target=announce, args=(server, run_folder, config.workers, partial(ready, address), address), daemon=True
    )
    server.on_startup(watcher.start)
    try:
        server.serve(target_loader=partial(load_app, config), wrap_loader=False)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def announce(server: MPServer, run_folder: Path, workers: int, ready: Callable[[], None], address: Address) -> None:
    """Wait until all workers are ready and the port answers, then say so."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and not server.interrupt_signal:
        if len(list(run_folder.glob("ready-*"))) >= workers:
            with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), timeout=1):
                ready()
                return
        time.sleep(0.02)
