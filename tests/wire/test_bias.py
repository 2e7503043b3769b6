"""The item bias on the wire: bytes worked out by hand, any opinions there and back, and any bytes at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duetgen.wire.bias import LARGEST, BiasCodec, ItemBias
from duetgen.wire.errors import InvalidParametersError

CODEC = BiasCodec(20_000, [4, 3])
NOTHING = ItemBias(np.zeros(0, np.int64), np.zeros(0, np.float32))


def bias(items: Sequence[int], values: Sequence[float]) -> ItemBias:
    return ItemBias(np.array(items, dtype=np.int64), np.array(values, dtype=np.float32))


def listed(opinions: list[ItemBias]) -> list[tuple[list[int], list[float]]]:
    return [(opinion.items.tolist(), opinion.values.tolist()) for opinion in opinions]


def test_bytes_by_hand() -> None:
    """The largest value is 255/64, so the scale is 1/64 = 0x2400; the differences are 1, 128 and 16,384."""
    opinion = bias([2, 130, 16_514], [1 / 64, 255 / 64, 2])
    content = CODEC.encode([opinion, NOTHING])
    assert content == bytes.fromhex("03 0024 01 8001 808001 01 ff 80 00")
    assert listed(CODEC.decode(content)) == listed([opinion, NOTHING])


def test_no_opinions_are_no_bytes() -> None:
    assert BiasCodec(10, []).encode([]) == b""
    assert BiasCodec(10, []).decode(b"") == []


def test_a_scale_that_is_no_float16_is_rounded_up() -> None:
    """1 / 255 lies between two float16; the upper one is taken, so that the largest value is not cut."""
    content = CODEC.encode([bias([2, 3], [1, 0.5]), NOTHING])
    step = np.frombuffer(content[1:3], "<f2")[0]
    assert float(step) >= 1 / 255 > float(np.nextafter(step, np.float16(0)))
    assert content[5:7] == bytes([255, 127])


def test_the_smallest_scale_is_the_smallest_float16() -> None:
    """2^-24; of it, 3/2 rounds to two steps, 1/2 to none."""
    content = CODEC.encode([bias([2, 3], [1.5 * 2**-24, 0.5 * 2**-24]), NOTHING])
    assert content == bytes.fromhex("01 0100 01 02 00")


def test_values_that_round_to_nothing_are_left_out() -> None:
    assert listed(CODEC.decode(CODEC.encode([bias([2, 3, 4], [0, 255, 0.4]), bias([5], [0])]))) == [
        ([3], [255]),
        ([], []),
    ]


def test_only_what_is_sent_counts_against_the_most() -> None:
    five = [2, 3, 4, 5, 6]
    assert len(CODEC.decode(CODEC.encode([bias(five, [1, 1, 0, 1, 1]), NOTHING]))[0].items) == 4
    with pytest.raises(InvalidParametersError, match="5 items, at most 4"):
        CODEC.encode([bias(five, [1] * 5), NOTHING])


@pytest.mark.parametrize(
    ("items", "values"),
    [
        ([3, 2], [1, 1]),
        ([2, 2], [1, 1]),
        ([1, 2], [1, 1]),
        ([0], [1]),
        ([-5, 3], [1, 1]),
        ([2, 20_000], [1, 1]),
        ([2], [float("nan")]),
        ([2], [float("inf")]),
        ([2], [-1]),
        ([2], [LARGEST * 1.01]),
        ([2, 3], [1]),
    ],
)
def test_what_is_no_opinion_is_not_encoded(items: list[int], values: list[float]) -> None:
    with pytest.raises(InvalidParametersError):
        CODEC.encode([bias(items, values), NOTHING])


@pytest.mark.parametrize("opinions", [[], [NOTHING], [NOTHING] * 3])
def test_as_many_opinions_as_the_version_has(opinions: list[ItemBias]) -> None:
    with pytest.raises(InvalidParametersError, match="not 2"):
        CODEC.encode(opinions)


def test_the_largest_value_that_can_be_sent() -> None:
    assert CODEC.decode(CODEC.encode([bias([19_999], [LARGEST]), NOTHING]))[0].values.tolist() == [LARGEST]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cut"),
        ("00", "cut"),
        ("00 00 00", "too many"),
        ("01 0024 01 ff", "cut"),
        ("01 0024 01", "cut"),
        ("01 0024", "cut"),
        ("01 00", "cut"),
        ("01", "cut"),
        ("80", "cut"),
        ("02 0024 01 80", "cut"),
        ("8000 00", "longer than it need be"),
        ("8100 0024 01 ff 00", "longer than it need be"),
        ("01 0024 8100 ff 00", "longer than it need be"),
        ("01 0024 808080808001 ff 00", "too long"),
        ("01 0024 ffffffff7f ff 00", "ascend"),
        ("01 0024 00 ff 00", "ascend"),
        ("02 0024 01 00 ff ff 00", "ascend"),
        ("01 0024 9f9c01 ff 00", "ascend"),
        ("05 0024 01 01 01 01 01 ff ff ff ff ff 00", "5 items, at most 4"),
        ("00 04 0024 01 01 01 01 ff ff ff ff", "4 items, at most 3"),
        ("ffffffff7f", "at most 4"),
        ("01 0000 01 ff 00", "scale"),
        ("01 0080 01 ff 00", "scale"),
        ("01 0024 01 00 00", "value of 0"),
        ("01 00a4 01 ff 00", "scale"),
        ("01 007c 01 ff 00", "scale"),
        ("01 007e 01 ff 00", "scale"),
    ],
)
def test_bytes_that_nobody_would_write_are_refused(content: str, words: str) -> None:
    with pytest.raises(InvalidParametersError, match=words):
        CODEC.decode(bytes.fromhex(content))


def test_the_last_item_of_the_catalogue() -> None:
    """19,999 - 1 = 0x4e1e: 0x1e, 0x1c and 1 with 7 bits each."""
    assert CODEC.decode(bytes.fromhex("01 003c 9e9c01 07 00"))[0].items.tolist() == [19_999]


def opinions(most: int, vocabulary: int) -> Any:
    pairs = st.dictionaries(st.integers(2, vocabulary - 1), st.floats(0, LARGEST, width=32), max_size=most)
    return pairs.map(lambda found: bias(sorted(found), [found[item] for item in sorted(found)]))


@given(first=opinions(40, 2**31 - 1), second=opinions(3, 2**31 - 1))
@example(first=bias([2**31 - 2], [1]), second=NOTHING)
def test_any_opinions_come_back_within_half_a_step(first: ItemBias, second: ItemBias) -> None:
    codec = BiasCodec(2**31 - 1, [40, 3])
    content = codec.encode([first, second])
    for opinion, found in zip((first, second), codec.decode(content), strict=True):
        known = dict(zip(opinion.items.tolist(), opinion.values.tolist(), strict=True))
        kept = dict(zip(found.items.tolist(), found.values.tolist(), strict=True))
        # Rounding up a float16 adds an 1,024th at most, or the smallest of them.
        step = max(known.values(), default=0) / 255 * (1 + 2**-10) + 2**-24
        assert set(kept) <= set(known)
        assert all(abs(value - kept.get(item, 0)) <= 0.5 * step * (1 + 1e-6) for item, value in known.items())
    assert codec.encode(codec.decode(content))


def gives_a_bias_or_a_refusal(content: bytes) -> None:
    try:
        found = CODEC.decode(content)
    except InvalidParametersError:
        return
    for opinion, most in zip(found, CODEC.most, strict=True):
        assert len(opinion.items) == len(opinion.values) <= most
        assert (np.diff(opinion.items, prepend=1) >= 1).all()
        assert (opinion.items < CODEC.vocabulary).all()
        assert (np.isfinite(opinion.values) & (opinion.values > 0)).all()


@given(content=st.binary(max_size=60))
def test_any_bytes_give_a_bias_or_a_refusal(content: bytes) -> None:
    gives_a_bias_or_a_refusal(content)


@given(first=opinions(4, 20_000), second=opinions(3, 20_000), at=st.integers(0, 100), value=st.integers(0, 255))
def test_one_changed_byte_gives_a_bias_or_a_refusal(first: ItemBias, second: ItemBias, at: int, value: int) -> None:
    content = bytearray(CODEC.encode([first, second]))
    content[at % len(content)] = value
    gives_a_bias_or_a_refusal(bytes(content))


def test_a_pair_takes_little() -> None:
    """100 of 10,000 items: gaps of 100 on average, of which some need two bytes; and one byte of value."""
    rng = np.random.default_rng(0)
    codec = BiasCodec(10_002, [100])
    sizes = []
    for _ in range(50):
        items = 2 + np.sort(rng.choice(10_000, 100, replace=False))
        sizes.append(len(codec.encode([ItemBias(items, rng.uniform(0.1, 1, 100).astype(np.float32))])))
    assert max(sizes) <= 3.2 * 100
    assert np.mean(sizes) < 2.4 * 100
