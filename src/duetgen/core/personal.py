"""Running a module as one device's own: theta goes in with the call and leaves no trace in the module.

Shapes: P values in theta; `*` the leading dimensions that theta shares with the module's input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from duetgen.core.dynamic import DynamicLayer
from duetgen.core.layout import LayoutMismatchError, ParameterLayout


class NothingDynamicError(LayoutMismatchError):
    """A module was to be made personal that has no dynamic layer."""

    code = "nothing-dynamic"


class Personal(nn.Module):
    """Wraps any module with dynamic layers: `personal(theta, *inputs)` is the module with that theta.

    Stateless: the module's own parameters are never written, two calls with different theta do not meet, and gradients
    flow to both the global parameters and theta. With `theta=None` it is the global model itself, bit for bit.

    Args:
        module: the module to personalise. Its dynamic layers, in order of `named_modules`, make up the layout.

    Raises:
        NothingDynamicError: the module has no dynamic layer.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, DynamicLayer)}
        if not self._layers:
            raise NothingDynamicError(
                f"{type(module).__name__} has no dynamic layer",
                "use DynamicLinear in place of nn.Linear where it counts",
            )
        self.layout = ParameterLayout.of(
            (name, parameter, shape)
            for name, layer in self._layers.items()
            for parameter, shape in layer.dynamic_shapes().items()
        )

    @property
    def residual(self) -> bool:
        """Whether theta shifts the global parameters (True) or replaces them (False)."""
        return all(layer.residual for layer in self._layers.values())

    def global_theta(self) -> Tensor:
        """The global parameters of the dynamic layers themselves, flattened: [P]."""
        parameters = dict(self.module.named_parameters())
        return self.layout.flatten({entry.name: parameters[entry.name].detach() for entry in self.layout.entries})

    def forward(self, theta: Tensor | None, *inputs: Any, **options: Any) -> Any:
        """The module's own output for `inputs`, with theta [*, P] in its dynamic layers, or the global ones for None.

        Raises:
            LayoutMismatchError: theta does not fit the layout or the inputs.
        """
        if theta is None:
            return self.module(*inputs, **options)
        if theta.shape[-1] != self.layout.size:
            raise LayoutMismatchError(
                f"theta holds {theta.shape[-1]} values, this model takes {self.layout.size}",
                "theta and model must come from the same version of a bundle",
            )
        slices = {
            f"{name}.theta" if name else "theta": theta[..., offset : offset + size]
            for name, (offset, size) in self.layout.layers.items()
        }
        return torch.func.functional_call(self.module, slices, inputs, options, strict=False)
