"""Versions so small that they are made in milliseconds and their theta is worked out by hand, without torch.

The generator of version `n` gives, for history h over its last L_g = 8 events, theta = n + S(h) · (1, 2, …, 20), where
S is the sum of the item indices divided by 1024: whole numbers of 1024ths, exact in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tests import signing

from duetgen.wire.bundle import Canary, Items, LayoutEntry

P, WINDOW, HISTORY, VOCABULARY = 20, 5, 8, 100


def theta(history: Sequence[int], number: int = 1) -> np.ndarray:
    """What version `number` must answer."""
    total = sum(list(history)[-HISTORY:]) / 1024
    return (number + total * np.arange(1, P + 1)).astype(np.float32)


def scores(history: Sequence[int], candidates: Sequence[int], theta_P: np.ndarray) -> np.ndarray:
    """What the device graph computes: candidate · (theta[0] + the sum of the window)."""
    return np.array(candidates, dtype=np.float32) * (theta_P[0] + sum(list(history)[-WINDOW:]))


def _graph(nodes: list[object], inputs: list[tuple[str, int, str]], output: str, constants: dict[str, object]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, ["B", size]) for name, kind, size in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["B", "N"])],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def generator_graph(number: int) -> bytes:
    """`generator.onnx`."""
    nodes = [
        helper.make_node("Cast", ["history"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axis"], ["sum"], keepdims=1),
        helper.make_node("Div", ["sum", "scale"], ["total"]),
        helper.make_node("MatMul", ["total", "steps"], ["slope"]),
        helper.make_node("Add", ["slope", "number"], ["theta"]),
    ]
    constants = {
        "axis": np.array([1]),
        "scale": np.float32(1024),
        "steps": np.arange(1, P + 1, dtype=np.float32)[None],
        "number": np.float32(number),
    }
    return _graph(nodes, [("history", TensorProto.INT64, "L")], "theta", constants)


def device_graph() -> bytes:
    """`device.onnx`."""
    nodes = [
        helper.make_node("Cast", ["history"], ["events"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["events", "axis"], ["sum"], keepdims=1),
        helper.make_node("Slice", ["theta", "zero", "one", "axis"], ["first"]),
        helper.make_node("Add", ["sum", "first"], ["state"]),
        helper.make_node("Cast", ["candidates"], ["options"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["options", "state"], ["scores"]),
    ]
    inputs = [
        ("theta", TensorProto.FLOAT, str(P)),
        ("history", TensorProto.INT64, "L"),
        ("candidates", TensorProto.INT64, "C"),
    ]
    return _graph(nodes, inputs, "scores", {"axis": np.array([1]), "zero": np.array([0]), "one": np.array([1])})


def describe(root: Path, number: int) -> str:
    """Write the manifest of the files that are there now, and sign it: the model_id."""
    return signing.describe(
        root,
        window=WINDOW,
        history=HISTORY,
        vocabulary=VOCABULARY,
        layout=[LayoutEntry("head.weight", [4, 4], 100.0), LayoutEntry("head.bias", [4], 100.0)],
        created=f"2026-01-01T00:00:{number:02}+00:00",
    )


def make_version(root: Path, number: int = 1, *, lying: bool = False) -> str:
    """A bundle at `root`; a higher number is newer. A lying one has a canary that its graphs do not give."""
    aside = root.with_name(f".{root.name}")
    aside.mkdir(parents=True)
    history, candidates = [3, 5, 7], [2, 4]
    theta_P = theta(history, number)
    wanted = theta_P + 1 if lying else theta_P
    canary = Canary(
        history,
        candidates,
        [float(value) for value in wanted],
        [float(value) for value in scores(history, candidates, theta_P)],
        [float(value) for value in scores(history, candidates, np.zeros(P))],
    )
    (aside / "generator.onnx").write_bytes(generator_graph(number))
    (aside / "device.onnx").write_bytes(device_graph())
    ids = ["", "", *(f"item-{index}" for index in range(2, VOCABULARY))]
    (aside / "items.json").write_bytes(msgspec.json.encode(Items(ids, [])))
    (aside / "canary.json").write_bytes(msgspec.json.encode(canary))
    model_id = describe(aside, number)
    aside.replace(root)
    return model_id
