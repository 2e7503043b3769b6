"""One setting with one seed: train every method on one fleet, choose on devices that validate, measure on others.

Shapes: D devices, N images of each, U devices that are measured.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from duetgen.core import Duet
from duetgen.export import parity
from duetgen.export.model import GeneratorGraph, export_generator
from duetgen.vision.adapting import BATCH_NORM, FINETUNE, TENT, Adaptation, finetune, tent, with_statistics
from duetgen.vision.fleet import GIVEN, Fleet, Part, Setting, make_fleet
from duetgen.vision.images import Images, Pixels
from duetgen.vision.model import WIDE, ImageGenerator, SmallNet
from duetgen.vision.training import APPENDED, LAYERS, make_duet, to_float, train_base, train_duet
from duetgen.wire.samples import SampleSpec

COUNTS: Final = (1, 4, 16, 64)
"""How many images a device gives."""
LABELLED: Final = (GIVEN,)
"""How many labelled ones fine-tuning has: an upper line has more than all others."""
CHOOSING: Final = 12
"""Devices that settings of what adapts on the device are chosen on."""
MEASURED: Final[tuple[Part, ...]] = ("seen", "unseen")
TRUSTS: Final = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of theta, where the model is kept: with few images it may count less."""
TURNS: Final = 5
SPENT: Final = 0.05
"""Seconds: what is timed is done so often at least, and so long: a few turns of less than a millisecond tell little."""
TIMED: Final = 16
"""Images of a device whose delay is measured."""
SERVED: Final = 8
"""Devices whose theta is timed: the mean, since it takes longer where they are strange."""
FLEET_SEED: Final = 10_000
"""Devices that validate and test are the same for every seed of training."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a method costs.

    Attributes:
        device_values: parameters and statistics on the device.
        theta_bytes: of one theta, as float16; 0 without one.
        delay_ms: from 16 images of a device, or its labelled ones, to its own model, processor time of one thread: of
            theta through the graph that a cloud runs, else in torch; None where there is nothing to wait for.
        strange_ms: the same for theta of devices of an unseen kind.
        fit_seconds: of training, processor time.
    """

    device_values: int
    theta_bytes: int = 0
    delay_ms: float | None = None
    strange_ms: float | None = None
    fit_seconds: float = 0.0

    @property
    def delays(self) -> list[float]:
        """Both, as far as there are any."""
        return [delay for delay in (self.delay_ms, self.strange_ms) if delay is not None]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A method's accuracy on each device of a part, with so many images; 0 where it reads none.

    Attributes:
        another: with the theta of another device.
        chosen: how it adapts, chosen on devices that validate.
        trust: what the learnt part of theta from so many images is multiplied by, chosen on devices that validate.
        reach: how far devices unlike any in training go by their statistics, chosen on kinds left out of training.
    """

    method: str
    part: str
    images: int
    accuracy: list[float]
    another: list[float] | None = None
    chosen: Adaptation | None = None
    trust: float = 1.0
    reach: float = 0.0


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What one setting came to with one seed.

    Attributes:
        plain: accuracy of a model like base where no device does anything to images, in training or after it.
        seconds: of one core.
    """

    setting: Setting
    seed: int
    dataset: str
    plain: float
    found: list[Found]
    costs: dict[str, Cost]
    seconds: float


Say = Callable[[str], None]


