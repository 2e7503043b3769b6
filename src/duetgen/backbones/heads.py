"""Layers of a head, by the kind that the configuration names."""

from __future__ import annotations

import itertools
from typing import Literal

from torch import nn

from duetgen.core import ConcatLinear, DynamicLinear, LowRankDynamicLinear, ScaledLinear

HeadKind = Literal["auto", "full", "low-rank", "scale", "concat"]


def head_layers(kind: HeadKind, widths: list[int], rank: int, residual: bool, activation: type[nn.Module]) -> nn.Module:
    """A head of linear layers of the given widths, from input to output, with activations between them.

    Args:
        kind: `full` (and `auto`, where nothing has decided it), theta shifts or replaces all weights; `low-rank`, it
            shifts them by a small core between shared matrices (APG); `scale`, it scales and shifts each layer's output
            (FiLM); `concat`, it is one more input of the first layer, and the others are static.
        widths: sizes of input, hidden layers and output.
        rank: of the small core, or size of the vector that is appended.
        residual: see `DynamicLinear`; the other kinds know the residual form alone.
        activation: made once for each gap between two layers.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        if layers:
            layers.append(activation())
        if kind in ("auto", "full"):
            layers.append(DynamicLinear(inputs, outputs, residual=residual))
        elif kind == "low-rank":
            layers.append(LowRankDynamicLinear(inputs, outputs, rank))
        elif kind == "scale":
            layers.append(ScaledLinear(inputs, outputs))
        else:
            layers.append(nn.Linear(inputs, outputs) if layers else ConcatLinear(inputs, outputs, rank))
    return nn.Sequential(*layers)
