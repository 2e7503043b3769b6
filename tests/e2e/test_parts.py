"""Both parts of theta through real processes and sockets: an untrained model with a cloud model, served and lived."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.e2e.test_duet import Cloud

from duetgen.cli.device import run_replay
from duetgen.data.store import Dataset
from duetgen.device import Device, load_model
from duetgen.evaluation import OWN, ZERO, Condition, evaluate
from duetgen.export.published import Published
from duetgen.replay import LIVELY
from duetgen.wire.bundle import open_bundle


@pytest.fixture(scope="module")
def cloud(advised_folder: Path) -> Iterator[Cloud]:
    """A service of the bundle, in a process of its own."""
    cloud = Cloud(advised_folder, "--open")
    yield cloud
    cloud.stop()


@pytest.fixture(scope="module")
def measured(advised_folder: Path, bundle_dataset: Dataset) -> dict[str, float]:
    """`ndcg@10` of the bundle as evaluation measures it: whole, and each part alone."""
    conditions = [OWN, ZERO, Condition("own", 0, "weights"), Condition("own", 0, "bias")]
    (found,) = evaluate(Published(open_bundle(advised_folder)), bundle_dataset, conditions=conditions, bootstrap=0)
    return {result.name: result.metrics["ndcg@10"].mean for result in found.conditions}


@pytest.mark.parametrize(("parts", "condition"), [("both", "own"), ("weights", "own-weights"), ("bias", "own-bias")])
def test_a_fleet_ranks_as_evaluation_says(
    advised_folder: Path, bundle_dataset: Dataset, cloud: Cloud, measured: dict[str, float], parts: Any, condition: str
) -> None:
    config = LIVELY.changed(cloud=cloud.url, encoding="float32", parts=parts)
    report = run_replay(advised_folder, bundle_dataset.root, config, quiet=True)
    assert (report.failures, report.refused, report.with_theta) == ({}, {}, 1.0)
    # The item bias has 255 steps, so a few ranks may move.
    assert report.quality["ndcg@10"] == pytest.approx(measured[condition], rel=1e-6 if parts == "weights" else 0.02)
    assert report.quality_global["ndcg@10"] == pytest.approx(measured["zero"], rel=1e-6)
    size = open_bundle(advised_folder).manifest.size
    assert report.bytes_weights == (0 if parts == "bias" else 4 * size)
    # At most 10 items of each opinion, with 3 bytes each and 3 for count and scale.
    assert (0 < report.bytes_bias <= 2 * (3 + 30)) if parts != "weights" else report.bytes_bias == 0


def test_parts_differ_in_what_they_bring(measured: dict[str, float]) -> None:
    assert len({round(value, 6) for value in measured.values()}) == 4


@pytest.mark.parametrize("age", [0, 1, 7, 60])
def test_what_is_old_counts_less_on_the_device_as_in_evaluation(
    advised_folder: Path, bundle_dataset: Dataset, cloud: Cloud, age: int
) -> None:
    published, model = Published(open_bundle(advised_folder)), load_model(advised_folder)
    events = bundle_dataset.events[:30].tolist()
    later = [events[step % len(events)] for step in range(age)]
    with Device(model, cloud=cloud.url, device_id="d1", encoding="float32", background=False) as device:
        device.observe(*(model.ids[item] for item in events))
        assert device.refresh(wait=True), device.status().last_error
        device.observe(*(model.ids[item] for item in later))
        found_V = device.score()
    theta = published.generate(torch.tensor([events[-published.generator_history :]]))
    window = torch.tensor([(events + later)[-published.window :]])
    wanted_V = published.score_catalogue(window, published.trusted(theta, age))[0].numpy()
    # Half a step of each opinion, as far as it is trusted.
    factors = published.trust.opinions_at(age)
    steps = sum(factor * float(values.max()) / 255 for (_, values), factor in zip(theta.opinions, factors))
    np.testing.assert_allclose(found_V[1:], wanted_V[1:], atol=0.51 * steps + 1e-4)
