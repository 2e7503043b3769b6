"""The sceptic's answer to opinions from a cloud: the device itself carries the counting model.

Shapes: B devices, L window length (L_d of the base model), C candidates, V items, K neighbours of an item, N targets, U
devices of the validation part.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from duetgen.cloudmodel.table import TableModel
from duetgen.data.store import Dataset
from duetgen.evaluation import few_devices
from duetgen.evaluation.averages import device_means
from duetgen.evaluation.catalogue import batches
from duetgen.evaluation.metrics import Float64, ndcg
from duetgen.evaluation.scoring import measuring, select
from duetgen.recommender import Recommender
from duetgen.training import TrainConfig
from duetgen.training.cloud_run import SHARES, count_table
from duetgen.training.defaults import fill_in_cloud

CUTS: Final = (20, 50, 200)
"""Neighbours of each item that the device may carry."""
HALF_LIVES: Final = (1.0, 3.0, 10.0, 30.0, 100.0)


class BaseEnsemble(nn.Module):
    """A base model and a table of each item's nearest ones, both on the device; a `protocols.Recommender`.

    Args:
        base: the trained global model.
        table: on the device too.
        window: L, how many of the newest events the table reads.
        factor: what the table's scores count beside those of the base model.
    """

    personal = False
    generator_history = 0
    factor: Tensor

    def __init__(self, base: Recommender, table: TableModel, window: int, factor: float = 1.0) -> None:
        super().__init__()
        self.base, self.table, self.vocabulary = base, table, base.vocabulary
        self.normalised, self.window = base.normalised, max(window, base.window)
        self.register_buffer("factor", torch.tensor(factor))

    @property
    def backbone(self) -> nn.Module:
        """That of the base model, which decides what scoring takes."""
        return self.base.backbone

    def generate(self, history_BL: Tensor) -> Any:
        """There is nothing to generate."""
        raise ValueError("an ensemble on the device has no generator")

    def trusted(self, theta: Any, age: int) -> Any:
        """There is no theta to trust."""
        return theta

    def score_catalogue(self, window_BL: Tensor, theta: Any = None) -> Tensor:
        """Scores of all item indices: [B, V]; padding scores -inf."""
        table_BV: Tensor = self.table(window_BL)
        return self.base.score_catalogue(newest(window_BL, self.base.window)) + self.factor * table_BV

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta: Any = None) -> Tensor:
        """Scores of each device's own candidates: [B, C]."""
        table_BV: Tensor = self.table(window_BL)
        own_BC = self.base.score(newest(window_BL, self.base.window), candidates_BC)
        return own_BC + self.factor * table_BV.gather(1, candidates_BC)

    def added(self, window_BL: Tensor, theta: Any = None) -> Tensor:
        """What the table adds to the scores of the items that it names: [B, V]."""
        return self.factor * self.table.named(window_BL)


def newest(window_BL: Tensor, length: int) -> Tensor:
    """The newest events of right-padded windows, right-padded: [B, L_d]."""
    count_B1 = (window_BL != 0).sum(1, keepdim=True)
    place_BL = (count_B1 - length).clamp(min=0) + torch.arange(length, device=window_BL.device)
    kept_BL = window_BL.gather(1, place_BL.clamp(max=window_BL.shape[1] - 1))
    return kept_BL.masked_fill(place_BL >= count_B1, 0)


def ensemble(base: Recommender, dataset: Dataset, config: TrainConfig) -> tuple[BaseEnsemble, float | None]:
    """An ensemble with the cut, half-life and factor that are best on the validation part, the first at a tie, and its
    `ndcg@10` there; without such a part the largest table as it is, and None.

    The table is that of the cloud model, EASE or item-knn.
    """
    near_VK, weight_VK = count_table(fill_in_cloud(config, dataset).table, dataset, CUTS[-1])
    tables = [TableModel(dataset.vocabulary, cut) for cut in CUTS]
    for table in tables:
        size = table.near_VK.shape[1]
        table.near_VK.copy_(near_VK[:, :size])
        table.weight_VK.copy_(weight_VK[:, :size])
    model = BaseEnsemble(base, tables[-1], config.model.history.length).eval()
    if not len(dataset.targets("valid")):
        return model, None
    found = try_all(model, tables, dataset, config)
    best = max(found, key=lambda one: found[one])
    model.table = tables[best[0]]
    model.table.half_life.fill_(best[1])
    model.factor.fill_(best[2])
    return model, found[best]


def try_all(
    model: BaseEnsemble, tables: list[TableModel], dataset: Dataset, config: TrainConfig
) -> dict[tuple[int, float, float], float]:
    """`ndcg@10` on the validation part by table, half-life and factor."""
    devices = config.validation_devices
    pairwise = getattr(model.backbone, "pairwise", False)
    selection = select(dataset, "valid", few_devices(dataset, devices) if pairwise else devices, config.seed)
    ranks: dict[tuple[int, float, float], list[Float64]] = {}
    with measuring(model) as place:
        for batch in batches(model, dataset, selection.targets, place):
            base_BV = batch.shown(model.base.score_catalogue(newest(batch.window_BL, model.base.window)))
            for number, table in enumerate(tables):
                for half_life in HALF_LIVES:
                    table.half_life.fill_(half_life)
                    table_BV = table(batch.window_BL)
                    for factor in SHARES:
                        scores_BV = base_BV + factor * table_BV
                        rank_B = 1 + (scores_BV > scores_BV.gather(1, batch.own_B1)).sum(1).cpu().numpy()
                        told_B = np.where(batch.missed_B, np.inf, rank_B)
                        ranks.setdefault((number, half_life, factor), []).append(told_B)
    found = {}
    for key, parts in ranks.items():
        gain_N = ndcg(np.concatenate(parts), 10)
        found[key] = float(device_means(gain_N, selection.slot_N, len(selection.device_U)).mean())
    return found
