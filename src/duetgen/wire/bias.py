"""An item bias on the wire: the opinions of cloud models, each a few items with a value that is added to their scores.

For each opinion in order: its count of items as a varint and, where that is not 0, a float16 scale, the differences of
the ascending item indices as varints (the first from 1), and a byte for each value. A value is its byte times the
scale; the scale is the largest value / 255, rounded up to a float16, so nothing is cut and half a step is the largest
error. All is little endian; varints (LEB128) hold 7 bits a byte, the lowest first.

Shapes: J opinions, K items of one, S bytes of the longest varint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, eq=False)
class ItemBias:
    """One opinion: item indices, int64 [K], ascending, and their values, float32 [K], above 0."""

    items: Int64
    values: Float32


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
        return b"".join(map(self._encode, opinions, self.most))

    def _encode(self, opinion: ItemBias, most: int) -> bytes:
        items_K, values_K = opinion.items, opinion.values.astype(np.float64)
        if items_K.shape != values_K.shape or items_K.ndim != 1:
            raise unsound("an opinion has not one value for each item")
        # A NaN fails any comparison.
        if not ((values_K >= 0) & (values_K <= LARGEST)).all():
            raise unsound(f"an opinion has a value out of 0 to {LARGEST:g}")
        step = values_K.max(initial=0) / STEPS
        scale = np.float16(step)
        if scale < step or not scale:
            scale = np.nextafter(scale, np.float16(np.inf))
        byte_K = np.rint(values_K / float(scale)).astype(np.uint8)
        kept_K = byte_K > 0
        items_K, byte_K = items_K[kept_K], byte_K[kept_K]
        if not len(items_K):
            return b"\0"
        if len(items_K) > most:
            raise unsound(f"an opinion has {len(items_K)} items, at most {most}")
        step_K = np.diff(items_K, prepend=1)
        if step_K.min() < 1 or items_K[-1] >= self.vocabulary:
            raise unsound(f"the items of an opinion do not ascend within 2 to {self.vocabulary - 1}")
        count = write_varints(np.array([len(items_K)]))
        return count + np.array(scale, "<f2").tobytes() + write_varints(step_K) + byte_K.tobytes()

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


def write_varints(number_N: Int64) -> bytes:
    """Numbers from 1 to 2^35 - 1, one after the other."""
    rest_NS = number_N[:, None] >> SHIFT_S
    byte_NS = (rest_NS & 127 | (rest_NS > 127) << 7).astype(np.uint8)
    return byte_NS[rest_NS > 0].tobytes()


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
