"""What all cloud models have in common: a history becomes a score for every item.

Shapes: B devices, T events of a sequence, L history length, N positions, V items.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from duetgen.backbones import windows


class MemberModel(nn.Module):
    """One cloud model."""

    @abstractmethod
    def forward(self, history_BL: Tensor) -> Tensor:
        """Scores of all items from right-padded histories: [B, V]."""

    def compared(self, history_BL: Tensor) -> Tensor:
        """The same but for a constant of each device, which no opinion tells: [B, V]."""
        scores_BV: Tensor = self(history_BL)
        return scores_BV

    def along(self, events_BT: Tensor, wanted_BT: Tensor, length: int) -> Tensor:
        """`forward` at some positions of right-padded sequences, each from its own last `length` events: [N, V].

        A model that can spares itself reading every history anew.
        """
        scores_NV: Tensor = self(windows(events_BT, length)[wanted_BT])
        return scores_NV
