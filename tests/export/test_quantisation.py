"""int8 embeddings: by hand, within half a step, a quarter of the size, and hardly worse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.bundles import tiny_bundle, untrained_run
from torch import nn

from duetgen.data.store import Dataset
from duetgen.export import graphs, parity
from duetgen.export.graphs import quantised
from duetgen.export.quality import measure
from duetgen.export.quantisation import QuantisedEmbedding, quantise
from duetgen.wire.bundle import Bundle, open_bundle


@pytest.fixture(scope="module")
def small(bundle_dataset: Dataset, bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with int8 embeddings; its generator is that of float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            graphs, "export_generator", lambda model, two_step: (bundle_folder / "generator.onnx").read_bytes()
        )
        return tiny_bundle(tmp_path_factory.mktemp("int8") / "bundle", bundle_dataset, embeddings="int8")


def test_values_by_hand() -> None:
    """Largest 2: a step is 2/127, -1 is 63.5 steps and rounds to the even 64; a row of zeros stays zero."""
    table_VD = torch.tensor([[0.0, 0.0, 0.0], [2.0, -1.0, 0.0], [-0.5, 0.25, 0.5]])
    value_VD, scale_V = quantise(table_VD)
    assert value_VD.tolist() == [[0, 0, 0], [127, -64, 0], [-127, 64, 127]]
    np.testing.assert_allclose(scale_V.numpy(), [0, 2 / 127, 0.5 / 127])
    assert value_VD.dtype == torch.int8


def test_the_error_is_half_a_step() -> None:
    torch.manual_seed(0)
    embedding = nn.Embedding(50, 8)
    found = QuantisedEmbedding(embedding)
    off_VD = (found.weight - embedding.weight).abs()
    assert (off_VD <= found.scale_V[:, None] / 2 * (1 + 1e-5)).all()
    ids = torch.tensor([[3, 4], [49, 0]])
    torch.testing.assert_close(found(ids), found.weight[ids])


def test_the_model_itself_stays_as_it_is(bundle_dataset: Dataset) -> None:
    model = untrained_run(bundle_dataset, history={"share_embedding": True}).model
    before = model.backbone.item_embedding
    copy = quantised(model)
    assert model.backbone.item_embedding is before
    assert isinstance(copy.backbone.item_embedding, QuantisedEmbedding)
    # The generator stays in the cloud: it reads what it was trained with.
    history = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        torch.testing.assert_close(copy.generate(history).weights_BP, model.generate(history).weights_BP)


def test_the_table_is_int8_in_the_file(small: Bundle, bundle: Bundle) -> None:
    vocabulary = small.manifest.vocabulary
    graph = onnx.load_from_string(small.read("device.onnx")).graph
    tables = {(t.data_type, tuple(t.dims)) for t in graph.initializer if t.dims and t.dims[0] == vocabulary}
    assert tables == {(onnx.TensorProto.INT8, (vocabulary, 16)), (onnx.TensorProto.FLOAT, (vocabulary,))}
    # 16 values and a scale, 20 bytes an item, in place of 64.
    saved = len(bundle.read("device.onnx")) - len(small.read("device.onnx"))
    assert saved == pytest.approx(44 * vocabulary, rel=0.1)
    assert small.read("generator.onnx") == bundle.read("generator.onnx")
    assert small.manifest.embeddings == "int8"
    assert small.manifest.model_id != bundle.manifest.model_id


def test_scores_are_near_those_of_float32(small: Bundle, bundle: Bundle) -> None:
    canary = bundle.canary()
    inputs = {
        "theta": np.array([canary.theta], np.float32),
        "history": np.array([canary.history[-6:]]),
        "candidates": np.array([canary.candidates]),
    }
    (found,), (expected,) = (parity.run(parity.session(b.read("device.onnx")), **inputs) for b in (small, bundle))
    assert 0 < np.abs(found - expected).max() < 0.05


def test_the_loss_is_measured_and_small(bundle_dataset: Dataset) -> None:
    model = untrained_run(bundle_dataset).model
    found = measure(model, bundle_dataset, quantised(model))
    assert set(found) == {"validation_ndcg@10", "validation_ndcg@10_fallback", "validation_ndcg@10_int8_loss"}
    whole = measure(model, bundle_dataset, None)
    assert found["validation_ndcg@10"] + found["validation_ndcg@10_int8_loss"] == pytest.approx(
        whole["validation_ndcg@10"]
    )
    assert abs(found["validation_ndcg@10_int8_loss"]) < 0.01


def test_a_bundle_with_int8_opens(small: Bundle) -> None:
    assert open_bundle(Path(small.root), contents=True).manifest == small.manifest