def run_cell(
    images: Images,
    setting: Setting,
    seed: int,
    counts: Sequence[int] = COUNTS,
    labelled: Sequence[int] = LABELLED,
    say: Say = lambda line: None,
    as_served: bool = True,
    before: Cell | None = None,
) -> Cell:
    """Train, choose and measure every method.

    Args:
        images: of the setting.
        setting: how devices differ.
        seed: of training and of the devices that train.
        counts: how many images a device gives.
        labelled: how many with labels fine-tuning has.
        say: told what is being done.
        as_served: whether theta is timed in the graph that a cloud runs, which takes seconds to export, or in torch.
        before: the same cell, from before a change of the generators alone: what has none is taken from it, if base
            comes to the same on every device.
    """
    begun = time.process_time()
    classes = len(images.classes)
    train = make_fleet(images, setting, "train", seed)
    parts = {part: make_fleet(images, setting, part, FLEET_SEED) for part in ("valid", *MEASURED)}
    found: list[Found] = []
    costs: dict[str, Cost] = {}

    def fit(name: str, make: Callable[[], Any]) -> Any:
        say(f"{setting.name}, seed {seed}: training {name}")
        start = time.process_time()
        made = make()
        costs[name] = Cost(device_values=0, fit_seconds=time.process_time() - start)
        return made

    def measure(name: str, model: SmallNet) -> None:
        costs[name] = msgspec.structs.replace(costs[name], device_values=values_of(model))
        for part in MEASURED:
            found.append(Found(method=name, part=part, images=0, accuracy=accuracies(model, parts[part])))

    base: SmallNet = fit("base", lambda: train_base(train, classes, setting.epochs, seed))
    measure("base", base)
    if before is not None and [one for one in before.found if one.method == "base"] != found:
        say(f"{setting.name}, seed {seed}: base is not what it was before")
        before = None
    earlier = [] if before is None else before.found
    if before is None:
        measure("base-wide", fit("base-wide", lambda: train_base(train, classes, setting.epochs, seed, WIDE)))
    else:
        found += [one for one in earlier if one.method == "base-wide"]
        costs["base-wide"] = before.costs["base-wide"]
    for name, (layers, keep) in {"arm": (APPENDED, False), "duet": (LAYERS, True)}.items():
        made = make_duet(copy.deepcopy(base), layers, keep)
        duet: Duet = fit(name, partial(train_duet, made, train, setting.epochs, seed))
        seen, unseen = (list(parts[part].pixels[:SERVED, :TIMED]) for part in MEASURED)
        serve = served(duet, seen[0]) if as_served else partial(in_torch, duet)
        costs[name] = msgspec.structs.replace(
            costs[name],
            device_values=values_of(duet.personal.module),
            theta_bytes=2 * duet.personal.layout.size,
            delay_ms=statistics.fmean(milliseconds(partial(serve, one)) for one in seen),
            strange_ms=statistics.fmean(milliseconds(partial(serve, one)) for one in unseen),
        )
        for count in counts:
            learnt_DP, rest_DP = thetas(duet, parts["valid"], count)
            tried = [
                statistics.fmean(personal_accuracies(duet, parts["valid"], trust * learnt_DP + rest_DP))
                for trust in (TRUSTS if keep else TRUSTS[:1])
            ]
            trust = TRUSTS[int(np.argmax(tried))]
            for part in MEASURED:
                learnt_DP, rest_DP = thetas(duet, parts[part], count)
                theta_DP = trust * learnt_DP + rest_DP
                own, another = (personal_accuracies(duet, parts[part], one) for one in (theta_DP, theta_DP.roll(1, 0)))
                found.append(
                    Found(
                        method=name,
                        part=part,
                        images=count,
                        accuracy=own,
                        another=another,
                        trust=trust,
                        reach=duet.generator.reach if isinstance(duet.generator, ImageGenerator) else 0.0,
                    )
                )
    adapting: dict[str, tuple[Sequence[Adaptation], Sequence[int], Adapt]] = {
        "batch-norm": (BATCH_NORM, counts, lambda x, y, how: with_statistics(base, x, how.prior or 0)),
        "tent": (TENT, counts, lambda x, y, how: tent(base, x, how)),
        "finetune": (FINETUNE, labelled, lambda x, y, how: finetune(base, x, y, how)),
    }
    for name, (ways, sizes, adapt) in adapting.items():
        say(f"{setting.name}, seed {seed}: adapting by {name}")
        for count in sizes:
            those = [one for one in earlier if (one.method, one.images) == (name, count)]
            if not those:
                tried = [statistics.fmean(adapted(parts["valid"], count, how, adapt, CHOOSING)) for how in ways]
                best = ways[int(np.argmax(tried))]
                for part in MEASURED:
                    own = adapted(parts[part], count, best, adapt)
                    those.append(Found(method=name, part=part, images=count, accuracy=own, chosen=best))
            found += those
            if (count == TIMED or len(sizes) == 1) and (how := those[0].chosen):
                labels = torch.from_numpy(parts["seen"].labels[0, :count])
                delay = milliseconds(partial(adapt, sample(parts["seen"], count), labels, how))
                costs[name] = Cost(device_values=values_of(base), delay_ms=delay)
    return Cell(
        setting=setting,
        seed=seed,
        dataset=images.name,
        plain=before.plain if before is not None else plain_accuracy(images, setting, seed),
        found=found,
        costs=costs,
        seconds=time.process_time() - begun,
    )


