"""What a model of any modality reads and gives, as its manifest types it: inputs, outputs, and a device's history.

A history is a list of samples, oldest first. Scalar ids travel as a list of numbers; feature vectors and other arrays
as the raw bytes of all samples one after the other, little endian, row by row; encoded pictures one after the other,
the length of each before it in four bytes. A sample of zeros is padding.

Shapes: L samples of a history, B devices; `x` dimensions of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from duetgen.wire.errors import InvalidSampleError
from duetgen.wire.limits import (
    MAX_DECODED_BYTES,
    MAX_DIMENSIONS,
    MAX_HISTORY_BYTES,
    MAX_IDS,
    MAX_PICTURE_BYTES,
    MAX_SAMPLE_VALUES,
    MAX_TENSORS,
)
from duetgen.wire.pictures import check_picture, pixels

DType = Literal["float32", "int64", "int32", "uint8", "bool"]
Name = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Extent = Annotated[int, Meta(ge=1, le=MAX_SAMPLE_VALUES)]
LENGTH: Final = 4
"""Bytes of the length before a picture."""
HEADERS: Final = 4096
"""Bytes that an encoded picture may have beyond its pixels."""
WHOLE: Final = "biu"
"""Numpy's letters for the types that whole numbers, and truths, are given in."""
NUMBERS: Final = WHOLE + "f"
"""Those of all numbers."""
LITTLE: Final = {"float32": "<f4", "int32": "<i4", "uint8": "|u1", "ids": "<i4"}


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output of the device's graph.

    Attributes:
        name: in the graph.
        dtype: of its values.
        shape: sizes; a name stands for a dynamic one, the same wherever it stands again.
    """

    name: Name
    dtype: DType
    shape: Annotated[list[Extent | Name], Meta(max_length=MAX_DIMENSIONS)]


class SampleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sample of a history: what the generator's graph reads is [B, L, *shape].

    Attributes:
        dtype: of its values on the wire; `ids` are whole numbers from 1 to the bundle's vocabulary - 1, in a list; an
            `image` is an encoded picture, PNG or JPEG.
        shape: sizes; none for ids; of an image colours, 1 or 3, height and width.
        scale: what values are multiplied by before the generator reads them, as 1/255 for images.
    """

    dtype: Literal["ids", "float32", "int32", "uint8", "image"]
    shape: Annotated[list[Extent], Meta(max_length=MAX_DIMENSIONS)] = []
    scale: float = 1.0

    @property
    def nbytes(self) -> int:
        """On the wire; of an image the most."""
        values = math.prod(self.shape)
        if self.dtype == "image":
            return min(values + HEADERS, MAX_PICTURE_BYTES)
        return values * np.dtype(LITTLE[self.dtype]).itemsize

    @property
    def sound(self) -> bool:
        """Whether its shape is one that its kind can have."""
        if self.dtype == "ids":
            return not self.shape
        return bool(self.shape) and (self.dtype != "image" or (len(self.shape) == 3 and self.shape[0] in (1, 3)))

    def fits(self, packed: bytes) -> bool:
        """Whether a packed sample has a size that one can have."""
        return 0 < len(packed) <= self.nbytes if self.dtype == "image" else len(packed) == self.nbytes

    def too_large(self, length: int) -> bool:
        """Whether a history of so many samples is more than a request holds, or than is read of one."""
        if self.dtype == "ids":
            return False
        sent = (self.nbytes + LENGTH * (self.dtype == "image")) * length
        return sent > MAX_HISTORY_BYTES or 4 * math.prod(self.shape) * length > MAX_DECODED_BYTES

    def pack(self, sample: object, vocabulary: int = MAX_IDS) -> bytes:
        """A sample as bytes.

        Raises:
            InvalidSampleError: it has another shape, or holds what this kind of sample cannot.
        """
        if self.dtype == "image":
            return check_picture(sample, self.shape[1], self.shape[2], self.nbytes)
        try:
            found = np.asarray(sample)
        except (ValueError, TypeError, RuntimeError, OverflowError) as cause:
            raise InvalidSampleError(f"a sample is no array: {cause}", f"give {self}") from cause
        if list(found.shape) != self.shape or found.dtype.kind not in NUMBERS:
            raise InvalidSampleError(f"a sample is {found.dtype} of {list(found.shape)}", f"give {self}")
        low, high = (1, vocabulary - 1) if self.dtype == "ids" else self.range
        whole = found.dtype.kind in WHOLE
        if not np.isfinite(found).all() or (self.dtype != "float32" and not whole):
            raise InvalidSampleError(f"a sample holds values that are no {self.dtype}", f"give {self}")
        # Python's own numbers: a float16 would be compared in float16.
        if found.size and not low <= found.min().item() <= found.max().item() <= high:
            raise InvalidSampleError(f"a sample holds values out of {low:g} to {high:g}", f"give {self}")
        return found.astype(LITTLE[self.dtype]).tobytes()

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value."""
        if self.dtype == "float32":
            return -float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)
        limits = np.iinfo(LITTLE[self.dtype])
        return limits.min, limits.max

    def join(self, samples: Sequence[bytes]) -> list[int] | bytes:
        """A history as a request holds it."""
        if self.dtype == "image":
            return b"".join(len(one).to_bytes(LENGTH, "little") + one for one in samples)
        packed = b"".join(samples)
        return np.frombuffer(packed, LITTLE["ids"]).tolist() if self.dtype == "ids" else packed

    def read(self, history: list[int] | bytes, length: int, vocabulary: int) -> npt.NDArray[Any]:
        """The last samples of a request's history, as the generator reads them: [L, x], int64 or float32.

        Args:
            history: of the request.
            length: most samples that count.
            vocabulary: ids are below it.

        Raises:
            InvalidSampleError: it is another kind of history, no whole number of samples, or holds what it cannot.
            MissingExtraError: it holds pictures, and Pillow is not here.
        """
        if self.dtype == "ids":
            if isinstance(history, bytes):
                raise InvalidSampleError("the history is bytes, where this version reads ids", "send a list of ids")
            recent = np.array(history[-length:], dtype=np.int64)
            if not recent.size or recent.min() < 1 or recent.max() >= vocabulary:
                raise InvalidSampleError(
                    f"the history holds an id out of 1 to {vocabulary - 1}", "send ids that this version has"
                )
            return recent
        if self.dtype == "image":
            colours, height, width = self.shape
            shown = [pixels(one, colours, height, width, self.nbytes) for one in self.apart(history)[-length:]]
            return np.stack(shown).astype(np.float32) * np.float32(self.scale)
        if not isinstance(history, bytes) or not history or len(history) % self.nbytes:
            size = f"{len(history)} bytes" if isinstance(history, bytes) else "a list"
            raise InvalidSampleError(
                f"the history is {size}, where this version reads samples of {self.nbytes} bytes", f"send {self} each"
            )
        values = np.frombuffer(history[-length * self.nbytes :], LITTLE[self.dtype]).reshape(-1, *self.shape)
        if self.dtype == "int32":
            return values.astype(np.int64)
        read = values.astype(np.float32)
        if self.scale != 1:
            read *= np.float32(self.scale)
        if self.dtype == "float32" and not np.isfinite(read).all():
            raise InvalidSampleError("the history holds a value that is not finite", "send finite numbers")
        return read

    def apart(self, history: list[int] | bytes) -> list[bytes]:
        """The pictures of a history.

        Raises:
            InvalidSampleError: it is no list of pictures.
        """
        if not isinstance(history, bytes):
            raise InvalidSampleError("the history is a list, where this version reads pictures", "send their bytes")
        found, at = [], 0
        while at < len(history):
            begin = at + LENGTH
            at = begin + int.from_bytes(history[at:begin], "little")
            found.append(history[begin:at])
        if not found or at > len(history):
            raise InvalidSampleError(
                "the history is cut, or no list of pictures", "send each with its length before it, in four bytes"
            )
        return found

    def draw(self, random: np.random.Generator, length: int, vocabulary: int) -> npt.NDArray[Any]:
        """A made-up history as the generator reads it: [L, x]."""
        if self.dtype == "ids":
            return random.integers(1, vocabulary, length)
        if self.dtype == "int32":
            return np.ones((length, *self.shape), dtype=np.int64)
        return random.uniform(0.1, 1, (length, *self.shape)).astype(np.float32)

    def __str__(self) -> str:
        return f"{self.dtype} of {self.shape}" if self.shape else self.dtype


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the graphs of a bundle of any model read and give.

    Attributes:
        history: one sample of what the generator reads.
        inputs: of the device's graph, besides `theta` [1, P].
        output: of the device's graph.
    """

    history: SampleSpec
    inputs: Annotated[list[TensorSpec], Meta(min_length=1, max_length=MAX_TENSORS)]
    output: TensorSpec


class Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An array in a file: its bytes in base64."""

    dtype: DType
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=MAX_SAMPLE_VALUES)]], Meta(max_length=MAX_DIMENSIONS)]
    data: bytes

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Array:
        """An array as it is."""
        return cls(values.dtype.name, list(values.shape), np.ascontiguousarray(values).tobytes())  # type: ignore[arg-type]

    def values(self) -> npt.NDArray[Any]:
        """The array.

        Raises:
            InvalidSampleError: its bytes are not as many as its shape says.
        """
        dtype = np.dtype(self.dtype).newbyteorder("<")
        if len(self.data) != math.prod(self.shape) * dtype.itemsize:
            raise InvalidSampleError("an array's bytes do not fit its shape", "export the model again")
        return np.frombuffer(self.data, dtype).reshape(self.shape)


def check_inputs(specs: Sequence[TensorSpec], given: dict[str, npt.NDArray[Any]]) -> None:
    """Refuse inputs that are not as the manifest types them.

    Raises:
        InvalidSampleError: with the first one that is not.
    """
    sizes: dict[str, int] = {}
    if set(given) != {spec.name for spec in specs}:
        names = ", ".join(spec.name for spec in specs)
        raise InvalidSampleError(
            f"the inputs are {', '.join(given) or 'none'}, this version takes {names}", "name them so"
        )
    for spec in specs:
        array = given[spec.name]
        fits = len(array.shape) == len(spec.shape) and array.size > 0
        for size, wanted in zip(array.shape, spec.shape):
            fits = fits and size == (sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted)
        if not fits or array.dtype.name != spec.dtype:
            raise InvalidSampleError(
                f"the input {spec.name} is {array.dtype.name} of {list(array.shape)}",
                f"this version takes {spec.dtype} of [{', '.join(map(str, spec.shape))}]",
            )
