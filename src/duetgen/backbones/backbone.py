"""What every device model has in common: a window of recent items becomes a context, a context scores candidates.

The static part (`context`) is shared by all devices; only what follows takes theta: the head, or the reading of the
window, to which it adds a prefix (`prefix`). So one pass of the static part serves the personal and the global model
alike.

Shapes: B devices, T events of a sequence, L window length (L_d), C candidates of a row, M candidates shared by all
rows, V items with padding and unknown, D width, P values in theta; `*` any leading dimensions (devices, rows,
positions) and `x` the context's own dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final, Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.backbones.heads import HeadKind, head_layers
from duetgen.backbones.prefix import WindowPrefix
from duetgen.core import ParameterLayout, Personal

PIECE: Final = 2**16
"""Shared candidates that a pairwise backbone reads at a time, at most: each costs its memory some hundred values."""
CACHED_SCORES, CACHED_ITEMS = 2**11, 2**6
"""The same on a processor, so that these values stay in its cache: so many scores, and candidates at the least."""


class BackboneConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Size and regularisation of a device model.

    Attributes:
        width: D, size of an item's embedding and of the state.
        window: L_d, how many recent events the device model sees (10 in DUET, section 4).
        dropout: share of values dropped while training; `auto`: by the dataset, see `training.defaults`.
        layers: attention or recurrent layers; DIN has none.
        heads: attention heads of SASRec.
        residual: theta shifts the head's global parameters (True) or replaces them (False, the form of the paper).
        head: how theta changes the head's layers, see `heads.head_layers`, or `window-prefix`: the window in their
            place, see `prefix`; `auto`: `scale` for a generator of a global model that is kept, else `full`.
        rank: of a `low-rank` head's generated cores; number of vectors of a `prefix` head; size of the vector of a
            `concat` head; number of events of a `window-prefix`, of which GRU4Rec has only the state that they leave.
    """

    width: int = 64
    window: int = 10
    dropout: float | Literal["auto"] = "auto"
    layers: int = 1
    heads: int = 1
    residual: bool = True
    head: HeadKind = "auto"
    rank: int = 8

    @property
    def dropped(self) -> float:
        """The share of values dropped; a fifth where no dataset has decided it."""
        return 0.2 if self.dropout == "auto" else self.dropout


def windows(events_BT: Tensor, length: int) -> Tensor:
    """What a device would see at every position: [B, T] to [B, T, L], oldest first, right-padded with 0.

    Row t holds events max(0, t - L + 1) .. t. Padding events at the end of a sequence give rows that mean nothing.
    """
    count = events_BT.shape[1]
    position_T1 = torch.arange(count, device=events_BT.device)[:, None]
    index_TL = (position_T1 - length + 1).clamp(min=0) + torch.arange(length, device=events_BT.device)
    rows_BTL = events_BT[:, index_TL.clamp(max=count - 1)]
    return rows_BTL.masked_fill(index_TL > position_T1, 0)


def seen(rows_NL: Tensor, state_Nx: Tensor) -> Tensor:
    """What was made of windows [N, L], zeros where one is empty: [N, x]."""
    return torch.where(rows_NL[:, :1] == 0, 0.0, state_Nx)


class Backbone(nn.Module):
    """A device model: `score(context(window), candidates, theta)`.

    Args:
        vocabulary: V; index 0 is padding, 1 the unknown item.
        config: see `BackboneConfig`.
    """

    pairwise: bool
    """Whether a candidate changes how the history is read, so that scoring a whole catalogue is dear (DIN)."""
    recurrent = False
    """Whether a window is read one event after another from its start (GRU4Rec): `contexts` makes one pass of the
    positions whose window holds all events so far, and runs every later window anew."""

    def __init__(self, vocabulary: int, config: BackboneConfig) -> None:
        super().__init__()
        self.vocabulary, self.config = vocabulary, config
        head = self.make_head(config)
        self.item_embedding = nn.Embedding(vocabulary, config.width, padding_idx=0)
        nn.init.normal_(self.item_embedding.weight, std=config.width**-0.5)
        with torch.no_grad():
            self.item_embedding.weight[0].zero_()
        self.head = head
        self.prefix = self.make_prefix(config) if config.head == "window-prefix" else None

    @staticmethod
    @abstractmethod
    def make_head(config: BackboneConfig) -> Personal:
        """The last layers, which theta changes where it is not for the window."""

    @staticmethod
    @abstractmethod
    def make_prefix(config: BackboneConfig) -> WindowPrefix:
        """What theta puts before the window, where it is for that."""

    @property
    def layout(self) -> ParameterLayout:
        """What theta holds."""
        return self.head.layout if self.prefix is None else self.prefix.layout

    def origin(self) -> Tensor:
        """The theta that is the global model, see `Personal.origin`: [P]."""
        return self.head.origin() if self.prefix is None else torch.zeros(self.layout.size)

    @abstractmethod
    def context(self, window_BL: Tensor) -> Tensor:
        """The static part on windows [B, L], right-padded: [B, x]. This is what runs on the device."""

    @abstractmethod
    def contexts(self, events_BT: Tensor) -> Tensor:
        """`context` at every position of whole sequences in one pass: [B, T, x], each from its own last L events."""

    @abstractmethod
    def score(self, context_x: Tensor, candidates_C: Tensor, theta_P: Tensor | None) -> Tensor:
        """Scores of each row's own candidates: [*, x], [*, C] and theta (first dimensions of `*`) to [*, C]."""

    @abstractmethod
    def score_shared(self, context_x: Tensor, items_M: Tensor | slice, theta_P: Tensor | None) -> Tensor:
        """Scores of the same candidates [M] for every row: [*, M]; a slice copies no embedding."""

    def score_trained(
        self, context_x: Tensor, places: tuple[Tensor, ...], items_M: Tensor, theta_P: Tensor | None
    ) -> Tensor:
        """`score_shared` at some positions, an index [N] for each of `*`: [N, M]."""
        return self.score_shared(context_x, items_M, theta_P)[places]


