"""Thetas that were generated together, encoded for the wire together as far as they can be.

Shapes: B devices, P weights in theta, J opinions, K items of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from duetgen.wire.bias import BiasCodec
from duetgen.wire.codec import LARGEST_FLOAT16, ThetaCodec
from duetgen.wire.errors import InvalidParametersError
from duetgen.wire.messages import Encoding, Parts

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float16 = npt.NDArray[np.float16]

CAST: Final = bytes.fromhex(
    "08083a4a0a170a01781201792204436173742a090a02746f180aa001021201635a150a017812100a0e0801120a0a031201420a03120150"
    "62150a017912100a0e080a120a0a031201420a0312015042040a001011"
)
"""An ONNX graph of one node, Cast: `x`, float32 [B, P], to `y`, float16. numpy's own conversion takes ten times as
long: as long as an answer's code and packing together."""


def session_options() -> onnxruntime.SessionOptions:
    """For one thread: workers are processes, and one request is too small to share out."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def open_session(
    content: bytes, providers: Sequence[str], options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """A session of a graph."""
    return onnxruntime.InferenceSession(content, options, providers=list(providers))


@cache
def cast_session() -> onnxruntime.InferenceSession:
    """The session of `CAST`."""
    return open_session(CAST, ["CPUExecutionProvider"], session_options())


def to_float16(theta_BP: Float32) -> Float16:
    """Rounded to the nearest float16, ties to even; beyond its range, infinity."""
    half_BP: Float16 = cast_session().run(None, {"x": theta_BP})[0]
    return half_BP


class Encoded(NamedTuple):
    """Theta of a device as an answer holds it."""

    scale: bytes = b""
    theta: bytes = b""
    bias: bytes = b""


class Thetas:
    """Thetas of one call of the generator.

    Args:
        found: by name, `theta` [B, P]; `items` and `values` [B, J, K]; what the version does not give is absent.
        codec: of the weights.
        bias_codec: of the item bias.
    """

    def __init__(self, found: dict[str, npt.NDArray[Any]], codec: ThetaCodec, bias_codec: BiasCodec) -> None:
        self._found, self._codec, self._bias_codec = found, codec, bias_codec
        # A NaN makes the maximum NaN, and the comparison false.
        self._sound = "theta" not in found or bool(np.abs(found["theta"]).max(initial=0) <= LARGEST_FLOAT16)
        self._half_BP: Float16 | None = None
        self._biases: list[bytes] | None = None

    def encode(self, row: int, dtype: Encoding, parts: Parts = "both") -> Encoded:
        """Theta of one device: those of the parts wanted that there are.

        Raises:
            InvalidParametersError: a value is not finite, or too large for the encoding.
        """
        scale, theta = self._weights(row, dtype) if parts != "bias" and "theta" in self._found else (b"", b"")
        return Encoded(scale, theta, self._bias(row) if parts != "weights" and "items" in self._found else b"")

    def _weights(self, row: int, dtype: Encoding) -> tuple[bytes, bytes]:
        theta_BP = self._found["theta"]
        # The codec tells what is wrong with a theta, and packs int8, row by row.
        if not self._sound or dtype == "int8":
            return self._codec.encode(theta_BP[row], dtype)
        if dtype == "float32":
            return b"", theta_BP[row].tobytes()
        if self._half_BP is None:
            self._half_BP = to_float16(theta_BP)
        return b"", self._half_BP[row].tobytes()

    def _bias(self, row: int) -> bytes:
        items_BJK, values_BJK = self._found["items"], self._found["values"]
        if self._biases is None:
            try:
                self._biases = self._bias_codec.encode_rows(items_BJK, values_BJK)
            except InvalidParametersError:
                # One of them is unsound; the others are not to suffer.
                return self._bias_codec.encode_rows(items_BJK[[row]], values_BJK[[row]])[0]
        return self._biases[row]
