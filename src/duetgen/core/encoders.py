"""Head encoders: a history of behaviour to one vector, at every length of it at once.

Shapes: B devices, L history length, E width of the embedding, D width of the encoder, K spans of averaging.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Reads a history, oldest event first, right-padded; causal, so one pass gives the vector after every event."""

    width: int
    embed: nn.Module

    @abstractmethod
    def states(self, history_BLx: Tensor) -> Tensor:
        """The vector after each event: [B, L, D]; at position t it depends on events 0..t alone."""

    @abstractmethod
    def lengths(self, history_BLx: Tensor) -> Tensor:
        """Number of real events of each history: int64 [B]."""

    def forward(self, history_BLx: Tensor) -> Tensor:
        """The vector after the last real event: [B, D]; zeros for an empty history."""
        length_B = self.lengths(history_BLx)
        states_BLD = self.states(history_BLx)
        last_B11 = (length_B - 1).clamp(min=0)[:, None, None]
        state_BD = states_BLD.gather(1, last_B11.expand(-1, -1, states_BLD.shape[-1])).squeeze(1)
        return state_BD * (length_B > 0).to(state_BD.dtype)[:, None]


class GRUEncoder(Encoder):
    """An embedding and a GRU (DUET, section 3.2: the head encoder E).

    Args:
        embed: turns a history [B, L] of ids (0 is padding), or [B, L, F] of feature vectors (all zero is padding), into
            [B, L, E]. It may be shared with the model that the generator serves: the form of the paper.
        embed_width: E.
        width: D.
        dropout: share of the embedding's values dropped while training.
        event_dropout: share of whole events hidden while training, so that no single event makes up theta.
    """

    def __init__(
        self, embed: nn.Module, embed_width: int, width: int, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embed, self.width = embed, width
        self.dropout, self.event_dropout = nn.Dropout(dropout), nn.Dropout(event_dropout)
        self.gru = nn.GRU(embed_width, width, batch_first=True)

    def lengths(self, history_BLx: Tensor) -> Tensor:
        """Number of real events of each history: int64 [B]."""
        real = history_BLx != 0
        return (real.any(-1) if history_BLx.dim() == 3 else real).sum(1)

    def states(self, history_BLx: Tensor) -> Tensor:
        """The GRU's state after each event: [B, L, D]."""
        states_BLD: Tensor
        embedded_BLE = self.dropout(self.embed(history_BLx))
        if self.training and self.event_dropout.p > 0:
            embedded_BLE = embedded_BLE * self.event_dropout(torch.ones_like(embedded_BLE[..., :1]))
        states_BLD, _ = self.gru(embedded_BLE)
        return states_BLD


class AverageEncoder(Encoder):
    """Averages of the embedded history over several spans, from the last few events to all of them, and a linear map.

    A tenth of the GRU's cost, and harder to misuse: an average tells taste, but hardly which device it is, so there is
    less to memorise where devices are few.

    Args:
        embed: as for `GRUEncoder`.
        embed_width: E.
        width: D.
        dropout: share of the embedding's values dropped while training.
        event_dropout: share of whole events hidden while training.
        half_lives: an average weighs an event half as much as one that many events newer; infinity is the plain mean.
    """

    half_lives_K: Tensor

    def __init__(
        self,
        embed: nn.Module,
        embed_width: int,
        width: int,
        dropout: float = 0.0,
        event_dropout: float = 0.0,
        half_lives: tuple[float, ...] = (2.0, 10.0, 50.0, float("inf")),
    ) -> None:
        super().__init__()
        self.embed, self.width = embed, width
        self.dropout, self.event_dropout = nn.Dropout(dropout), nn.Dropout(event_dropout)
        self.register_buffer("half_lives_K", torch.tensor(half_lives), persistent=False)
        self.output = nn.Linear(len(half_lives) * embed_width, width)

    def embedded(self, history_BLx: Tensor) -> Tensor:
        embedded_BLE: Tensor = self.dropout(self.embed(history_BLx))
        if self.training and self.event_dropout.p > 0:
            embedded_BLE = embedded_BLE * self.event_dropout(torch.ones_like(embedded_BLE[..., :1]))
        return embedded_BLE

    def lengths(self, history_BLx: Tensor) -> Tensor:
        """Number of real events of each history: int64 [B]."""
        real = history_BLx != 0
        return (real.any(-1) if history_BLx.dim() == 3 else real).sum(1)

    def states(self, history_BLx: Tensor) -> Tensor:
        """The averages after each event, mapped: [B, L, D]."""
        embedded_BLE = self.embedded(history_BLx)
        step_L = torch.arange(embedded_BLE.shape[1], device=embedded_BLE.device)
        age_LL = step_L[:, None] - step_L
        weight_KLL = torch.exp2(-age_LL / self.half_lives_K[:, None, None]).masked_fill(age_LL < 0, 0.0)
        weight_KLL = weight_KLL / weight_KLL.sum(-1, keepdim=True)
        average_BLKE = torch.einsum("kts,bse->btke", weight_KLL, embedded_BLE)
        state_BLD: Tensor = self.output(average_BLKE.flatten(2))
        return state_BLD
