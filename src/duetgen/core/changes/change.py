"""What theta does to one layer: the base of all kinds.

Shapes: N thetas of a call, P_l values of theta that belong to the layer; `*` dimensions of a parameter.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from duetgen.core.layers import Call, NotPersonalisableError, Own, Shape, Site


class Change(nn.Module):
    """Makes one layer personal. It holds what all devices share of the change, and never the layer itself.

    Args:
        layer: the layer.
        site: what its type is to theta.
        rank: a size, for the kinds that have one.

    Attributes:
        residual: theta shifts what the layer computes (True), or replaces its parameters (False).
        shapes: names and shapes of what theta holds for this layer, in the order of the layout.
    """

    kind: ClassVar[str]
    reads_input: ClassVar[bool] = True
    """Whether it looks at the layer's input; else at its output alone."""
    residual = True
    shapes: dict[str, Shape]

    def __init__(self, layer: nn.Module, site: Site, rank: int) -> None:
        super().__init__()
        self.site, self.rank = site, rank

    @property
    def size(self) -> int:
        """P_l."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def extra_repr(self) -> str:
        """Shown by `print(module)`."""
        return f"kind={self.kind}, generated={self.size}"

    def origin(self, layer: nn.Module) -> Tensor:
        """What theta is where the layer is the global one: [P_l]."""
        return torch.zeros(self.size, device=next(layer.parameters()).device)

    def split(self, theta_NP: Tensor) -> Own:
        """The layer's slice of theta by name: [N, *] each."""
        parts = theta_NP.split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        return {name: part.reshape(-1, *shape) for (name, shape), part in zip(self.shapes.items(), parts)}

    @abstractmethod
    def forward(self, call: Call, own: Own) -> Tensor:
        """The layer's output with theta, [N, *] by name; exactly the layer's own where theta is 0 and residual."""

    def together(self, call: Call, own: Own, merged: Own) -> Tensor:
        """What the layer gives with the parameters of many devices, all computed at once; where theta is zeros its own
        output, which rounding would else differ from.
        """
        found = self.site.own(call, merged)
        # A graph has no such choice, and where theta is trained, zeros need a gradient.
        trained = any(value.requires_grad for value in own.values())
        if not self.residual or trained or torch.compiler.is_compiling():
            return call.rows.join(found)
        zero_N = ~torch.stack([value.flatten(1).any(1) for value in own.values()]).any(0)
        if bool(zero_N.any()):
            rest = call.rest
            plain = call.rows.split(call.output())
            found, call.rest = torch.where(zero_N.view(-1, *(1,) * (found.dim() - 1)), plain, found), rest
        return call.rows.join(found)

    def refuse(self, layer: nn.Module, why: str) -> NotPersonalisableError:
        """The refusal of a layer that this kind does not fit."""
        return NotPersonalisableError(f"{type(layer).__name__} takes no {self.kind}: {why}", "give it the kind scale")
