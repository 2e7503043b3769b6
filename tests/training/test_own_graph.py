"""A user's own graph from training to a cloud that serves it: `--cloud-model FILE.onnx`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.cloudmodel.graphs import counts, listing, saved
from tests.signing import KEY
from tests.training.test_frozen_base import SMALL

from duetgen.cloud.engine import Engine
from duetgen.cloudmodel import CloudList
from duetgen.cloudmodel.errors import InvalidGraphError
from duetgen.comparison.methods.changes import with_settings
from duetgen.data.store import Dataset
from duetgen.errors import OutputExistsError
from duetgen.evaluation import OWN, evaluate
from duetgen.export import export_bundle
from duetgen.training import load_run, train
from duetgen.training.config import InvalidConfigError, check_config


def settings(graph: Path, **more: object) -> dict[str, object]:
    return {"model.cloud.kind": "onnx", "model.cloud.graph": str(graph), "model.cloud.items": 5, **more}


@pytest.mark.parametrize("form", ["scores", pytest.param("list", marks=pytest.mark.slow)])
def test_it_is_trusted_measured_exported_and_served(people: Dataset, tmp_path: Path, form: str) -> None:
    own = counts(people.vocabulary) if form == "scores" else listing(people.vocabulary, 8)
    graph = saved(own, tmp_path / "own.onnx")
    ranked = train(people, with_settings(SMALL, settings(graph, **{"model.method": "cloud"})), tmp_path / "cloud")
    config = with_settings(SMALL, {"cloud_model": str(ranked.root), "optimiser.epochs": 1})
    graph.unlink()
    result = train(people, config, tmp_path / "duet")
    run = load_run(result.root)
    model = run.device_model
    assert model.trust is not None
    assert (np.diff(model.trust.opinions_JA.numpy()) <= 0).all()
    (report,) = evaluate(CloudList(load_run(ranked.root).cloud_model), people, conditions=[OWN], bootstrap=0)
    assert report["own"].metrics["ndcg@10"].mean > 0
    # Whatever was learnt of it: it counts here.
    model.trust.opinions_JA.fill_(1)
    bundle = export_bundle(run, people, tmp_path / "bundle", key=KEY, measure=False)
    assert [opinion.name for opinion in bundle.manifest.opinions] == ["onnx"]
    generator = onnx.load_from_string(bundle.read("generator.onnx"))
    assert {one.domain for one in generator.opset_import} == {""}
    # The graph is in it once, as nodes, and not as bytes beside them.
    assert len(bundle.read("generator.onnx")) < len(bundle.read("device.onnx")) + 6 * people.vocabulary**2
    engine = Engine(bundle, ["CPUExecutionProvider"])
    history = [2, 3, 4]
    assert model.cloud is not None
    (wanted,) = model.cloud.opinions(torch.tensor([history]))
    (given,) = engine.bias_codec.decode(engine.thetas([engine.history(history)]).encode(0, "float32").bias)
    row_V = np.zeros(people.vocabulary, dtype=np.float32)
    row_V[given.items] = given.values
    np.testing.assert_allclose(row_V, wanted.over(people.vocabulary)[0].numpy(), atol=0.01)


def test_another_graph_is_another_run(people: Dataset, tmp_path: Path) -> None:
    graph = saved(counts(people.vocabulary), tmp_path / "own.onnx")
    config = with_settings(SMALL, settings(graph, **{"model.method": "cloud"}))
    train(people, config, tmp_path / "cloud")
    assert train(people, config, tmp_path / "cloud").already_finished
    saved(listing(people.vocabulary, 8), graph)
    with pytest.raises(OutputExistsError):
        train(people, config, tmp_path / "cloud")


def test_a_graph_that_is_none_leaves_no_folder(people: Dataset, tmp_path: Path) -> None:
    graph = saved(counts(people.vocabulary + 1), tmp_path / "own.onnx")
    with pytest.raises(InvalidGraphError):
        train(people, with_settings(SMALL, settings(graph)), tmp_path / "duet")
    assert not (tmp_path / "duet").exists()
    with pytest.raises(InvalidConfigError, match="needs its graph"):
        check_config(with_settings(SMALL, {"model.cloud.kind": "onnx"}))


@pytest.mark.parametrize("kind", ["auto", "blend", "ease"])
@pytest.mark.parametrize("name", ["graph", "ids"])
def test_a_graph_of_another_kind_is_refused(kind: str, name: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"model.cloud.{name} is of the kind onnx, .* is {kind}"):
        check_config(with_settings(SMALL, {"model.cloud.kind": kind, f"model.cloud.{name}": "own.onnx"}))
