"""Layers of a head, by the kind that the configuration names."""

from __future__ import annotations

import itertools
from typing import Literal

from torch import nn

from duetgen.core import Personal, make_change

HeadKind = Literal["auto", "full", "low-rank", "scale", "prefix", "concat", "window-prefix"]


def head_layers(
    kind: HeadKind,
    widths: list[int],
    rank: int,
    residual: bool,
    activation: type[nn.Module],
    first: type[nn.Linear] = nn.Linear,
) -> Personal:
    """A head of linear layers of the given widths, from input to output, with activations between them.

    Args:
        kind: `full` (and `auto`, where nothing has decided it), theta shifts or replaces all weights; `low-rank`, it
            shifts them by a small core between shared matrices (APG); `scale`, it scales and shifts each layer's output
            (FiLM); `prefix`, it is a few vectors that each layer looks at; `concat`, it is one more input of the first
            layer, and the others are static; `window-prefix`, it does not reach the head, see `prefix`.
        widths: sizes of input, hidden layers and output.
        rank: of the small core, number of vectors of a prefix, or size of the vector that is appended.
        residual: see `personalise`; the other kinds know the residual form alone.
        activation: made once for each gap between two layers.
        first: type of the first layer.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [activation(), nn.Linear(inputs, outputs)] if layers else [first(inputs, outputs)]
    head = nn.Sequential(*layers)
    names = [name for name, layer in head.named_children() if isinstance(layer, nn.Linear)]
    personal, made = names[:1] if kind == "concat" else names, "full" if kind in ("auto", "window-prefix") else kind
    # Its layers keep the devices first, so there is nothing to prove.
    return Personal(head, {name: make_change(head, name, made, rank, residual) for name in personal}, proved=True)
