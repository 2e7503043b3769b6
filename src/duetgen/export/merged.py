"""A dynamic linear layer as one product: `x (W + ΔW)ᵀ + (b + Δb)`.

Training keeps two products, one for the global and one for the own part, since a batch has many own parts. A device has
one: adding the weights first halves its work for many candidates.

Shapes: P_l values of theta that belong to the layer; B devices, N rows of one device (1 where there is but its state).
"""

from __future__ import annotations

from torch import Tensor, nn

from duetgen.core import DynamicLinear


class MergedLinear(nn.Module):
    """Stands in for a `DynamicLinear` while a graph is exported; theta must be there.

    Args:
        layer: what it computes.
    """

    theta: Tensor

    def __init__(self, layer: DynamicLinear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.residual = layer.in_features, layer.out_features, layer.residual
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("theta", layer.theta, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Input [B, ..., in] to output [B, ..., out], with theta [B, P_l]."""
        size = self.out_features * self.in_features
        weight_Boi = self.theta[:, :size].unflatten(1, (self.out_features, self.in_features))
        if self.residual:
            weight_Boi = weight_Boi + self.weight
        rows_BNi = input.flatten(1, -2) if input.dim() > 2 else input.unsqueeze(1)
        if self.bias is None:
            found_BNo = rows_BNi @ weight_Boi.transpose(1, 2)
        else:
            bias_Bo = self.theta[:, size:] + self.bias if self.residual else self.theta[:, size:]
            found_BNo = rows_BNi @ weight_Boi.transpose(1, 2) + bias_Bo.unsqueeze(1)
        output: Tensor = found_BNo.reshape(*input.shape[:-1], self.out_features)
        return output


def with_merged_layers(module: nn.Module) -> nn.Module:
    """`module` itself, each `DynamicLinear` in it replaced."""
    for name, child in list(module.named_children()):
        if isinstance(child, DynamicLinear):
            setattr(module, name, MergedLinear(child))
        else:
            with_merged_layers(child)
    return module
