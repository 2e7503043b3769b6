"""A small core between shared matrices (APG, NeurIPS 2022).

Shapes: N thetas of a call, K rank, R rows that share a theta, O and I rows and columns of a weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.core.changes.change import Change
from duetgen.core.layers import Call, EmbeddingSite, LinearSite, Own, Site, parameter_of


class LowRank(Change):
    """The layer with weights W + U ΔS V and a bias b + Δb; U [O, K] and V [K, I] are shared by all devices.

    The low-rank form of adaptive parameter generation (APG, NeurIPS 2022, section 3.2), as a shift of a global layer
    where the paper generates the whole of it. Theta has K² values for each weight, and the bias.

    Args:
        layer: see `Change`.
        site: see `Change`.
        rank: K.

    Raises:
        NotPersonalisableError: the layer has no matrix, or one for each of its groups.
    """

    kind = "low-rank"

    def __init__(self, layer: nn.Module, site: Site, rank: int) -> None:
        super().__init__(layer, site, rank)
        matrices = site.matrices(layer)
        if not matrices:
            raise self.refuse(layer, "it has no matrix")
        grouped = getattr(layer, "groups", 1) > 1
        if grouped:
            raise self.refuse(layer, "the filters of its groups are no one matrix")
        self.shapes = {}
        for name, shape in site.parameters(layer).items():
            if name not in matrices:
                self.shapes[name] = shape
                continue
            rows, columns = matrices[name]
            prefix = name.removesuffix("weight")
            left, right = (nn.Parameter(torch.empty(size)) for size in ((rows, rank), (rank, columns)))
            nn.init.normal_(left, std=rank**-0.5)
            nn.init.normal_(right, std=columns**-0.5)
            self.register_parameter(f"{prefix}left".replace(".", "_"), left)
            self.register_parameter(f"{prefix}right".replace(".", "_"), right)
            self.shapes[f"{prefix}core"] = (rank, rank)

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        """U and V of a core."""
        prefix = name.removesuffix("core").replace(".", "_")
        return parameter_of(self, f"{prefix}left"), parameter_of(self, f"{prefix}right")

    def forward(self, call: Call, own: Own) -> Tensor:
        """Rows of a linear layer or of an embedding are changed without a matrix of the layer's size."""
        if isinstance(self.site, (LinearSite, EmbeddingSite)):
            return call.output() + call.rows.join(self.shift(call, own))
        whole = dict(zip(self.site.parameters(call.layer), (self.whole(call, *part) for part in own.items())))
        if call.rows.lead and self.site.linear:
            return call.output() + call.rows.join(self.site.own(call, whole))
        merged = {name: value + parameter_of(call.layer, name) for name, value in whole.items()}
        return self.together(call, own, merged) if call.rows.lead else call.output_with(merged)

    def whole(self, call: Call, name: str, value: Tensor) -> Tensor:
        """A parameter's shift: [N, *]."""
        if not name.endswith("core"):
            return value
        left, right = self.factors(name)
        shape = parameter_of(call.layer, f"{name.removesuffix('core')}weight").shape
        return (left @ value @ right).reshape(-1, *shape)

    def shift(self, call: Call, own: Own) -> Tensor:
        """`x Vᵀ ΔSᵀ Uᵀ + Δb`, by rows; of an embedding, the rows of U take the place of x."""
        left, right = self.factors("core")
        x, turned, last = call.rows.split(call.input), own["core"], right
        # The weights of an embedding and of a `Conv1D` are U ΔS V itself, not its transpose.
        if isinstance(self.site, EmbeddingSite):
            narrow = functional.embedding(x, left)
        elif isinstance(self.site, LinearSite) and self.site.transposed:
            narrow = x @ left
        else:
            narrow, turned, last = functional.linear(x, right), turned.transpose(1, 2), left.T
        mixed = torch.bmm(narrow.reshape(turned.shape[0], -1, self.rank), turned)
        found = (mixed @ last).reshape(*narrow.shape[:-1], last.shape[1])
        found = found + self.site.beside(own["bias"], found) if "bias" in own else found
        return self.site.shown(call, found)
