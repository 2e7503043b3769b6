"""Reading a user's ONNX graph: what a cloud model of the kind `onnx` must be, and the refusal of what is not.

The graph has one input, int64 [B, L]: item indices, the oldest first, with 0 after the last. It has one output, float
[B, C], a score for each of its columns; or two, int64 [B, K] and float [B, K], columns and their values, in any order.
A column is an item index: that of the dataset folder, or the line of a file of ids, from 1 on.

Shapes: B devices, L history length, C columns of the graph, K items that it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import polars as pl
from onnx import version_converter

from duetgen.cloudmodel.errors import InvalidGraphError
from duetgen.cloudmodel.graph import run, session_of
from duetgen.data.store import FIRST_ITEM, Dataset, Int64
from duetgen.files import read_regular
from duetgen.wire.bundle import OPSET
from duetgen.wire.limits import MAX_CLOUD_GRAPH_BYTES, MAX_DOCUMENT_BYTES

IR_VERSION: Final = 10
"""Of a file of opset 20."""
TOLERANCE: Final = 1e-3
"""How far padding and other devices of a batch may change scores, relative to the largest."""
TRIED: Final = ((1, 1), (3, 2), (5, 20))
"""Devices and events that a graph is tried with."""


class GraphFile(NamedTuple):
    """A graph that was checked.

    Attributes:
        content: at the opset of a bundle's graphs.
        item_C: item index of each column; 0 where the dataset has no such item.
        sha256: of the files, as they are.
    """

    content: bytes
    item_C: Int64
    sha256: str


def read_graph(path: str, ids: str, dataset: Dataset, length: int) -> GraphFile:
    """A user's graph, checked.

    Args:
        path: of the graph.
        ids: path of a file with the id of each column from 1 on, one a line; empty: columns are item indices.
        dataset: whose items it scores.
        length: L_g.

    Raises:
        InvalidGraphError: unreadable, too large, or not what a cloud model must be.
    """
    source = Path(path)
    original = content_of(source, MAX_CLOUD_GRAPH_BYTES)
    lines = content_of(Path(ids), MAX_DOCUMENT_BYTES) if ids else b""
    item_C = np.arange(dataset.vocabulary)
    if ids:
        item_C = columns_of(Path(ids), lines, dataset.table("items")["item"].cast(pl.String).to_list())
    content: bytes = load(original, source).SerializeToString(deterministic=True)
    try:
        session = session_of(content)
    except Exception as cause:  # ONNX Runtime's errors have no common base
        raise refused(source, f"ONNX Runtime does not take it: {cause}") from cause
    check(session, source, item_C, length)
    return GraphFile(content, item_C, hashlib.sha256(original + lines).hexdigest())


def content_of(path: Path, most: int) -> bytes:
    """The bytes of a file that the user names."""
    try:
        content = read_regular(path, most + 1)
    except OSError as cause:
        raise refused(path, f"it cannot be read: {cause.strerror}") from cause
    if len(content) > most:
        raise refused(path, f"it has more than {most} bytes")
    return content


def columns_of(path: Path, content: bytes, items: list[str]) -> Int64:
    """The item index of each column: 0 for padding, then that of the id in each line; 0 where no item has it."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as cause:
        raise refused(path, "it is no text in UTF-8") from cause
    if len(set(lines)) < len(lines):
        raise refused(path, "an id stands in it twice")
    index = {one: number for number, one in enumerate(items, FIRST_ITEM)}
    item_C = np.array([0, *(index.get(line, 0) for line in lines)], dtype=np.int64)
    if not item_C.any():
        raise refused(path, "no line of it is the id of an item of the dataset")
    return item_C


