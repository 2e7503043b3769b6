"""A backbone, an encoder, a policy and a source, each a class and a line of its table, and the command with them.

Lines stand at the top of the module, as a package of one's own would have them, so that the processes of a comparison
have them too.
"""

from __future__ import annotations

import sys

import msgspec
from torch import Tensor, nn

from duetgen.backbones import BACKBONES, SequenceBackbone
from duetgen.cli import main
from duetgen.core import ENCODERS, SequenceEncoder
from duetgen.data.sources.kinds import KINDS
from duetgen.data.sources.source import Lines
from duetgen.device import POLICIES, Situation


class MeanOfItems(SequenceBackbone):
    """The mean of the window's embeddings."""

    def encode(self, rows_NL: Tensor) -> Tensor:
        count_N1 = (rows_NL != 0).sum(1, keepdim=True).clamp(min=1)
        mean_ND: Tensor = self.item_embedding(rows_NL).sum(1) / count_N1
        return mean_ND


class NewestEvent(SequenceEncoder):
    """The newest event alone."""

    def __init__(
        self, embed: nn.Module, embed_width: int, width: int = 0, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__(embed, embed_width, embed_width, dropout, event_dropout)

    def states(self, history_BLx: Tensor) -> Tensor:
        return self.embedded(history_BLx)


class Once(msgspec.Struct, frozen=True, tag=True):
    """Ask once."""

    def due(self, situation: Situation) -> bool:
        return not situation.has_theta


class Tildes(Lines):
    """Logs of a shop that nobody else has."""

    name = "tildes"
    about = "user~time~item"
    separator = "~"
    columns = ("user", "timestamp", "item")


BACKBONES["mean"] = MeanOfItems
ENCODERS["newest"] = NewestEvent
POLICIES["once"] = Once
KINDS["tildes"] = Tildes()

if __name__ == "__main__":
    main(sys.argv[1:])
