"""GRU4Rec (ICLR 2016): a GRU reads the window, its last state is the device's interest.

Shapes: N rows, L window length, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from duetgen.backbones.backbone import BackboneConfig, SequenceBackbone


class GRU4Rec(SequenceBackbone):
    """Item embeddings and a GRU over the window (ICLR 2016, section 3.1); the head reads its last state."""

    def __init__(self, vocabulary: int, config: BackboneConfig) -> None:
        super().__init__(vocabulary, config)
        self.gru = nn.GRU(config.width, config.width, num_layers=config.layers, batch_first=True)

    def encode(self, rows_NL: Tensor) -> Tensor:
        """The GRU's state after the last real event: [N, D]."""
        states_NLD: Tensor
        states_NLD, _ = self.gru(self.dropout(self.item_embedding(rows_NL)))
        last_N11 = ((rows_NL != 0).sum(1) - 1)[:, None, None]
        return states_NLD.gather(1, last_N11.expand(-1, -1, states_NLD.shape[-1])).squeeze(1)
