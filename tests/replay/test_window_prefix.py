"""A prefix of the window all the way: generated, coded, in the device's graph, replayed as evaluation measures it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bundles import tiny_bundle

from duetgen.backbones import BACKBONES
from duetgen.data.store import Dataset
from duetgen.device import DeviceModel, load_model
from duetgen.device.policy import policy_named
from duetgen.evaluation import OWN, ZERO, evaluate
from duetgen.export.published import Published
from duetgen.replay import LIVELY, Fleet, FleetConfig, LocalCloud, Sessions
from duetgen.wire.bundle import open_bundle
from duetgen.wire.messages import Encoding

SIZES = {"sasrec": 2 * 2 * 16, "gru4rec": 16, "din": 2 * 16}


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_fleet_ranks_as_evaluation_says(name: str, bundle_dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    settings = {"backbone": {"head": "window-prefix", "rank": 2}, "generator": {"decoder_scale": 3.0}}
    tiny_bundle(folder, bundle_dataset, name=name, **settings)
    assert open_bundle(folder).manifest.size == SIZES[name]
    (measured,) = evaluate(
        Published(open_bundle(folder)), bundle_dataset, conditions=[OWN, ZERO], limit_devices=None, bootstrap=0
    )
    own, zero = (condition.metrics["ndcg@10"].mean for condition in measured.conditions)
    assert own != zero
    model, cloud = load_model(folder, None, DeviceModel), LocalCloud(folder)
    sessions = Sessions(bundle_dataset, model.manifest, "full", None)
    encodings: list[Encoding] = ["float32", "float16", "int8"]
    for encoding in encodings:
        config = FleetConfig(device=LIVELY.changed(policy=policy_named("always"), encoding=encoding), workers=1)
        report = Fleet(model, sessions, lambda session: (cloud, ""), config).run()
        assert (report.failures, report.refused, report.with_theta) == ({}, {}, 1.0)
        assert report.quality["ndcg@10"] == pytest.approx(own, rel=1e-6 if encoding == "float32" else 0.05)
        assert report.quality_global["ndcg@10"] == pytest.approx(zero, rel=1e-6)
