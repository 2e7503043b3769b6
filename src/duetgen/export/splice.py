"""A user's own graph in the place that an exported one keeps for it."""

from __future__ import annotations

from typing import Final

import onnx
from onnx import TensorProto, compose

from duetgen.cloudmodel.graph import PLACE

PREFIX: Final = "own/"
"""Of the graph's names: no name of an exported graph has it."""


def splice(model: onnx.ModelProto, content: bytes) -> None:
    """Put a graph where the operator `PLACE` stands; both have the same opset.

    Args:
        model: changed in place.
        content: of a graph that `graph_file` has read: its outputs are values, or indices and values, in any order.
    """
    graph, own = model.graph, compose.add_prefix(onnx.load_model_from_string(content), PREFIX)
    (at,) = (n for n, node in enumerate(graph.node) if (node.domain, node.op_type) == PLACE)
    place = graph.node[at]
    # Indices come before values, as in `GraphModel.run`.
    given = sorted(own.graph.output, key=lambda one: one.type.tensor_type.elem_type == TensorProto.FLOAT)
    (wanted,) = (one for one in own.graph.input if one.name not in {tensor.name for tensor in own.graph.initializer})
    before = onnx.helper.make_node("Identity", [place.input[0]], [wanted.name])
    after = [
        onnx.helper.make_node("Identity", [one.name], [name]) for one, name in zip(given, place.output, strict=True)
    ]
    nodes = [*graph.node[:at], before, *own.graph.node, *after, *graph.node[at + 1 :]]
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.initializer.extend(own.graph.initializer)
    graph.sparse_initializer.extend(own.graph.sparse_initializer)
    kept = [one for one in model.opset_import if one.domain != PLACE[0]]
    model.ClearField("opset_import")
    model.opset_import.extend(kept)
    model.ir_version = max(model.ir_version, own.ir_version)
