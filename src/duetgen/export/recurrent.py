"""A GRU as the one ONNX operator that it is, with the length of each row.

The operator stops at a row's last real event, so padding costs nothing and the last state needs no search.

Shapes: N rows, L length, E width of the input, W width of the state, K layers.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

FLOAT: Final = 1
"""ONNX's number of float32."""


def reordered(weight: Tensor) -> Tensor:
    """Gates from torch's order (reset, update, new) to ONNX's (update, reset, new), along the first dimension."""
    reset, update, new = weight.detach().chunk(3)
    return torch.cat([update, reset, new])


class OnnxGRU(nn.Module):
    """Stands in for an `nn.GRU` while a graph is exported; it has no values outside a graph.

    Args:
        gru: batch first, one direction.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        if not gru.batch_first or gru.bidirectional or not gru.bias:
            raise ValueError("only a batch-first GRU of one direction, with biases, has this form")
        self.width, self.layers = gru.hidden_size, gru.num_layers
        for layer in range(self.layers):
            weights = {name: reordered(getattr(gru, f"{name}_l{layer}")) for name in ("weight_ih", "weight_hh")}
            bias = torch.cat([reordered(getattr(gru, f"{name}_l{layer}")) for name in ("bias_ih", "bias_hh")])
            # The operator's first dimension counts directions.
            self.register_buffer(f"input_{layer}", weights["weight_ih"].unsqueeze(0))
            self.register_buffer(f"recurrent_{layer}", weights["weight_hh"].unsqueeze(0))
            self.register_buffer(f"bias_{layer}", bias.unsqueeze(0))

    def run(self, input_NLE: Tensor, length_N: Tensor | None, first_KNW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States after each event [N, L, W], and the last layer's after the last event [N, W]; layers begin with zeros,
        or with states of their own.
        """
        states_LNW, last_NW = input_NLE.transpose(0, 1), input_NLE
        length, rows = states_LNW.shape[0], states_LNW.shape[1]
        for layer in range(self.layers):
            weights: list[Tensor | None] = [
                self.get_buffer(f"{name}_{layer}") for name in ("input", "recurrent", "bias")
            ]
            inputs = [states_LNW, *weights]
            if length_N is not None or first_KNW is not None:
                inputs.append(None if length_N is None else length_N.to(torch.int32))
            if first_KNW is not None:
                inputs.append(first_KNW[layer].unsqueeze(0))
            states_L1NW, last_1NW = torch.onnx.ops.symbolic_multi_out(
                "GRU",
                inputs,
                # torch applies the reset gate after the recurrent product.
                {"hidden_size": self.width, "linear_before_reset": 1},
                dtypes=(FLOAT, FLOAT),
                shapes=((length, 1, rows, self.width), (1, rows, self.width)),
            )
            states_LNW, last_NW = states_L1NW.squeeze(1), last_1NW.squeeze(0)
        return states_LNW.transpose(0, 1), last_NW

    def forward(self, input_NLE: Tensor, first_KNW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `nn.GRU` returns, but for states of layers below the last one."""
        return self.run(input_NLE, None, first_KNW)

    def last(self, input_NLE: Tensor, length_N: Tensor) -> Tensor:
        """The state after the last of each row's `length_N` (1 or more) events: [N, W]."""
        return self.run(input_NLE, length_N)[1]


def with_onnx_grus(module: nn.Module) -> nn.Module:
    """`module` itself, each `nn.GRU` in it replaced."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.GRU):
            setattr(module, name, OnnxGRU(child))
        else:
            with_onnx_grus(child)
    return module
