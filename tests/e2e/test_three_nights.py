"""Three nights: a log that grows, each version trained on from the one before, exported, served by a real cloud, and
taken up by a device that lives on, and starts anew once, with one log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from tests.e2e.test_duet import QUICK, Cloud
from tests.signing import KEY

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel import CloudConfig
from duetgen.core import GeneratorConfig
from duetgen.data.append import append
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import FIRST_ITEM, Dataset
from duetgen.device import Device
from duetgen.device import load_model as load_device_model
from duetgen.evaluation import OWN, evaluate
from duetgen.export import export_bundle
from duetgen.export.published import load_model
from duetgen.recommender import HistoryConfig, ModelConfig
from duetgen.training import OptimiserConfig, TrainConfig, going_on, load_run, train
from duetgen.wire.bundle import Bundle

DAYS: Final = 3
USERS: Final = 40
BEGIN, EACH_DAY = 24, 4
"""Items of the first day, and how many come on each later one."""
CONFIG: Final = TrainConfig(
    model=ModelConfig(
        backbone=BackboneConfig(width=8, window=4, dropout=0.1),
        history=HistoryConfig(length=10, width=8, embedding_width=8),
        generator=GeneratorConfig(width=4),
        cloud=CloudConfig(kind="ease", items=5, neighbours=6),
    ),
    optimiser=OptimiserConfig(epochs=2, batch_positions=256, learning_rate=0.01, warmup_steps=5),
    joint=True,
    validation_devices=40,
)


def write_day(path: Path, day: int) -> Path:
    """A day's log: everybody walks up the catalogue in a stride of their own; each day has items that are new."""
    rng = np.random.default_rng(day)
    items = BEGIN + day * EACH_DAY
    lines = ["user,item,timestamp"]
    for user in range(USERS + 5 * day):
        start, stride = int(rng.integers(items)), 1 + user % 3
        second = 86_400 * day + int(rng.integers(40_000))
        lines += [f"u{user},i{(start + step * stride) % items},{second + 60 * step}" for step in range(10)]
    path.write_text("\n".join(lines) + "\n")
    return path


class Nights:
    """What each night makes."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.registry = root, root / "data", root / "registry"
        self.registry.mkdir()

    def night(self, day: int) -> Bundle:
        """The log of a day becomes a bundle in the registry."""
        log, run = write_day(self.root / f"day{day}.csv", day), self.root / f"run{day}"
        if day:
            append(log, self.data)
            config = going_on(self.root / f"run{day - 1}")
        else:
            prepare(log, self.data, PrepareConfig(split="leave-one-out", met="hide"))
            config = CONFIG
        dataset = Dataset(self.data)
        assert dataset.version == day + 1
        train(dataset, config, run)
        return export_bundle(load_run(run), dataset, self.registry / f"day{day}", key=KEY, measure=False)


def within(seconds: float, work: Callable[[], bool]) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if work():
            return True
        time.sleep(0.05)
    return False


def met(device: Device) -> set[str]:
    """Ids of the items that a device has met, as its version has them."""
    return {device.model.ids[index] for index in np.flatnonzero(device.met())}


@pytest.mark.slow
def test_three_nights(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    bundles = [nights.night(0)]
    cloud = Cloud(nights.registry, "--open", "--poll", "0.1")
    state = tmp_path / "device"

    def begin() -> Device:
        return Device(bundles[0].root, cloud=cloud.url, device_id="d1", state=state, background=False, patience=QUICK)

    device = begin()
    try:
        lived = ["i3", "i4", "i5", f"i{BEGIN}", f"i{BEGIN + EACH_DAY}"]
        device.observe(*lived)
        assert device.refresh(wait=True), device.status().last_error
        # Two of the five came later than this version.
        assert met(device) == set(lived[:3])
        assert device.status().unknown_events == 2
        for day in range(1, DAYS):
            bundle = nights.night(day)
            bundles.append(bundle)
            before = device.status()
            assert before.theta is not None
            assert within(60, device.update), device.status().last_error
            after = device.status()
            assert after.model_id == bundle.manifest.model_id
            assert after.previous == before.model_id
            # The log is the same, and says more with the new indices.
            assert after.events == before.events == len(lived)
            assert met(device) == set(lived[: 3 + day])
            # Theta was asked for anew, for this version.
            assert after.theta is not None
            assert after.theta.issued >= before.theta.issued
            assert after.answered == before.answered + 1
            assert after.refused == before.refused == {}
            known = {f"i{item}" for item in range(BEGIN + day * EACH_DAY)}
            shown = {item for item, _ in device.recommend(100)}
            assert shown == known - met(device)
            # Indices only grow.
            assert bundle.manifest.vocabulary == BEGIN + day * EACH_DAY + FIRST_ITEM
            earlier = load_device_model(bundles[day - 1].root).ids
            assert list(device.model.ids[: len(earlier)]) == list(earlier)
            if day == 1:
                device.close()
                device = begin()
                assert device.status().model_id == bundle.manifest.model_id
                assert device.status().events == len(lived)
        # A device that stays with the first version is served it as before, with opinions of its items alone.
        with Device(bundles[0].root, cloud=cloud.url, device_id="d2", background=False) as behind:
            behind.observe(*lived)
            assert behind.refresh(wait=True), behind.status().last_error
            assert behind.status().source == "theta"
            assert {item for item, _ in behind.recommend(100)} == {f"i{item}" for item in range(BEGIN)} - set(lived)
    finally:
        device.close()
        cloud.stop()
    # Old and new runs and bundles are measured on the last version, on the same targets.
    dataset, found = Dataset(nights.data), []
    for root in (tmp_path / "run0", tmp_path / "run2", bundles[0].root):
        model, _, seen = load_model(root, dataset)
        found += evaluate(model, seen, conditions=[OWN], bootstrap=0)
    first, last, published = found
    assert first.targets == last.targets == published.targets
    assert first.unknown_targets == published.unknown_targets > last.unknown_targets
    assert published.conditions[0].metrics["ndcg@10"].mean == pytest.approx(
        first.conditions[0].metrics["ndcg@10"].mean, abs=1e-4
    )
