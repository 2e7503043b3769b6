"""Every parameter of a layer from theta (DUET, section 3.2).

Shapes: N thetas of a call; `*` dimensions of a parameter.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from duetgen.core.changes.change import Change
from duetgen.core.layers import Call, Own, Site, parameter_of

MERGED_ROWS: Final = 64
"""From so many rows a theta on, the weights are added and there is one product: half the work for many candidates. For
many thetas of a few rows each, adding two products is better."""


class Full(Change):
    """The layer with parameters W + ΔW, or with `residual` False ΔW in their place, the form of the paper.

    Args:
        layer: see `Change`.
        site: see `Change`.
        rank: of no use here.
    """

    kind = "full"

    def __init__(self, layer: nn.Module, site: Site, rank: int = 0) -> None:
        super().__init__(layer, site, rank)
        self.shapes = site.parameters(layer)

    def origin(self, layer: nn.Module) -> Tensor:
        """Zeros, or the layer's own parameters where theta replaces them."""
        if self.residual:
            return super().origin(layer)
        return torch.cat([parameter_of(layer, name).detach().flatten() for name in self.shapes])

    def forward(self, call: Call, own: Own) -> Tensor:
        """One theta goes into the layer's own parameters; those of many devices are computed apart and added."""
        if not call.rows.lead and self.site.whole:
            return call.output_with(self.merged(call, own))
        if self.merges(call):
            return self.together(call, own, self.merged(call, own))
        return call.output() + call.rows.join(self.site.own(call, self.shift(call, own)))

    def merged(self, call: Call, own: Own) -> Own:
        """The parameters that the layer shall have: [N, *]."""
        if not self.residual:
            return own
        return {name: value + parameter_of(call.layer, name) for name, value in own.items()}

    def shift(self, call: Call, own: Own) -> Own:
        """How far they are from the layer's own: [N, *]."""
        if self.residual:
            return own
        return {name: value - parameter_of(call.layer, name) for name, value in own.items()}

    def merges(self, call: Call) -> bool:
        """Whether parameters are added before the layer computes, rather than outputs after."""
        if not self.site.linear or (self.site.whole and not self.residual):
            return True
        if self.site.reads(call.layer) is None:
            return False
        # A device has one theta, so what is exported adds the weights whatever the sizes.
        rows = call.rows.split(call.input)
        return torch.compiler.is_exporting() or rows.shape[1:-1].numel() >= MERGED_ROWS
