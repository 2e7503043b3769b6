"""GRU4Rec (ICLR 2016): a GRU reads the window, its last state is the device's interest.

Shapes: B sequences, T events of a sequence, N rows, L window length, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duetgen.backbones.backbone import BackboneConfig, SequenceBackbone


class GRU4Rec(SequenceBackbone):
    """Item embeddings and a GRU over the window (ICLR 2016, section 3.1); the head reads its last state."""

    recurrent = True

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
        """States at every position: [B, T, D]. As long as the window holds all events so far, one pass gives them; only
        the positions after that run their windows as rows, which a long window makes dear.
        """
        length = self.config.window
        begin_BLD = self.states(events_BT[:, :length])
        if events_BT.shape[1] <= length:
            return begin_BLD
        rows_BRL = events_BT[:, 1:].unfold(1, length, 1)
        rest_ND = self.states(rows_BRL.flatten(0, 1))[:, -1]
        return torch.cat([begin_BLD, rest_ND.unflatten(0, rows_BRL.shape[:2])], dim=1)
