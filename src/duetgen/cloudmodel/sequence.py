"""A wide sequence model on the cloud.

Shapes: B devices, L history length, V items, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.backbones import BackboneConfig, SASRec
from duetgen.cloudmodel.config import CloudConfig
from duetgen.data.store import FIRST_ITEM


class SequenceModel(nn.Module):
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
        backbone = self.backbone
        scores_BV = functional.linear(self.query(history_BL), backbone.item_embedding.weight)
        unseen_V = (torch.arange(backbone.vocabulary, device=history_BL.device) < FIRST_ITEM).to(scores_BV.dtype) * -1e9
        return torch.log_softmax(scores_BV + unseen_V, 1)

    def query(self, history_BL: Tensor) -> Tensor:
        """What the item table is multiplied with: [B, D]."""
        return self.backbone.query(self.backbone.context(history_BL), None)


def sequence_backbone(length: int, config: CloudConfig) -> BackboneConfig:
    """The settings of its backbone."""
    return BackboneConfig(width=config.width, window=length, layers=config.layers, heads=config.heads, dropout=0.0)
