"""Opinions in two steps: the same as in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.bundles import BLEND, untrained_run
from tests.signing import KEY

from duetgen.cloud.engine import Engine
from duetgen.data.store import Dataset
from duetgen.export import export_bundle, graphs, parity, retrieval
from duetgen.export.errors import NotExportableError
from duetgen.export.retrieval import recall, two_steps
from duetgen.recommender import Recommender
from duetgen.wire.bundle import Bundle
from duetgen.wire.messages import MetPolicy


def model(dataset: Dataset, **settings: Any) -> Recommender:
    return untrained_run(dataset, cloud=BLEND, **settings).device_model


@pytest.fixture(scope="module")
def in_two_steps(bundle_dataset: Dataset) -> Callable[[MetPolicy], bytes]:
    """`in_two_steps(met)`: the graph of the generator whose opinions come in two steps."""
    return cache(lambda met: graphs.export_generator(model(bundle_dataset, met=met), True))


@pytest.mark.parametrize("met", ["hide", "show"])
def test_two_steps_find_the_exact_opinion(
    bundle_dataset: Dataset, in_two_steps: Callable[[MetPolicy], bytes], met: MetPolicy
) -> None:
    found, content = model(bundle_dataset, met=met), in_two_steps(met)
    operators = {node.op_type for node in onnx.load_from_string(content).graph.node}
    assert "MatMulInteger" in operators
    # No operator that needs more than the standard ones.
    assert {one.domain for one in onnx.load_from_string(content).opset_import} == {""}
    session, exact = parity.session(content), graphs.GeneratorGraph(found).eval()
    rng = np.random.default_rng(0)
    for batch, length in ((1, 1), (3, 7), (2, 20)):
        history_BL = parity.draw_histories(rng, batch, length, found.vocabulary)
        with torch.inference_mode():
            _, *wanted = (part.numpy() for part in exact(torch.from_numpy(history_BL)))
        given = parity.run(session, history=history_BL)[1:]
        np.testing.assert_allclose(
            parity.dense(given, found.vocabulary), parity.dense(wanted, found.vocabulary), atol=1e-5
        )
    assert recall(session, exact, bundle_dataset, found.generator_history) == 1


def test_items_that_the_first_step_misses_are_counted(bundle_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "LEVELS", 1)
    monkeypatch.setattr(retrieval, "MORE", 1)
    found = model(bundle_dataset)
    session, exact = parity.session(graphs.export_generator(found, True)), graphs.GeneratorGraph(found).eval()
    with pytest.raises(NotExportableError, match="is wanted") as refused:
        recall(session, exact, bundle_dataset, found.generator_history)
    assert refused.value.hint == "export --retrieval exact"


def test_a_large_catalogue_takes_two_steps_by_itself(bundle_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = model(bundle_dataset).cloud
    assert [two_steps(wanted, cloud) for wanted in ("auto", "exact", "two-step")] == [False, False, True]
    monkeypatch.setattr(retrieval, "LARGE", bundle_dataset.vocabulary - 1)
    assert [two_steps(wanted, cloud) for wanted in ("auto", "exact", "two-step")] == [True, False, True]
    assert not two_steps("auto", None)
    table = untrained_run(bundle_dataset, cloud={**BLEND, "kind": "item-knn"}).device_model.cloud
    assert not two_steps("auto", table)
    with pytest.raises(NotExportableError, match="has none"):
        two_steps("two-step", table)


def test_a_bundle_in_two_steps_is_served_and_says_what_they_find(
    bundle_dataset: Dataset,
    bundle: Bundle,
    in_two_steps: Callable[[MetPolicy], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = untrained_run(bundle_dataset, cloud=BLEND)
    ready = {True: in_two_steps(run.config.model.met)}
    monkeypatch.setattr(graphs, "export_device", lambda model: bundle.read("device.onnx"))
    monkeypatch.setattr(graphs, "export_generator", lambda model, two_step: ready[two_step])
    found = export_bundle(run, bundle_dataset, tmp_path / "bundle", key=KEY, retrieval="two-step", measure=False)
    assert found.manifest.metrics["retrieval_recall"] == 1
    Engine(found, ["CPUExecutionProvider"]).check()
