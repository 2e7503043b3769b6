"""Recurrent layers in a graph give all that torch's give, in each of their forms and at any length."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from duetgen.export import graphs, parity
from duetgen.export.errors import NotExportableError
from duetgen.export.recurrent import OnnxRecurrent

FORMS: dict[str, dict[str, Any]] = {
    "batch first": {"batch_first": True},
    "time first": {},
    "two layers": {"batch_first": True, "num_layers": 2},
    "no bias": {"batch_first": True, "bias": False},
    "both directions of two layers": {"batch_first": True, "bidirectional": True, "num_layers": 2},
}


class Whole(nn.Module):
    """All that a recurrent layer returns, begun with zeros, and its states begun elsewhere."""

    def __init__(self, layer: nn.GRU | nn.LSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        rows = x.shape[0 if self.layer.batch_first else 1]
        count = self.layer.num_layers * (1 + self.layer.bidirectional)
        first = torch.ones(count, rows, self.layer.hidden_size)
        output, states = self.layer(x)
        lstm = isinstance(states, tuple)
        return output, *(states if lstm else (states,)), self.layer(x, (first, 2 * first) if lstm else first)[0]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_recurrent_layer_gives_what_torch_gives(kind: type[nn.GRU | nn.LSTM], form: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = Whole(kind(3, 4, **form)).eval()
    names = ("output", "state", *(("cell",) if kind is nn.LSTM else ()), "begun")
    dynamic = ({0: graphs.DYNAMIC, 1: graphs.DYNAMIC},)
    content = graphs.export_graph(
        copy.deepcopy(module), (torch.randn(5, 7, 3),), dynamic, ({0: "A", 1: "B"},), ("x",), names, ""
    )
    graph = parity.session(content)
    for shape in ((5, 7, 3), (1, 9, 3), (4, 1, 3)):
        x = torch.randn(shape)
        for expected, found in zip(module(x), parity.run(graph, x=x.numpy()), strict=True):
            np.testing.assert_allclose(found, expected.detach(), atol=1e-6)


def test_a_packed_sequence_is_refused() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.randn(2, 3)])
    with pytest.raises(NotExportableError, match="a packed sequence"):
        OnnxRecurrent(nn.GRU(3, 4))(packed)
