"""An item bias on the wire: the opinions of cloud models, each a few items with a value that is added to their scores.

For each opinion in order: its count of items as a varint and, where that is not 0, a float16 scale, the differences of
the ascending item indices as varints (the first from 1), and a byte for each value. A value is its byte times the
scale; the scale is the largest value / 255, rounded up to a float16, so nothing is cut and half a step is the largest
error. All is little endian; varints (LEB128) hold 7 bits a byte, the lowest first.

Shapes: B devices, J opinions, R rows (of each device its opinions), K items of an opinion, S bytes of the longest
varint, N bytes of the longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from duetgen.wire.errors import InvalidParametersError

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

STEPS: Final = 255
LARGEST: Final = STEPS * float(np.finfo(np.float16).max)
"""The largest value that can be sent."""
VARINT_BYTES: Final = 5
"""Of the longest varint: item indices have 31 bits."""
PAIR_BYTES: Final = VARINT_BYTES + 1
"""The most that an item with its value takes."""
SHIFT_S: Final = 7 * np.arange(VARINT_BYTES)
NO_PAIR: Final = 2**40
"""Above every item index with its byte."""


@dataclass(frozen=True, eq=False)
class ItemBias:
    """One opinion: item indices, int64 [K], ascending, and their values, float32 [K], above 0."""

    items: Int64
    values: Float32

    @classmethod
    def of(cls, items_K: Int64, values_K: Float32) -> ItemBias:
        """What a generator gives for one opinion, in any order: a value of 0 and an index below 2 mean nothing."""
        order_K = np.argsort(items_K)
        kept_K = order_K[((values_K > 0) & (items_K > 1))[order_K]]
        return cls(items_K[kept_K], values_K[kept_K])


class BiasCodec:
    """Encodes and decodes the item biases of one version.

    Args:
        vocabulary: V; item indices are 2 to V - 1.
        most: items that each opinion may have, in order.
    """

    def __init__(self, vocabulary: int, most: Sequence[int]) -> None:
        self.vocabulary, self.most = vocabulary, list(most)

    def encode(self, opinions: Sequence[ItemBias]) -> bytes:
        """The bytes of one opinion of each model; values that round to 0 are left out.

        Raises:
            InvalidParametersError: not as many opinions, too many items, indices out of range or not ascending, values
                that cannot be sent.
        """
        if len(opinions) != len(self.most):
            raise unsound(f"it has {len(opinions)} opinions, not {len(self.most)}")
        if not opinions:
            return b""
        longest = max(len(opinion.items) for opinion in opinions)
        items_JK, values_JK = np.zeros((len(opinions), longest), np.int64), np.zeros((len(opinions), longest))
        for opinion, items_K, values_K in zip(opinions, items_JK, values_JK):
            if opinion.items.shape != opinion.values.shape or opinion.items.ndim != 1:
                raise unsound("an opinion has not one value for each item")
            if (opinion.values < 0).any():
                raise unsound("an opinion has a value below 0")
            if (np.diff(opinion.items, prepend=1) < 1).any():
                raise self._not_ascending()
            items_K[: len(opinion.items)], values_K[: len(opinion.items)] = opinion.items, opinion.values
        return self.encode_rows(items_JK[None], values_JK[None])[0]

    def encode_rows(self, items_BJK: Int64, values_BJK: npt.NDArray[np.floating[Any]]) -> list[bytes]:
        """The same of many devices at once, from what a generator gives: pairs in any order, of which those with an
        index below 2 or a value of 0 or less mean nothing.

        Raises:
            InvalidParametersError: too many items, indices that repeat or are out of range, values that cannot be sent.
        """
        batch, opinions, most = items_BJK.shape
        items_RK = items_BJK.reshape(batch * opinions, most)
        values_RK = values_BJK.reshape(batch * opinions, most)
        values_RK = np.where((values_RK <= 0) | (items_RK < 2), 0, values_RK).astype(np.float64)
        # A NaN fails any comparison.
        if not (values_RK <= LARGEST).all():
            raise unsound(f"an opinion has a value out of 0 to {LARGEST:g}")
        step_R = values_RK.max(1, initial=0) / STEPS
        scale_R = step_R.astype("<f2")
        short_R = (scale_R < step_R) | (scale_R == 0)
        scale_R[short_R] = np.nextafter(scale_R[short_R], np.float16(np.inf))
        byte_RK = np.rint(values_RK / scale_R[:, None].astype(np.float64)).astype(np.int64)
        # One number for both, so that one sort orders both; what is no pair comes last.
        pair_RK = np.sort(np.where(byte_RK > 0, items_RK << 8 | byte_RK, NO_PAIR), axis=1)
        sent_RK, items_RK = pair_RK < NO_PAIR, pair_RK >> 8
        count_R1 = sent_RK.sum(1, keepdims=True)
        for count, limit in zip(count_R1.reshape(batch, opinions).max(0).tolist(), self.most, strict=True):
            if count > limit:
                raise unsound(f"an opinion has {count} items, at most {limit}")
        gap_RK = np.diff(items_RK, prepend=1, axis=1)
        if (((gap_RK < 1) | (items_RK >= self.vocabulary)) & sent_RK).any():
            raise self._not_ascending()
        count_RN, counts_RN = varints(count_R1)
        # A count is sent even if it is 0, and then nothing else.
        counts_RN[:, 0] = True
        gap_RN, gaps_RN = varints(gap_RK * sent_RK)
        byte_RN = np.concatenate([count_RN, scale_R.view(np.uint8).reshape(-1, 2), gap_RN, pair_RK.astype(np.uint8)], 1)
        sent_RN = np.concatenate([counts_RN, (count_R1 > 0).repeat(2, 1), gaps_RN, sent_RK], 1)
        content, ends = byte_RN[sent_RN].tobytes(), sent_RN.reshape(batch, -1).sum(1).cumsum().tolist()
        return [content[begin:end] for begin, end in zip([0, *ends], ends)]

    def _not_ascending(self) -> InvalidParametersError:
        return unsound(f"the items of an opinion do not ascend within 2 to {self.vocabulary - 1}")

    def decode(self, content: bytes) -> list[ItemBias]:
        """The opinions that were encoded; bytes that `encode` would not write are refused.

        Raises:
            InvalidParametersError: cut or longer, varints longer than need be, more items than may be, indices out of
                range or not ascending, a scale that is not finite and above 0, a value of 0.
        """
        bytes_N = np.frombuffer(content, np.uint8)
        opinions, at = list[ItemBias](), 0
        for most in self.most:
            opinion, at = self._decode(bytes_N, at, most)
            opinions.append(opinion)
        if at != len(bytes_N):
            raise unsound(f"it has {len(bytes_N) - at} bytes too many")
        return opinions

    def _decode(self, bytes_N: Bytes, at: int, most: int) -> tuple[ItemBias, int]:
        count_1, at = read_varints(bytes_N, at, 1)
        count = int(count_1[0])
        if not count:
            return ItemBias(np.zeros(0, np.int64), np.zeros(0, np.float32)), at
        if count > most:
            raise unsound(f"an opinion has {count} items, at most {most}")
        if at + 2 > len(bytes_N):
            raise unsound("it is cut")
        scale = np.frombuffer(bytes_N[at : at + 2], "<f2").astype(np.float32)[0]
        if not np.isfinite(scale):
            raise unsound("the scale of an opinion is not finite")
        if scale <= 0:
            raise unsound("the scale of an opinion is not above 0")
        step_K, at = read_varints(bytes_N, at + 2, count)
        items_K = 1 + np.cumsum(step_K)
        if step_K.min() < 1 or items_K[-1] >= self.vocabulary:
            raise unsound(f"the items of an opinion do not ascend within 2 to {self.vocabulary - 1}")
        byte_K = bytes_N[at : at + count]
        if len(byte_K) < count:
            raise unsound("it is cut")
        if not byte_K.all():
            raise unsound("an opinion has a value of 0")
        return ItemBias(items_K, byte_K.astype(np.float32) * scale), at + count


def varints(number_RK: Int64) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Numbers up to 2^35 - 1, row by row in columns of bytes, and which of these are sent: of a 0, none."""
    size = max(1, -(-int(number_RK.max(initial=0)).bit_length() // 7))
    rest_RKS = number_RK[..., None] >> SHIFT_S[:size]
    byte_RKS = (rest_RKS & 127 | (rest_RKS > 127) << 7).astype(np.uint8)
    return byte_RKS.reshape(len(number_RK), -1), (rest_RKS > 0).reshape(len(number_RK), -1)


def read_varints(bytes_N: Bytes, at: int, count: int) -> tuple[Int64, int]:
    """So many numbers, and where the next byte lies.

    Raises:
        InvalidParametersError: cut, or one is longer than need be or than a varint may be.
    """
    window_N = bytes_N[at : at + VARINT_BYTES * count]
    last_K = np.flatnonzero(window_N < 128)[:count]
    if len(last_K) < count:
        raise unsound("it is cut, or a number in it is too long")
    length_K = np.diff(last_K, prepend=-1)
    if length_K.max() > VARINT_BYTES or (window_N[last_K[length_K > 1]] == 0).any():
        raise unsound("a number in it is longer than it need be")
    first_K, size = last_K + 1 - length_K, int(last_K[-1]) + 1
    shift_N = 7 * (np.arange(size) - np.repeat(first_K, length_K))
    return np.add.reduceat((window_N[:size] & 127).astype(np.int64) << shift_N, first_K), at + size


def unsound(why: str) -> InvalidParametersError:
    """The refusal of an item bias."""
    return InvalidParametersError(f"the item bias is unsound: {why}", "the answer is damaged, or is for another model")
