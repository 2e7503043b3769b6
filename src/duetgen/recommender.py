"""The recommender: a device model and, for DUET, what makes it personal: the generator of its head's parameters, cloud
models with opinions of their own, and how much each of them counts. Trained, measured, exported whole.

Shapes: B devices, L history length (L_d for a window, L_g on the cloud), C candidates, V items, P values of weights.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from duetgen.backbones import BACKBONES, BackboneConfig
from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.core import ENCODERS, GeneratorConfig, ParameterGenerator, StateEncoder, Theta, Trust
from duetgen.wire.messages import MetPolicy


class HistoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator reads and with what.

    Attributes:
        encoder: one of a sequence in `core.ENCODERS`: `average`, averages over four spans, cheap and with little to
            memorise; `gru` (the paper's); `attention`; or `cloud`, the state of the cloud model's sequence model, which
            has read the history already.
        length: L_g, how many recent events generator and cloud model read; the device model's window gives the paper's
            set-up.
        width: width of the encoder's vector; averages are as wide as what is averaged.
        embedding_width: width of the encoder's own item embedding.
        share_embedding: read the device model's item embedding instead (the form of the paper): less to memorise;
            `auto`: where devices have few events, see `training.defaults`.
        dropout: share of the embedding's values dropped while training.
        event_dropout: share of whole events hidden from the encoder while training.
    """

    encoder: str = "average"
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
        name: of the backbone, in `backbones.BACKBONES`.
        method: `base`, the global model alone; `finetune`, the same, of which each device trains a copy; `cloud`, a
            cloud model alone; or `duet`.
        met: whether opinions leave out what the history holds, as devices hide it.
        normalised: whether scores are logits of a softmax over the catalogue, as the softmax objectives train them.
    """

    name: str = "sasrec"
    method: Literal["base", "finetune", "cloud", "duet"] = "duet"
    met: MetPolicy = "hide"
    normalised: bool = True
    backbone: BackboneConfig = BackboneConfig()
    history: HistoryConfig = HistoryConfig()
    generator: GeneratorConfig = GeneratorConfig()
    cloud: CloudConfig = CloudConfig()

    @property
    def of_state(self) -> bool:
        """Whether a generator reads the state of the cloud model's sequence model, and no history."""
        return self.method == "duet" and issubclass(ENCODERS[self.history.encoder], StateEncoder)


class Recommender(nn.Module):
    """Backbone and generator, joined by the layout of what theta changes, and what else the cloud gives.

    Args:
        vocabulary: V; index 0 is padding, 1 the unknown item.
        config: see `ModelConfig`.

    Attributes:
        generator: of the weights; None where there is none.
        cloud: the cloud models; None until they are attached, and where there are none.
        trust: how much weights and opinions count; None where there are neither.
    """

    generator: ParameterGenerator | None
    cloud: CloudModel | None
    trust: Trust | None

    def __init__(self, vocabulary: int, config: ModelConfig) -> None:
        super().__init__()
        self.vocabulary, self.config = vocabulary, config
        self.backbone = BACKBONES[config.name](vocabulary, config.backbone)
        self.generator = self.cloud = self.trust = None
        if config.method == "duet":
            self.generator = self._make_generator(config)
            self.trust = Trust()

    def attach(self, cloud: CloudModel) -> None:
        """Give the device the opinions of a cloud model; none of them counts before `trust` says so."""
        self.cloud = cloud
        self.trust = Trust(len(cloud.advisers))

    def _make_generator(self, config: ModelConfig) -> ParameterGenerator:
        history = config.history
        embed: nn.Module = self.backbone.item_embedding
        width = config.backbone.width
        if config.of_state:
            embed, width = nn.Identity(), config.cloud.state_width
        elif not history.shares:
            embed, width = (
                nn.Embedding(self.vocabulary, history.embedding_width, padding_idx=0),
                history.embedding_width,
            )
            nn.init.normal_(embed.weight, std=width**-0.5)
            with torch.no_grad():
                embed.weight[0].zero_()
        # A state is one payload: to hide it is to hide everything.
        hidden = 0.0 if config.of_state else history.event_dropout
        encoder = ENCODERS[history.encoder](embed, width, history.width, history.dropout, hidden)
        return ParameterGenerator.joined(
            encoder, self.backbone.layout, config.generator, self.backbone.origin(), self.backbone.parameters()
        )

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

    def generate(self, history_BL: Tensor) -> Theta:
        """Theta of histories [B, L_g]: what the cloud runs."""
        if self.generator is None:
            raise ValueError("there is no generator")
        state_BD = None if self.cloud is None else self.cloud.state(history_BL)
        opinions = () if self.cloud is None else self.cloud.opinions(history_BL, state_BD)
        return Theta(self.generator(self.read(history_BL, state_BD)), opinions)

    def read(self, history_BL: Tensor, state_BD: Tensor | None) -> Tensor:
        """What the encoder reads: the history, or the cloud model's state after it as the only payload."""
        if not self.config.of_state:
            return history_BL
        if state_BD is None:
            raise ValueError("the generator reads the state of a cloud model, and there is none")
        return state_BD.unsqueeze(1)

    def trusted(self, theta: Theta, age: int) -> Theta:
        """Theta as it counts when it is so many events old."""
        found: Theta = theta if self.trust is None else self.trust(theta, age, self.origin())
        return found

    def origin(self) -> Tensor | None:
        """The global parameters of the head, where weights replace them: [P]; None where they shift them."""
        return None if self.backbone.head.residual else self.backbone.origin()

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta: Theta | None = None) -> Tensor:
        """Scores of each device's own candidates: [B, C]. What a device runs; theta None is the global model."""
        weights_BP = None if theta is None else theta.weights_BP
        scores_BC = self.backbone.score(self.backbone.context(window_BL), candidates_BC, weights_BP)
        bias_BV = self.added(window_BL, theta)
        return scores_BC if bias_BV is None else scores_BC + bias_BV.gather(1, candidates_BC)

    def score_catalogue(self, window_BL: Tensor, theta: Theta | None = None) -> Tensor:
        """Scores of all item indices: [B, V]; padding scores -inf."""
        scores_BV = self.score_items(window_BL, slice(None), theta)
        scores_BV[:, 0] = -torch.inf
        return scores_BV

    def score_items(self, window_BL: Tensor, items_M: Tensor | slice, theta: Theta | None = None) -> Tensor:
        """Scores of the same items for every device: [B, M]."""
        weights_BP = None if theta is None else theta.weights_BP
        scores_BM = self.backbone.score_shared(self.backbone.context(window_BL), items_M, weights_BP)
        bias_BV = self.added(window_BL, theta)
        return scores_BM if bias_BV is None else scores_BM + bias_BV[:, items_M]

    def added(self, window_BL: Tensor, theta: Theta | None = None) -> Tensor | None:
        """What opinions add to the scores of the catalogue: [B, V]."""
        return None if theta is None else theta.bias(self.vocabulary)

    def forward(
        self, window_BL: Tensor, candidates_BC: Tensor, history_BL: Tensor | None = None, theta: Theta | None = None
    ) -> Tensor:
        """Scores [B, C] with the parameters of `history_BL`, or with `theta`, or, given neither, globally."""
        if history_BL is not None:
            theta = self.trusted(self.generate(history_BL), 0)
        return self.score(window_BL, candidates_BC, theta)
