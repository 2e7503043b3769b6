"""Training: a model for every device, and generators of what is each device's own.

Shapes: D devices, N images of each, B devices in a batch, Q images of a device that are predicted, K that are read.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import duetgen
from duetgen.core import Duet
from duetgen.vision.fleet import Fleet
from duetgen.vision.images import Pixels
from duetgen.vision.model import WIDTHS, ImageEncoder, ImageGenerator, SmallNet

BATCH: Final = 128
DEVICES: Final = 16
"""Devices in a batch of `train_duet`."""
READ: Final = (1, 1, 2, 4, 8, 16, 32)
"""How many images the generator reads, one of these for each batch."""
BASE_RATE: Final = 4e-3
GENERATOR_RATE: Final = 1e-3
DECAY: Final = 1e-3
LAYERS: Final = {"conv1": "full", "conv2": "full", "norm*": "scale", "head": "full"}
"""What is personal with DUET."""
APPENDED: Final = {"conv1": "concat", "head": "concat"}
"""What a vector is appended to in the manner of ARM."""


def to_float(pixels: Pixels) -> Tensor:
    """Bytes to values from 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255


class Steps:
    """AdamW with a rate that rises and falls once, and gradients of bounded size.

    Args:
        module: what is trained.
        rate: the highest.
        count: of steps.
    """

    def __init__(self, module: nn.Module, rate: float, count: int) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=DECAY)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, rate, total_steps=count + 1)

    def take(self, loss: Tensor) -> None:
        """One step."""
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.schedule.step()


def train_base(fleet: Fleet, classes: int, epochs: int, seed: int, widths: tuple[int, int, int] = WIDTHS) -> SmallNet:
    """One model for every device, from the images of all of them."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    pixels, labels = fleet.pixels.reshape(-1, *fleet.pixels.shape[2:]), torch.from_numpy(fleet.labels.ravel())
    model = SmallNet(pixels.shape[1], classes, widths)
    rounds = len(pixels) // BATCH
    steps = Steps(model, BASE_RATE, epochs * rounds)
    for _ in range(epochs):
        for chosen in np.array_split(random.permutation(len(pixels))[: rounds * BATCH], rounds):
            steps.take(functional.cross_entropy(model(to_float(pixels[chosen])), labels[chosen]))
    return model.eval()


def make_duet(model: SmallNet, layers: dict[str, str], keep: bool) -> Duet:
    """A finished model made personal, by a generator that reads a device's images; one whose norms are personal and
    that is kept falls back on their statistics."""
    duet = duetgen.personalise(model, layers, encoder=ImageEncoder(model), keep=keep, weight=0)
    if keep:
        duet.generator = ImageGenerator(duet.generator.encoder, duet.personal.layout)
    return duet


def train_duet(duet: Duet, fleet: Fleet, epochs: int, seed: int) -> Duet:
    """A generator of what is each device's own: from some of a device's images, it learns to predict others of it.

    A model that is kept is not trained; each image is predicted as often as base has it.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    encoder = duet.generator.encoder
    assert isinstance(encoder, ImageEncoder)
    feature_DNF = torch.stack([encoder.describe(to_float(pixels)) for pixels in fleet.pixels])
    encoder.calibrate(feature_DNF)
    labels_DN, images = torch.from_numpy(fleet.labels), fleet.labels.shape[1]
    asked = BATCH // DEVICES
    read = [count for count in READ if count <= images - asked]
    rounds = epochs * fleet.labels.size // BATCH
    steps = Steps(duet, GENERATOR_RATE, rounds)
    duet.train()
    for _ in range(rounds):
        device_B1 = random.choice(len(fleet), DEVICES, replace=False)[:, None]
        place = random.permuted(np.tile(np.arange(images), (DEVICES, 1)), axis=1)
        asked_BQ, read_BK = place[:, :asked], place[:, asked : asked + int(random.choice(read))]
        theta_BP = duet.generate(feature_DNF[device_B1, read_BK])
        image_NCHW = to_float(fleet.pixels[device_B1, asked_BQ]).flatten(0, 1)
        logits = duet.personal(theta_BP, image_NCHW)
        steps.take(functional.cross_entropy(logits, labels_DN[device_B1, asked_BQ].flatten()))
    return duet.eval()
