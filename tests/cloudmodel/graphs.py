"""Small ONNX graphs as users make them, for tests.

A graph's scores are counts: each event of the history is worth 1 to the item after it, in the order of its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any],
    outputs: Sequence[tuple[str, int]],
    opset: int = 20,
    input_type: int = TensorProto.INT64,
) -> onnx.ModelProto:
    """A model of one input, `history`."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "own",
            [helper.make_tensor_value_info("history", input_type, ["B", "L"])],
            [helper.make_tensor_value_info(name, kind, ["B", None]) for name, kind in outputs],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )


def counts(columns: int, opset: int = 20, scores: Any = None) -> onnx.ModelProto:
    """Scores [B, C]: of the rows of a table, the sum over the events; by default 1 for the next column."""
    table_CC = np.eye(columns, k=1, dtype=np.float32) if scores is None else np.asarray(scores, dtype=np.float32)
    table_CC[0] = 0
    nodes = [
        helper.make_node("Gather", ["table", "history"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["scores"], keepdims=0),
    ]
    return graph(nodes, {"table": table_CC, "axis": [1]}, [("scores", TensorProto.FLOAT)], opset)


def listing(columns: int, count: int, shift: int = 0) -> onnx.ModelProto:
    """Columns and values [B, K] of the best scores of `counts`; columns are off by `shift`."""
    own = counts(columns)
    nodes = [
        *own.graph.node,
        helper.make_node("TopK", ["scores", "count"], ["values", "places"]),
        helper.make_node("Add", ["places", "shift"], ["columns"]),
    ]
    constants = {one.name: numpy_helper.to_array(one) for one in own.graph.initializer}
    return graph(
        nodes,
        {**constants, "count": [count], "shift": [shift]},
        [("values", TensorProto.FLOAT), ("columns", TensorProto.INT64)],
    )


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """The file."""
    path.write_bytes(model.SerializeToString())
    return path
