"""A module and the layers of it that theta changes, made for tests."""

import torch
from torch import nn

from duetgen.core import Personal, make_change


def personal(module: nn.Module, kind: str = "full", names: str = "", rank: int = 2, residual: bool = True) -> Personal:
    """The module with some layers, by names with commas between, changed in one way; the module itself by default."""
    chosen = names.split(",")
    return Personal(module, {name: make_change(module, name, kind, rank, residual) for name in chosen})


def fill(parameter: torch.Tensor | nn.Module, values: list[float] | list[list[float]]) -> None:
    """Set a parameter by hand."""
    assert isinstance(parameter, torch.Tensor)
    with torch.no_grad():
        parameter.copy_(torch.tensor(values))
