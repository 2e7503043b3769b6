"""What theta puts before a window: a prefix of events that nobody has seen, generated for each device (prefix tuning,
ACL 2021).

Each backbone reads it as it reads events: SASRec as keys and values of its top attention, GRU4Rec as the state that it
begins with, DIN as keys of its activation unit. The head's layers stay global. With theta = 0 it adds nothing.

Shapes: N thetas of a call, R rows that share one, M events of the prefix, L window length, D width, H heads, F width of
a head, C candidates of a row, P values in theta; `*` leading dimensions of rows, the first of them theta's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from duetgen.core import ParameterLayout
from duetgen.core.layers import Rows


class WindowPrefix(nn.Module):
    """What theta holds for a window.

    Args:
        shapes: of its parts, by name.
    """

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.layout = ParameterLayout.of(("window", name, shape) for name, shape in shapes.items())

    def own(self, theta_P: Tensor) -> tuple[Rows, list[Tensor]]:
        """Which rows belong to which theta, and each part of these: [N, shape]."""
        parts = self.layout.split(theta_P.reshape(-1, theta_P.shape[-1]))
        return Rows(tuple(theta_P.shape[:-1])), list(parts.values())


class AttentionPrefix(WindowPrefix):
    """Keys and values of M events before the window, for one attention.

    They share the softmax with the window's events. Values are counted from what the window alone gives, a: with shares
    s and generated values v, the attention gives `(1 - Σ s) a + Σ s (a + v) = a + Σ s v`. So values of 0 are the global
    model whatever the shares; values from 0 on would not be, for a key of 0 has a share too. A key is a learnt one, the
    same for all devices, and a shift from theta.

    Args:
        events: M.
        heads: H.
        width: D.
    """

    def __init__(self, events: int, heads: int, width: int) -> None:
        super().__init__(keys=(events, width), values=(events, width))
        self.heads = heads
        self.keys = nn.Parameter(torch.empty(events, width))
        nn.init.normal_(self.keys)

    def forward(self, theta_P: Tensor, query_D: Tensor, logits_HL: Tensor) -> Tensor:
        """What the prefix adds to what was attended to: [*, D].

        Args:
            theta_P: parameters.
            query_D: [*, D], all heads side by side.
            logits_HL: of the window's events, [*, H L].
        """
        rows, (key_NMD, value_NMD) = self.own(theta_P)
        query = rows.split(query_D)

        def heads(x_NRX: Tensor) -> Tensor:
            """[N, R, X] to [N, H, R, X / H]."""
            x_NRHX: Tensor = x_NRX.unflatten(-1, (self.heads, -1))
            return x_NRHX.transpose(1, 2)

        q_NHRF, window_NHRL = heads(query.flatten(1, -2)), heads(rows.split(logits_HL).flatten(1, -2))
        made_NHRM = q_NHRF @ heads(self.keys + key_NMD).transpose(-1, -2) / math.sqrt(q_NHRF.shape[-1])
        share_NHRM = torch.softmax(torch.cat([window_NHRL, made_NHRM], -1), -1)[..., -len(self.keys) :]
        found_NRD = (share_NHRM @ heads(value_NMD)).transpose(1, 2).flatten(-2)
        return rows.join(found_NRD.reshape(query.shape))


class StatePrefix(WindowPrefix):
    """The state that a recurrent network begins a window with: what events before it would have left.

    Args:
        layers: of the network.
        width: D.
    """

    def __init__(self, layers: int, width: int) -> None:
        super().__init__(state=(layers, width))

    def forward(self, theta_P: Tensor, rows_L: Tensor) -> Tensor:
        """States for windows [*, L], as rows of one batch: [layers, N R, D]."""
        rows, (state_NKD,) = self.own(theta_P)
        each = rows.split(rows_L).flatten(1, -2).shape[1]
        return state_NKD.unsqueeze(1).expand(-1, each, -1, -1).flatten(0, 1).transpose(0, 1).contiguous()


class KeyPrefix(WindowPrefix):
    """M events more for an activation unit. Their weights are not normalised, so that an event of 0 adds nothing.

    Args:
        events: M.
        width: D.
    """

    def __init__(self, events: int, width: int) -> None:
        super().__init__(events=(events, width))

    def forward(self, theta_P: Tensor, candidate_CD: Tensor, unit: nn.Module) -> Tensor:
        """What the prefix adds to the interest in candidates [*, C, D]: [*, C, D].

        Args:
            theta_P: parameters.
            candidate_CD: embeddings.
            unit: gives the weights of keys for candidates.
        """
        rows, (key_NMD,) = self.own(theta_P)
        candidate = rows.split(candidate_CD)
        found_NRD = unit(key_NMD, candidate.flatten(1, -2)) @ key_NMD
        return rows.join(found_NRD.reshape(candidate.shape))
