"""Layers whose parameters a device's `theta` shifts (residual) or replaces.

A dynamic layer owns ordinary parameters, the global ones, and an empty buffer `theta`. `Personal` puts the layer's
slice of the device's parameters into that buffer for the length of one call. An empty buffer means the global layer.

Shapes: P_l values of theta that belong to this layer; `*` leading dimensions shared by theta and input, `...` further
dimensions of the input that share one theta (candidates of a device, events of a block).
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.core.layout import LayoutMismatchError

MERGED_ROWS: Final = 64
"""From so many rows a theta on, the weights are added and there is one product: half the work for many candidates. For
many thetas of a few rows each, adding two products is better."""


def uniform_(inputs: int, *parameters: Tensor) -> None:
    """Start parameters of a linear map of so many inputs as `nn.Linear` does."""
    for parameter in parameters:
        nn.init.uniform_(parameter, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))


class DynamicLayer(nn.Module):
    """Base of layers that `theta` personalises; a further layer type needs `dynamic_shapes` and `forward`.

    `forward` reads `self.theta`: empty means the global parameters; otherwise [*, P_l], where `*` are the first
    dimensions of the input.
    """

    theta: Tensor
    residual: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("theta", torch.empty(0), persistent=False)

    def dynamic_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters that theta holds for this layer, in the order of the layout."""
        return {name: tuple(parameter.shape) for name, parameter in self.named_parameters(recurse=False)}

    def dynamic_size(self) -> int:
        """P_l, the number of values of theta that belong to this layer."""
        return sum(math.prod(shape) for shape in self.dynamic_shapes().values())

    def check_lead(self, input: Tensor) -> None:
        """Refuse a theta that does not fit the input.

        Raises:
            LayoutMismatchError: theta's leading dimensions are not the input's first ones.
        """
        lead = self.theta.shape[:-1]
        if input.dim() <= len(lead) or input.shape[: len(lead)] != lead:
            raise LayoutMismatchError(
                f"theta for {list(lead)} does not fit an input of {list(input.shape)}",
                "theta needs the first dimensions of the input: one a device, a row or a position",
            )


class DynamicLinear(DynamicLayer):
    """A linear layer that computes `x (W + ΔW)ᵀ + b + Δb`, (ΔW, Δb) being its slice of theta (DUET, section 3.2).

    With `residual=False` the slice replaces W and b, the form of the paper. Weights are laid out as in `nn.Linear`:
    [out, in].

    Args:
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.
        bias: whether the layer has b.
        residual: theta shifts the global parameters (True) or replaces them (False).
    """

    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, residual: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.residual = in_features, out_features, residual
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        uniform_(in_features, self.weight)
        if self.bias is not None:
            uniform_(in_features, self.bias)

    def extra_repr(self) -> str:
        """Shown by `print(module)`."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, residual={self.residual}"

    def forward(self, input: Tensor) -> Tensor:
        """Input [*, ..., in] to output [*, ..., out]; theta, if any, is [*, P_l].

        Raises:
            LayoutMismatchError: theta's leading dimensions are not the input's first ones.
        """
        if self.theta.numel() == 0:
            return functional.linear(input, self.weight, self.bias)
        self.check_lead(input)
        size = self.out_features * self.in_features
        weight = self.theta[..., :size].reshape(-1, self.out_features, self.in_features)
        bias = None if self.bias is None else self.theta[..., size:].reshape(-1, 1, self.out_features)
        rows = input.reshape(weight.shape[0], -1, self.in_features)
        # A device has one theta, so what is exported adds the weights whatever the sizes.
        merged = self.residual and (torch.compiler.is_exporting() or rows.shape[1] >= MERGED_ROWS)
        if merged:
            weight = weight + self.weight
            if bias is not None and self.bias is not None:
                bias = bias + self.bias
        own = torch.bmm(rows, weight.transpose(1, 2))
        if bias is not None:
            own = own + bias
        own = own.reshape(*input.shape[:-1], self.out_features)
        return own if merged or not self.residual else functional.linear(input, self.weight, self.bias) + own
