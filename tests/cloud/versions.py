"""Versions so small that they are made in milliseconds and their theta is worked out by hand, without torch.

The generator of version `n` gives, for history h over its last L_g = 8 events, theta = n + S(h) · (1, 2, …, 20), where
S is the sum of the item indices divided by 1024: whole numbers of 1024ths, exact in float32. There may be two opinions
of three items each: with the newest item n, the first names n + 1, n + 2 and n + 3 for 255, 128 and 0, the second 40,
30 and 1, which is no item, for 255 n.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tests import signing

from duetgen.wire.bundle import Canary, CanaryOpinion, Items, LayoutEntry, Opinion
from duetgen.wire.messages import Parts
from duetgen.wire.trust import Trust

P, WINDOW, HISTORY, VOCABULARY = 20, 5, 8, 100


def theta(history: Sequence[int], number: int = 1) -> np.ndarray:
    """What version `number` must answer."""
    total = sum(list(history)[-HISTORY:]) / 1024
    return (number + total * np.arange(1, P + 1)).astype(np.float32)


def scores(history: Sequence[int], candidates: Sequence[int], theta_P: np.ndarray) -> np.ndarray:
    """What the device graph computes: candidate · (theta[0] + the sum of the window)."""
    return np.array(candidates, dtype=np.float32) * (theta_P[0] + sum(list(history)[-WINDOW:]))


def opinions(history: Sequence[int]) -> list[tuple[list[int], list[float]]]:
    """Items and values of both opinions, what means nothing left out."""
    newest = history[-1]
    return [([newest + 1, newest + 2], [255.0, 128.0]), ([30, 40], [255.0 * newest, 255.0 * newest])]


Value = tuple[str, int, list[str | int]]


def _graph(nodes: list[object], inputs: list[Value], outputs: list[Value], constants: dict[str, object]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def generator_graph(number: int, advised: bool = False) -> bytes:
    """`generator.onnx`, with opinions or without."""
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
    outputs: list[Value] = [("theta", TensorProto.FLOAT, ["B", P])]
    if advised:
        nodes += [
            # Padding is 0 and stands behind the newest item.
            helper.make_node("Cast", ["history"], ["padded"], to=TensorProto.BOOL),
            helper.make_node("Cast", ["padded"], ["ones"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["ones", "axis"], ["length"], keepdims=1),
            helper.make_node("Sub", ["length", "one"], ["last"]),
            helper.make_node("GatherElements", ["history", "last"], ["newest"], axis=1),
            helper.make_node("Unsqueeze", ["newest", "axis"], ["newest3"]),
            helper.make_node("Mul", ["newest3", "times"], ["moved"]),
            helper.make_node("Add", ["moved", "named"], ["items"]),
            helper.make_node("Cast", ["newest3"], ["float3"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float3", "slopes"], ["sloped"]),
            helper.make_node("Add", ["sloped", "worth"], ["values"]),
        ]
        constants |= {
            "one": np.array([[1]]),
            "times": np.array([[[1, 1, 1], [0, 0, 0]]]),
            "named": np.array([[[2, 1, 3], [40, 30, 1]]]),
            "slopes": np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.float32),
            "worth": np.array([[[128, 255, 0], [0, 0, 0]]], dtype=np.float32),
        }
        outputs += [("items", TensorProto.INT64, ["B", 2, 3]), ("values", TensorProto.FLOAT, ["B", 2, 3])]
    return _graph(nodes, [("history", TensorProto.INT64, ["B", "L"])], outputs, constants)


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
    inputs: list[Value] = [
        ("theta", TensorProto.FLOAT, ["B", P]),
        ("history", TensorProto.INT64, ["B", "L"]),
        ("candidates", TensorProto.INT64, ["B", "C"]),
    ]
    outputs: list[Value] = [("scores", TensorProto.FLOAT, ["B", "C"])]
    return _graph(nodes, inputs, outputs, {"axis": np.array([1]), "zero": np.array([0]), "one": np.array([1])})


def describe(root: Path, number: int, parts: Parts = "weights") -> str:
    """Write the manifest of the files that are there now, and sign it: the model_id."""
    names = [] if parts == "weights" else ["sequence", "item-knn"]
    return signing.describe(
        root,
        window=WINDOW,
        history=HISTORY,
        vocabulary=VOCABULARY,
        layout=[LayoutEntry("head.weight", [4, 4], 100.0), LayoutEntry("head.bias", [4], 100.0)],
        created=f"2026-01-01T00:00:{number:02}+00:00",
        parts=parts,
        opinions=[Opinion(name, 3, 30_000.0) for name in names],
        trust=Trust([0, 10], [1.0, 0.5], [[1.0, 0.0] for _ in names]),
    )


def make_version(
    root: Path, number: int = 1, *, lying: bool = False, parts: Parts = "weights", misled: bool = False
) -> str:
    """A bundle at `root`; a higher number is newer. The canary of a lying one has weights that its graphs do not give,
    that of a misled one opinions.
    """
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
        []
        if parts == "weights"
        else [CanaryOpinion(items, [value + misled for value in values]) for items, values in opinions(history)],
    )
    (aside / "generator.onnx").write_bytes(generator_graph(number, parts != "weights"))
    (aside / "device.onnx").write_bytes(device_graph())
    ids = ["", "", *(f"item-{index}" for index in range(2, VOCABULARY))]
    (aside / "items.json").write_bytes(msgspec.json.encode(Items(ids, [])))
    (aside / "canary.json").write_bytes(msgspec.json.encode(canary))
    model_id = describe(aside, number, parts)
    aside.replace(root)
    return model_id
