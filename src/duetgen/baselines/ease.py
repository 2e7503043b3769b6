"""EASE: a linear model from items met to items met, in closed form (Steck, WWW 2019).

Shapes: B devices, L window length, V items, U devices of the training part.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from duetgen.baselines.counting import Counting, incidence, recency
from duetgen.data.store import Dataset
from duetgen.errors import DuetError

MAX_ITEMS: Final = 20_000
"""Largest catalogue: the model is a dense matrix of this size squared, 1.6 GB, and its inverse takes minutes."""
BLOCK_ITEMS: Final = 512


class CatalogueTooLargeError(DuetError):
    """A method that needs a matrix of items by items, on a catalogue for which that is too large."""

    code = "catalogue-too-large"


def check_catalogue(vocabulary: int) -> None:
    """Refuse a catalogue that is too large.

    Raises:
        CatalogueTooLargeError: more than `MAX_ITEMS` item indices.
    """
    if vocabulary > MAX_ITEMS:
        raise CatalogueTooLargeError(
            f"ease needs a matrix of {vocabulary:,} by {vocabulary:,} items; it takes {MAX_ITEMS:,} items at most",
            "leave ease out, or filter rare items when preparing",
        )


def gram(dataset: Dataset) -> Tensor:
    """How many devices met both of two items in their training parts: [V, V].

    Raises:
        CatalogueTooLargeError: see `check_catalogue`.
    """
    check_catalogue(dataset.vocabulary)
    met_UV = incidence(dataset)
    met_VU, items = met_UV.t().coalesce(), met_UV.shape[1]
    gram_VV = torch.empty(items, items)
    for begin in range(0, items, BLOCK_ITEMS):
        block_R = torch.arange(begin, min(items, begin + BLOCK_ITEMS))
        gram_VV[:, block_R] = torch.sparse.mm(met_VU, met_UV.index_select(1, block_R).to_dense())
    return gram_VV


def solve(gram_VV: Tensor, regularisation: float) -> Tensor:
    """Weights B that minimise `‖X - X B‖² + λ ‖B‖²` with a zero diagonal: [V, V] (WWW 2019, equation 8).

    With `P = (XᵀX + λ I)⁻¹`, `B_ij = -P_ij / P_jj` off the diagonal.
    """
    shifted_VV = gram_VV.clone()
    shifted_VV.diagonal().add_(regularisation)
    inverse_VV = torch.cholesky_inverse(torch.linalg.cholesky(shifted_VV))
    weight_VV = inverse_VV.div_(-inverse_VV.diagonal().clone())
    weight_VV.fill_diagonal_(0)
    return weight_VV


class EASE(Counting):
    """A candidate scores the sum of its weights from the items of the window, newer events counting more.

    Args:
        weight_VV: weights, see `solve`.
        window: L.
        half_life: an event counts half as much as one so many events newer.
    """

    weight_VV: Tensor

    def __init__(self, weight_VV: Tensor, window: int, half_life: float = 10.0) -> None:
        super().__init__(len(weight_VV), window)
        self.half_life = half_life
        self.register_buffer("weight_VV", weight_VV)

    def catalogue(self, window_BL: Tensor) -> Tensor:
        """Windows as rows over the catalogue, times the weights; padding weighs nothing."""
        weight_BL = recency(window_BL, self.half_life).to(self.weight_VV.dtype)
        met_BV = self.weight_VV.new_zeros(len(window_BL), self.vocabulary).scatter_add_(1, window_BL, weight_BL)
        return met_BV @ self.weight_VV
