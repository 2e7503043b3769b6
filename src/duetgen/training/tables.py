"""Large embedding tables: a step costs what its batch's rows cost, and gives what AdamW gives on the whole table.

A batch reads a few thousand rows. The others have no gradient, yet AdamW moves them while their moments fade, and the
average of the weights follows. How far is known without looking at them: with moments m and v after step s, and at
step u the rate l, the share a of the average and the bias correction c = √(1 - β₂ᵘ) / (1 - β₁ᵘ), a row that nobody read
up to step t has

    w_t = w_s - m/√v · R,    R = Σ l c (β₁/√β₂)^(u-s),    m_t = β₁^(t-s) m,    v_t = β₂^(t-s) v
    w̄_t = Π w̄_s + (1 - Π) w_s - m/√v · T,    Π = ∏ (1 - a),    T_u = (1 - a) T_(u-1) + a R_u

sums and products over u = s+1 .. t. R, T and Π depend on s and t alone, so they are kept for every s, and a row is
brought up to date when it is read again. AdamW's ε is left out where there is no gradient: it is far below √v there.

Shapes: V rows of a table, D width, N rows of a batch, S steps since all rows were up to date.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from duetgen.adam import AdamW

LARGE: Final = 50_000
"""Rows from which on this costs less than steps over the whole table (docs/concepts/training.md)."""
CYCLE: Final = 256
"""Steps after which all rows are brought up to date, so that a checkpoint need not tell which are."""
SETTLED_ROWS: Final = 2**15
"""Rows that are brought up to date at a time."""


class LargeTable:
    """A table whose rows are trained and averaged as batches read them.

    Args:
        table: the table; its gradients become sparse, so that it must be read through the module alone.
        average: its running average.
        optimiser: AdamW, which keeps the moments and leaves the table's steps to this.
    """

    def __init__(self, table: nn.Embedding, average: nn.Embedding, optimiser: AdamW) -> None:
        self.weight_VD = table.weight
        self.average_VD: Tensor = average.weight
        (self.group,) = (g for g in optimiser.param_groups if any(one is table.weight for one in g["params"]))
        self.optimiser = optimiser
        device = table.weight.device
        self.now = 0
        self.last_V = torch.zeros(len(table.weight), dtype=torch.int32, device=device)
        self.moved_S, self.followed_S, self.kept_S = (torch.zeros(CYCLE + 1, device=device) for _ in range(3))
        self.kept_S[0] = 1
        table.sparse = True
        table.register_forward_pre_hook(lambda _, inputs: self.refresh(inputs[0]))

    @property
    def settled(self) -> bool:
        """Whether all rows are up to date."""
        return self.now == 0

    @property
    def state(self) -> dict[str, Any]:
        """What the optimiser keeps of the table."""
        state: dict[str, Any] = self.optimiser.state[self.weight_VD]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(self.weight_VD) for _ in range(2))
        return state

    @torch.no_grad()
    def refresh(self, index: Tensor) -> None:
        """Bring rows up to date, in any order and any number of times."""
        row_N = index.flatten()
        row_N = row_N[self.last_V[row_N] < self.now].unique()
        if not len(row_N):
            return
        since_N = self.last_V[row_N].long()
        moved_N1, followed_N1, kept_N1 = (
            one_S[since_N, None] for one_S in (self.moved_S, self.followed_S, self.kept_S)
        )
        mean_VD, square_VD = self.state["exp_avg"], self.state["exp_avg_sq"]
        own_ND, mean_ND, square_ND = self.weight_VD[row_N], mean_VD[row_N], square_VD[row_N]
        way_ND = mean_ND / (square_ND.sqrt() + self.group["eps"])
        self.average_VD[row_N] = torch.lerp(own_ND, self.average_VD[row_N], kept_N1) - followed_N1 * way_ND
        self.weight_VD[row_N] = own_ND - moved_N1 * way_ND
        steps_N1 = (self.now - since_N).to(own_ND.dtype).unsqueeze(1)
        for moment_VD, moment_ND, beta in zip((mean_VD, square_VD), (mean_ND, square_ND), self.group["betas"]):
            moment_VD[row_N] = moment_ND * beta**steps_N1
        self.last_V[row_N] = self.now

    @torch.no_grad()
    def step(self, share: float) -> None:
        """AdamW's step on the rows that have a gradient, which is then gone, and `share` of the way for the average."""
        gradient, state = self.weight_VD.grad, self.state
        self.weight_VD.grad = None
        if gradient is None:
            return
        gradient = gradient.coalesce()
        row_N, gradient_ND = gradient.indices()[0], gradient.values()
        self.refresh(row_N)  # Other processes may have read others.
        state["step"] += 1
        (first, second), taken = self.group["betas"], float(state["step"])
        rate = self.group["lr"] * (1 - second**taken) ** 0.5 / (1 - first**taken)
        mean_ND = state["exp_avg"][row_N].lerp_(gradient_ND, 1 - first)
        square_ND = state["exp_avg_sq"][row_N].mul_(second).addcmul_(gradient_ND, gradient_ND, value=1 - second)
        least = self.group["eps"] * (1 - second**taken) ** 0.5
        own_ND = self.weight_VD[row_N].addcdiv_(mean_ND, square_ND.sqrt().add_(least), value=-rate)
        state["exp_avg"][row_N], state["exp_avg_sq"][row_N] = mean_ND, square_ND
        self.weight_VD[row_N] = own_ND
        self.average_VD[row_N] = self.average_VD[row_N].lerp_(own_ND, share)
        self.now += 1
        age_S = torch.arange(self.now, 0, -1, device=row_N.device)
        self.moved_S[: self.now] += rate * (first / second**0.5) ** age_S
        self.followed_S[: self.now].lerp_(self.moved_S[: self.now], share)
        self.kept_S[: self.now] *= 1 - share
        self.kept_S[self.now] = 1
        self.last_V[row_N] = self.now
        if self.now == CYCLE:
            self.settle()

    def settle(self) -> None:
        """Bring all rows up to date."""
        for row_N in torch.arange(len(self.last_V), device=self.last_V.device).split(SETTLED_ROWS):
            self.refresh(row_N)
        self.last_V.zero_()
        self.now = 0
        for one_S in (self.moved_S, self.followed_S, self.kept_S):
            one_S.zero_()
        self.kept_S[0] = 1


def large_tables(model: nn.Module, average: nn.Module, optimiser: AdamW, whole: nn.Module | None) -> list[LargeTable]:
    """The trained tables of a model for which that pays.

    Args:
        model: what is trained.
        average: its running average.
        optimiser: of the model.
        whole: a table that every step reads as a whole; it stays as it is.
    """
    pairs = zip(model.modules(), average.modules(), strict=True)
    return [
        LargeTable(table, its, optimiser)
        for table, its in pairs
        if isinstance(table, nn.Embedding) and isinstance(its, nn.Embedding) and table is not whole
        if table.num_embeddings >= LARGE and table.weight.requires_grad
    ]
