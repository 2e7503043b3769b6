"""A vector of the device's appended to a layer's input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duetgen.core.changes.change import Change
from duetgen.core.layers import Call, Own, Site


class Concat(Change):
    """Computes `[x, z] [W, U]ᵀ + b = x Wᵀ + z Uᵀ + b` with the vector z [K] from theta: what a static layer makes of an
    input to which a description of the device is appended.

    U is shared by all devices, so theta has K values whatever the layer's size, and personalises the bias alone.

    Args:
        layer: see `Change`.
        site: see `Change`.
        rank: K.
    """

    kind = "concat"

    def __init__(self, layer: nn.Module, site: Site, rank: int) -> None:
        super().__init__(layer, site, rank)
        self.features = site.features(layer)
        self.shapes = {"vector": (rank,)}
        self.of_vector = nn.Parameter(torch.empty(int(torch.Size(self.features).numel()), rank))
        nn.init.uniform_(self.of_vector, -(rank**-0.5), rank**-0.5)

    def forward(self, call: Call, own: Own) -> Tensor:
        """Adds `z Uᵀ`."""
        output = call.rows.split(call.output())
        shift = (own["vector"] @ self.of_vector.T).reshape(-1, *self.features)
        return call.rows.join(output + self.site.shown(call, self.site.beside(shift, output)))
