"""Both graphs compute what torch computes, whatever the backbone, the encoder, the lengths and the padding.

Shapes: B devices, L history length, C candidates, P values in theta.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.bundles import BLEND, untrained_run
from tests.export.conftest import ADVISED, PLAIN, RECURRENT, Export, Exported

from duetgen.cli.train import size_word
from duetgen.core import Theta
from duetgen.data.store import Dataset
from duetgen.export import graphs, parity
from duetgen.training.config import convert_config

FIXTURE_IS_CONSTANT = [HealthCheck.function_scoped_fixture]


def run_device(exported: Exported, theta: Any, history: Any, candidates: Any) -> np.ndarray:
    """Scores of lists or arrays by ONNX Runtime."""
    (scores_BC,) = parity.run(
        exported.device_session,
        theta=np.asarray(theta, np.float32),
        history=np.asarray(history, np.int64),
        candidates=np.asarray(candidates, np.int64),
    )
    return scores_BC


def run_generator(exported: Exported, history: Any) -> np.ndarray:
    """The weights of theta."""
    return parity.run(exported.generator_session, history=np.asarray(history, np.int64))[0]


def run_opinions(exported: Exported, history: Any) -> np.ndarray:
    """The opinions over the catalogue: [B, J, V]."""
    _, *opinions = parity.run(exported.generator_session, history=np.asarray(history, np.int64))
    return parity.dense(opinions, exported.model.vocabulary)


def torch_scores(exported: Exported, theta: Theta | None, history: Any, candidates: Any) -> np.ndarray:
    """Scores of the model by its weights of theta alone, as it generates them."""
    with torch.inference_mode():
        weights = None if theta is None else Theta(theta.weights_BP)
        scores: np.ndarray = exported.model.score(torch.tensor(history), torch.tensor(candidates), weights).numpy()
        return scores


def test_names_types_and_dimensions(exported: Exported) -> None:
    size = exported.model.backbone.head.layout.size
    found = {}
    for content in (exported.device, exported.generator):
        graph = onnx.load_from_string(content).graph
        for value in (*graph.input, *graph.output):
            tensor = value.type.tensor_type
            found[value.name, len(found)] = (tensor.elem_type, [d.dim_param or d.dim_value for d in tensor.shape.dim])
    integers, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    opinions = [("items", integers, ["B", 2, 10]), ("values", floats, ["B", 2, 10])]
    assert [(name, *kind) for (name, _), kind in found.items()] == [
        ("theta", floats, ["B", size]),
        ("history", integers, ["B", "L"]),
        ("candidates", integers, ["B", "C"]),
        ("scores", floats, ["B", "C"]),
        ("history", integers, ["B", "L"]),
        ("theta", floats, ["B", size]),
        *(opinions if exported.model.cloud else []),
    ]


def test_graphs_are_valid_and_say_nothing_of_where_they_were_made(exported: Exported) -> None:
    for content in (exported.device, exported.generator):
        onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
        for word in (str(Path(graphs.__file__).parent.parent), str(Path.home()), "site-packages", ".py"):
            assert word.encode() not in content


def test_recurrence_is_the_one_operator(export_graphs: Export) -> None:
    recurrent = export_graphs(RECURRENT).nodes
    assert (recurrent["generator"].count("GRU"), recurrent["device"].count("GRU")) == (1, 2)
    assert export_graphs(PLAIN).nodes["generator"].count("GRU") == 0
    for operator in ("Loop", "Scan", "If"):
        assert operator not in recurrent["generator"]


def test_random_theta_histories_and_candidates(exported: Exported) -> None:
    model = exported.model
    bounds_P = np.full(model.backbone.head.layout.size, 0.3, np.float32)
    worst = parity.check(
        (graphs.DeviceGraph(model).eval(), exported.device_session),
        (graphs.GeneratorGraph(model).eval(), exported.generator_session),
        window=model.window,
        history=model.generator_history,
        vocabulary=model.vocabulary,
        bounds_P=bounds_P,
        seed=1,
    )
    assert worst < 1e-5


@settings(max_examples=15, deadline=None, suppress_health_check=FIXTURE_IS_CONSTANT)
@given(data=st.data())
def test_any_histories_against_the_model_itself(exported: Exported, data: st.DataObject) -> None:
    """Not against the module that was exported, but against the recommender that was trained."""
    model = exported.model
    ids = st.integers(1, model.vocabulary - 1)
    histories = data.draw(st.lists(st.lists(ids, min_size=0, max_size=model.generator_history), min_size=1, max_size=4))
    length = max(1, *map(len, histories))
    history_BL = np.array([h + [0] * (length - len(h)) for h in histories], np.int64)
    width = max(1, max(len(h[-model.window :]) for h in histories))
    window_BL = np.array([h[-model.window :] + [0] * (width - len(h[-model.window :])) for h in histories], np.int64)
    count = data.draw(st.integers(1, 30))
    candidates_BC = np.array(data.draw(st.lists(ids, min_size=count, max_size=count)) * len(histories), np.int64)
    candidates_BC = candidates_BC.reshape(len(histories), count)
    with torch.inference_mode():
        theta = model.generate(torch.from_numpy(history_BL))
    assert theta.weights_BP is not None
    theta_BP = run_generator(exported, history_BL)
    if model.config.backbone.residual:
        np.testing.assert_allclose(theta_BP, theta.weights_BP.numpy(), atol=1e-5)
    for place, opinion in enumerate(theta.opinions):
        wanted_BV = opinion.over(model.vocabulary).numpy()
        np.testing.assert_allclose(run_opinions(exported, history_BL)[:, place], wanted_BV, atol=1e-4)
    expected = torch_scores(exported, theta, window_BL, candidates_BC)
    np.testing.assert_allclose(run_device(exported, theta_BP, window_BL, candidates_BC), expected, atol=1e-5)


def test_theta_zero_is_the_global_model(exported: Exported) -> None:
    size = exported.model.backbone.head.layout.size
    found = run_device(exported, np.zeros((1, size)), [[5, 6, 7]], [[8, 9, 10]])
    np.testing.assert_allclose(found, torch_scores(exported, None, [[5, 6, 7]], [[8, 9, 10]]), atol=1e-5)


def test_theta_is_seen_in_the_scores(exported: Exported) -> None:
    theta_BP = run_generator(exported, [[5, 6, 7]])
    assert np.abs(theta_BP).max() > 0.01
    own = run_device(exported, theta_BP, [[5, 6, 7]], [[8, 9, 10]])
    fallback = run_device(exported, np.zeros_like(theta_BP), [[5, 6, 7]], [[8, 9, 10]])
    assert np.abs(own - fallback).max() > 1e-4


@pytest.mark.parametrize("length", [1, 2, 5])
def test_padding_changes_nothing(exported: Exported, length: int) -> None:
    history = [list(range(2, 2 + length))]
    theta_BP = run_generator(exported, history)
    alone = run_device(exported, theta_BP, history, [[8, 9, 10]])
    for padding in range(1, exported.model.window - length + 1):
        padded = [history[0] + [0] * padding]
        np.testing.assert_allclose(run_generator(exported, padded), theta_BP, atol=1e-6)
        np.testing.assert_allclose(run_device(exported, theta_BP, padded, [[8, 9, 10]]), alone, atol=1e-6)


def test_a_batch_is_its_rows(exported: Exported) -> None:
    histories = [[2, 3, 4, 5], [6, 0, 0, 0], [0, 0, 0, 0], [7, 8, 0, 0]]
    theta_BP = run_generator(exported, histories)
    candidates = [[8, 9], [10, 11], [12, 13], [14, 15]]
    scores_BC = run_device(exported, theta_BP, histories, candidates)
    for row, history in enumerate(histories):
        np.testing.assert_allclose(run_generator(exported, [history])[0], theta_BP[row], atol=1e-6)
        alone = run_device(exported, theta_BP[row : row + 1], [history], candidates[row : row + 1])
        np.testing.assert_allclose(alone[0], scores_BC[row], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 33])
def test_an_empty_history_is_a_row_of_padding(exported: Exported, batch: int) -> None:
    theta_BP = run_generator(exported, np.zeros((batch, 1)))
    assert np.isfinite(theta_BP).all()
    scores_BC = run_device(exported, theta_BP, np.zeros((batch, 1)), np.full((batch, 4), 5))
    assert np.isfinite(scores_BC).all()


@pytest.mark.parametrize("count", [1, 2, 500, 5_000])
def test_any_number_of_candidates(exported: Exported, count: int) -> None:
    candidates = 2 + np.arange(count)[None] % (exported.model.vocabulary - 2)
    found = run_device(exported, run_generator(exported, [[5, 6, 7]]), [[5, 6, 7]], candidates)
    with torch.inference_mode():
        theta = exported.model.generate(torch.tensor([[5, 6, 7]]))
    np.testing.assert_allclose(found, torch_scores(exported, theta, [[5, 6, 7]], candidates), atol=1e-5)


@pytest.mark.slow
def test_the_shortest_window_and_history(bundle_dataset: Dataset) -> None:
    model = untrained_run(bundle_dataset, backbone={"window": 1}, history={"length": 1}).device_model
    sessions = parity.session(graphs.export_device(model)), parity.session(graphs.export_generator(model))
    run = Exported(untrained_run(bundle_dataset), b"", b"", *sessions)
    theta_BP = run_generator(run, [[3], [0]])
    with torch.inference_mode():
        theta = model.generate(torch.tensor([[3], [0]]))
        expected = model.score(torch.tensor([[3], [0]]), torch.tensor([[5, 6]] * 2), theta).numpy()
    assert theta.weights_BP is not None
    np.testing.assert_allclose(theta_BP, theta.weights_BP.numpy(), atol=1e-5)
    np.testing.assert_allclose(run_device(run, theta_BP, [[3], [0]], [[5, 6]] * 2), expected, atol=1e-5)


def test_opinions_of_any_padding_and_in_a_batch(export_graphs: Export) -> None:
    exported = export_graphs(ADVISED)
    histories = [[2, 3, 4, 5, 6, 7], [9, 8, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    together_BJV = run_opinions(exported, histories)
    for history, opinions_JV in zip(histories, together_BJV):
        alone = [item for item in history if item] or [0]
        for padding in (0, 1, 14):
            found_BJV = run_opinions(exported, [alone + [0] * padding])
            np.testing.assert_allclose(found_BJV[0], opinions_JV, atol=1e-4)
        # At most K less the last one, whose value is 0; never what the history holds, padding or the unknown item.
        assert ((opinions_JV > 0).sum(1) <= 9).all()
        assert not opinions_JV[:, [0, 1, *history]].any()
    assert (together_BJV[0] > 0).sum() > 9


@pytest.mark.slow  # `test_retrieval` exports under this policy, too.
def test_opinions_of_a_policy_that_shows_what_was_met(bundle_dataset: Dataset) -> None:
    model = untrained_run(bundle_dataset, cloud={**BLEND, "kind": "sequence"}, met="show").device_model
    session = parity.session(graphs.export_generator(model))
    history_BL = np.arange(2, model.vocabulary).reshape(1, -1)[:, : model.generator_history]
    items = {int(item) for item in parity.run(session, history=history_BL)[1].ravel()}
    with torch.inference_mode():
        assert model.cloud is not None
        (wanted,) = model.cloud.opinions(torch.from_numpy(history_BL))
    assert items == set(wanted.items_BK.ravel().tolist())


def test_indices_of_a_table_take_four_bytes(export_graphs: Export) -> None:
    graph = onnx.load_from_string(export_graphs(ADVISED).generator).graph
    vocabulary = export_graphs(PLAIN).model.vocabulary
    tables = [tensor for tensor in graph.initializer if list(tensor.dims) == [vocabulary, BLEND["neighbours"]]]
    assert {tensor.data_type for tensor in tables} == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT32}


@pytest.mark.parametrize("name", [PLAIN, ADVISED])
def test_sizes_are_foreseen_without_weights(export_graphs: Export, name: str) -> None:
    model = export_graphs(name).model
    made = max(graphs.bytes_of(graph) for graph in (graphs.DeviceGraph(model), graphs.GeneratorGraph(model)))
    config = export_graphs(name).run.config.model
    assert graphs.foreseen_bytes(model.vocabulary, config) == made


def test_training_says_what_no_bundle_will_hold() -> None:
    config = convert_config({"model": {"cloud": {"kind": "sequence"}}})
    assert size_word(config, 100_000) is None
    word = size_word(config, 3_000_000)
    assert word is not None
    assert "duet export` will refuse this model: its weights take" in word
