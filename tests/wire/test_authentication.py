"""Codes of answers: worked out by hand, and no field may change unseen."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.wire.authentication import answer_key, answer_mac, token_digest, verify
from duetgen.wire.messages import ParametersAnswer

ANSWER = ParametersAnswer(
    model_id="ab" * 32,
    sequence=7,
    issued=1_000,
    expires=70_000,
    dtype="float16",
    scale=b"",
    theta=bytes.fromhex("003c00c0"),
    bias=b"\x00",
    mac=b"",
)
KEY = answer_key("secret")


def signed(answer: ParametersAnswer, key: bytes = KEY, device: str = "phone-1") -> ParametersAnswer:
    return msgspec.structs.replace(answer, mac=answer_mac(key, device, answer))


def test_the_key_by_hand() -> None:
    assert hmac.new(b"secret", b"duetgen/answer-key/1", hashlib.sha256).digest() == KEY
    assert len(KEY) == 32


def test_the_digest_of_a_token_by_hand() -> None:
    assert token_digest("secret") == hashlib.sha256(b"duetgen/token/1secret").hexdigest()


def test_the_code_by_hand() -> None:
    """The msgpack bytes written out: what another language must put under the HMAC."""
    content = b"".join(
        [
            b"\x9a",  # array of 10
            b"\xb4duetgen/parameters/2",  # string of 20 bytes
            b"\xa7phone-1",
            b"\xd9\x40" + b"ab" * 32,  # string of 64 bytes
            b"\x07",
            b"\xcd\x03\xe8",  # 1,000 as uint16
            b"\xce\x00\x01\x11\x70",  # 70,000 as uint32
            b"\xa7float16",
            b"\xc4\x00",  # no scale
            b"\xc4\x04\x00\x3c\x00\xc0",  # 4 bytes of weights
            b"\xc4\x01\x00",  # an opinion of nothing
        ]
    )
    assert answer_mac(KEY, "phone-1", ANSWER) == hmac.new(KEY, content, hashlib.sha256).digest()


def test_an_answer_as_it_was_made_is_valid() -> None:
    assert verify(KEY, "phone-1", signed(ANSWER))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_id", "cd" * 32),
        ("sequence", 8),
        ("issued", 1_001),
        ("expires", 70_001),
        ("dtype", "int8"),
        ("scale", b"\0\0"),
        ("theta", bytes.fromhex("003c00c1")),
        ("bias", b""),
    ],
)
def test_no_field_changes_unseen(field: str, value: Any) -> None:
    assert not verify(KEY, "phone-1", msgspec.structs.replace(signed(ANSWER), **{field: value}))


def test_another_devices_answer_is_refused() -> None:
    assert not verify(KEY, "phone-2", signed(ANSWER))


def test_an_answer_under_another_token_is_refused() -> None:
    assert not verify(answer_key("another"), "phone-1", signed(ANSWER))


def test_bytes_moved_from_scale_to_theta_are_refused() -> None:
    answer = signed(msgspec.structs.replace(ANSWER, scale=b"\x01\x02", theta=b"\x03"))
    assert not verify(KEY, "phone-1", msgspec.structs.replace(answer, scale=b"\x01", theta=b"\x02\x03"))


def test_bytes_moved_from_theta_to_the_bias_are_refused() -> None:
    assert not verify(KEY, "phone-1", msgspec.structs.replace(signed(ANSWER), theta=b"\x00\x3c\x00", bias=b"\xc0\x00"))


@pytest.mark.parametrize("mac", [b"", b"\0" * 31, b"\0" * 32, b"\0" * 33])
def test_codes_of_any_length_are_compared(mac: bytes) -> None:
    assert not verify(KEY, "phone-1", msgspec.structs.replace(ANSWER, mac=mac))


@given(
    token=st.text(max_size=50),
    device=st.text(max_size=50),
    sequence=st.integers(0, 2**63 - 1),
    issued=st.integers(0, 2**53),
    scale=st.binary(max_size=20),
    theta=st.binary(max_size=100),
    bias=st.binary(max_size=100),
)
def test_round_trip_through_msgpack_and_json(
    token: str, device: str, sequence: int, issued: int, scale: bytes, theta: bytes, bias: bytes
) -> None:
    made = ParametersAnswer("latest", sequence, issued, issued + 1, "int8", scale, theta, bias, b"")
    answer = signed(made, answer_key(token), device)
    for encoded in (msgspec.msgpack, msgspec.json):
        back = encoded.decode(encoded.encode(answer), type=ParametersAnswer)
        assert back == answer
        assert verify(answer_key(token), device, back)
