"""A generator that reads the cloud model's state: one reading of the history in its graph gives both parts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from tests.bundles import BLEND, untrained_run

from duetgen.data.store import Dataset
from duetgen.export import graphs, parity
from duetgen.export.parts import parts_of, with_parts
from duetgen.recommender import Recommender
from duetgen.wire.messages import Parts


@pytest.fixture
def model(bundle_dataset: Dataset) -> Recommender:
    """With a sequence model and a table, all of whose parts count."""
    return untrained_run(bundle_dataset, cloud=BLEND, history={"encoder": "cloud"}).device_model


def readings(content: bytes) -> tuple[int, int]:
    """How many times a graph runs the sequence model: the feed-forward layer of its SASRec and its heads alone have the
    function of Gauss; and how many times its GRU.
    """
    operators = [node.op_type for node in onnx.load_from_string(content).graph.node]
    return operators.count("Erf") + operators.count("Gelu"), operators.count("GRU")


def test_the_graph_reads_the_history_once(model: Recommender) -> None:
    content = graphs.export_generator(model)
    # One in its attention layer, one in each of its heads.
    assert readings(content) == (3, 1)
    session = parity.session(content)
    history = np.array([[3, 4, 5, 0, 0], [7, 2, 9, 4, 11]])
    with torch.inference_mode():
        expected = graphs.GeneratorGraph(model).eval()(torch.from_numpy(history))
        torch.testing.assert_close(expected[0], model.generate(torch.from_numpy(history)).weights_BP)
        of_nothing = model.generate(torch.zeros(1, 5, dtype=torch.int64)).weights_BP
    weights_BP, *opinions = parity.run(session, history=history)
    np.testing.assert_allclose(weights_BP, expected[0].numpy(), atol=1e-5)
    # The items of an opinion come in any order.
    wanted = parity.dense([one.numpy() for one in expected[1:]], model.vocabulary)
    np.testing.assert_allclose(parity.dense(opinions, model.vocabulary), wanted, atol=1e-5)
    assert of_nothing is not None
    np.testing.assert_allclose(parity.run(session, history=np.zeros((1, 5), np.int64))[0], of_nothing, atol=1e-5)


@pytest.mark.parametrize(
    ("wanted", "silent", "members", "runs"),
    [("weights", [], ["sequence"], 1), ("both", [0], ["sequence", "item-knn"], 1), ("bias", [0], ["item-knn"], 0)],
)
def test_it_has_of_the_cloud_model_what_its_parts_need(
    model: Recommender, wanted: Parts, silent: list[int], members: list[str], runs: int
) -> None:
    assert model.trust is not None
    model.trust.opinions_JA[silent] = 0
    found = with_parts(model, wanted)
    assert parts_of(found) == wanted
    graph = graphs.GeneratorGraph(found).eval()
    assert graph.cloud is not None
    assert list(graph.cloud.members) == members
    history = torch.tensor([[3, 4, 5, 0], [7, 2, 9, 4]])
    with torch.inference_mode():
        weights_BP, *opinions = graph(history)
        kept = model.generate(history)
        assert torch.equal(weights_BP, torch.zeros_like(weights_BP) if wanted == "bias" else kept.weights_BP)
        assert len(opinions) == (0 if wanted == "weights" else 2)
        if opinions:
            assert torch.equal(opinions[0][:, 0], kept.opinions[1].items_BK)
        assert found.generate(history).weights_BP is not None
    # Its heads give opinions, and are left out with them.
    assert readings(graphs.export_generator(found)) == (runs, runs)
