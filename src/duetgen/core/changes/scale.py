"""Each feature of a layer's output scaled and shifted (FiLM, AAAI 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from duetgen.core.changes.change import Change
from duetgen.core.layers import Call, Own, Site


class Scale(Change):
    """Computes `y (1 + γ) + β` with (γ, β) from theta: feature-wise modulation (FiLM, AAAI 2018, section 2.1).

    Args:
        layer: see `Change`.
        site: see `Change`.
        rank: of no use here.
    """

    kind = "scale"
    reads_input = False

    def __init__(self, layer: nn.Module, site: Site, rank: int = 0) -> None:
        super().__init__(layer, site, rank)
        shape = site.features(layer)
        self.shapes = {"scale": shape, "shift": shape}

    def forward(self, call: Call, own: Own) -> Tensor:
        """Scales and shifts the output."""
        output = call.rows.split(call.output())
        scale, shift = (self.site.shown(call, self.site.beside(own[name], output)) for name in ("scale", "shift"))
        return call.rows.join(output * (1 + scale) + shift)
