"""GRU4Rec (ICLR 2016): a GRU reads the window, its last state is the device's interest.

Shapes: B sequences, T events of a sequence, N rows, L window length, D width, K layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duetgen.backbones.backbone import BackboneConfig, SequenceBackbone, seen, windows
from duetgen.backbones.prefix import StatePrefix, WindowPrefix


class GRU4Rec(SequenceBackbone):
    """Item embeddings and a GRU over the window (ICLR 2016, section 3.1); the head reads its last state."""

    recurrent = True

    def __init__(self, vocabulary: int, config: BackboneConfig) -> None:
        super().__init__(vocabulary, config)
        self.gru = nn.GRU(config.width, config.width, num_layers=config.layers, batch_first=True)

    @staticmethod
    def make_prefix(config: BackboneConfig) -> WindowPrefix:
        """The state that the window begins with: K D values."""
        return StatePrefix(config.layers, config.width)

    def states(self, events_BT: Tensor, first_KBD: Tensor | None = None) -> Tensor:
        """The GRU's state after every event: [B, T, D]; it begins with zeros, or with a state of each layer."""
        states_BTD: Tensor
        states_BTD, _ = self.gru(self.dropout(self.item_embedding(events_BT)), first_KBD)
        return states_BTD

    def encode(self, rows_NL: Tensor, first_KND: Tensor | None = None) -> Tensor:
        """The GRU's state after the last real event: [N, D]."""
        states_NLD = self.states(rows_NL, first_KND)
        last_N11 = ((rows_NL != 0).sum(1) - 1).clamp(min=0)[:, None, None]
        return states_NLD.gather(1, last_N11.expand(-1, -1, states_NLD.shape[-1])).squeeze(1)

    def context(self, window_BL: Tensor) -> Tensor:
        """The state of each window: [B, D]; with a prefix the window itself: everything depends on how it begins."""
        return super().context(window_BL) if self.prefix is None else window_BL

    def contexts(self, events_BT: Tensor) -> Tensor:
        """The context at every position: [B, T, x]. As long as the window holds all events so far, one pass gives the
        states; only the positions after that run their windows as rows, which a long window makes dear.
        """
        length = self.config.window
        if self.prefix is not None:
            return windows(events_BT, min(length, events_BT.shape[1]))
        begin_BLD = self.states(events_BT[:, :length])
        if events_BT.shape[1] <= length:
            return begin_BLD
        rows_BRL = events_BT[:, 1:].unfold(1, length, 1)
        rest_ND = self.states(rows_BRL.flatten(0, 1))[:, -1]
        return torch.cat([begin_BLD, rest_ND.unflatten(0, rows_BRL.shape[:2])], dim=1)

    def read(self, context_x: Tensor, theta_P: Tensor | None) -> Tensor:
        """The states of windows [*, L] that begin with what theta says: [*, D]."""
        assert self.prefix is not None
        first_KND = None if theta_P is None else self.prefix(theta_P, context_x)
        rows_NL = context_x.flatten(0, -2)
        state_D: Tensor = seen(rows_NL, self.encode(rows_NL, first_KND)).unflatten(0, context_x.shape[:-1])
        return state_D
