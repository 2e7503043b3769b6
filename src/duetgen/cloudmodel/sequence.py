"""Sequence models on the cloud.

Shapes: B devices, T events of a sequence, L history length, N positions, D width of all backbones together, V items.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from duetgen.backbones import BackboneConfig, GRU4Rec, SASRec, SequenceBackbone
from duetgen.cloudmodel.config import CloudConfig
from duetgen.cloudmodel.member import MemberModel
from duetgen.data.store import FIRST_ITEM


class SequenceModel(MemberModel):
    """SASRec (ICDM 2018) and GRU4Rec (ICLR 2016) over the whole history; models of base runs, without dynamic
    parameters.

    They err differently, so a mean of their log-likelihoods is better than each. But for a constant of each device that
    is one model, with states, queries and item tables side by side.

    Args:
        vocabulary: V.
        length: L_g, its window.
        config: its size.

    Attributes:
        recurrent: the GRU4Rec; None where there is none.
        share: what it counts in the mean; the rest is the SASRec's.
    """

    share: Tensor

    def __init__(self, vocabulary: int, length: int, config: CloudConfig) -> None:
        super().__init__()
        self.backbone = SASRec(vocabulary, sequence_backbone(length, config))
        self.recurrent = None
        if config.recurrent_width:
            self.recurrent = GRU4Rec(vocabulary, recurrent_backbone(length, config))
            self.register_buffer("share", torch.tensor(0.5))

    def drop_idle(self) -> None:
        """Leave out the GRU4Rec where it counts nothing."""
        if self.recurrent is not None and not self.share:
            self.recurrent = None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        # In runs that knew no share both counted the same.
        if self.recurrent is not None:
            state_dict.setdefault(prefix + "share", torch.tensor(0.5))
        super()._load_from_state_dict(state_dict, prefix, *others)

    @property
    def backbones(self) -> dict[str, SequenceBackbone]:
        """Those that there are, by name."""
        found: dict[str, SequenceBackbone] = {"backbone": self.backbone}
        return found if self.recurrent is None else found | {"recurrent": self.recurrent}

    @property
    def tables(self) -> list[Tensor]:
        """Item tables, one for each part of a query: [V, *] each."""
        return [backbone.item_embedding.weight for backbone in self.backbones.values()]

    @property
    def width(self) -> int:
        """D."""
        return sum(table.shape[1] for table in self.tables)

    def forward(self, history_BL: Tensor) -> Tensor:
        """Log-likelihood of each item as the next: [B, V]; padding and the unknown item have none of it."""
        return self.of_state(self.state(history_BL))

    def compared(self, history_BL: Tensor) -> Tensor:
        """See `MemberModel.compared`: without the pass over the catalogue that makes likelihoods of scores."""
        return self.scores(self.state(history_BL))

    def along(self, events_BT: Tensor, wanted_BT: Tensor, length: int) -> Tensor:
        """See `MemberModel.along`: one pass over the sequences."""
        return self.of_state(self.states(events_BT)[wanted_BT])

    def state(self, history_BL: Tensor) -> Tensor:
        """The state after the last event: [B, D]; zeros for an empty history."""
        return torch.cat([backbone.context(history_BL) for backbone in self.backbones.values()], -1)

    def states(self, events_BT: Tensor) -> Tensor:
        """The state after every event of right-padded sequences: [B, T, D]."""
        return torch.cat([backbone.contexts(events_BT) for backbone in self.backbones.values()], -1)

    def of_state(self, state_ND: Tensor) -> Tensor:
        """Log-likelihoods from states: [N, V]."""
        scores_NV = self.scores(state_ND)
        unseen_V = (torch.arange(scores_NV.shape[1], device=state_ND.device) < FIRST_ITEM).to(scores_NV.dtype) * -1e9
        return torch.log_softmax(scores_NV + unseen_V, 1)

    def scores(self, state_ND: Tensor) -> Tensor:
        """Scores from states, see `MemberModel.compared`: [N, V]."""
        return reduce(torch.add, map(functional.linear, self.queries(state_ND), self.tables))

    def queries(self, state_ND: Tensor) -> list[Tensor]:
        """What the item tables are multiplied with: [N, *] each; the sum of the products is the mean of the models."""
        if self.recurrent is None:
            return [self.backbone.query(state_ND, None)]
        part_ND, other_ND = state_ND.split([table.shape[1] for table in self.tables], -1)
        return [
            (1 - self.share) * self.backbone.query(part_ND, None),
            self.share * self.recurrent.query(other_ND, None),
        ]


def sequence_backbone(length: int, config: CloudConfig) -> BackboneConfig:
    """The settings of the SASRec."""
    return BackboneConfig(width=config.width, window=length, layers=config.layers, heads=config.heads, dropout=0.0)


def recurrent_backbone(length: int, config: CloudConfig) -> BackboneConfig:
    """The settings of the GRU4Rec."""
    return BackboneConfig(width=config.recurrent_width, window=length, dropout=0.0)
