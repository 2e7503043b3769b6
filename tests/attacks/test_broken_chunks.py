"""Bodies that break off, or whose framing is malformed: the caller's fault, answered and counted as such."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.cloud.conftest import Live, until

from .sockets import ask, log_lines

BODY = b'{"model_id":"latest","device":"k1","history":[3]}'
HEAD = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

BROKEN = {
    "size that is no number": CHUNKED + b"ZZ\r\n",
    "negative size": CHUNKED + b"-1\r\n",
    "size beyond 64 bits": CHUNKED + b"f" * 17 + b"\r\n",
    "no line break after the chunk": CHUNKED + b"1\r\n{x",
    "good chunk, then a bad one": CHUNKED + b"31\r\n" + BODY + b"\r\nnope\r\n",
    "cut in a chunk": CHUNKED + b"31\r\n" + BODY[:20],
    "no last chunk": CHUNKED + b"31\r\n" + BODY + b"\r\n",
    "cut short of its length": b"Content-Length: 60\r\n\r\n" + BODY,
    "nothing of its length": b"Content-Length: 60\r\n\r\n",
}


@pytest.fixture(scope="module")
def service(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("chunks"), version, "--open", "--rate", "0")
    yield made
    assert made.stop() == 0


def counted(service: Live) -> Counter[str]:
    """Answers of both endpoints, by status."""
    with service.client() as client:
        text = client.get("/metrics").text
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "duet_requests_total" and sample.labels["endpoint"] in ("parameters", "batch"):
                found[sample.labels["status"]] += int(sample.value)
    return found


@pytest.mark.parametrize("path", [b"/v1/parameters", b"/v1/parameters:batch"])
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_broken_body_is_answered_with_400(service: Live, path: bytes, body: bytes) -> None:
    before = counted(service)
    status, headers, content = ask(service, HEAD % path + body, end=True)
    assert (status, headers["content-type"]) == (400, "application/json")
    error = json.loads(content)
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == "invalid-request"
    until(lambda: counted(service) == before + Counter({"400": 1}))
    assert {line.get("status", 400) for line in log_lines(service)} == {400}


@pytest.mark.parametrize("extra", [b"", b"Range: bytes=1-2\r\n", b"If-None-Match: *\r\n"])
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_broken_body_where_none_is_read_harms_nothing(service: Live, extra: bytes, body: bytes) -> None:
    path = f"/v1/models/{service.ready['models'][0]}/items.json".encode()
    status, _, _ = ask(service, b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s" % (path, extra, body))
    assert status == {b"": 200, b"R": 206, b"I": 304}[extra[:1]]


def test_request_without_a_host_is_refused(service: Live) -> None:
    status, _, content = ask(service, b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert (status, json.loads(content)["code"]) == (400, "invalid-request")
    assert ask(service, b"GET /v1/models HTTP/1.0\r\n\r\n")[0] == 200


def test_good_chunks_are_read(service: Live) -> None:
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in BODY) + b"0\r\n\r\n"
    assert ask(service, HEAD % b"/v1/parameters" + CHUNKED + chunks)[0] == 200
