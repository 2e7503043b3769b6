"""The head encoder of the paper.

Shapes: B devices, L history length, D width of the encoder; `x` dimensions of a payload.
"""

from __future__ import annotations

from torch import Tensor, nn

from duetgen.core.encoders.encoder import SequenceEncoder


class GRUEncoder(SequenceEncoder):
    """An embedding and a GRU (DUET, section 3.2: the head encoder E).

    Args:
        embed: see `Encoder`.
        embed_width: E.
        width: D.
        dropout: see `Encoder`.
        event_dropout: see `Encoder`.
    """

    def __init__(
        self, embed: nn.Module, embed_width: int, width: int, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__(embed, embed_width, width, dropout, event_dropout)
        self.gru = nn.GRU(embed_width, width, batch_first=True)

    def states(self, history_BLx: Tensor) -> Tensor:
        """The GRU's state after each event: [B, L, D]."""
        states_BLD: Tensor
        states_BLD, _ = self.gru(self.embedded(history_BLx))
        return states_BLD
