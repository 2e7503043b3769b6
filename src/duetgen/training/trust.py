"""How much each part of theta counts at each age: what is best on the validation part, and no more than when younger.

A part that does not gain beyond the error of its gain counts nothing, so that what is old does no harm. All
combinations of factors are measured at each age. That is cheap, for an opinion moves few items: `ndcg@10` of a target
follows from the ten best scores without it and from the scores of the items that it names.

Shapes: N targets, B targets of a batch, F factors of the weights, J opinions, K items that opinions name, A ages.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from duetgen.core import AGES, Theta
from duetgen.core.theta import part_way
from duetgen.data.store import Dataset
from duetgen.evaluation.averages import device_means
from duetgen.evaluation.catalogue import Batch, batches
from duetgen.evaluation.inputs import histories
from duetgen.evaluation.metrics import Float64
from duetgen.evaluation.scoring import Selection, measuring, select
from duetgen.recommender import Recommender

WEIGHTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
OPINIONS: Final = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
"""Up to a ranking that is hardly more than the cloud's."""
SHOWN: Final = 10
ERRORS: Final = 1.0
"""How many standard errors a part has to gain so that it counts."""
FEW_AGES: Final = (0, 5, 20, 100)
"""Ages that are measured, and factors of the weights, where each scoring of the catalogue is dear."""
FEW_WEIGHTS: Final = (0.0, 1.0)


@dataclass(frozen=True)
class Scored:
    """What decides the ranks of N targets at one age, for each factor of the weights.

    Attributes:
        best_NFT: the ten best scores without opinions.
        own_NF: of the target.
        named_NFK: of the items that opinions name; -inf for the target, what is hidden and what is named twice.
        values_NKJ: what each opinion adds to them.
        own_values_NJ: what it adds to the target.
        row_N: which targets these are, of all that are measured: those that some combination of factors may show.
    """

    best_NFT: Tensor
    own_NF: Tensor
    named_NFK: Tensor
    values_NKJ: Tensor
    own_values_NJ: Tensor
    row_N: Tensor

    def gains(self, factor: int, opinions_J: Tensor) -> Tensor:
        """`ndcg@10` of each target, the weights and the opinions counting so much: [N]."""
        own_N1 = (self.own_NF[:, factor] + self.own_values_NJ @ opinions_J)[:, None]
        named_NK = self.named_NFK[:, factor]
        ahead_N = (self.best_NFT[:, factor] > own_N1).sum(1)
        risen_NK = (named_NK <= own_N1) & (named_NK + self.values_NKJ @ opinions_J > own_N1)
        rank_N = 1 + ahead_N + risen_NK.sum(1)
        gain_N = 1 / torch.log2(rank_N.double() + 1)
        return torch.where(rank_N <= SHOWN, gain_N, 0.0)


def learn_trust(model: Recommender, dataset: Dataset, devices: int, seed: int) -> float:
    """Set `model.trust`; gives `ndcg@10` on the validation part with fresh theta.

    Args:
        model: with a generator, and with the cloud model that it shall have.
        dataset: the dataset folder.
        devices: at most so many of the validation part, drawn by seed.
        seed: of that draw.
    """
    trust = model.trust
    assert trust is not None
    selection = select(dataset, "valid", devices, seed)
    dear = model.backbone.pairwise
    factors, ages = (FEW_WEIGHTS, FEW_AGES) if dear else (WEIGHTS, AGES)
    grid = list(itertools.product(factors, *([OPINIONS] * len(trust.opinions_JA))))
    most: tuple[float, ...] = (1.0, *[OPINIONS[-1]] * len(trust.opinions_JA))
    curves: list[tuple[float, ...]] = []
    fresh = 0.0
    for age, scored in zip(ages, score_at(model, dataset, selection, ages, factors)):
        found = {}
        for parts in grid:
            if any(one > limit for one, limit in zip(parts, most)):
                continue
            opinions_J = torch.tensor(parts[1:], dtype=torch.float32, device=scored.own_NF.device)
            gain_N = np.zeros(len(selection.targets))
            gain_N[scored.row_N.numpy()] = scored.gains(factors.index(parts[0]), opinions_J).cpu().numpy()
            found[parts] = device_means(gain_N, selection.slot_N, len(selection.device_U))
        most = choose(found)
        curves.append(most)
        if age == 0:
            fresh = float(found[most].mean())
    for curve_A, values in zip((trust.weights_A, *trust.opinions_JA), zip(*curves)):
        curve_A.copy_(torch.from_numpy(np.interp(AGES, ages, values)))
    return fresh


