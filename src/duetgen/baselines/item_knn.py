"""Item-based nearest neighbours: what is met by the same devices as the items of the window.

Shapes: B devices, L window length, V items, U devices of the training part, K neighbours, R items of a block,
E events, N events of a block, P pairs of items of a block.
"""

from __future__ import annotations

import warnings
from typing import Final

import torch
from torch import Tensor

from duetgen.baselines.counting import Counting, incidence, recency
from duetgen.data.store import Dataset

NEIGHBOURS: Final = 200
BLOCK_ITEMS: Final = 512

SPARSE_ITEMS: Final = 50_000
"""Items from which on most counts are 0, and are left out: dense ones take time by the events times the items."""
BLOCK_PAIRS: Final = 2**24
"""Pairs of items that one device met that are counted at a time, about."""


def neighbours(met_UV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest items of each and their cosine, `c_ij / √(c_i c_j)`, c counting devices: int64 and float32 [V, K].

    An item is no neighbour of its own. Where fewer are near, the rest are others with the cosine 0, or padding.

    Args:
        met_UV: sparse, ones where a device met an item.
        count: K, at most V.
    """
    items, met_VU = met_UV.shape[1], met_UV.t().coalesce()
    norm_V = torch.zeros(items).index_add_(0, met_VU.indices()[0], met_VU.values()).sqrt().clamp(min=1)
    # Made before the blocks: small results kept from every block would lie between the large, passing ones.
    near_VK = torch.zeros(items, min(count, items), dtype=torch.int64)
    cosine_VK = torch.zeros(near_VK.shape)
    if items >= SPARSE_ITEMS:
        fill_sparse(met_UV, met_VU, norm_V, near_VK, cosine_VK)
        return near_VK, cosine_VK
    for begin in range(0, items, BLOCK_ITEMS):
        block_R = torch.arange(begin, min(items, begin + BLOCK_ITEMS))
        met_UR = met_UV.index_select(1, block_R).to_dense()
        cosine_RV = (torch.sparse.mm(met_VU, met_UR) / norm_V[:, None] / norm_V[block_R]).T.contiguous()
        cosine_RV[torch.arange(len(block_R)), block_R] = 0
        cosine_VK[block_R], near_VK[block_R] = cosine_RV.topk(near_VK.shape[1], dim=1)
    return near_VK, cosine_VK


def fill_sparse(met_UV: Tensor, met_VU: Tensor, norm_V: Tensor, near_VK: Tensor, cosine_VK: Tensor) -> None:
    """Fill in the nearest items and their cosines from products of sparse matrices."""
    item_E, device_E = met_VU.indices()
    begin_V = torch.searchsorted(item_E, torch.arange(len(near_VK) + 1))
    pairs_E = torch.bincount(met_UV.indices()[0], minlength=len(met_UV))[device_E].cumsum(0)
    pairs_V = torch.cat([pairs_E.new_zeros(1), pairs_E])[begin_V[:-1]]
    first = 0
    for count in (pairs_V // BLOCK_PAIRS).unique_consecutive(return_counts=True)[1].tolist():
        part = slice(int(begin_V[first]), int(begin_V[first + count]))
        place_2N = torch.stack([item_E[part] - first, device_E[part]])
        ones_N = torch.ones(place_2N.shape[1])
        met_RU = torch.sparse_coo_tensor(
            place_2N, ones_N, (count, len(met_UV)), check_invariants=True, is_coalesced=True
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
            shared_RV = torch.sparse.mm(met_RU, met_UV).coalesce()
        row_P, other_P = shared_RV.indices()
        cosine_P = shared_RV.values() / norm_V[other_P] / norm_V[first + row_P]
        # By rows, and within a row from the nearest on; an item itself comes last.
        cosine_P[other_P == first + row_P] = 0
        order_P = (row_P - 0.5 * cosine_P.double()).argsort()
        row_P, other_P, cosine_P = row_P[order_P], other_P[order_P], cosine_P[order_P]
        place_P = torch.arange(len(row_P)) - torch.searchsorted(row_P, row_P)
        kept_P = (place_P < near_VK.shape[1]) & (cosine_P > 0)
        at = (first + row_P[kept_P], place_P[kept_P])
        near_VK[at], cosine_VK[at] = other_P[kept_P], cosine_P[kept_P]
        first += count


class ItemKNN(Counting):
    """A candidate scores the sum of its cosines with the items of the window, newer events counting more.

    Cosines are those of item-based collaborative filtering (Sarwar et al., WWW 2001, section 3.1.1).

    Args:
        dataset: the dataset folder; its training part is counted.
        window: L.
        half_life: an event counts half as much as one so many events newer.
        count: K, neighbours kept of each item.
    """

    near_VK: Tensor
    cosine_VK: Tensor

    def __init__(self, dataset: Dataset, window: int, half_life: float = 10.0, count: int = NEIGHBOURS) -> None:
        super().__init__(dataset.vocabulary, window)
        self.half_life = half_life
        near_VK, cosine_VK = neighbours(incidence(dataset), count)
        self.register_buffer("near_VK", near_VK)
        self.register_buffer("cosine_VK", cosine_VK)

    def catalogue(self, window_BL: Tensor) -> Tensor:
        """Adds the neighbours of one event of every window after the other."""
        weight_BL = recency(window_BL, self.half_life)
        scores_BV = self.cosine_VK.new_zeros(len(window_BL), self.vocabulary)
        for item_B, weight_B in zip(window_BL.unbind(1), weight_BL.unbind(1), strict=True):
            scores_BV.scatter_add_(1, self.near_VK[item_B], self.cosine_VK[item_B] * weight_B[:, None])
        return scores_BV
