"""Images that are made, so that a demo needs no data: digits of a few strokes, each drawn in a hand of its own.

Shapes: N images, S strokes, H and W the 32 pixels of a side.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from duetgen.evaluation.metrics import Float64
from duetgen.vision.images import SIDE, TEST, TRAIN, Images

CORNERS: Final = {"a": (-1, -2), "b": (1, -2), "c": (-1, 0), "d": (1, 0), "e": (-1, 2), "f": (1, 2)}
"""Places of a digit's corners: across and down."""
STROKES: Final = (
    "ab bf fe ea",
    "bf",
    "ab bd dc ce ef",
    "ab bf fe cd",
    "ac cd bf",
    "ba ac cd df fe",
    "bc ce ef fd dc",
    "ab be",
    "ab bf fe ea cd",
    "ca ab bd dc df",
)
"""What each digit is drawn of."""
MOST_STROKES: Final = 5
TEST_SHARE: Final = 0.25


def make_digits(count: int, seed: int = 0) -> Images:
    """Grey images of ten classes, a quarter of them for testing."""
    random = np.random.default_rng(seed)
    labels = random.integers(10, size=count)
    ends_NS22 = np.stack([ends_of(int(label)) for label in labels])
    corner_of = np.array(list(CORNERS.values()), dtype=np.float64)
    shaken_NK2 = corner_of + random.normal(0, 0.18, size=(count, len(corner_of), 2))
    size_N = random.uniform(4.0, 5.5, size=count)
    moved_NK2 = shaken_NK2 * size_N[:, None, None] + SIDE / 2 + random.uniform(-2, 2, size=(count, 1, 2))
    strokes_NS22 = moved_NK2[np.arange(count)[:, None, None], ends_NS22]
    thick_N = random.uniform(0.8, 1.7, size=count)
    pixels = np.empty((count, 1, SIDE, SIDE), dtype=np.uint8)
    for first in range(0, count, 500):
        part = slice(first, first + 500)
        ink = np.clip(thick_N[part, None, None] + 0.5 - distances(strokes_NS22[part]), 0, 1)
        pixels[part, 0] = np.round(255 * ink).astype(np.uint8)
    parts = np.where(np.arange(count) < count * TEST_SHARE, TEST, TRAIN).astype(np.uint8)
    names = tuple(str(digit) for digit in range(10))
    return Images("made digits", "made", names, ("all",), pixels, labels, np.zeros_like(labels), parts)


def ends_of(digit: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The corners that a digit's strokes join, the last repeated up to the most that there are: [S, 2]."""
    corners = list(CORNERS)
    ends = [[corners.index(corner) for corner in stroke] for stroke in STROKES[digit].split()]
    return np.array(ends + ends[-1:] * (MOST_STROKES - len(ends)))


def distances(strokes_NS22: Float64) -> Float64:
    """How far each pixel is from the nearest stroke: [N, H, W]."""
    at_HW2 = np.stack(np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5), axis=-1)
    nearest = np.full((len(strokes_NS22), SIDE, SIDE), np.inf)
    for stroke in range(MOST_STROKES):
        start, end = strokes_NS22[:, stroke, 0, None, None], strokes_NS22[:, stroke, 1, None, None]
        along = end - start
        share = ((at_HW2 - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)
        near = start + np.clip(share, 0, 1)[..., None] * along
        nearest = np.minimum(nearest, np.sqrt(((at_HW2 - near) ** 2).sum(-1)))
    return nearest
