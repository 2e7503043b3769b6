"""Encoded pictures, PNG and JPEG: what they say of themselves, told without decoding them, and their pixels.

What a picture says is looked at before anything of it is unpacked, so one that would unpack to more than it should is
refused for its first bytes.

Shapes: C colours, 1 or 3; H and W pixels.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from duetgen.errors import MissingExtraError
from duetgen.wire.errors import InvalidSampleError

PNG: Final = b"\x89PNG\r\n\x1a\n"
DEEP_GREY: Final = b"\x10\x00"
"""Bits of a value and colour type of a PNG that decoding to bytes would cut off at 255."""
EIGHT_BITS: Final = "save it with 8: what its values stand for, nobody else can know"
JPEG: Final = b"\xff\xd8"
FORMATS: Final = ("PNG", "JPEG")
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG behind which its size stands."""
SCAN: Final = b"\xff\xda"
MAX_SCANS: Final = 32
"""Of a JPEG: each may go over all pixels again, whatever its length."""
HINT: Final = "give a whole PNG or JPEG of the size that the manifest says"


class Size(NamedTuple):
    """What a picture says of itself."""

    colours: int
    height: int
    width: int


def size_of(content: bytes) -> Size:
    """The size of an encoded picture, from its first bytes.

    Raises:
        InvalidSampleError: it is neither PNG nor JPEG, or ends before its size.
    """
    if content.startswith(PNG):
        if len(content) < 33 or content[12:16] != b"IHDR":
            raise InvalidSampleError("a picture is a PNG without its header", HINT)
        if content[24:26] == DEEP_GREY:
            raise InvalidSampleError("a picture has 16 bits a pixel", EIGHT_BITS)
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        return Size(1 if content[25] in (0, 4) else 3, height, width)
    if content.startswith(JPEG):
        return _size_of_jpeg(content)
    raise InvalidSampleError("a sample is neither a PNG nor a JPEG", HINT)


def _size_of_jpeg(content: bytes) -> Size:
    if content.count(SCAN) > MAX_SCANS:
        raise InvalidSampleError(f"a picture is a JPEG of more than {MAX_SCANS} scans", HINT)
    at = len(JPEG)
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a byte of filling
            at += 1
            continue
        if marker in FRAMES:
            if at + 10 > len(content):
                break
            height, width = (int.from_bytes(content[at + begin : at + begin + 2], "big") for begin in (5, 7))
            return Size(1 if content[at + 9] == 1 else 3, height, width)
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    raise InvalidSampleError("a picture is a JPEG without its size", HINT)


def check_picture(content: object, height: int, width: int, most: int) -> bytes:
    """Refuse what is no picture of a size, by its first bytes.

    Raises:
        InvalidSampleError: it is not bytes, too long, no picture, or of another size.
    """
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise InvalidSampleError(f"a sample is {type(content).__name__}, not an encoded picture", HINT)
    content = bytes(content)
    if len(content) > most:
        raise InvalidSampleError(f"a picture has {len(content):,} bytes, at most {most:,} travel", HINT)
    found = size_of(content)
    if found[1:] != (height, width):
        raise InvalidSampleError(f"a picture has {found.width} by {found.height} pixels, not {width} by {height}", HINT)
    return content


def pixels(content: bytes, colours: int, height: int, width: int, most: int) -> npt.NDArray[np.uint8]:
    """A picture decoded, turned as its EXIF says: uint8 [C, H, W].

    Raises:
        InvalidSampleError: as for `check_picture`; or it is damaged, or of another size when it is turned.
        MissingExtraError: Pillow is not here.
    """
    check_picture(content, height, width, most)
    image_type = pillow()
    try:
        with image_type.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.size != (width, height):
                raise ValueError("it has another size than it says")
            upright = turned(image)
            array = np.asarray(upright.convert("L" if colours == 1 else "RGB"), dtype=np.uint8)
    except Exception as cause:  # Pillow raises many kinds, none with a common base of its own
        raise InvalidSampleError(f"a picture is damaged: {cause!s:.200}", HINT) from cause
    if upright.size != (width, height):
        raise InvalidSampleError("a picture is turned by its EXIF, and not square", "turn its pixels, then fit them")
    found: npt.NDArray[np.uint8] = array.reshape(height, width, colours).transpose(2, 0, 1)
    return found


def turned(image: Any) -> Any:
    """A picture as its EXIF says that the camera was held; as it is, where the EXIF is damaged."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, TypeError, ValueError, struct.error):  # Not what damaged pixels raise.
        return image


def pillow() -> Any:
    """The module of pictures.

    Raises:
        MissingExtraError: Pillow is not here.
    """
    try:
        from PIL import Image
    except ImportError as cause:
        raise MissingExtraError("pictures need Pillow", "pip install pillow") from cause
    return Image
