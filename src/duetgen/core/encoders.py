"""Head encoders: a history of behaviour to one vector, at every length of it at once.

Shapes: B devices, L history length, E width of the embedding, D width of the encoder, K views of a history; `x` is
nothing for ids and F for feature vectors.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

import torch
from torch import Tensor, nn

HALF_LIVES: Final = (2.0, 10.0, 50.0, float("inf"))
"""Half-lives of the averages, in events: the moment, the session, the season, and all that is known."""


class Encoder(nn.Module):
    """Reads a history, oldest event first, right-padded; causal, so one pass gives the vector after every event.

    Args:
        embed: turns a history [B, L] of ids (0 is padding), or [B, L, F] of feature vectors (all zero is padding), into
            [B, L, E]. It may be shared with the model that the generator serves: the form of the paper.
        width: D.
        views: K; the vector is that many views of the history side by side, each D / K wide.
        dropout: share of the embedding's values dropped while training.
        event_dropout: share of whole events hidden while training, so that no single event makes up theta.
    """

    def __init__(
        self, embed: nn.Module, width: int, views: int = 1, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embed, self.width, self.views = embed, width, views
        self.dropout, self.event_dropout = nn.Dropout(dropout), nn.Dropout(event_dropout)

    @abstractmethod
    def states(self, history_BLx: Tensor) -> Tensor:
        """The vector after each event: [B, L, D]; at position t it depends on events 0..t alone."""

    def lengths(self, history_BLx: Tensor) -> Tensor:
        """Number of real events of each history: int64 [B]."""
        real = history_BLx != 0
        return (real.any(-1) if history_BLx.dim() == 3 else real).sum(1)

    def embedded(self, history_BLx: Tensor) -> Tensor:
        """The embedded history, with what training hides left out: [B, L, E]."""
        embedded_BLE: Tensor = self.dropout(self.embed(history_BLx))
        if self.training and self.event_dropout.p > 0:
            embedded_BLE = embedded_BLE * self.event_dropout(torch.ones_like(embedded_BLE[..., :1]))
        return embedded_BLE

    def forward(self, history_BLx: Tensor) -> Tensor:
        """The vector after the last real event: [B, D]; zeros for an empty history."""
        length_B = self.lengths(history_BLx)
        state_BD = self.last(history_BLx, length_B)
        return state_BD * (length_B > 0).to(state_BD.dtype)[:, None]

    def last(self, history_BLx: Tensor, length_B: Tensor) -> Tensor:
        """The vector after the last real event of histories that are not empty: [B, D]."""
        states_BLD = self.states(history_BLx)
        last_B11 = (length_B - 1).clamp(min=0)[:, None, None]
        return states_BLD.gather(1, last_B11.expand(-1, -1, states_BLD.shape[-1])).squeeze(1)


class GRUEncoder(Encoder):
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
        super().__init__(embed, width, dropout=dropout, event_dropout=event_dropout)
        self.gru = nn.GRU(embed_width, width, batch_first=True)

    def states(self, history_BLx: Tensor) -> Tensor:
        """The GRU's state after each event: [B, L, D]."""
        states_BLD: Tensor
        states_BLD, _ = self.gru(self.embedded(history_BLx))
        return states_BLD


class AverageEncoder(Encoder):
    """Averages of the embedded history over several spans, from the last few events to all of them, side by side.

    It has no step after step, so it is several times cheaper than a GRU on a long history, to train and to serve; and
    an average tells taste but hardly which device it is of, so there is less to memorise where devices are few. Each
    span is a view of its own, for a candidate parameter set of its own (see `stabiliser`).

    Args:
        embed: see `Encoder`.
        embed_width: E; D is E for each of the spans.
        dropout: see `Encoder`.
        event_dropout: see `Encoder`.
        half_lives: an average weighs an event half as much as one that many events newer; infinity is the plain mean.
    """

    half_lives_K: Tensor

    def __init__(
        self,
        embed: nn.Module,
        embed_width: int,
        dropout: float = 0.0,
        event_dropout: float = 0.0,
        half_lives: tuple[float, ...] = HALF_LIVES,
    ) -> None:
        super().__init__(embed, len(half_lives) * embed_width, len(half_lives), dropout, event_dropout)
        self.register_buffer("half_lives_K", torch.tensor(half_lives), persistent=False)

    def shares(self, age: Tensor) -> Tensor:
        """Weights of events by age, none for negative ages, summing to 1: [..., L] to [..., K, L]."""
        weight = torch.exp2(-age.clamp(min=0).unsqueeze(-2) / self.half_lives_K[:, None])
        weight = weight * (age >= 0).unsqueeze(-2)
        return weight / weight.sum(-1, keepdim=True).clamp(min=1e-12)

    def states(self, history_BLx: Tensor) -> Tensor:
        """The averages after each event: [B, L, D]."""
        embedded_BLE = self.embedded(history_BLx)
        length = embedded_BLE.shape[1]
        step_L = torch.arange(length, device=embedded_BLE.device)
        share_LKL = self.shares(step_L[:, None] - step_L)
        average_BLKE = (share_LKL.flatten(0, 1) @ embedded_BLE).unflatten(1, (length, -1))
        states_BLD: Tensor = average_BLKE.flatten(2)
        return states_BLD

    def last(self, history_BLx: Tensor, length_B: Tensor) -> Tensor:
        """The averages over the whole history: [B, D]."""
        embedded_BLE = self.embedded(history_BLx)
        step_L = torch.arange(embedded_BLE.shape[1], device=embedded_BLE.device)
        share_BKL = self.shares(length_B[:, None] - 1 - step_L)
        state_BD: Tensor = (share_BKL @ embedded_BLE).flatten(1)
        return state_BD
