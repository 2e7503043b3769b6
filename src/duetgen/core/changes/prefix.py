"""A few vectors of the device's that each row looks at (prefix tuning in its parallel form, ICLR 2022).

Shapes: N thetas of a call, K vectors, R rows that share a theta, I and O widths of the layer's input and output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duetgen.core.changes.change import Change
from duetgen.core.layers import Call, Own, Site


class Prefix(Change):
    """Computes `y + softmax(x Kᵀ / √I) ΔV` with the K vectors ΔV [K, O] from theta and keys shared by all devices.

    What prefix tuning adds to an attention, written beside the layer (He et al., ICLR 2022, equation 10), so that
    theta = 0 adds nothing.

    Args:
        layer: see `Change`.
        site: see `Change`.
        rank: K.

    Raises:
        NotPersonalisableError: the layer's input is no row of features.
    """

    kind = "prefix"

    def __init__(self, layer: nn.Module, site: Site, rank: int) -> None:
        super().__init__(layer, site, rank)
        width = site.reads(layer)
        if width is None:
            raise self.refuse(layer, "its input is no row of features")
        self.shapes = {"values": (rank, *site.features(layer))}
        self.keys = nn.Parameter(torch.empty(rank, width))
        nn.init.normal_(self.keys)

    def forward(self, call: Call, own: Own) -> Tensor:
        """Adds what the rows find in the vectors."""
        x = call.rows.split(call.input)
        share = torch.softmax(x @ self.keys.T * self.keys.shape[1] ** -0.5, dim=-1)
        found = torch.bmm(share.reshape(own["values"].shape[0], -1, self.rank), own["values"])
        return call.output() + call.rows.join(found.reshape(*share.shape[:-1], found.shape[-1]))
