"""Recurrent layers as the one ONNX operator that each is, with the length of each row.

The operator takes sequences of any length, where torch's own export unrolls them at one. It stops at a row's last real
event, so padding costs nothing and the last state needs no search.

Shapes: N rows, L length, E width of the input, W width of the state, K layers, D directions.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from duetgen.export.errors import NotExportableError

FLOAT: Final = 1
"""ONNX's number of float32."""
GATES: Final[dict[type[nn.RNNBase], tuple[int, ...]]] = {nn.GRU: (1, 0, 2), nn.LSTM: (0, 3, 1, 2)}
"""ONNX's order of gates, as places in torch's: of a GRU reset, update, new; of an LSTM input, forget, cell, output."""

States = Tensor | tuple[Tensor, Tensor]
"""Of all layers and directions, [K D, N, W]; of an LSTM with those of its cells."""


class OnnxRecurrent(nn.Module):
    """Stands in for an `nn.GRU` or `nn.LSTM` while a graph is exported; it has no values outside a graph.

    Args:
        layer: without projections of its state.
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.operator, self.order = layer.mode, GATES[type(layer)]
        self.input_size, self.hidden_size, self.num_layers = layer.input_size, layer.hidden_size, layer.num_layers
        self.batch_first, self.bidirectional = layer.batch_first, layer.bidirectional
        self.directions = ("", "_reverse")[: 1 + layer.bidirectional]
        for number in range(self.num_layers):
            for name, kind in (("input", "weight_ih"), ("recurrent", "weight_hh")):
                self.register_buffer(f"{name}_{number}", self.gates(layer, (kind,), number))
            if layer.bias:
                self.register_buffer(f"bias_{number}", self.gates(layer, ("bias_ih", "bias_hh"), number))

    def gates(self, layer: nn.RNNBase, kinds: tuple[str, ...], number: int) -> Tensor:
        """Parameters of a layer for each direction, the gates in ONNX's order: [D, ...]."""
        found = []
        for direction in self.directions:
            parts = [layer.get_parameter(f"{kind}_l{number}{direction}").detach() for kind in kinds]
            chunks = [part.chunk(len(self.order)) for part in parts]
            found.append(torch.cat([gate[place] for gate in chunks for place in self.order]))
        return torch.stack(found)

    def run(self, input_NLE: Tensor, length_N: Tensor | None, first: States | None = None) -> tuple[Tensor, States]:
        """States after each event [N, L, D W], and of every layer after the last; they begin with zeros, or as told."""
        states_LNW, count = input_NLE.transpose(0, 1), len(self.directions)
        length, rows, width = states_LNW.shape[0], states_LNW.shape[1], self.hidden_size
        begin = () if first is None else first if isinstance(first, tuple) else (first,)
        kept = 2 if self.operator == "LSTM" else 1
        # torch applies the reset gate of a GRU after the recurrent product.
        attributes: dict[str, Any] = {"hidden_size": width}
        if self.operator == "GRU":
            attributes["linear_before_reset"] = 1
        if self.bidirectional:
            attributes["direction"] = "bidirectional"
        last: list[tuple[Tensor, ...]] = []
        for number in range(self.num_layers):
            inputs: list[Tensor | None] = [states_LNW, self.get_buffer(f"input_{number}")]
            inputs.append(self.get_buffer(f"recurrent_{number}"))
            optional = [getattr(self, f"bias_{number}", None), None if length_N is None else length_N.to(torch.int32)]
            optional += [state_SNW[number * count : (number + 1) * count] for state_SNW in begin]
            while optional and optional[-1] is None:
                optional.pop()
            states_LDNW, *last_DNW = torch.onnx.ops.symbolic_multi_out(
                self.operator,
                [*inputs, *optional],
                attributes,
                dtypes=(FLOAT,) * (1 + kept),
                shapes=((length, count, rows, width), *((count, rows, width),) * kept),
            )
            last.append(tuple(last_DNW))
            both = self.bidirectional
            states_LNW = states_LDNW.transpose(1, 2).flatten(2) if both else states_LDNW.squeeze(1)
        states = tuple(torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*last))
        return states_LNW.transpose(0, 1), states if len(states) == 2 else states[0]

    def forward(self, given: Tensor, first: States | None = None) -> tuple[Tensor, States]:
        """What the layer returns.

        Raises:
            NotExportableError: a packed sequence, which no graph has.
        """
        if isinstance(given, PackedSequence):
            raise NotExportableError(
                "a recurrent layer is given a packed sequence, which no graph has", "give it the padded one"
            )
        states_NLW, last = self.run(given if self.batch_first else given.transpose(0, 1), None, first)
        return states_NLW if self.batch_first else states_NLW.transpose(0, 1), last

    def last(self, input_NLE: Tensor, length_N: Tensor) -> Tensor:
        """The last layer's state after the last of each row's `length_N` (1 or more) events: [N, D W]."""
        _, states = self.run(input_NLE, length_N)
        state_SNW = states[0] if isinstance(states, tuple) else states
        return state_SNW[-len(self.directions) :].transpose(0, 1).flatten(1)


def with_onnx_recurrent(module: nn.Module) -> nn.Module:
    """`module` itself, each GRU and LSTM in it replaced."""
    for name, child in list(module.named_children()):
        if type(child) in GATES and isinstance(child, nn.RNNBase) and not child.proj_size:
            setattr(module, name, OnnxRecurrent(child))
        else:
            with_onnx_recurrent(child)
    return module
