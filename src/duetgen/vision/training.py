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
from duetgen.adam import AdamW
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
REACHES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far a strange device may go by its statistics."""
TRIED: Final = 64
"""Most devices of a kind that is left out."""
LEFT_GIVEN: Final = 16
"""Images that each of them gives; on the rest its gain is measured."""
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
        self.optimiser = AdamW(self.parameters, lr=rate, weight_decay=DECAY)
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


def encoder_of(duet: Duet) -> ImageEncoder:
    """What reads its images."""
    assert isinstance(duet.generator.encoder, ImageEncoder)
    return duet.generator.encoder


def train_duet(duet: Duet, fleet: Fleet, epochs: int, seed: int) -> Duet:
    """A generator of what is each device's own: from some of a device's images, it learns to predict others of it.

    A model that is kept is not trained; each image is predicted as often as base has it. A generator that falls back on
    statistics is told how far to go by them.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    encoder = encoder_of(duet)
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
    if isinstance(duet.generator, ImageGenerator):
        duet.generator.reach = choose_reach(fleet, encoder.model.head.out_features, epochs, seed)
    return duet.eval()


def choose_reach(fleet: Fleet, classes: int, epochs: int, seed: int) -> float:
    """How far devices unlike any in training shall go by their statistics, from kinds that are left out in turn.

    For each kind a base is trained on the devices without it, for half as long, and tried on those with it.
    """
    kinds, gains = fleet.kinds(), []
    for kind in sorted(set().union(*kinds)):
        has_D = np.array([kind in own for own in kinds])
        if has_D.all():
            continue
        rest, left = fleet.taken(np.flatnonzero(~has_D)), fleet.taken(np.flatnonzero(has_D)[:TRIED])
        duet = make_duet(train_base(rest, classes, max(1, epochs // 2), seed), {"norm*": "scale"}, keep=True).eval()
        encoder = encoder_of(duet)
        encoder.calibrate(torch.stack([encoder.describe(to_float(pixels)) for pixels in rest.pixels]))
        gains.append(gain_by_reach(duet, left))
    return most_certain([found for found in gains if found is not None])


def most_certain(gains: list[list[float]]) -> float:
    """Of the reaches the one whose least gain over kinds that are strange is the largest.

    It is 0 where there are not two such kinds: what one gains says little of what the next will.

    Args:
        gains: of each kind, by each of `REACHES`.
    """
    return REACHES[int(np.min(gains, axis=0).argmax())] if len(gains) > 1 else 0.0


@torch.no_grad()
def gain_by_reach(duet: Duet, fleet: Fleet) -> list[float] | None:
    """What devices gain in accuracy by their statistics, with each of `REACHES`; None where most are not strange."""
    generator = duet.generator
    assert isinstance(generator, ImageGenerator)
    given, asked = to_float(fleet.pixels[:, :LEFT_GIVEN]), to_float(fleet.pixels[:, LEFT_GIVEN:]).flatten(0, 1)
    label_N, real_DK = torch.from_numpy(fleet.labels[:, LEFT_GIVEN:]).flatten(), torch.ones(given.shape[:2]).bool()
    strange_D = encoder_of(duet).strangeness(encoder_of(duet).described(given, real_DK), real_DK)
    if strange_D.median() <= encoder_of(duet).usual:
        return None
    accuracy = []
    for generator.reach in REACHES:
        logits = duet.personal(generator.by_statistics(given, real_DK, strange_D), asked)
        accuracy.append(float((logits.argmax(1) == label_N).float().mean()))
    return [one - accuracy[0] for one in accuracy]
