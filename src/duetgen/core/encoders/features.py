"""Features of a model of one's own, as what an encoder reads.

Shapes: B devices, L payloads of a history, E width of the features; `x` dimensions of a payload.
"""

from __future__ import annotations

from torch import Tensor, nn


class Features(nn.Module):
    """An `embed` for any encoder: a model that takes one payload a row, [N, x] to [N, E], run on histories [B, L, x].

    Args:
        model: what makes features of payloads.
        frozen: it is finished: not trained, and always in evaluation mode.
    """

    def __init__(self, model: nn.Module, frozen: bool = True) -> None:
        super().__init__()
        self.model, self.frozen = model, frozen
        if frozen:
            self.model.requires_grad_(False)
            self.model.eval()

    def train(self, mode: bool = True) -> Features:
        """As of any module; a frozen model stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, history_BLx: Tensor) -> Tensor:
        """Features of each payload: [B, L, E]."""
        features_BLE: Tensor = self.model(history_BLx.flatten(0, 1)).unflatten(0, history_BLx.shape[:2])
        return features_BLE
