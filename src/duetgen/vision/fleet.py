"""Fleets of devices that see images each in its own way: those that train, validate, and test.

A setting says what devices do to images and which of it no device in training does: angles between those that were
seen, a camera's fault of another kind, a scanner or a style that is left out.

Shapes: D devices, N images of each, C colours, H and W the 32 pixels of a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np

from duetgen.vision.devices import Shift, seen_by
from duetgen.vision.images import TEST, TRAIN, Images, Indices, Pixels

Part = Literal["train", "valid", "seen", "unseen"]
"""`seen` and `unseen` are test devices: with shifts of the kinds that train, and with kinds that do not."""
PARTS: Final[tuple[Part, ...]] = ("train", "valid", "seen", "unseen")
VALID_SHARE: Final = 0.2
"""Of the training images, for the devices that validate."""
SEEN_FAULTS: Final = ("noise", "blur", "contrast")
UNSEEN_FAULT: Final = "gamma"
GIVEN: Final = 192
"""Images of a device that validates or tests, before those that are measured: what methods may read."""
BAND: Final = 30
"""Degrees of a band of angles: every other one is left out of training."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """How devices differ.

    Attributes:
        name: of the setting.
        world: `rotation`: each device is held at an angle; `camera`: each has one to three faults of a camera;
            `domain`: each is of one domain of the images, with mild faults of a camera besides; `plain`: none does
            anything.
        left_out: the domain that no device in training is of.
        devices: how many train, with how many images each.
        tested: how many validate, and how many test of either part, with how many labelled images each.
        epochs: passes over the training images, for each model.
    """

    name: str
    world: Literal["rotation", "camera", "domain", "plain"]
    left_out: str | None = None
    devices: tuple[int, int] = (400, 48)
    tested: tuple[int, int, int] = (40, 60, 64)
    epochs: int = 6


@dataclass(frozen=True)
class Fleet:
    """Devices and what they see.

    Attributes:
        shifts: of each device.
        domains: of each device's images, by name.
        pixels: uint8 [D, N, C, H, W].
        labels: int64 [D, N].
    """

    shifts: list[tuple[Shift, ...]]
    domains: list[str]
    pixels: Pixels
    labels: Indices

    def __len__(self) -> int:
        return len(self.labels)

    def kinds(self) -> list[set[str]]:
        """Of what kinds each device is: its domain, where there are several; else what it does to images."""
        if len(set(self.domains)) > 1:
            return [{domain} for domain in self.domains]
        return [{shift.kind for shift in shifts} for shifts in self.shifts]

    def taken(self, device_A: Indices) -> Fleet:
        """Some of the devices."""
        shifts, domains = ([those[device] for device in device_A] for those in (self.shifts, self.domains))
        return Fleet(shifts, domains, self.pixels[device_A], self.labels[device_A])


def draw_shifts(setting: Setting, part: Part, random: np.random.Generator) -> tuple[Shift, ...]:
    """What one device does to images."""
    if setting.world == "plain":
        return ()
    if setting.world == "rotation":
        band = 2 * int(random.integers(180 // BAND)) + (part == "unseen")
        return (Shift("rotation", float(band * BAND + random.uniform(0, BAND) - 180)),)
    if setting.world == "camera" and part == "unseen":
        return (Shift(UNSEEN_FAULT, float(random.choice([-1, 1]) * random.uniform(0.5, 1))),)
    worst = 1.0 if setting.world == "camera" else 0.5
    count = random.integers(1, len(SEEN_FAULTS) + 1)
    faults = random.choice(SEEN_FAULTS, size=count, replace=False)
    return tuple(Shift(str(fault), float(random.uniform(0.2, 1) * worst)) for fault in faults)


def make_fleet(images: Images, setting: Setting, part: Part, seed: int) -> Fleet:
    """The devices of a part.

    Args:
        images: of the whole setting.
        setting: how devices differ.
        part: whose devices; those that train and those that test share no image.
        seed: of the devices and their images.
    """
    random = np.random.default_rng([seed, PARTS.index(part)])
    pools = pools_of(images, setting, part)
    count, each = setting.devices
    if part != "train":
        count, each = setting.tested[part != "valid"], GIVEN + setting.tested[2]
    pixels = np.empty((count, each, *images.pixels.shape[1:]), dtype=np.uint8)
    labels = np.empty((count, each), dtype=np.int64)
    shifts, domains = [], []
    for device in range(count):
        pool = pools[device % len(pools)]
        domains.append(images.domains[images.domain[pool[0]]])
        chosen = draw_images(pool, each, 0 if part == "train" else GIVEN, random)
        shifts.append(draw_shifts(setting, part, random))
        pixels[device] = seen_by(shifts[-1], images.pixels[chosen], int(random.integers(2**31)))
        labels[device] = images.labels[chosen]
    return Fleet(shifts, domains, pixels, labels)


def draw_images(pool: Indices, count: int, given: int, random: np.random.Generator) -> Indices:
    """Images of one device: [N]. Where there are too few, some come twice, and none among those given and the rest."""
    if len(pool) >= count or len(pool) < 2 or not given:
        return random.choice(pool, count, replace=len(pool) < count)
    mixed = random.permutation(pool)
    cut = max(1, len(pool) * given // count)
    return np.concatenate([random.choice(mixed[:cut], given), random.choice(mixed[cut:], count - given)])


def pools_of(images: Images, setting: Setting, part: Part) -> list[Indices]:
    """The images that devices of a part draw from, by domain."""
    left_out = -1 if setting.left_out is None else images.domains.index(setting.left_out)
    if part == "unseen" and left_out >= 0:
        return [np.flatnonzero(images.domain == left_out)]
    pools = []
    for domain in sorted(set(range(len(images.domains))) - {left_out}):
        inside = images.domain == domain
        if part in ("seen", "unseen"):
            pools.append(np.flatnonzero(inside & (images.part == TEST)))
            continue
        pool = np.random.default_rng(domain).permutation(np.flatnonzero(inside & (images.part == TRAIN)))
        cut = int(len(pool) * VALID_SHARE)
        pools.append(pool[:cut] if part == "valid" else pool[cut:])
    return pools
