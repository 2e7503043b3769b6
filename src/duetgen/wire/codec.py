"""The weights of theta on the wire: float32, float16, or int8 with one float16 scale a row, little endian.

A row is what belongs to one output: a row of a weight matrix, the filter of a channel, or a whole bias. int8 holds
round(x / s) with s the row's largest magnitude / 127, rounded up to a float16, so nothing is cut; half a step is the
largest error.

Shapes: P values in theta, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from duetgen.wire.errors import InvalidParametersError
from duetgen.wire.messages import Encoding

Float32 = npt.NDArray[np.float32]

BYTES: Final[dict[Encoding, int]] = {"float32": 4, "float16": 2, "int8": 1}
"""Bytes of a value."""
LARGEST_FLOAT16: Final = float(np.finfo(np.float16).max)


def row_lengths(shape: Sequence[int]) -> list[int]:
    """Lengths of the rows of an entry."""
    return [shape[0]] if len(shape) == 1 else [math.prod(shape[1:])] * shape[0]


class ThetaCodec:
    """Encodes and decodes the theta of one layout.

    Args:
        shapes: shapes of the layout's entries, in order.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        lengths = [length for shape in shapes for length in row_lengths(shape)]
        self.length_R = np.array(lengths, dtype=np.int64)
        self.start_R = np.concatenate([[0], np.cumsum(self.length_R)[:-1]]).astype(np.int64)
        self.size = int(self.length_R.sum())
        self.rows = len(lengths)

    def encode(self, theta_P: Float32, dtype: Encoding) -> tuple[bytes, bytes]:
        """(scale, theta) of one theta [P].

        Raises:
            InvalidParametersError: a value is not finite, or too large for the encoding.
        """
        # One reduction tells both: a NaN makes the maximum NaN.
        largest = float(np.abs(theta_P).max())
        if not largest <= LARGEST_FLOAT16 and (dtype != "float32" or not np.isfinite(largest)):
            raise InvalidParametersError(
                f"theta holds a value that {dtype} cannot carry ({largest})", "export the model again; it is not sound"
            )
        if dtype == "float32":
            return b"", theta_P.astype("<f4", copy=False).tobytes()
        if dtype == "float16":
            return b"", theta_P.astype("<f2").tobytes()
        step_R = np.maximum.reduceat(np.abs(theta_P), self.start_R) / np.float32(127)
        scale_R = step_R.astype("<f2")
        short_R = scale_R.astype(np.float32) < step_R
        scale_R[short_R] = np.nextafter(scale_R[short_R], np.float16(np.inf))
        divisor_R = np.maximum(scale_R.astype(np.float32), np.finfo(np.float32).tiny)
        value_P = np.rint(theta_P / np.repeat(divisor_R, self.length_R)).astype(np.int8)
        return scale_R.tobytes(), value_P.tobytes()

    def decode(self, scale: bytes, theta: bytes, dtype: Encoding) -> Float32:
        """The theta [P], a fresh array.

        Raises:
            InvalidParametersError: the sizes are not those of this layout, or a value is not finite.
        """
        rows = self.rows if dtype == "int8" else 0
        if len(theta) != self.size * BYTES[dtype] or len(scale) != 2 * rows:
            raise InvalidParametersError(
                f"{len(theta)} bytes of theta and {len(scale)} of scale do not make {self.size} values of {dtype}",
                "the answer was cut, or is for another model",
            )
        if dtype == "float32":
            theta_P = np.frombuffer(theta, "<f4").astype(np.float32)
        elif dtype == "float16":
            theta_P = np.frombuffer(theta, "<f2").astype(np.float32)
        else:
            scale_R = np.frombuffer(scale, "<f2").astype(np.float32)
            value_P = np.frombuffer(theta, np.int8).astype(np.float32)
            theta_P = value_P * np.repeat(scale_R, self.length_R)
        if not np.isfinite(theta_P).all():
            raise InvalidParametersError("theta holds a value that is not finite", "the answer is damaged")
        return theta_P