def plain_accuracy(images: Images, setting: Setting, seed: int) -> float:
    """Of a model like base where no device does anything to images."""
    plain = msgspec.structs.replace(setting, world="plain")
    alike = train_base(make_fleet(images, plain, "train", seed), len(images.classes), setting.epochs, seed)
    return statistics.fmean(accuracies(alike, make_fleet(images, plain, "seen", FLEET_SEED)))


Adapt = Callable[[Tensor, Tensor, Adaptation], SmallNet]


def sample(fleet: Fleet, count: int = TIMED) -> Tensor:
    """Some images of the first device."""
    return to_float(fleet.pixels[0, :count])


def in_torch(duet: Duet, pixels_KCHW: Pixels) -> Any:
    """Theta of a device's images."""
    return duet.generate(to_float(pixels_KCHW[None]))


def served(duet: Duet, pixels_KCHW: Pixels) -> Callable[[Pixels], Any]:
    """What a cloud does to make theta of a device's images as they travel: it runs the exported graph.

    Args:
        duet: whose generator is exported.
        pixels_KCHW: an example of a device's images.
    """
    sample = SampleSpec("uint8", list(pixels_KCHW.shape[1:]), 1 / 255)

    def read(pixels_KCHW: Pixels) -> Any:
        return sample.read(pixels_KCHW.tobytes(), len(pixels_KCHW), 0)

    graph = parity.session(export_generator(GeneratorGraph(duet).eval(), read(pixels_KCHW)))
    return lambda pixels_KCHW: parity.run(graph, history=read(pixels_KCHW)[None])


def values_of(model: nn.Module) -> int:
    """Parameters and statistics."""
    return sum(value.numel() for value in model.state_dict().values())


@torch.no_grad()
def accuracies(model: nn.Module, fleet: Fleet) -> list[float]:
    """Of one model on every device, on the images after those that it may read."""
    return [
        accuracy(model(to_float(pixels[GIVEN:])), labels[GIVEN:]) for pixels, labels in zip(fleet.pixels, fleet.labels)
    ]


def accuracy(logits: Tensor, labels: Any) -> float:
    """Share of images whose class has the highest logit."""
    return float((logits.argmax(1).numpy() == labels).mean())


@torch.no_grad()
def thetas(duet: Duet, fleet: Fleet, count: int) -> tuple[Tensor, Tensor]:
    """Each device's theta from so many images, as a sum: what is learnt of it, which may count less, and the rest:
    [D, P] both.
    """
    found = []
    for pixels in fleet.pixels:
        image_BKCHW = to_float(pixels[None, :count])
        if isinstance(duet.generator, ImageGenerator):
            found.append(torch.stack(duet.generator.parts(image_BKCHW)))
        else:
            theta_BP = duet.generate(image_BKCHW)
            found.append(torch.stack([theta_BP, torch.zeros_like(theta_BP)]))
    learnt_DP, rest_DP = torch.cat(found, dim=1)
    return learnt_DP, rest_DP


@torch.no_grad()
def personal_accuracies(duet: Duet, fleet: Fleet, theta_DP: Tensor) -> list[float]:
    """Of every device, with a theta of its own."""
    return [
        accuracy(duet.personal(theta_P, to_float(pixels[GIVEN:])), labels[GIVEN:])
        for theta_P, pixels, labels in zip(theta_DP, fleet.pixels, fleet.labels)
    ]


def adapted(fleet: Fleet, count: int, how: Adaptation, adapt: Adapt, most: int | None = None) -> list[float]:
    """With a model of its own for every device, made from so many of its images."""
    own = []
    for pixels, labels in zip(fleet.pixels[:most], fleet.labels[:most]):
        model = adapt(to_float(pixels[:count]), torch.from_numpy(labels[:count]), how)
        with torch.no_grad():
            own.append(accuracy(model(to_float(pixels[GIVEN:])), labels[GIVEN:]))
    return own


def milliseconds(work: Callable[[], Any]) -> float:
    """Median processor time of some turns, on one thread: what is waited for where a core is free."""
    threads, times = torch.get_num_threads(), list[float]()
    torch.set_num_threads(1)
    work()
    while len(times) < TURNS or sum(times) < SPENT:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return 1000 * statistics.median(times)
