"""A user's own graph as a cloud model, by hand: scores and lists, by item index and by ids; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from tests.cloudmodel.graphs import counts, graph, listing, saved
from tests.conftest import MakeDataset

from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.cloudmodel.errors import InvalidGraphError
from duetgen.cloudmodel.graph import GraphModel
from duetgen.cloudmodel.graph_file import GraphFile, columns_of, read_graph
from duetgen.data.store import Dataset

LENGTH = 6


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Dataset:
    """Four items: V = 6."""
    found = make_dataset([[2, 3, 4, 5], [5, 4, 3, 2]], vocabulary=6)
    assert found.vocabulary == 6
    return found


def model(path: Path, dataset: Dataset, ids: str = "") -> CloudModel:
    cloud = CloudModel(dataset.vocabulary, LENGTH, CloudConfig(kind="onnx", items=3), "show").eval()
    (own,) = cloud.members.values()
    assert isinstance(own, GraphModel)
    own.take(read_graph(str(path), ids, dataset, LENGTH))
    return cloud


def over(cloud: CloudModel, history: list[int]) -> torch.Tensor:
    (opinion,) = cloud.opinions(torch.tensor([history]))
    return opinion.over(6)[0]


DEVIATION = np.sqrt(5 / 6 - (3 / 6) ** 2)
"""Of the scores 0, 0, 0, 0, 2, 1."""


@pytest.mark.parametrize("opset", [20, 17])
def test_scores_of_the_catalogue(dataset: Dataset, tmp_path: Path, opset: int) -> None:
    cloud = model(saved(counts(6, opset), tmp_path / "own.onnx"), dataset)
    wanted = torch.tensor([0, 0, 0, 0, 2, 1]) / DEVIATION
    for history in ([3, 4, 3], [3, 4, 3, 0, 0, 0]):
        torch.testing.assert_close(over(cloud, history), wanted.float())
    assert not over(cloud, [0, 0]).any()


def test_a_list_of_items_and_values(dataset: Dataset, tmp_path: Path) -> None:
    cloud = model(saved(listing(6, 2), tmp_path / "own.onnx"), dataset)
    # What it does not name counts as its last item: scores 1, 1, 1, 1, 2, 1.
    wanted = torch.tensor([0, 0, 0, 0, 1, 0]) / np.sqrt(9 / 6 - (7 / 6) ** 2)
    torch.testing.assert_close(over(cloud, [3, 4, 3]), wanted.float())


def test_columns_by_the_ids_of_a_file(tmp_path: Path) -> None:
    # The graph's columns: padding, item 5, one that the dataset has not, item 3, item 2. It does not know item 4.
    item_C = columns_of(tmp_path / "ids.txt", b"d\nelsewhere\nb\na", ["a", "b", "c", "d"])
    assert item_C.tolist() == [0, 5, 0, 3, 2]
    scores = np.zeros((5, 5))
    scores[3], scores[4] = [9, 1, 9, 0, 4], [9, 1, 9, 2, 0]
    cloud = CloudModel(6, LENGTH, CloudConfig(kind="onnx", items=3), "show").eval()
    (own,) = cloud.members.values()
    assert isinstance(own, GraphModel)
    own.take(GraphFile(counts(5, scores=scores).SerializeToString(), item_C, ""))
    assert own.translated(torch.tensor([[3, 4, 2, 1], [4, 1, 0, 0]])).tolist() == [[3, 4, 0, 0], [0, 0, 0, 0]]
    # Items 5, 3 and 2 score 2, 2 and 4; 4, which has no column, counts as the last of them.
    found = over(cloud, [3, 4, 2, 1])
    assert (found > 0).tolist() == [False, False, True, False, False, False]
    deviation = np.sqrt((5 * 4 + 16) / 6 - (14 / 6) ** 2)
    torch.testing.assert_close(found[2], torch.tensor(2 / deviation, dtype=torch.float32))


def test_its_weights_hold_the_graph(dataset: Dataset, tmp_path: Path) -> None:
    cloud = model(saved(counts(6), tmp_path / "own.onnx"), dataset)
    other = CloudModel(6, LENGTH, cloud.config, "show").eval()
    other.load_state_dict(cloud.state_dict())
    (tmp_path / "own.onnx").unlink()
    assert torch.equal(over(other, [3, 4]), over(cloud, [3, 4]))


def outside(tmp_path: Path) -> onnx.ModelProto:
    found = counts(6)
    table = found.graph.initializer[0]
    onnx.external_data_helper.set_external_data(table, "weights.bin")
    table.ClearField("raw_data")
    return found


def custom() -> onnx.ModelProto:
    found = counts(6)
    found.opset_import.append(helper.make_opsetid("com.example", 1))
    found.graph.node[0].domain = "com.example"
    return found


def constant(value: float) -> onnx.ModelProto:
    return counts(6, scores=np.full((6, 6), value))


def with_padding() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "history"], ["rows"]),
        helper.make_node("ReduceMean", ["rows", "axis"], ["scores"], keepdims=0),
    ]
    table = np.eye(6, dtype=np.float32)
    return graph(nodes, {"table": table, "axis": [1]}, [("scores", TensorProto.FLOAT)])


def of_floats() -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", ["history"], ["scores"])]
    return graph(nodes, {}, [("scores", TensorProto.FLOAT)], input_type=TensorProto.FLOAT)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"no graph at all", "it is no ONNX graph"),
        (lambda: counts(6).SerializeToString()[:-40], "it is no ONNX graph"),
        (lambda: counts(7), "it scores 7 columns, not 6"),
        (lambda: constant(np.nan), "a score is not a finite number"),
        (lambda: constant(np.inf), "a score is not a finite number"),
        (lambda: listing(6, 3, shift=1), "it names an item outside of 0 to 5"),
        (lambda: listing(6, 3, shift=-1), "it names an item outside of 0 to 5"),
        (custom, "operators of its own"),
        (with_padding, "with padding after it"),
        (of_floats, "it is not of int64"),
    ],
)
def test_a_graph_that_is_none_is_refused_in_one_line(dataset: Dataset, tmp_path: Path, make: Any, why: str) -> None:
    made = make()
    path = tmp_path / "own.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    with pytest.raises(InvalidGraphError, match=why) as refused:
        read_graph(str(path), "", dataset, LENGTH)
    assert "\n" not in refused.value.message


def test_weights_in_another_file_are_refused_whatever_lies_there(dataset: Dataset, tmp_path: Path) -> None:
    path = saved(outside(tmp_path), tmp_path / "own.onnx")
    (tmp_path / "weights.bin").write_bytes(bytes(4 * 36))
    with pytest.raises(InvalidGraphError, match="another file"):
        read_graph(str(path), "", dataset, LENGTH)


@pytest.mark.parametrize(
    ("content", "why"), [(b"\xff\xfe", "no text"), (b"a\nb\na\n", "twice"), (b"x\ny\n", "no line")]
)
def test_a_file_of_ids_that_is_none_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(InvalidGraphError, match=why):
        columns_of(Path("ids.txt"), content, ["a", "b"])


def test_files_that_are_not_there_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = saved(counts(6), tmp_path / "own.onnx")
    for files in ((str(tmp_path / "none.onnx"), ""), (str(path), str(tmp_path / "none.txt")), (str(tmp_path), "")):
        with pytest.raises(InvalidGraphError, match="cannot be read"):
            read_graph(*files, dataset, LENGTH)
