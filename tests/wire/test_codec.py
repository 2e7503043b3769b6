"""Theta as bytes: hand-computed values, round trips, error bounds, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from duetgen.wire.codec import BYTES, LARGEST_FLOAT16, ThetaCodec
from duetgen.wire.errors import InvalidParametersError
from duetgen.wire.messages import Encoding

ENCODINGS: list[Encoding] = ["float32", "float16", "int8"]
SHAPES = [[3, 4], [3], [1, 2, 2]]
CODEC = ThetaCodec(SHAPES)


def thetas(largest: float) -> Any:
    values = st.floats(-largest, largest, width=32, allow_nan=False)
    return hnp.arrays(np.float32, CODEC.size, elements=values)


def test_a_row_is_a_row_of_a_matrix_the_filter_of_a_channel_or_a_whole_bias() -> None:
    assert CODEC.size == 3 * 4 + 3 + 4
    assert CODEC.length_R.tolist() == [4, 4, 4, 3, 4]
    assert CODEC.start_R.tolist() == [0, 4, 8, 12, 15]


def test_float32_by_hand() -> None:
    codec = ThetaCodec([[2]])
    scale, theta = codec.encode(np.array([1.0, -2.5], np.float32), "float32")
    assert scale == b""
    # 1 = 0x3f800000, -2.5 = 0xc0200000, little endian
    assert theta == bytes.fromhex("0000803f 000020c0")


def test_float16_by_hand() -> None:
    codec = ThetaCodec([[3]])
    scale, theta = codec.encode(np.array([1.0, -2.0, 65504.0], np.float32), "float16")
    assert scale == b""
    assert theta == bytes.fromhex("003c 00c0 ff7b")


def test_int8_by_hand() -> None:
    """Largest 127/64, so a step is 1/64, exact as a float16: 0x2400; 1/2 is 32 steps, -1/64 is one."""
    codec = ThetaCodec([[3], [1]])
    theta_P = np.array([127 / 64, 1 / 2, -1 / 64, 0], np.float32)
    scale, theta = codec.encode(theta_P, "int8")
    assert scale[:2] == bytes.fromhex("0024")
    assert theta == bytes([127, 32, 255, 0])
    np.testing.assert_array_equal(codec.decode(scale, theta, "int8"), theta_P)


def test_a_scale_that_is_no_float16_is_rounded_up() -> None:
    """1 / 127 lies between two float16; the upper one is taken, so that the largest value is not cut."""
    scale, theta = ThetaCodec([[2]]).encode(np.array([1.0, -1.0], np.float32), "int8")
    step = np.frombuffer(scale, "<f2")[0]
    assert float(step) >= 1 / 127 > float(np.nextafter(step, np.float16(0)))
    assert theta == bytes([127, 129])


def test_a_row_of_zeros_stays_zero() -> None:
    codec = ThetaCodec([[4]])
    scale, theta = codec.encode(np.zeros(4, np.float32), "int8")
    assert not codec.decode(scale, theta, "int8").any()


@pytest.mark.parametrize("dtype", ENCODINGS)
def test_size_on_the_wire(dtype: Encoding) -> None:
    scale, theta = CODEC.encode(np.ones(CODEC.size, np.float32), dtype)
    assert len(theta) == CODEC.size * BYTES[dtype]
    assert len(scale) == (2 * CODEC.rows if dtype == "int8" else 0)


@given(theta_P=thetas(float(np.finfo(np.float32).max)))
def test_float32_gives_back_every_bit(theta_P: np.ndarray) -> None:
    assert CODEC.decode(*CODEC.encode(theta_P, "float32"), "float32").tobytes() == theta_P.tobytes()


@given(theta_P=thetas(LARGEST_FLOAT16))
def test_float16_is_off_by_half_a_unit_in_the_last_place(theta_P: np.ndarray) -> None:
    found = CODEC.decode(*CODEC.encode(theta_P, "float16"), "float16")
    allowed = np.maximum(np.abs(theta_P) * 2.0**-11, 2.0**-25)
    assert (np.abs(found - theta_P) <= allowed).all()


@given(theta_P=thetas(LARGEST_FLOAT16))
def test_int8_is_off_by_half_a_step(theta_P: np.ndarray) -> None:
    scale, theta = CODEC.encode(theta_P, "int8")
    found = CODEC.decode(scale, theta, "int8")
    step_P = np.repeat(np.frombuffer(scale, "<f2").astype(np.float64), CODEC.length_R)
    # Below 2^-142, a 127th of the largest value is no float32 any more: the row is zero.
    assert (np.abs(found.astype(np.float64) - theta_P) <= 0.5 * step_P * (1 + 1e-5) + 2.0**-142).all()
    # The step itself is the smallest float16 that reaches the row's largest value.
    largest_R = np.maximum.reduceat(np.abs(theta_P), CODEC.start_R).astype(np.float64)
    assert (step_P[CODEC.start_R] <= largest_R / 127 * (1 + 2**-9) + 2.0**-24).all()


@pytest.mark.parametrize("dtype", ENCODINGS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(dtype: Encoding, value: float) -> None:
    theta_P = np.zeros(CODEC.size, np.float32)
    theta_P[5] = value
    with pytest.raises(InvalidParametersError):
        CODEC.encode(theta_P, dtype)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_what_overflows_float16_is_refused(dtype: Encoding) -> None:
    theta_P = np.zeros(CODEC.size, np.float32)
    theta_P[0] = 65505
    with pytest.raises(InvalidParametersError):
        CODEC.encode(theta_P, dtype)
    assert CODEC.decode(*CODEC.encode(theta_P, "float32"), "float32")[0] == 65505


@pytest.mark.parametrize("dtype", ENCODINGS)
@pytest.mark.parametrize("change", [-1, 1])
def test_truncated_or_longer_theta_is_refused(dtype: Encoding, change: int) -> None:
    scale, theta = CODEC.encode(np.ones(CODEC.size, np.float32), dtype)
    with pytest.raises(InvalidParametersError):
        CODEC.decode(scale, (theta + b"\0")[: len(theta) + change], dtype)


def test_truncated_or_longer_or_unasked_scale_is_refused() -> None:
    scale, theta = CODEC.encode(np.ones(CODEC.size, np.float32), "int8")
    for wrong in (b"", scale[:-1], scale + b"\0\0"):
        with pytest.raises(InvalidParametersError):
            CODEC.decode(wrong, theta, "int8")
    _, half = CODEC.encode(np.ones(CODEC.size, np.float32), "float16")
    with pytest.raises(InvalidParametersError):
        CODEC.decode(scale, half, "float16")


@pytest.mark.parametrize("pattern", ["7c00", "fc00", "7e00"])
def test_infinite_or_nan_scale_is_refused(pattern: str) -> None:
    scale, theta = CODEC.encode(np.ones(CODEC.size, np.float32), "int8")
    with pytest.raises(InvalidParametersError):
        CODEC.decode(bytes.fromhex(pattern)[::-1] + scale[2:], theta, "int8")


@given(scale=st.binary(max_size=40), theta=st.binary(max_size=100), dtype=st.sampled_from(ENCODINGS))
def test_any_bytes_give_finite_values_or_a_refusal(scale: bytes, theta: bytes, dtype: Encoding) -> None:
    try:
        theta_P = CODEC.decode(scale, theta, dtype)
    except InvalidParametersError:
        return
    assert np.isfinite(theta_P).all()


@given(content=st.binary(min_size=38, max_size=38))
def test_any_bytes_of_the_right_size_give_finite_values_or_a_refusal(content: bytes) -> None:
    try:
        theta_P = CODEC.decode(b"", content, "float16")
    except InvalidParametersError:
        return
    assert theta_P.shape == (CODEC.size,)
    assert np.isfinite(theta_P).all()


def test_what_is_decoded_may_be_written_to() -> None:
    theta_P = CODEC.decode(*CODEC.encode(np.ones(CODEC.size, np.float32), "float32"), "float32")
    theta_P[0] = 2
