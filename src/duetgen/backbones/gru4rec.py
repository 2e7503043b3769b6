"""GRU4Rec (ICLR 2016): a GRU reads the window, its last state is the device's interest.

Shapes: B sequences, T events of a sequence, N rows, L window length, D width.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.backbones.backbone import BackboneConfig, SequenceBackbone

ROW_STEPS: Final = 8
"""The window's length over the positions that one row trains. So a long window costs 8 to 16 steps of the GRU a
position, as a short one does; its positions lack up to an eighth of the oldest events in training, none on a device.
"""


class GRU4Rec(SequenceBackbone):
    """Item embeddings and a GRU over the window (ICLR 2016, section 3.1); the head reads its last state."""

    def __init__(self, vocabulary: int, config: BackboneConfig) -> None:
        super().__init__(vocabulary, config)
        self.gru = nn.GRU(config.width, config.width, num_layers=config.layers, batch_first=True)

    def states(self, events_BT: Tensor) -> Tensor:
        """The GRU's state after every event: [B, T, D]."""
        states_BTD: Tensor
        states_BTD, _ = self.gru(self.dropout(self.item_embedding(events_BT)))
        return states_BTD

    def encode(self, rows_NL: Tensor) -> Tensor:
        """The GRU's state after the last real event: [N, D]."""
        states_NLD = self.states(rows_NL)
        last_N11 = ((rows_NL != 0).sum(1) - 1)[:, None, None]
        return states_NLD.gather(1, last_N11.expand(-1, -1, states_NLD.shape[-1])).squeeze(1)

    def contexts(self, events_BT: Tensor) -> Tensor:
        """States at every position: [B, T, D]. One pass gives them as long as the window holds all events so far; the
        positions after that run windows as rows, each of which gives the states of its last L / 8 events.
        """
        length = self.config.window
        begin_BLD = self.states(events_BT[:, :length])
        rest = events_BT.shape[1] - length
        if rest <= 0:
            return begin_BLD
        stride = max(1, length // ROW_STEPS)
        padded = functional.pad(events_BT, (0, -rest % stride))
        rows_BNL = padded[:, stride:].unfold(1, length, stride)
        states_ND = self.states(rows_BNL.flatten(0, 1))[:, -stride:]
        rest_BRD = states_ND.unflatten(0, rows_BNL.shape[:2]).flatten(1, 2)[:, :rest]
        return torch.cat([begin_BLD, rest_BRD], dim=1)