def choose(found: dict[tuple[float, ...], Float64]) -> tuple[float, ...]:
    """The best factors; a part more is taken only where it gains more than the error of that gain."""
    taken = next(parts for parts in found if not any(parts))
    for count in range(1, len(taken) + 1):
        more = [parts for parts in found if sum(map(bool, parts)) == count]
        if not more:
            continue
        best = max(more, key=lambda parts: found[parts].mean())
        gain_U = found[best] - found[taken]
        # What one device gains tells no error.
        if len(gain_U) > 1 and gain_U.mean() > ERRORS * gain_U.std(ddof=1) / len(gain_U) ** 0.5:
            taken = best
    return taken


def score_at(
    model: Recommender, dataset: Dataset, selection: Selection, ages: Sequence[int], factors: tuple[float, ...]
) -> list[Scored]:
    """Score the targets of the validation part once for each factor of the weights, with theta of each age; once for
    all ages by the global model.
    """
    parts: list[list[tuple[Tensor, ...]]] = [[] for _ in ages]
    with measuring(model) as place:
        for batch in batches(model, dataset, selection.targets, place):
            base_BV = batch.shown(model.score_catalogue(batch.window_BL))
            for age, found in zip(ages, parts):
                history_BL = histories(dataset, batch.targets, model.generator_history, age)
                theta = model.generate(torch.from_numpy(history_BL).to(place))
                found.append(score_batch(model, batch, theta, base_BV, factors))
    return [Scored(*(torch.cat(column) for column in zip(*found))) for found in parts]


def score_batch(
    model: Recommender, batch: Batch, theta: Theta, base_BV: Tensor, factors: tuple[float, ...]
) -> tuple[Tensor, ...]:
    """What `Scored` keeps of a batch: of its targets that some combination of factors may show."""
    named_BK, values_BKJ, own_values_BJ = named(theta, batch.own_B1, model.vocabulary)
    weights_BP, origin_P = theta.weights_BP, model.origin()
    assert weights_BP is not None
    columns = []
    for factor in factors:
        scores_BV = base_BV
        if factor:
            part = Theta(part_way(weights_BP, factor, origin_P))
            scores_BV = batch.shown(model.score_catalogue(batch.window_BL, part))
        best_BT = scores_BV.topk(min(SHOWN, scores_BV.shape[1]), dim=1).values
        named_scores_BK = scores_BV.gather(1, named_BK).masked_fill(named_BK < 2, -torch.inf)
        columns.append((best_BT, scores_BV.gather(1, batch.own_B1)[:, 0], named_scores_BK))
    best_BFT, own_BF, named_BFK = (torch.stack(column, 1) for column in zip(*columns))
    most_B1 = OPINIONS[-1] * own_values_BJ.sum(1, keepdim=True)
    within_B = (own_BF + most_B1 >= best_BFT[..., -1]).any(1) & ~torch.from_numpy(batch.missed_B).to(base_BV.device)
    row_B = torch.arange(batch.rows.start, batch.rows.stop)[within_B.cpu()]
    found = (best_BFT, own_BF, named_BFK, values_BKJ, own_values_BJ)
    return (*(part[within_B] for part in found), row_B)


def named(theta: Theta, own_B1: Tensor, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """The items that opinions name, each once, 0 in other places: [B, K]; what each opinion adds to them [B, K, J] and
    to the target [B, J].
    """
    batch = len(own_B1)
    if not theta.opinions:
        return own_B1.new_zeros(batch, 0), own_B1.new_zeros(batch, 0, 0).float(), own_B1.new_zeros(batch, 0).float()
    rows_BV = [opinion.over(vocabulary) for opinion in theta.opinions]
    items_BK = torch.cat([torch.where(values > 0, items, 0) for items, values in theta.opinions], 1)
    items_BK = items_BK.masked_fill(items_BK == own_B1, 0).sort(dim=1).values
    again_BK = torch.zeros_like(items_BK, dtype=torch.bool)
    again_BK[:, 1:] = items_BK[:, 1:] == items_BK[:, :-1]
    items_BK = items_BK.masked_fill(again_BK, 0)
    values_BKJ = torch.stack([row_BV.gather(1, items_BK) for row_BV in rows_BV], 2)
    return items_BK, values_BKJ, torch.cat([row_BV.gather(1, own_B1) for row_BV in rows_BV], 1)