class SequenceBackbone(Backbone):
    """A backbone that reads its window into one state, whatever the candidates: scores are dot products."""

    pairwise = False

    def __init__(self, vocabulary: int, config: BackboneConfig) -> None:
        super().__init__(vocabulary, config)
        self.dropout = nn.Dropout(config.dropped)

    @staticmethod
    def make_head(config: BackboneConfig) -> Personal:
        """Two layers on the state; full ones have 2 (D² + D) values (2,112 at width 32)."""
        return head_layers(config.head, [config.width] * 3, config.rank, config.residual, nn.GELU)

    @abstractmethod
    def encode(self, rows_NL: Tensor) -> Tensor:
        """States of right-padded windows [N, L]: [N, D], finite of empty ones too; with a prefix, what `read` needs."""

    @abstractmethod
    def read(self, context_x: Tensor, theta_P: Tensor | None) -> Tensor:
        """The states of windows whose prefix theta is: [*, D]; see `context`."""

    def context(self, window_BL: Tensor) -> Tensor:
        """The state of each window: [B, L] to [B, D]; zeros for an empty window. With a prefix, what `read` needs."""
        return self._encode_all(window_BL)

    def contexts(self, events_BT: Tensor) -> Tensor:
        """The context at every position: [B, T, x]; the windows run as rows of one batch."""
        rows_BTL = windows(events_BT, self.config.window)
        context_BTx: Tensor = self._encode_all(rows_BTL.flatten(0, 1)).unflatten(0, rows_BTL.shape[:2])
        return context_BTx

    def _encode_all(self, rows_NL: Tensor) -> Tensor:
        return seen(rows_NL, self.encode(rows_NL))

    def query(self, context_x: Tensor, theta_P: Tensor | None) -> Tensor:
        """What candidates are compared with: the head on top of the state, [*, x] to [*, D]."""
        if self.prefix is not None:
            context_x, theta_P = self.read(context_x, theta_P), None
        query_D: Tensor = context_x + self.head(theta_P, context_x)
        return query_D

    def score(self, context_x: Tensor, candidates_C: Tensor, theta_P: Tensor | None) -> Tensor:
        """Scores of each row's own candidates: [*, C]."""
        query_D = self.query(context_x, theta_P)
        score_C: Tensor = (self.item_embedding(candidates_C) @ query_D.unsqueeze(-1)).squeeze(-1)
        return score_C

    def score_shared(self, context_x: Tensor, items_M: Tensor | slice, theta_P: Tensor | None) -> Tensor:
        """Scores of the same candidates [M] for every row: [*, M]."""
        return functional.linear(self.query(context_x, theta_P), self.item_embedding.weight[items_M])

    def score_trained(
        self, context_x: Tensor, places: tuple[Tensor, ...], items_M: Tensor, theta_P: Tensor | None
    ) -> Tensor:
        """`score_shared` at some positions, an index [N] for each of `*`: [N, M]; no score is computed elsewhere."""
        return functional.linear(self.query(context_x, theta_P)[places], self.item_embedding.weight[items_M])


class PairwiseBackbone(Backbone):
    """A backbone that reads its window anew for each candidate; the head rates what was read."""

    pairwise = True

    @abstractmethod
    def features(self, context_x: Tensor, candidate_CD: Tensor) -> Tensor:
        """What the head reads of each candidate, the same whatever theta is: embeddings [*, C, D] of each row's own
        candidates, or [M, D] of shared ones, to [*, C, F].
        """

    @abstractmethod
    def widened(self, features_CF: Tensor, theta_P: Tensor) -> Tensor:
        """`features` of windows whose prefix theta is: [*, C, F]."""

    def rate(self, features_CF: Tensor, theta_P: Tensor | None) -> Tensor:
        """The head on top of what was read: [*, C, F] and theta (first dimensions of `*`) to scores [*, C]."""
        if self.prefix is not None and theta_P is not None:
            features_CF, theta_P = self.widened(features_CF, theta_P), None
        score_C: Tensor = self.head(theta_P, features_CF).squeeze(-1)
        return score_C

    def score(self, context_x: Tensor, candidates_C: Tensor, theta_P: Tensor | None) -> Tensor:
        """Scores of each row's own candidates: [*, C]."""
        return self.rate(self.features(context_x, self.item_embedding(candidates_C)), theta_P)

    def score_shared(self, context_x: Tensor, items_M: Tensor | slice, theta_P: Tensor | None) -> Tensor:
        """Scores of the same candidates [M] for every row: [*, M]."""
        items_MD = self.item_embedding.weight[items_M]
        rows = max(1, context_x.shape[:-1].numel())
        size = max(CACHED_ITEMS, CACHED_SCORES // rows) if items_MD.device.type == "cpu" else PIECE
        scores = [self.score_piece(context_x, piece_MD, theta_P) for piece_MD in items_MD.split(size)]
        return torch.cat(scores, -1)

    def score_piece(self, context_x: Tensor, candidate_MD: Tensor, theta_P: Tensor | None) -> Tensor:
        """`score_shared` of some items, by their embeddings: [*, M]."""
        return self.rate(self.features(context_x, candidate_MD), theta_P)
