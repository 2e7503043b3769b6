"""Which items each trained position's device had met: a device that hides them never ranks them, so that the loss need
not push them down (`objective.met`).

Shapes: B chunks, M events of a chunk's device up to the chunk's end, N trained positions, C items of a position or
shared by all, U distinct ones of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MetItems:
    """What was met before each position's target.

    Attributes:
        events_BM: int64, the events of each chunk's device from its first one on, right-padded with 0.
        row_N: the chunk of each position.
        count_N: how many of its device's events lie before the target; 1 or more.
    """

    events_BM: Tensor
    row_N: Tensor
    count_N: Tensor

    def items(self, rows: slice | Tensor) -> Tensor:
        """The items met at some positions: int64 [R, m], the first one again where there are no more."""
        count_R1 = self.count_N[rows, None]
        events_Rm = self.events_BM[self.row_N[rows], : int(count_R1.max())]
        step_m = torch.arange(events_Rm.shape[1], device=events_Rm.device)
        return torch.where(step_m < count_R1, events_Rm, events_Rm[:, :1])

    def among(self, items_C: Tensor) -> Tensor:
        """Which of the items, [C] shared by all positions or [N, C] of each, were met: bool [N, C]."""
        distinct_U, which_C = items_C.unique(return_inverse=True)
        place_BM = torch.searchsorted(distinct_U, self.events_BM).clamp(max=len(distinct_U) - 1)
        place_BM = place_BM.masked_fill(distinct_U[place_BM] != self.events_BM, len(distinct_U))
        never, (chunks, length) = self.events_BM.shape[1], self.events_BM.shape
        first_BU = torch.full((chunks, len(distinct_U) + 1), never, dtype=torch.int32, device=items_C.device)
        step_BM = torch.arange(length, dtype=torch.int32, device=items_C.device).expand(chunks, length)
        first_BU.scatter_reduce_(1, place_BM, step_BM, "amin")
        # Shared items are put into their columns for each chunk, so that a position's row is copied in one piece.
        first_NC = first_BU[:, which_C][self.row_N] if items_C.dim() == 1 else first_BU[self.row_N[:, None], which_C]
        return first_NC < self.count_N[:, None].to(torch.int32)
