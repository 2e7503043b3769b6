"""A cloud for tests of the device: real sockets, and every fault at a switch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from duetgen.wire.authentication import answer_key, answer_mac
from duetgen.wire.messages import (
    ErrorAnswer,
    ModelsAnswer,
    ModelSummary,
    ParametersAnswer,
    ParametersRequest,
)

HOUR_MS = 3_600_000
Mutate = Callable[[ParametersAnswer], ParametersAnswer]
Respond = Callable[["Handler", bytes], None]


def identity(answer: ParametersAnswer) -> ParametersAnswer:
    return answer


class FakeCloud:
    """Answers as the cloud does, until told otherwise. Usable in process, or through `Server`.

    Attributes:
        honest: changes an answer before its code is made: what a cloud that errs would send.
        forged: changes it afterwards: what somebody on the way would do.
        respond: takes over the writing of one answer's bytes.
        refusal: (status, headers) to answer with instead.
        file_bytes: changes files of bundles on their way.
    """

    def __init__(self, tiny: Any, token: str = "secret") -> None:
        self.tinies = {tiny.model_id: tiny}
        self.latest = tiny.model_id
        self.token = token
        self.sequence = 0
        self.clock: Callable[[], float] = time.time
        self.lifetime_ms = HOUR_MS
        self.honest: Mutate = identity
        self.forged: Mutate = identity
        self.respond: Respond | None = None
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.file_bytes: Callable[[str, bytes], bytes] = lambda name, content: content
        self.requests: list[ParametersRequest] = []
        self.times: list[float] = []
        self.answers: list[ParametersAnswer] = []
        self.paths: list[str] = []
        self.tokens: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.traffic = None

    def parameters(self, request: ParametersRequest, limit: int = 2**30) -> ParametersAnswer:
        self.requests.append(request)
        self.times.append(time.monotonic())
        tiny = self.tinies[request.model_id]
        from duetgen.wire.bundle import open_bundle

        bundle = open_bundle(tiny.root)
        parts = (request.parts, bundle.manifest.parts)
        scale = theta = bias = b""
        if "bias" not in parts:
            scale, theta = bundle.codec().encode(tiny.theta(request.history), request.dtype)
        if "weights" not in parts:
            bias = bundle.bias_codec().encode(tiny.opinions(request.history))
        self.sequence += 1
        now = int(self.clock() * 1000)
        answer = ParametersAnswer(
            tiny.model_id, self.sequence, now, now + self.lifetime_ms, request.dtype, scale, theta, bias, b""
        )
        answer = self.honest(answer)
        mac = answer_mac(answer_key(self.token), request.device, answer)
        answer = self.forged(msgspec.structs.replace(answer, mac=mac))
        self.answers.append(answer)
        return answer

    def models(self, device: str = "") -> ModelsAnswer:
        summaries = [ModelSummary(name, "tiny", "sasrec", "2026", 0) for name in self.tinies]
        return ModelsAnswer(self.latest, summaries)

    def read(self, model_id: str, name: str) -> bytes:
        return self.file_bytes(name, (Path(self.tinies[model_id].root) / name).read_bytes())

    def file(self, model_id: str, name: str, limit: int, into: Any) -> None:
        into.write(self.read(model_id, name))

    def close(self) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        cloud = self.server.cloud
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.note()
        if self.refuse():
            return
        request = msgspec.msgpack.decode(content, type=ParametersRequest)
        answer = msgspec.msgpack.encode(cloud.parameters(request))
        if cloud.respond is not None:
            self.close_connection = True
            cloud.respond(self, answer)
        else:
            self.send(answer)

    def do_GET(self) -> None:
        cloud = self.server.cloud
        self.note()
        if self.refuse():
            return
        parts = self.path.split("/")
        if parts[2].startswith("models?") or self.path == "/v1/models":
            self.send(msgspec.msgpack.encode(cloud.models()))
        else:
            self.send(cloud.read(parts[3], parts[4]))

    def note(self) -> None:
        self.server.cloud.paths.append(self.path)
        self.server.cloud.tokens.append(self.headers.get("Authorization", ""))
        self.server.cloud.headers.append(dict(self.headers))

    def refuse(self) -> bool:
        refusal = self.server.cloud.refusal
        if refusal is None:
            return False
        self.server.cloud.times.append(time.monotonic())
        self.send(msgspec.msgpack.encode(ErrorAnswer("some-code", "no", "wait")), *refusal)
        return True

    def send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/msgpack")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class LoopbackServer(ThreadingHTTPServer):
    """An HTTP server in a thread of its own, on a loopback port."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.name = f"127.0.0.1:{self.server_address[1]}"
        self.url = f"http://{self.name}"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def handle_error(self, *_: object) -> None:
        """A device that hangs up is no error of these tests."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class Server(LoopbackServer):
    """A `FakeCloud` that answers."""

    def __init__(self, cloud: FakeCloud, port: int = 0) -> None:
        self.cloud = cloud
        super().__init__(Handler, port)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until something is so, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.005)
