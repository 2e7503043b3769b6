"""What every head encoder has in common: a history of payloads, some of them padding, becomes one vector.

A payload is whatever `embed` reads: an item's id, a feature vector, an image. An encoder knows which payloads are real
and nothing of what they mean.

Shapes: B devices, L payloads of a history, E width of the embedding, D width of the encoder; `x` dimensions of a
payload: none for ids, F for feature vectors, channels, height and width for images.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from duetgen.errors import DuetError


class InvalidArgumentError(DuetError):
    """An argument of `personalise`, or a history, is of another type or out of its range."""

    code = "invalid-argument"


class Encoder(nn.Module):
    """Reads a history of payloads.

    Args:
        embed: turns a history [B, L, x] into [B, L, E]; see `Features` for a model that takes one payload a row. It may
            be shared with the model that the generator serves: the form of the paper.
        embed_width: E.
        width: D.
        dropout: share of the embedding's values dropped while training.
        event_dropout: share of whole payloads hidden while training, so that no single one makes up theta.

    Attributes:
        views: the vector is that many views of the history side by side, each D / `views` wide.
        silent: reading an empty history gives zeros without more.
    """

    views: ClassVar[int] = 1
    silent: ClassVar[bool] = False

    def __init__(
        self, embed: nn.Module, embed_width: int, width: int, dropout: float = 0.0, event_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embed, self.embed_width, self.width = embed, embed_width, width
        self.dropout, self.event_dropout = nn.Dropout(dropout), nn.Dropout(event_dropout)

    def real(self, history_BLx: Tensor) -> Tensor:
        """Which payloads are no padding, all of whose values are 0: bool [B, L]."""
        if history_BLx.dim() > 2:
            history_BLx = history_BLx.flatten(2).abs().amax(-1)
        return history_BLx != 0

    def embedded(self, history_BLx: Tensor) -> Tensor:
        """The embedded history, with what training hides left out: [B, L, E].

        Raises:
            InvalidArgumentError: the history has other dimensions than `embed` reads, or that gives another width.
        """
        embedded_BLE: Tensor = self.dropout(self.embed(history_BLx))
        if embedded_BLE.dim() != 3 or embedded_BLE.shape[2] != self.embed_width:
            raise InvalidArgumentError(
                f"of a history of {list(history_BLx.shape)} the encoder's embed makes {list(embedded_BLE.shape)}",
                f"it has to be [devices, samples, {self.embed_width}]: see the history, and the encoder's embed_width",
            )
        if self.training and self.event_dropout.p > 0:
            embedded_BLE = embedded_BLE * self.event_dropout(torch.ones_like(embedded_BLE[..., :1]))
        return embedded_BLE

    def forward(self, history_BLx: Tensor, real_BL: Tensor | None = None) -> Tensor:
        """The vector of each history: [B, D]; zeros for an empty one.

        Args:
            history_BLx: payloads.
            real_BL: which of them are no padding, where zeros do not tell.
        """
        real_BL = self.real(history_BLx) if real_BL is None else real_BL
        if not real_BL.shape[1]:
            return next(self.parameters()).new_zeros(len(real_BL), self.width)
        vector_BD = self.read(history_BLx, real_BL)
        return vector_BD if self.silent else vector_BD * real_BL.any(1, keepdim=True).to(vector_BD.dtype)

    @abstractmethod
    def read(self, history_BLx: Tensor, real_BL: Tensor) -> Tensor:
        """The vector of histories that are not empty: [B, D]."""


class SequenceEncoder(Encoder):
    """Reads payloads in their order, oldest first, right-padded; causal, so one pass gives the vector after each.

    What looks like padding among real payloads, a sensor's zeros, is one of them.
    """

    def lengths(self, real_BL: Tensor) -> Tensor:
        """How many payloads each history has, up to the last real one: int64 [B]."""
        return (real_BL * torch.arange(1, real_BL.shape[1] + 1, device=real_BL.device)).amax(1)

    @abstractmethod
    def states(self, history_BLx: Tensor) -> Tensor:
        """The vector after each event: [B, L, D]; at position t it depends on events 0..t alone."""

    def read(self, history_BLx: Tensor, real_BL: Tensor) -> Tensor:
        """The vector after the last real event."""
        return self.last(history_BLx, self.lengths(real_BL))

    def last(self, history_BLx: Tensor, length_B: Tensor) -> Tensor:
        """The vector after the last real event of histories that are not empty: [B, D]."""
        states_BLD = self.states(history_BLx)
        return at(states_BLD, length_B)


def at(states_BLD: Tensor, length_B: Tensor) -> Tensor:
    """What stands at the last real event: [B, D]."""
    last_B11 = (length_B - 1).clamp(min=0)[:, None, None]
    return states_BLD.gather(1, last_B11.expand(-1, -1, states_BLD.shape[-1])).squeeze(1)
