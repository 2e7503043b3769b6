"""What a device asks of the cloud, over HTTP, with nothing but the standard library.

Needs `http.client`, which takes 50 ms to import: so this module is imported with the first request.
"""

from __future__ import annotations

import email.utils
import http.client
import math
import ssl
import time
from collections import deque
from typing import Any, BinaryIO, Final, TypeVar, cast
from urllib.parse import quote

import msgspec

from duetgen import __version__
from duetgen.device.checks import check_token
from duetgen.device.connection import ConnectionPool, Traffic, refused_by
from duetgen.device.counts import told
from duetgen.device.errors import BadAnswerError, CloudRefusedError, CloudUnreachableError
from duetgen.wire.messages import ErrorAnswer, ModelsAnswer, ParametersAnswer, ParametersRequest

MSGPACK: Final = "application/msgpack"
MAX_ERROR_BYTES: Final = 2**16
MAX_LIST_BYTES: Final = 2**20
CHUNK: Final = 2**18
KEPT_LATENCIES: Final = 1024

T = TypeVar("T")


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, a number or a date; None where there is none or it says nothing."""
    if value is None:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return None


class HttpCloud:
    """The cloud as one device sees it. One request at a time and thread; connections come from a pool.

    Args:
        url: address of the cloud, or a pool to share.
        token: the device's access token; empty for the open development mode.
        timeout: seconds for a whole exchange.
        file_timeout: seconds for a file of a bundle.
        tls: for another trust than the system's.
        proxy: see `DeviceConfig.proxy`.

    Raises:
        InvalidDeviceConfigError: the address, the token or the proxy is none.

    Attributes:
        traffic: bytes that went over the network.
        latencies: seconds of the last exchanges for parameters that went well.
    """

    def __init__(
        self,
        url: str | ConnectionPool,
        token: str = "",
        *,
        timeout: float = 10.0,
        file_timeout: float = 600.0,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        self._own = not isinstance(url, ConnectionPool)
        self.pool = url if isinstance(url, ConnectionPool) else ConnectionPool(url, tls, proxy)
        check_token(token)
        self.token, self.timeout, self.file_timeout = token, timeout, file_timeout
        self.traffic = Traffic()
        self.latencies: deque[float] = deque(maxlen=KEPT_LATENCIES)

    def parameters(self, request: ParametersRequest, limit: int) -> ParametersAnswer:
        """Ask for theta; answers above `limit` bytes are not read.

        Raises:
            CloudUnreachableError: no answer in time.
            CloudRefusedError: the cloud refuses.
            BadAnswerError: the answer cannot be read.
        """
        begun = time.perf_counter()
        content = self._exchange("POST", "/v1/parameters", limit, msgspec.msgpack.encode(request))
        answer = self._decode(content, ParametersAnswer)
        self.latencies.append(time.perf_counter() - begun)
        return answer

    def models(self, device: str) -> ModelsAnswer:
        """What is in service, and what this device shall run.

        Raises:
            CloudUnreachableError, CloudRefusedError, BadAnswerError: as for `parameters`.
        """
        return self._decode(self._exchange("GET", f"/v1/models?device={quote(device)}", MAX_LIST_BYTES), ModelsAnswer)

    def file(self, model_id: str, name: str, limit: int, into: BinaryIO) -> None:
        """Download a file of a bundle.

        Raises:
            CloudUnreachableError, CloudRefusedError, BadAnswerError: as for `parameters`.
            OSError: `into` cannot take it.
        """
        self._exchange("GET", f"/v1/models/{model_id}/{name}", limit, None, into)

    def close(self) -> None:
        """Close the connections, breaking off what is under way; a shared pool stays."""
        if self._own:
            self.pool.close()

    def _told(self, text: object) -> str:
        """What a server said, fit to be shown: it may say anything, the token that it was sent among it."""
        return told(str(text), self.token, *(self.pool.proxy.secrets if self.pool.proxy else ()))

    def _decode(self, content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.msgpack.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
            why = self._told(cause)
            raise BadAnswerError(f"the cloud's answer cannot be read: {why}", "is this a duet cloud?") from cause

    def _exchange(
        self, method: str, path: str, limit: int, body: bytes | None = None, into: BinaryIO | None = None
    ) -> bytes:
        timeout = self.file_timeout if into is not None else self.timeout
        deadline = time.monotonic() + timeout
        headers = {"Accept": MSGPACK, "Accept-Encoding": "identity", "User-Agent": f"duetgen/{__version__}"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            headers["Content-Type"] = MSGPACK
        hint = "the device goes on with what it has, and asks again later"
        target, for_relay = self.pool.request(path)
        for attempt in (1, 2):
            connection, reused = self.pool.take(fresh=attempt == 2)
            response, connected = None, False
            try:
                self._prepare(connection, deadline)
                connected = True
                connection.request(method, target, body, headers | for_relay)
                response = connection.getresponse()
                if response.status == 407 and self.pool.relay is not None:
                    raise refused_by(self.pool.relay, response.status)
                return self._read(response, limit, into)
            except (ConnectionError, http.client.BadStatusLine) as cause:
                # A kept connection that the server closed meanwhile: once more on a fresh one.
                if reused and response is None:
                    continue
                what = "the cloud broke off" if connected else f"no connection to {self.pool.peer}"
                raise CloudUnreachableError(f"{what}: {self._told(cause) or type(cause).__name__}", hint) from cause
            except http.client.IncompleteRead as cause:
                raise BadAnswerError("the cloud's answer is cut", hint) from cause
            except ssl.SSLError as cause:
                raise CloudUnreachableError(f"no TLS with {self.pool.address.url}: {cause.reason}", hint) from cause
            except (http.client.HTTPException, ValueError) as cause:
                raise BadAnswerError(f"the cloud's answer is not HTTP: {self._told(cause)}", hint) from cause
            except TimeoutError as cause:
                raise CloudUnreachableError(f"no whole answer within {timeout:g} s", hint) from cause
            except _DiskError as cause:
                raise cause.cause from None
            except OSError as cause:
                raise CloudUnreachableError(f"{self.pool.peer}: {cause.strerror or cause}", hint) from cause
            finally:
                keep = False
                if response is not None:
                    keep = response.isclosed() and not response.length and not response.will_close
                    response.close()
                self.pool.give(connection, keep)
        raise AssertionError("unreachable")

    def _prepare(self, connection: http.client.HTTPConnection, deadline: float) -> None:
        timed = cast(Any, connection.sock)
        if timed is None:
            self.pool.open(connection, self.traffic, deadline)
        else:
            timed.traffic, timed.deadline = self.traffic, deadline

    def _read(self, response: http.client.HTTPResponse, limit: int, into: BinaryIO | None) -> bytes:
        if response.status != 200:
            raise self._refusal(response)
        coding = response.headers.get("Content-Encoding", "identity")
        if coding != "identity":
            raise BadAnswerError(
                f"the cloud's answer is compressed ({self._told(coding)}), unasked", "turn compression off"
            )
        if response.length is not None and response.length > limit:
            raise BadAnswerError(
                f"the cloud's answer has {response.length} bytes, at most {limit} are read", "is this a duet cloud?"
            )
        parts: list[bytes] = []
        total = 0
        while True:
            part = response.read(min(CHUNK, limit + 1 - total))
            total += len(part)
            if total > limit:
                raise BadAnswerError(f"the cloud's answer has more than {limit} bytes", "is this a duet cloud?")
            if not part:
                break
            if into is None:
                parts.append(part)
                continue
            try:
                into.write(part)
            except OSError as cause:
                raise _DiskError(cause) from cause
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(parts)

    def _refusal(self, response: http.client.HTTPResponse) -> CloudRefusedError:
        content = response.read(MAX_ERROR_BYTES)
        message, hint = f"the cloud answers {response.status} {self._told(response.reason)}", "see the cloud's log"
        code = ""
        try:
            json = "json" in response.headers.get("Content-Type", "")
            found = (msgspec.json if json else msgspec.msgpack).decode(content, type=ErrorAnswer)
            code, hint = self._told(found.code)[:64], self._told(found.hint)
            message = f"{message}: {self._told(found.message)}"
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        wait = retry_after(response.headers.get("Retry-After"))
        return CloudRefusedError(response.status, code, message, hint, wait)


class _DiskError(Exception):
    """Writing a download failed: not the network's fault."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause
