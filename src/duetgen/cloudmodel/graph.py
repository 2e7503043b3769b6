"""The user's own ONNX graph as a cloud model; `graph_file` says what it must be, and reads it.

Shapes: B devices, L history length, C columns of the graph, K items that it names, V items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from duetgen.cloudmodel.member import MemberModel
from duetgen.cloudmodel.table import standardised
from duetgen.data.store import FIRST_ITEM

if TYPE_CHECKING:
    import onnxruntime

    from duetgen.cloudmodel.graph_file import GraphFile

PLACE: Final = ("duetgen", "CloudGraph")
"""Domain and name of the operator that stands for the graph in an exported one, until the graph takes its place."""

Arrays = list[npt.NDArray[Any]]


class GraphModel(MemberModel):
    """Scores of an ONNX graph, as any cloud model has them.

    What a list does not name counts as its last item, and so does an item that the graph has no column for. Events that
    it has none for are left out of its history.

    Args:
        vocabulary: V.

    Attributes:
        content_N: the graph's bytes, so that a run holds all that it needs.
        item_C: item index of each column; 0 where the dataset has no such item.
        column_V: column of each item index; 0 where the graph has none.
        scale: makes scores of unit variance log-likelihoods, as well as one factor can.
    """

    content_N: Tensor
    item_C: Tensor
    column_V: Tensor
    scale: Tensor

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.register_buffer("content_N", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("item_C", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("column_V", torch.zeros(vocabulary, dtype=torch.int64))
        self.register_buffer("scale", torch.tensor(1.0))
        self._session: onnxruntime.InferenceSession | None = None

    def take(self, file: GraphFile) -> None:
        """Become the model of a graph that was read."""
        self.content_N = torch.frombuffer(bytearray(file.content), dtype=torch.uint8)
        self.item_C = torch.from_numpy(file.item_C)
        self.column_V.zero_()[self.item_C] = torch.arange(len(file.item_C))
        self.column_V[0] = 0

    @property
    def content(self) -> bytes:
        """The graph."""
        return self.content_N.cpu().numpy().tobytes()

    def __getstate__(self) -> dict[str, Any]:
        """A session is no part of a copy."""
        return self.__dict__ | {"_session": None}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        # Only the weights of a run tell how large its graph is.
        for name in ("content_N", "item_C"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, history_BL: Tensor) -> Tensor:
        """Scores of all items, in nats but for a constant of each device: [B, V]."""
        found = self.outputs(self.translated(history_BL))
        if len(found) == 1:
            (scores_BC,) = found
            item_BC = self.item_C.expand_as(scores_BC)
        else:
            place_BK, scores_BC = found
            item_BC = self.item_C[place_BK]
        known_BC = item_BC >= FIRST_ITEM
        least_B1 = scores_BC.where(known_BC, torch.inf).amin(1, keepdim=True)
        # Of a list that names no item of the dataset nothing is said.
        least_B1 = least_B1.where(known_BC.any(1, keepdim=True), 0.0)
        all_BV = least_B1.expand(-1, len(self.column_V)).scatter(1, item_BC, scores_BC.where(known_BC, least_B1))
        return self.scale * standardised(all_BV)

    def translated(self, history_BL: Tensor) -> Tensor:
        """The history in the graph's own indices, without what it has none for: [B, L]."""
        column_BL = self.column_V[history_BL]
        length = history_BL.shape[1]
        order_BL = torch.where(column_BL > 0, 2 * length, length) - torch.arange(length, device=history_BL.device)
        return column_BL.gather(1, order_BL.argsort(dim=1, descending=True))

    def outputs(self, history_BL: Tensor) -> list[Tensor]:
        """What the graph gives: scores [B, C], or columns and values [B, K]."""
        if not torch.compiler.is_exporting():
            return [torch.from_numpy(one).to(history_BL.device) for one in self.run(history_BL.cpu().numpy())]
        forms = self.run(np.ones((1, 1), dtype=np.int64))
        return list(
            torch.onnx.ops.symbolic_multi_out(
                "::".join(PLACE),
                [history_BL],
                dtypes=[torch.from_numpy(one).dtype for one in forms],
                shapes=[(history_BL.shape[0], one.shape[1]) for one in forms],
                version=1,
            )
        )

    def run(self, history_BL: npt.NDArray[np.int64]) -> Arrays:
        """The same, in ONNX Runtime."""
        if self._session is None:
            self._session = session_of(self.content)
        return run(self._session, history_BL)


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """A session of a graph, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, history_BL: npt.NDArray[np.int64]) -> Arrays:
    """The outputs, indices before values."""
    found: Arrays = session.run(None, {session.get_inputs()[0].name: history_BL})
    return sorted(found, key=lambda one: one.dtype.kind == "f")
