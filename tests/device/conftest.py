"""A bundle so small that its scores are worked out by hand, without torch and without any of the code under test.

With history h and E the item embedding [V, 4], the graph scores candidate c as

    E[c] · (mean of E[h] (W + ΔW) + b + Δb),   weights of theta = ΔW and Δb, 16 + 4 values.

A bundle with an item bias has the opinions of two models: see `Tiny.opinions` and `TRUST`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import signing

from duetgen.wire.bias import ItemBias
from duetgen.wire.bundle import Canary, CanaryOpinion, Items, LayoutEntry, Manifest, Opinion
from duetgen.wire.messages import Parts
from duetgen.wire.trust import Trust

from .cloud import FakeCloud, Server

D, P, WINDOW, HISTORY = 4, 20, 5, 8
TRUST = Trust(ages=[0, 4], weights=[1.0, 0.5], opinions=[[1.0, 0.0], [2.0, 2.0]])
OPINIONS = [Opinion("next", 2, 2.0), Opinion("first", 1, 1.0)]


@dataclass(frozen=True)
class Tiny:
    """A hand-made bundle and its reference, in numpy alone."""

    root: Path
    model_id: str
    embedding_VD: np.ndarray
    weight_DD: np.ndarray
    bias_D: np.ndarray

    @property
    def vocabulary(self) -> int:
        return len(self.embedding_VD)

    def scores(self, history: Sequence[int], candidates: Sequence[int], theta_P: np.ndarray | None) -> np.ndarray:
        """What a device must compute."""
        theta_P = np.zeros(P) if theta_P is None else theta_P
        recent = list(history)[-WINDOW:]
        mean_D = self.embedding_VD[recent].sum(0) / max(len(recent), 1)
        state_D = mean_D @ (self.weight_DD + theta_P[:16].reshape(4, 4)) + self.bias_D + theta_P[16:]
        return self.embedding_VD[list(candidates)] @ state_D

    def theta(self, history: Sequence[int]) -> np.ndarray:
        """The generator that the cloud of these tests runs: any function of the history will do."""
        seed = sum((i + 1) * item for i, item in enumerate(list(history)[-HISTORY:]))
        return np.random.default_rng(seed).uniform(-0.5, 0.5, P).astype(np.float32)

    def opinions(self, history: Sequence[int]) -> list[ItemBias]:
        """What two models in the cloud of these tests think, in values that the wire carries exactly: one likes the two
        items after the last event, the other the first item of the catalogue."""
        after = sorted(2 + (history[-1] + step) % (self.vocabulary - 2) for step in (0, 1))
        one = ItemBias(np.array(after), np.array([255 / 128, 64 / 128], dtype=np.float32))
        return [one, ItemBias(np.array([2]), np.array([255 / 256], dtype=np.float32))]

    def ids(self, indices: Sequence[int]) -> list[str]:
        return [f"item-{index}" for index in indices]


def device_graph(embedding_VD: np.ndarray, weight_DD: np.ndarray, bias_D: np.ndarray) -> bytes:
    """`device.onnx`."""
    constants = {
        "E": embedding_VD,
        "W": weight_DD,
        "b": bias_D,
        "zero": np.array([0]),
        "w": np.array([16]),
        "p": np.array([P]),
        "axis": np.array([1]),
        "last": np.array([2]),
        "square": np.array([-1, D, D]),
        "padding": np.array(0),
        "one": np.array(1, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["E", "history"], ["events"]),
        helper.make_node("ReduceSum", ["events", "axis"], ["total"], keepdims=1),
        helper.make_node("Greater", ["history", "padding"], ["real"]),
        helper.make_node("Cast", ["real"], ["real_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real_float", "axis"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["divisor"]),
        helper.make_node("Unsqueeze", ["divisor", "last"], ["divisor_3"]),
        helper.make_node("Div", ["total", "divisor_3"], ["mean"]),
        helper.make_node("Slice", ["theta", "zero", "w", "axis"], ["flat"]),
        helper.make_node("Reshape", ["flat", "square"], ["delta_w"]),
        helper.make_node("Add", ["delta_w", "W"], ["weight"]),
        helper.make_node("Slice", ["theta", "w", "p", "axis"], ["delta_b"]),
        helper.make_node("Add", ["delta_b", "b"], ["bias"]),
        helper.make_node("Unsqueeze", ["bias", "axis"], ["bias_3"]),
        helper.make_node("MatMul", ["mean", "weight"], ["turned"]),
        helper.make_node("Add", ["turned", "bias_3"], ["state"]),
        helper.make_node("Gather", ["E", "candidates"], ["options"]),
        helper.make_node("Transpose", ["state"], ["column"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["options", "column"], ["scores_3"]),
        helper.make_node("Squeeze", ["scores_3", "last"], ["scores"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "device",
        [
            value("theta", TensorProto.FLOAT, ["B", P]),
            value("history", TensorProto.INT64, ["B", "L"]),
            value("candidates", TensorProto.INT64, ["B", "C"]),
        ],
        [value("scores", TensorProto.FLOAT, ["B", "C"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def describe(root: Path, bound: float = 1.0, vocabulary: int = 0, **changes: object) -> str:
    """Write `manifest.json` for the files that are there now, and sign it: the model_id."""
    layout = [LayoutEntry("head.weight", [D, D], bound), LayoutEntry("head.bias", [D], bound)]
    own = {"window": WINDOW, "history": HISTORY, "vocabulary": vocabulary, "layout": layout}
    return signing.describe(root, **({**own, "created": "2026-01-01T00:00:00Z"} | changes))


def make_tiny(root: Path, seed: int = 0, vocabulary: int = 30, parts: Parts = "weights") -> Tiny:
    """Write a bundle."""
    rng = np.random.default_rng(seed)
    embedding_VD = rng.normal(size=(vocabulary, D)).astype(np.float32)
    embedding_VD[0] = 0
    weight_DD = rng.normal(size=(D, D)).astype(np.float32)
    bias_D = rng.normal(size=D).astype(np.float32)
    root.mkdir(parents=True)
    (root / "device.onnx").write_bytes(device_graph(embedding_VD, weight_DD, bias_D))
    (root / "generator.onnx").write_bytes(b"stays in the cloud")
    ids = ["", "", *(f"item-{index}" for index in range(2, vocabulary))]
    titles = ["", "", *(f"Title of {index}" for index in range(2, vocabulary))]
    (root / "items.json").write_bytes(msgspec.json.encode(Items(ids, titles)))
    tiny = Tiny(root, "", embedding_VD, weight_DD, bias_D)
    history, candidates = [9, 8, 7, 2, 3, 1, 4], [2, 9, 1, 12]
    theta_P = tiny.theta(history)
    canary = Canary(
        history,
        candidates,
        theta_P.tolist(),
        tiny.scores(history, candidates, theta_P).tolist(),
        tiny.scores(history, candidates, None).tolist(),
    )
    own: dict[str, Any] = {}
    if parts != "weights":
        found = [CanaryOpinion(one.items.tolist(), one.values.tolist()) for one in tiny.opinions(history)]
        canary = msgspec.structs.replace(canary, opinions=found)
        own = {"parts": parts, "opinions": OPINIONS, "trust": TRUST}
    (root / "canary.json").write_bytes(msgspec.json.encode(canary))
    model_id = describe(root, vocabulary=vocabulary, **own)
    return Tiny(root, model_id, embedding_VD, weight_DD, bias_D)


def load_tiny(root: Path) -> Tiny:
    """The bundle that `make_tiny` wrote, in another process."""
    graph = onnx.load(root / "device.onnx").graph
    arrays = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    model_id = msgspec.json.decode((root / "manifest.json").read_bytes(), type=Manifest).model_id
    return Tiny(root, model_id, arrays["E"], arrays["W"], arrays["b"])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A bundle of 28 known items, P = 20, L_d = 5, L_g = 8; not to be changed."""
    return make_tiny(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The same with an item bias beside the weights; not to be changed."""
    return make_tiny(tmp_path_factory.mktemp("biased") / "bundle", parts="both")


@pytest.fixture
def new_tiny(tmp_path: Path) -> Callable[..., Tiny]:
    """`new_tiny(seed=…)`: a bundle of its own."""
    count = 0

    def make(**options: Any) -> Tiny:
        nonlocal count
        count += 1
        return make_tiny(tmp_path / f"bundle-{count}", **options)

    return make


@pytest.fixture
def cloud(tiny: Tiny) -> FakeCloud:
    """A cloud in process, serving the tiny bundle."""
    return FakeCloud(tiny)


@pytest.fixture
def server(cloud: FakeCloud) -> Iterator[Server]:
    """The same on a loopback port."""
    server = Server(cloud)
    yield server
    server.stop()
