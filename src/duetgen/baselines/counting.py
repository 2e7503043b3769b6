"""What all counting baselines have in common: scores of the whole catalogue from a window, and no parameters.

Shapes: B devices, L window length, C candidates, V items, U devices of the training part.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from duetgen.data.store import FIRST_ITEM, Dataset


class Counting(nn.Module):
    """A recommender by counts; see `evaluation.protocols.Recommender`.

    Args:
        vocabulary: V.
        window: L, how many of the newest events it reads.
    """

    personal = normalised = False
    generator_history = 0

    def __init__(self, vocabulary: int, window: int) -> None:
        super().__init__()
        self.vocabulary, self.window = vocabulary, window

    @abstractmethod
    def catalogue(self, window_BL: Tensor) -> Tensor:
        """Scores of all item indices: [B, V]."""

    def generate(self, history_BL: Tensor) -> Tensor:
        """There is nothing to generate."""
        raise ValueError("a counting baseline has no generator")

    def trusted(self, theta: Any, age: int) -> Any:
        """There is no theta to trust."""
        return theta

    def score_catalogue(self, window_BL: Tensor, theta: Any = None) -> Tensor:
        """Scores of all item indices: [B, V]; padding scores -inf."""
        scores_BV = self.catalogue(window_BL)
        scores_BV[:, 0] = -torch.inf
        return scores_BV

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta: Any = None) -> Tensor:
        """Scores of each device's own candidates: [B, C]."""
        return self.score_catalogue(window_BL).gather(1, candidates_BC)

    def added(self, window_BL: Tensor, theta: Any = None) -> None:
        """Counts are all there is."""


def recency(window_BL: Tensor, half_life: float | Tensor) -> Tensor:
    """What each event of right-padded windows counts: [B, L]; 1 for the newest, a half `half_life` events before it."""
    real_BL = window_BL != 0
    age_BL = real_BL.sum(1, keepdim=True) - 1 - torch.arange(window_BL.shape[1], device=window_BL.device)
    return torch.exp2(-age_BL.clamp(min=0) / half_life) * real_BL


def incidence(dataset: Dataset) -> Tensor:
    """Which device met which item in its training part: sparse float32 [U, V] of ones; the unknown item is left out."""
    device_E = np.repeat(np.arange(dataset.devices), np.diff(dataset.offsets))
    kept_E = dataset.training_mask() & (np.asarray(dataset.events) >= FIRST_ITEM)
    pairs = np.unique(np.stack([device_E[kept_E], dataset.events[kept_E]]), axis=1)
    return torch.sparse_coo_tensor(
        torch.from_numpy(pairs.astype(np.int64, order="C")),  # Products of sparse matrices read it wrongly otherwise.
        torch.ones(pairs.shape[1]),
        (dataset.devices, dataset.vocabulary),
        check_invariants=True,
        is_coalesced=True,
    )
