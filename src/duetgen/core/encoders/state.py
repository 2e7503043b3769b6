"""A state that another model has made of the history.

Shapes: B devices, L payloads of a history, E width of the embedding; `x` dimensions of a payload.
"""

from __future__ import annotations

from torch import Tensor, nn

from duetgen.core.encoders.encoder import SequenceEncoder


class StateEncoder(SequenceEncoder):
    """The newest payload as it is: the state in which a larger model is that has read the whole history.

    Args:
        embed: see `Encoder`; `nn.Identity()` where the state itself is the payload.
        embed_width: E, which is D.
        width: of no use here.
        dropout: see `Encoder`.
        event_dropout: see `Encoder`.
    """

    def __init__(
        self, embed: nn.Module, embed_width: int, width: int = 0, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__(embed, embed_width, embed_width, dropout, event_dropout)

    def states(self, history_BLx: Tensor) -> Tensor:
        """Each payload: [B, L, D]."""
        return self.embedded(history_BLx)
