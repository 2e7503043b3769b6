"""Devices that see the same world each in its own way: what a camera, a scanner or the way it is held does to images.

Shapes: N images, C colours, H and W the 32 pixels of a side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from duetgen.vision.images import Pixels


class Shift(msgspec.Struct, frozen=True):
    """One thing that a device does to every image.

    Attributes:
        kind: one of `SHIFTS`.
        amount: how much; degrees for `rotation`, else a severity from 0, none, to 1, the worst.
    """

    kind: str
    amount: float


def rotation(image_NCHW: Tensor, degrees: float, noise: torch.Generator) -> Tensor:
    """The image as a device shows it that is held at an angle, counter-clockwise."""
    turn = math.radians(degrees)
    matrix = torch.tensor([[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]])
    grid = functional.affine_grid(matrix.expand(len(image_NCHW), 2, 3), list(image_NCHW.shape), align_corners=False)
    turned: Tensor = functional.grid_sample(image_NCHW, grid, align_corners=False)
    return turned


def noise(image_NCHW: Tensor, severity: float, noise: torch.Generator) -> Tensor:
    """The noise of a sensor, up to a standard deviation of 0.4 of full scale, drawn anew for each image."""
    return image_NCHW + 0.4 * severity * torch.randn(image_NCHW.shape, generator=noise)


def blur(image_NCHW: Tensor, severity: float, noise: torch.Generator) -> Tensor:
    """A lens out of focus: a Gaussian of up to 2.5 pixels."""
    sigma, reach = max(2.5 * severity, 1e-3), 6
    weight = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    weight = (weight / weight.sum()).expand(image_NCHW.shape[1], 1, 1, -1)
    padded = functional.pad(image_NCHW, (reach,) * 4, mode="replicate")
    across = functional.conv2d(padded, weight, groups=len(weight))
    blurred: Tensor = functional.conv2d(across, weight.transpose(2, 3), groups=len(weight))
    return blurred


def contrast(image_NCHW: Tensor, severity: float, noise: torch.Generator) -> Tensor:
    """A flat picture: down to a tenth of the contrast, around middle grey."""
    return 0.5 + (image_NCHW - 0.5) * math.pow(0.1, severity)


def gamma(image_NCHW: Tensor, severity: float, noise: torch.Generator) -> Tensor:
    """Wrong exposure: a power of up to 4, which darkens; below 0 as much the other way."""
    return image_NCHW.clamp(0, 1) ** math.pow(4, severity)


SHIFTS: Final[dict[str, Callable[[Tensor, float, torch.Generator], Tensor]]] = {
    "rotation": rotation,
    "blur": blur,
    "gamma": gamma,
    "contrast": contrast,
    "noise": noise,
}
"""In the order in which light meets them."""


def seen_by(shifts: tuple[Shift, ...], pixels: Pixels, seed: int) -> Pixels:
    """What a device makes of images: uint8 [N, C, H, W] in and out."""
    generator = torch.Generator().manual_seed(seed)
    image_NCHW = torch.tensor(pixels, dtype=torch.float32) / 255
    for shift in sorted(shifts, key=lambda one: list(SHIFTS).index(one.kind)):
        image_NCHW = SHIFTS[shift.kind](image_NCHW, shift.amount, generator)
    seen: Pixels = (image_NCHW * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return seen
