"""The recommender: a backbone and, for DUET, the generator of its head's parameters. Trained, measured, exported whole.

Shapes: B devices, L history length (L_d for a window, L_g for the generator), C candidates, V items, P values in theta.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from duetgen.backbones.backbone import BackboneConfig
from duetgen.backbones.din import DIN
from duetgen.backbones.gru4rec import GRU4Rec
from duetgen.backbones.sasrec import SASRec
from duetgen.core import AverageEncoder, Encoder, GeneratorConfig, GRUEncoder, ParameterGenerator

BACKBONES: dict[str, type[SASRec] | type[GRU4Rec] | type[DIN]] = {"sasrec": SASRec, "gru4rec": GRU4Rec, "din": DIN}


class HistoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator reads and with what.

    Attributes:
        encoder: `average`, averages over four spans, cheap and with little to memorise; or `gru` (the paper's).
        length: L_g, how many recent events the generator reads; the device model's window gives the paper's set-up.
        width: width of the GRU's state; averages are as wide as what is averaged.
        embedding_width: width of the encoder's own item embedding.
        share_embedding: read the device model's item embedding instead (the form of the paper): less to memorise;
            `auto`: where devices have few events, see `training.defaults`.
        dropout: share of the embedding's values dropped while training.
        event_dropout: share of whole events hidden from the encoder while training.
    """

    encoder: Literal["average", "gru"] = "average"
    length: int = 100
    width: int = 64
    embedding_width: int = 64
    share_embedding: bool | Literal["auto"] = "auto"
    dropout: float = 0.3
    event_dropout: float = 0.3

    @property
    def shares(self) -> bool:
        """Whether the embedding is shared; not where no dataset has decided it."""
        return self.share_embedding is True


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that tells the shape of a recommender, but for its vocabulary.

    Attributes:
        name: `sasrec`, `gru4rec` or `din`.
        method: `base`, the global model alone; `finetune`, the same, of which each device trains a copy; or `duet`.
        normalised: whether scores are logits of a softmax over the catalogue, as the softmax objectives train them.
    """

    name: Literal["sasrec", "gru4rec", "din"] = "sasrec"
    method: Literal["base", "finetune", "duet"] = "duet"
    normalised: bool = True
    backbone: BackboneConfig = BackboneConfig()
    history: HistoryConfig = HistoryConfig()
    generator: GeneratorConfig = GeneratorConfig()


class Recommender(nn.Module):
    """Backbone and generator, joined by the layout of the backbone's head.

    Args:
        vocabulary: V; index 0 is padding, 1 the unknown item.
        config: see `ModelConfig`.
    """

    generator: ParameterGenerator | None

    def __init__(self, vocabulary: int, config: ModelConfig) -> None:
        super().__init__()
        self.vocabulary, self.config = vocabulary, config
        self.backbone = BACKBONES[config.name](vocabulary, config.backbone)
        self.generator = None
        if config.method == "duet":
            self.generator = self._make_generator(config)

    def _make_generator(self, config: ModelConfig) -> ParameterGenerator:
        history = config.history
        embed, width = self.backbone.item_embedding, config.backbone.width
        if not history.shares:
            embed, width = (
                nn.Embedding(self.vocabulary, history.embedding_width, padding_idx=0),
                history.embedding_width,
            )
            nn.init.normal_(embed.weight, std=width**-0.5)
            with torch.no_grad():
                embed.weight[0].zero_()
        hidden = (history.dropout, history.event_dropout)
        encoder: Encoder
        if history.encoder == "gru":
            encoder = GRUEncoder(embed, width, history.width, *hidden)
        else:
            encoder = AverageEncoder(embed, width, *hidden)
        generator = ParameterGenerator(encoder, self.backbone.head.layout, config.generator)
        if not config.backbone.residual:
            generator.start_from(self.backbone.head.global_theta())
        if config.generator.frozen:
            shared = {id(parameter) for parameter in embed.parameters()} if history.shares else set()
            for parameter in generator.parameters():
                parameter.requires_grad_(id(parameter) in shared)
        return generator

    @property
    def personal(self) -> bool:
        """Whether there is a generator."""
        return self.generator is not None

    @property
    def normalised(self) -> bool:
        """Whether a softmax over the catalogue makes probabilities of scores."""
        return self.config.normalised

    @property
    def window(self) -> int:
        """L_d: how many recent events the device model reads."""
        return self.config.backbone.window

    @property
    def generator_history(self) -> int:
        """L_g: how many recent events the generator reads; 0 without one."""
        return self.config.history.length if self.personal else 0

    def generate(self, history_BL: Tensor) -> Tensor:
        """Histories [B, L_g] to theta [B, P]: what the cloud runs."""
        if self.generator is None:
            raise ValueError("there is no generator")
        theta_BP: Tensor = self.generator(history_BL)
        return theta_BP

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta_BP: Tensor | None = None) -> Tensor:
        """Scores of each device's own candidates: [B, C]. What a device runs; theta None is the global model."""
        return self.backbone.score(self.backbone.context(window_BL), candidates_BC, theta_BP)

    def score_catalogue(self, window_BL: Tensor, theta_BP: Tensor | None = None) -> Tensor:
        """Scores of all item indices: [B, V]; padding scores -inf."""
        items_V = torch.arange(self.vocabulary, device=window_BL.device)
        scores_BV = self.backbone.score_shared(self.backbone.context(window_BL), items_V, theta_BP)
        scores_BV[:, 0] = -torch.inf
        return scores_BV

    def forward(
        self, window_BL: Tensor, candidates_BC: Tensor, history_BL: Tensor | None = None, theta_BP: Tensor | None = None
    ) -> Tensor:
        """Scores [B, C] with the parameters of `history_BL`, or with `theta_BP`, or, given neither, globally."""
        if history_BL is not None:
            theta_BP = self.generate(history_BL)
        return self.score(window_BL, candidates_BC, theta_BP)
