"""The endpoints of parameters: what they answer, in both formats, and what they refuse."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.cloud import ServiceConfig, create_app
from duetgen.cloud.errors import ServiceError
from duetgen.cloud.exchange import Decoder
from duetgen.cloud.thetas import Thetas, to_float16
from duetgen.wire.authentication import answer_key, verify
from duetgen.wire.bias import BiasCodec
from duetgen.wire.bundle import open_bundle
from duetgen.wire.codec import ThetaCodec
from duetgen.wire.errors import InvalidParametersError
from duetgen.wire.messages import BatchAnswer, BatchRequest, ErrorAnswer, ParametersAnswer, ParametersRequest

from .conftest import TestClient
from .versions import HISTORY, VOCABULARY, make_version, opinions, theta

MSGPACK, JSON = "application/msgpack", "application/json"
CODEC = ThetaCodec([[4, 4], [4]])
GOOD: dict[str, Any] = {"model_id": "latest", "device": "kiosk-1", "history": [3, 5, 7], "dtype": "float32"}


def post(client: Any, value: Any, path: str = "/v1/parameters", media: str = MSGPACK, **headers: str) -> httpx.Response:
    body = msgspec.msgpack.encode(value) if media == MSGPACK else msgspec.json.encode(value)
    found: httpx.Response = client.post(path, content=body, headers={"content-type": media, **headers})
    return found


def read(response: httpx.Response, kind: type[Any]) -> Any:
    media = response.headers["content-type"]
    assert media in (MSGPACK, JSON)
    return (msgspec.msgpack if media == MSGPACK else msgspec.json).decode(response.content, type=kind)


def refused(response: httpx.Response, status: int, code: str) -> ErrorAnswer:
    error: ErrorAnswer = read(response, ErrorAnswer)
    assert (response.status_code, error.code) == (status, code)
    assert error.message
    assert error.hint
    return error


@pytest.mark.parametrize("accept", [None, MSGPACK, JSON])
@pytest.mark.parametrize("media", [MSGPACK, JSON])
def test_answer_in_the_format_asked_for(client: TestClient, media: str, accept: str | None) -> None:
    headers = {} if accept is None else {"accept": accept}
    if accept is None:
        del client.headers["accept"]
    response = post(client, GOOD, media=media, **headers)
    assert response.headers["content-type"] == (accept or media)
    answer = read(response, ParametersAnswer)
    np.testing.assert_array_equal(CODEC.decode(answer.scale, answer.theta, answer.dtype), theta([3, 5, 7]))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0), ("float16", 2**-11), ("int8", 0.5 / 127)])
def test_theta_in_every_encoding(client: TestClient, dtype: str, tolerance: float) -> None:
    answer = read(post(client, {**GOOD, "dtype": dtype}), ParametersAnswer)
    found, wanted = CODEC.decode(answer.scale, answer.theta, answer.dtype), theta([3, 5, 7])
    assert np.abs(found - wanted).max() <= tolerance * wanted.max() * 1.01


def test_answer_proves_where_it_is_from_and_when(client: TestClient, version: Path) -> None:
    answers = [read(post(client, GOOD), ParametersAnswer) for _ in range(20)]
    for answer in answers:
        assert answer.model_id == open_bundle(version).manifest.model_id
        assert answer.expires - answer.issued == 86_400_000
        assert verify(answer_key(""), "kiosk-1", answer)
        assert not verify(answer_key(""), "kiosk-2", answer)
    sequences = [answer.sequence for answer in answers]
    assert sequences == sorted(set(sequences))


def test_only_the_last_of_a_long_history_count(client: TestClient) -> None:
    long = [99] * 4000 + list(range(2, 2 + HISTORY))
    answer = read(post(client, {**GOOD, "history": long}), ParametersAnswer)
    np.testing.assert_array_equal(CODEC.decode(answer.scale, answer.theta, "float32"), theta(long))


def test_batch_answers_in_order_as_each_alone(client: TestClient) -> None:
    histories = [[2 + (index * step) % 90 for step in range(1, 2 + index % 12)] for index in range(100)]
    devices = [{"device": f"d{index}", "history": history} for index, history in enumerate(histories)]
    response = post(client, {"model_id": "latest", "devices": devices, "dtype": "float32"}, "/v1/parameters:batch")
    answers = read(response, BatchAnswer).answers
    assert len(answers) == 100
    for index, (answer, history) in enumerate(zip(answers, histories)):
        np.testing.assert_array_equal(CODEC.decode(answer.scale, answer.theta, "float32"), theta(history))
        assert verify(answer_key(""), f"d{index}", answer)
    assert len({answer.sequence for answer in answers}) == 100


@pytest.fixture
def advised_client(advised: Path) -> Iterator[TestClient]:
    """A service of the version with opinions."""
    with TestClient(create_app(ServiceConfig(sources=(str(advised),), rate=0))) as made:
        yield made


def bias_of(answer: ParametersAnswer) -> list[tuple[list[int], list[float]]]:
    found = BiasCodec(VOCABULARY, [3, 3]).decode(answer.bias)
    return [(opinion.items.tolist(), opinion.values.tolist()) for opinion in found]


@pytest.mark.parametrize("parts", [None, "both", "weights", "bias"])
@pytest.mark.parametrize("many", [False, True], ids=["alone", "batch"])
def test_parts_that_are_asked_for(advised_client: TestClient, parts: str | None, many: bool) -> None:
    wanted = {} if parts is None else {"parts": parts}
    if many:
        batch = {**GOOD, **wanted, "devices": [{"device": f"d{item}", "history": [5, item]} for item in (7, 90)]}
        del batch["device"], batch["history"]
        answers = read(post(advised_client, batch, "/v1/parameters:batch"), BatchAnswer).answers
        told = [(f"d{item}", [5, item], answer) for item, answer in zip((7, 90), answers, strict=True)]
    else:
        told = [("kiosk-1", [3, 5, 7], read(post(advised_client, {**GOOD, **wanted}), ParametersAnswer))]
    for device, history, answer in told:
        assert verify(answer_key(""), device, answer)
        if parts == "bias":
            assert (answer.scale, answer.theta) == (b"", b"")
        else:
            np.testing.assert_array_equal(CODEC.decode(b"", answer.theta, "float32"), theta(history))
        # 255 and 128 are whole bytes of the scale 1; the other values are of a scale of their own, and alike.
        assert answer.bias == b"" if parts == "weights" else bias_of(answer) == opinions(history)


def test_parts_that_a_version_does_not_have_are_left_out(client: TestClient, tmp_path: Path) -> None:
    answer = read(post(client, {**GOOD, "parts": "bias"}), ParametersAnswer)
    assert (answer.theta, answer.bias) == (b"", b"")
    assert read(post(client, GOOD), ParametersAnswer).bias == b""
    make_version(tmp_path / "bias", parts="bias")
    with TestClient(create_app(ServiceConfig(sources=(str(tmp_path / "bias"),), rate=0))) as other:
        answer = read(post(other, GOOD), ParametersAnswer)
        assert (answer.theta, bias_of(answer)) == (b"", opinions(GOOD["history"]))


def test_those_who_want_different_parts_are_generated_together(advised: Path) -> None:
    front: Any = create_app(ServiceConfig(sources=(str(advised),), rate=0))
    wanted = ["both", "weights", "bias", "weights"]

    async def run() -> list[ParametersAnswer]:
        async with front.service.running():
            transport = httpx.ASGITransport(app=front)
            async with httpx.AsyncClient(transport=transport, base_url="http://duet") as client:
                bodies = [msgspec.json.encode({**GOOD, "parts": parts}) for parts in wanted]
                found = await asyncio.gather(*(client.post("/v1/parameters", content=body) for body in bodies))
                return [read(response, ParametersAnswer) for response in found]

    answers = asyncio.run(run())
    assert [(bool(answer.theta), bool(answer.bias)) for answer in answers] == [
        (True, True),
        (True, False),
        (False, True),
        (True, False),
    ]
    assert bias_of(answers[0]) == bias_of(answers[2]) == opinions(GOOD["history"])
    totals = front.service.recorder.totals
    assert (totals.weights, totals.bias) == (3 * 4 * 20, 2 * len(answers[0].bias))
    assert totals.rows.total == 4


def test_requests_that_wait_together_are_generated_together_and_as_alone(version: Path) -> None:
    front: Any = create_app(ServiceConfig(sources=(str(version),), rate=0))

    async def run() -> list[httpx.Response]:
        async with front.service.running():
            transport = httpx.ASGITransport(app=front)
            async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as client:
                asked = [
                    client.post(
                        "/v1/parameters",
                        content=msgspec.msgpack.encode({**GOOD, "history": list(range(2, 3 + index % 20))}),
                    )
                    for index in range(50)
                ]
                return list(await asyncio.gather(*asked))

    for index, response in enumerate(asyncio.run(run())):
        answer = msgspec.msgpack.decode(response.content, type=ParametersAnswer)
        expected = theta(list(range(2, 3 + index % 20)))
        np.testing.assert_array_equal(CODEC.decode(answer.scale, answer.theta, "float32"), expected)
    assert sum(front.service.recorder.totals.rows.counts) < 50


BAD_HISTORIES: dict[str, Any] = {
    "minus one": [-1],
    "zero": [3, 0, 5],
    "V": [VOCABULARY],
    "2^31": [2**31],
    "2^63": [2**63],
    "empty": [],
    "over-long": [3] * 4097,
    "NaN": [float("nan")],
    "fraction": [2.5],
    "text": ["3"],
    "null": [None],
    "nested": [[3]],
    "no list": 3,
}


@pytest.mark.parametrize("history", BAD_HISTORIES.values(), ids=BAD_HISTORIES)
def test_bad_history_refused(client: TestClient, history: Any) -> None:
    refused(post(client, {**GOOD, "history": history}), 400, "invalid-history")
    batch = {"model_id": "latest", "devices": [{"device": "d", "history": history}]}
    refused(post(client, batch, "/v1/parameters:batch"), 400, "invalid-history")


BAD_REQUESTS: dict[str, Any] = {
    "unknown field": {**GOOD, "extra": 1},
    "missing field": {"model_id": "latest", "device": "d"},
    "no device": {**GOOD, "device": ""},
    "device with a slash": {**GOOD, "device": "a/b"},
    "device with a line break": {**GOOD, "device": "a\n"},
    "device too long": {**GOOD, "device": "d" * 129},
    "unknown encoding": {**GOOD, "dtype": "float64"},
    "model_id in capitals": {**GOOD, "model_id": "A" * 64},
    "negative age": {**GOOD, "age_ms": -1},
    "age beyond 2^53": {**GOOD, "age_ms": 2**60},
    "a list": [1, 2, 3],
    "a number": 5,
    "nothing": None,
}


@pytest.mark.parametrize("media", [MSGPACK, JSON])
@pytest.mark.parametrize("request_", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_bad_request_refused(client: TestClient, request_: Any, media: str) -> None:
    refused(post(client, request_, media=media, accept=media), 400, "invalid-request")


def repeated_msgpack() -> bytes:
    good = msgspec.msgpack.encode({**GOOD})
    assert good[0] == 0x84
    return bytes([0x85]) + good[1:] + msgspec.msgpack.encode("device") + msgspec.msgpack.encode("other")


BAD_BODIES: dict[str, tuple[str, bytes]] = {
    "empty": (MSGPACK, b""),
    "empty json": (JSON, b""),
    "cut": (MSGPACK, msgspec.msgpack.encode(GOOD)[:-3]),
    "trailing": (MSGPACK, msgspec.msgpack.encode(GOOD) + b"\x00"),
    "array of 2^32 announced": (MSGPACK, b"\xdd\xff\xff\xff\xff"),
    "map of 2^32 announced": (MSGPACK, b"\xdf\xff\xff\xff\xff"),
    "repeated field": (MSGPACK, repeated_msgpack()),
    "repeated field json": (JSON, b'{"model_id":"latest","device":"a","device":"b","history":[3]}'),
    "nested lists": (MSGPACK, b"\x91" * 100_000),
    "nested lists json": (JSON, b"[" * 100_000),
    "nested maps in a field json": (JSON, b'{"model_id":' * 50_000),
    "nesting inside an unknown field": (MSGPACK, b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"),
    "not UTF-8": (MSGPACK, b"\x81\xa8model_id\xa3\xff\xfe\xfd"),
    "not UTF-8 json": (JSON, b'{"model_id":"\xff\xfe"}'),
    "lone surrogate json": (JSON, b'{"model_id":"latest","device":"\\ud800","history":[3]}'),
    "NaN json": (JSON, b'{"model_id":"latest","device":"d","history":[3],"age_ms":NaN}'),
    "long number json": (JSON, b'{"model_id":"latest","device":"d","history":[3],"age_ms":' + b"9" * 5000 + b"}"),
    "json as msgpack": (MSGPACK, json.dumps(GOOD).encode()),
}


@pytest.mark.parametrize(("media", "body"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_body_refused(client: TestClient, media: str, body: bytes) -> None:
    for path in ("/v1/parameters", "/v1/parameters:batch"):
        response = client.post(path, content=body, headers={"content-type": media, "accept": media})
        assert response.status_code == 400
        assert read(response, ErrorAnswer).code == "invalid-request"


def test_repeated_field_of_a_device_in_a_batch_refused(client: TestClient) -> None:
    text = b'{"model_id":"latest","devices":[{"device":"a","device":"b","history":[3]}]}'
    response = client.post("/v1/parameters:batch", content=text, headers={"content-type": JSON, "accept": JSON})
    refused(response, 400, "invalid-request")
    device = b"\x83\xa6device\xa1a\xa6device\xa1b\xa7history\x91\x03"
    body = b"\x82\xa8model_id\xa6latest\xa7devices\x91" + device
    response = client.post("/v1/parameters:batch", content=body, headers={"accept": JSON})
    refused(response, 400, "invalid-request")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_compressed_bomb_is_not_even_unpacked(client: TestClient, encoding: str) -> None:
    bomb = gzip.compress(b"\x00" * 10_000_000) if encoding == "gzip" else zlib.compress(b"\x00" * 10_000_000)
    headers = {"content-encoding": encoding, "accept": JSON}
    refused(client.post("/v1/parameters", content=bomb, headers=headers), 415, "unsupported-content")


def test_other_content_type_refused(client: TestClient) -> None:
    headers = {"content-type": "text/xml", "accept": JSON}
    refused(client.post("/v1/parameters", content=b"<a/>", headers=headers), 415, "unsupported-content")


def test_body_too_large_refused_by_what_it_says_and_by_what_it_sends(client: TestClient) -> None:
    said = client.post("/v1/parameters", content=b"\x00" * (2**20 + 1), headers={"accept": JSON})
    refused(said, 413, "body-too-large")
    sent = client.post("/v1/parameters", content=(b"\x00" * 65536 for _ in range(64)), headers={"accept": JSON})
    refused(sent, 413, "body-too-large")


def test_unknown_version_refused(client: TestClient) -> None:
    refused(post(client, {**GOOD, "model_id": "0" * 64}), 404, "unknown-model")


def test_batch_whose_answer_would_be_too_large_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duetgen.cloud.parameters.MAX_BATCH_ANSWER_BYTES", 100)
    batch = {"model_id": "latest", "devices": [{"device": "d", "history": [3]}] * 3}
    refused(post(client, batch, "/v1/parameters:batch"), 413, "body-too-large")
    assert post(client, {**batch, "parts": "bias"}, "/v1/parameters:batch").status_code == 200


@pytest.mark.parametrize("kind", [ParametersRequest, BatchRequest])
@given(body=st.binary(max_size=200), form=st.sampled_from(["msgpack", "json"]))
def test_decoders_refuse_any_bytes_by_name(kind: type[Any], body: bytes, form: Any) -> None:
    decoder = Decoder(kind) if kind is ParametersRequest else Decoder(kind, "devices", 2)
    with pytest.raises(ServiceError):
        decoder.decode(body, form)


@given(
    place=st.integers(0, 60),
    byte=st.integers(0, 255),
    value=st.dictionaries(
        st.sampled_from(["model_id", "device", "history", "dtype", "age_ms", "parts", "more"]),
        st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.lists(st.integers(0, 200))),
    ),
)
def test_decoders_survive_changed_requests(place: int, byte: int, value: dict[str, Any]) -> None:
    decoder = Decoder(ParametersRequest)
    body = bytearray(msgspec.msgpack.encode({**GOOD, **value}))
    body[place % len(body)] = byte
    try:
        request = decoder.decode(bytes(body), "msgpack")
    except ServiceError:
        return
    assert isinstance(request, ParametersRequest)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_theta_that_cannot_be_sent_harms_its_own_device_alone(value: float) -> None:
    theta_BP = np.ones((3, 20), dtype=np.float32)
    theta_BP[1, 4] = value
    thetas = Thetas({"theta": theta_BP}, CODEC, BiasCodec(VOCABULARY, []))
    assert thetas.encode(0, "float16") == (*CODEC.encode(theta_BP[0], "float16"), b"")
    with pytest.raises(InvalidParametersError):
        thetas.encode(1, "float16")


@pytest.mark.parametrize(("item", "value"), [(5, np.nan), (5, np.inf), (VOCABULARY, 1.0), (3, 1.0)])
def test_item_bias_that_cannot_be_sent_harms_its_own_device_alone(item: int, value: float) -> None:
    items_BJK, values_BJK = np.array([[[3, 4]]] * 3), np.ones((3, 1, 2), dtype=np.float32)
    items_BJK[1, 0, 1], values_BJK[1, 0, 1] = item, value
    codec = BiasCodec(VOCABULARY, [2])
    thetas = Thetas({"items": items_BJK, "values": values_BJK}, CODEC, codec)
    (found,) = codec.decode(thetas.encode(0, "float16").bias)
    assert (found.items.tolist(), found.values.round(2).tolist()) == ([3, 4], [1, 1])
    with pytest.raises(InvalidParametersError):
        thetas.encode(1, "float16")
    assert thetas.encode(1, "float16", "weights") == (b"", b"", b"")


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_float16_rounds_as_numpy_does(values: list[float]) -> None:
    theta_BP = np.array([values], dtype=np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(to_float16(theta_BP), theta_BP.astype(np.float16))
