"""Encoded pictures: what they say, what they show, and what is refused before anything is unpacked."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from duetgen.wire.errors import InvalidSampleError
from duetgen.wire.limits import MAX_PICTURE_BYTES
from duetgen.wire.pictures import PNG, SCAN, Size, pixels, size_of
from duetgen.wire.samples import SampleSpec

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)
SPEC = SampleSpec("image", [1, 4, 6], 1 / 255)


def encoded(array: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, content: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG made by hand, whatever it says."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", content), (b"IEND", b"")]
    return PNG + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


@pytest.mark.parametrize(
    ("array", "kind", "colours"),
    [(GREY, "PNG", 1), (COLOUR, "PNG", 3), (GREY, "JPEG", 1), (COLOUR, "JPEG", 3)],
)
def test_a_picture_says_its_size(array: Any, kind: str, colours: int) -> None:
    assert size_of(encoded(array, kind)) == Size(colours, 4, 6)
    if kind == "JPEG":
        assert size_of(encoded(array, kind, progressive=True)) == Size(colours, 4, 6)


def test_pixels_are_those_of_the_picture() -> None:
    assert pixels(encoded(GREY), 1, 4, 6, 9999).tolist() == [GREY.tolist()]
    assert (pixels(encoded(COLOUR), 3, 4, 6, 9999) == COLOUR.transpose(2, 0, 1)).all()
    # Grey where colours are wanted, and the other way: the mean luminance.
    assert (pixels(encoded(GREY), 3, 4, 6, 9999) == GREY).all()
    assert pixels(encoded(COLOUR), 1, 4, 6, 9999).shape == (1, 4, 6)
    seen = np.dstack([COLOUR, np.full((4, 6), 7, np.uint8)])
    assert (pixels(encoded(seen), 3, 4, 6, 9999) == COLOUR.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_turned_as_its_camera_was_held(kind: str) -> None:
    held = Image.Exif()
    held[0x0112] = 6  # Its upper edge is on the right.
    square = np.zeros((8, 8), np.uint8)
    square[:4] = 255
    assert pixels(encoded(square, kind, exif=held), 1, 8, 8, 9999)[0, :, 5:].min() > 200
    with pytest.raises(InvalidSampleError, match="turned by its EXIF"):
        pixels(encoded(GREY, kind, exif=held), 1, 4, 6, 9999)


def test_a_history_of_pictures_is_read_from_its_end() -> None:
    packed = [SPEC.pack(encoded(GREY)), SPEC.pack(encoded(255 - GREY, "JPEG", quality=100))]
    history = SPEC.join(packed)
    assert history == b"".join(struct.pack("<I", len(one)) + one for one in packed)
    whole, last = (SPEC.read(history, length, 0) for length in (4, 1))
    assert (whole.shape, last.shape, whole.dtype) == ((2, 1, 4, 6), (1, 1, 4, 6), np.float32)
    np.testing.assert_allclose(whole[0, 0], GREY / 255, rtol=1e-6)
    np.testing.assert_allclose(last[0, 0], (255 - GREY) / 255, atol=3 / 255)


def test_values_that_bytes_cannot_hold_are_refused_and_not_cut_off() -> None:
    deep = GREY.astype(np.uint16) * 257
    with pytest.raises(InvalidSampleError, match="16 bits a pixel"):
        SPEC.pack(encoded(deep))
    # Of colours, decoding keeps the upper byte of each.
    both = COLOUR.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in both)
    header = struct.pack(">IIBBBBB", 6, 4, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = PNG + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    assert (pixels(content, 3, 4, 6, 9999) == COLOUR.transpose(2, 0, 1)).all()


BOMBS = {
    "a bomb": png(65535, 65535, zlib.compress(bytes(1_000_000))),
    "a bomb of a million columns": png(2**31 - 1, 1, zlib.compress(b"")),
    "another size": encoded(GREY.T.copy()),
    "too many bytes": encoded(GREY) + bytes(MAX_PICTURE_BYTES),
    "not a picture": b"hello",
    "nothing": b"",
    "a GIF": encoded(GREY, "GIF"),
    "a JPEG of many scans": encoded(GREY, "JPEG") + 40 * SCAN,
    "a PNG of its signature alone": PNG,
    "a JPEG of its beginning alone": b"\xff\xd8\xff\xe0",
}
"""Refused by what they say."""
DAMAGED = {
    "cut": encoded(np.random.default_rng(0).integers(0, 255, (4, 6), dtype=np.uint8))[:-30],
    "a text that unpacks to much": png(
        6, 4, zlib.compress(bytes(28)), (b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000)))
    ),
    "pixels that are no zlib": png(6, 4, b"nothing"),
}
"""Refused when they are unpacked."""


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_refused_by_its_first_bytes(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(InvalidSampleError):
        SPEC.pack(content)
    with pytest.raises(InvalidSampleError):
        SPEC.read(SPEC.join([content]), 1, 0)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_refused_when_it_is_unpacked(content: bytes) -> None:
    with pytest.raises(InvalidSampleError, match="damaged"):
        SPEC.read(SPEC.join([content]), 1, 0)


@pytest.mark.parametrize("history", [[1, 2], b"", b"\1", b"\5\0\0\0abc", b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_no_list_of_pictures(history: Any) -> None:
    with pytest.raises(InvalidSampleError):
        SPEC.read(history, 4, 0)


@given(st.binary(max_size=60), st.sampled_from([b"", PNG, b"\xff\xd8", encoded(GREY)[:40], encoded(GREY, "JPEG")]))
def test_whatever_it_is_it_is_read_or_refused(content: bytes, begin: bytes) -> None:
    for history in (content, SPEC.join([begin + content])):
        with contextlib.suppress(InvalidSampleError):
            assert SPEC.read(history, 2, 0).shape[1:] == (1, 4, 6)


def test_what_a_history_of_pictures_may_be() -> None:
    # A picture of 32 by 32 pixels has at most 3 * 1,024 + 4,096 bytes, and four for its length.
    small, large = SampleSpec("image", [3, 32, 32]), SampleSpec("image", [3, 224, 224])
    assert (small.nbytes, large.nbytes) == (7168, MAX_PICTURE_BYTES)
    assert [small.too_large(count) for count in (73, 74)] == [False, True]
    assert [large.too_large(count) for count in (16, 17)] == [False, True]
    assert SampleSpec("image", [3, 1024, 1024]).too_large(2)
    assert [SampleSpec("image", shape).sound for shape in ([3, 4, 4], [2, 4, 4], [4, 4], [])] == [True, *[False] * 3]
