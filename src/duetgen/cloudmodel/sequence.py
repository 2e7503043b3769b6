"""A wide sequence model on the cloud.

Shapes: B devices, T events of a sequence, L history length, N positions, D width, V items.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from duetgen.backbones import BackboneConfig, SASRec
from duetgen.cloudmodel.config import CloudConfig
from duetgen.cloudmodel.member import MemberModel
from duetgen.data.store import FIRST_ITEM


class SequenceModel(MemberModel):
    """SASRec (ICDM 2018) over the whole history; the model of a base run, without dynamic parameters.

    Args:
        vocabulary: V.
        length: L_g, its window.
        config: its size.
    """

    def __init__(self, vocabulary: int, length: int, config: CloudConfig) -> None:
        super().__init__()
        self.backbone = SASRec(vocabulary, sequence_backbone(length, config))

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
        return self.backbone.context(history_BL)

    def states(self, events_BT: Tensor) -> Tensor:
        """The state after every event of right-padded sequences: [B, T, D]."""
        return self.backbone.contexts(events_BT)

    def of_state(self, state_ND: Tensor) -> Tensor:
        """Log-likelihoods from states: [N, V]."""
        scores_NV = self.scores(state_ND)
        unseen_V = (torch.arange(scores_NV.shape[1], device=state_ND.device) < FIRST_ITEM).to(scores_NV.dtype) * -1e9
        return torch.log_softmax(scores_NV + unseen_V, 1)

    def scores(self, state_ND: Tensor) -> Tensor:
        """Scores from states, see `MemberModel.compared`: [N, V]."""
        return functional.linear(self.query(state_ND), self.backbone.item_embedding.weight)

    def query(self, state_ND: Tensor) -> Tensor:
        """What the item table is multiplied with: [N, D]."""
        return self.backbone.query(state_ND, None)


def sequence_backbone(length: int, config: CloudConfig) -> BackboneConfig:
    """The settings of its backbone."""
    return BackboneConfig(width=config.width, window=length, layers=config.layers, heads=config.heads, dropout=0.0)