def load(content: bytes, source: Path) -> onnx.ModelProto:
    """A graph of standard operators, in one file, at the opset of a bundle's graphs."""
    try:
        model = onnx.load_model_from_string(content)
        outside = [one for one in tensors(model.graph) if one.data_location == onnx.TensorProto.EXTERNAL]
        if outside:
            raise refused(source, "its weights lie in another file: save them inside")
        onnx.checker.check_model(model)
        custom = sorted({one.domain for one in model.opset_import} - {"", "ai.onnx"})
        if custom or model.functions:
            raise refused(source, f"it has operators of its own ({', '.join(custom)!s:.100}): use those of ONNX alone")
        if next(one.version for one in model.opset_import) != OPSET:
            model = version_converter.convert_version(model, OPSET)
        # Newer writers say a newer format than any runtime reads, whatever they use of it.
        model.ir_version = min(model.ir_version, IR_VERSION)
    except InvalidGraphError:
        raise
    except Exception as cause:  # protobuf's, the checker's and the converter's errors have no common base
        raise refused(source, f"it is no ONNX graph of opset {OPSET} or one that can be converted: {cause}") from cause
    return model


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph and of the graphs in its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from tensors(inner)


def check(session: Any, source: Path, item_C: Int64, length: int) -> None:
    """Try a graph on histories of any length, padded or not, in a batch and alone."""
    inputs, types = session.get_inputs(), sorted(one.type for one in session.get_outputs())
    if [one.type for one in inputs] != ["tensor(int64)"] or types not in (
        ["tensor(float)"],
        ["tensor(float)", "tensor(int64)"],
    ):
        raise refused(source, "it is not of int64 [B, L] to float [B, C], or to int64 and float [B, K]")
    rng = np.random.default_rng(0)
    for batch, events in TRIED:
        events = min(events, length)
        history_BL = rng.integers(1, len(item_C), (batch, events))
        history_BL[0, 1:] = 0
        empty_1L = np.zeros((1, events), dtype=np.int64)
        together = tried(session, source, np.concatenate([history_BL, empty_1L]), item_C)
        for row in range(batch):
            alone_L = history_BL[row][history_BL[row] > 0]
            padded_L = np.pad(alone_L, (0, length - len(alone_L)))
            for one_L in (alone_L, padded_L):
                (found,) = tried(session, source, one_L[None], item_C)
                if not np.abs(found - together[row]).max() <= TOLERANCE * max(1.0, np.abs(found).max()):
                    raise refused(source, "a history has other scores with padding after it, or beside others")


def tried(
    session: Any,
    source: Path,
    history_BL: Int64,
    item_C: Int64,
) -> npt.NDArray[np.float32]:
    """What a graph gives over its columns: [B, C]; 0 for what a list does not name."""
    try:
        found = run(session, history_BL)
    except Exception as cause:
        raise refused(source, f"it fails on a history of shape {history_BL.shape}: {cause}") from cause
    values, batch, columns = found[-1], len(history_BL), len(item_C)
    if values.ndim != 2 or len(values) != batch or any(one.shape != values.shape for one in found):
        raise refused(source, f"of {batch} histories it gives {' and '.join(str(one.shape) for one in found)}")
    if len(found) == 1:
        if values.shape[1] != columns:
            raise refused(source, f"it scores {values.shape[1]} columns, not {columns}")
        if not np.isfinite(values[:, item_C >= FIRST_ITEM]).all():
            raise refused(source, "a score is not a finite number")
        return np.where(item_C >= FIRST_ITEM, values, 0)
    named = found[0]
    if named.min(initial=0) < 0 or named.max(initial=0) >= columns:
        raise refused(source, f"it names an item outside of 0 to {columns - 1}")
    if not np.isfinite(values).all():
        raise refused(source, "a value is not a finite number")
    ordered = np.sort(named, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)).any():
        raise refused(source, "it names an item twice")
    dense = np.zeros((batch, columns), dtype=np.float32)
    np.put_along_axis(dense, named, values, axis=1)
    return dense


def refused(path: Path, why: str) -> InvalidGraphError:
    """The refusal of a graph, or of the file of its ids."""
    return InvalidGraphError(
        f"{path} cannot be a cloud model: {' '.join(why.split()):.300}",
        "docs/concepts/cloud-models.md says what a graph of your own must be",
    )
