"""Which parts of theta a bundle's answers hold: what counts, what is wanted, and what a run lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.bundles import BLEND, untrained_run
from tests.signing import KEY

from duetgen.data.store import Dataset
from duetgen.export import export_bundle, graphs, parity
from duetgen.export.errors import NotExportableError
from duetgen.export.parts import parts_of, with_parts
from duetgen.recommender import Recommender
from duetgen.wire.bundle import Bundle
from duetgen.wire.messages import Parts


@pytest.fixture
def model(bundle_dataset: Dataset) -> Recommender:
    """With a sequence model and a table, all of whose parts count."""
    return untrained_run(bundle_dataset, cloud=BLEND).device_model


def names(model: Recommender) -> list[str]:
    return [] if model.cloud is None else list(model.cloud.members)


def test_all_that_counts_travels(model: Recommender) -> None:
    found = with_parts(model, None)
    assert (parts_of(found), names(found)) == ("both", ["sequence", "item-knn"])


def test_an_opinion_that_counts_nothing_is_left_out(model: Recommender) -> None:
    assert model.trust is not None
    model.trust.opinions_JA[0] = 0
    found = with_parts(model, None)
    assert (parts_of(found), names(found)) == ("both", ["item-knn"])
    assert found.trust is not None
    assert torch.equal(found.trust.opinions_JA, model.trust.opinions_JA[1:])
    assert torch.equal(found.trust.weights_A, model.trust.weights_A)
    history = torch.tensor([[2, 3, 4]])
    with torch.inference_mode():
        (own,), (_, wanted) = (one.generate(history).opinions for one in (found, model))
    assert torch.equal(own.items_BK, wanted.items_BK)
    model.trust.opinions_JA[1] = 0
    assert parts_of(with_parts(model, None)) == "weights"
    # The run itself stays as it is.
    assert names(model) == ["sequence", "item-knn"]


def test_weights_that_count_nothing_never_travel(model: Recommender) -> None:
    assert model.trust is not None
    model.trust.weights_A.zero_()
    assert parts_of(with_parts(model, None)) == "bias"
    with pytest.raises(NotExportableError, match="count nothing"):
        with_parts(model, "both")


@pytest.mark.parametrize("wanted", ["both", "weights", "bias"])
def test_what_is_wanted(model: Recommender, wanted: Parts) -> None:
    assert parts_of(with_parts(model, wanted)) == wanted


@pytest.mark.parametrize("wanted", ["both", "bias"])
def test_a_run_without_a_cloud_model_has_no_item_bias(bundle_dataset: Dataset, wanted: Parts) -> None:
    plain = untrained_run(bundle_dataset).device_model
    assert parts_of(with_parts(plain, None)) == parts_of(with_parts(plain, "weights")) == "weights"
    with pytest.raises(NotExportableError, match="no item bias"):
        with_parts(plain, wanted)


def test_the_generator_of_weights_stays_at_home(
    bundle_dataset: Dataset, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle of the item bias alone: theta is 0 in its graph, its canary and its measurement."""
    monkeypatch.setattr(graphs, "export_device", lambda model: bundle.read("device.onnx"))
    run = untrained_run(bundle_dataset, cloud={**BLEND, "kind": "item-knn"})
    found = export_bundle(run, bundle_dataset, tmp_path / "bundle", key=KEY, parts="bias", measure=False)
    assert (found.manifest.parts, found.manifest.trust.weights) == ("bias", [0] * 8)
    assert [opinion.name for opinion in found.manifest.opinions] == ["item-knn"]
    theta_BP, items_BJK, _ = parity.run(parity.session(found.read("generator.onnx")), history=np.array([[5, 6, 7]] * 2))
    assert (theta_BP.shape, items_BJK.shape) == ((2, found.manifest.size), (2, 1, 10))
    assert not theta_BP.any()
    assert not any(found.canary().theta)
    assert len(found.read("generator.onnx")) < len(bundle.read("generator.onnx"))
