"""How much one more event changes a device's parameters, and what that does to its ranking.

A device that asks again after every event gets a row of thetas. Where they jump about, so does what it recommends,
though its owner's taste has hardly moved. Measured on targets of the test part, each with theta generated from all
events before it and from all but the last of them, the window and all else being the same.

Shapes: N targets, B targets of a batch, L history length, P values in theta, V items.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec
import numpy as np
import torch
from torch import nn

from duetgen.data.store import Dataset
from duetgen.evaluation.evaluator import batch_size, measuring
from duetgen.evaluation.inputs import histories, history_lengths, target_items, windows
from duetgen.evaluation.protocols import Recommender, rank_in_catalogue

TARGETS: Final = 512
"""Targets that are looked at, drawn by a fixed seed."""


class Oscillation(msgspec.Struct, frozen=True, kw_only=True):
    """What one more event does, averaged over targets.

    Attributes:
        theta: relative distance, the norm of the difference of the two thetas over the mean of their norms: 0 where
            nothing changes, about 1.4 for two that have nothing to do with each other.
        log_loss: size of the change of the target's log loss in the softmax over the catalogue, in nats.
        ndcg: size of the change of the target's `ndcg@10` in the whole catalogue.
        targets: how many.
    """

    theta: float
    log_loss: float
    ndcg: float
    targets: int


def measure_oscillation(model: nn.Module, dataset: Dataset) -> Oscillation | None:
    """Measure a model that makes theta; None where no target has two events before it."""
    recommender = cast(Recommender, model)
    everyone = dataset.targets("test")
    # The first event is always read, so with one event alone there is nothing to leave out.
    index_N = np.flatnonzero(history_lengths(everyone) > 1)
    if not len(index_N):
        return None
    if len(index_N) > TARGETS:
        index_N = np.sort(np.random.default_rng([0, 7]).choice(index_N, TARGETS, replace=False))
    targets = everyone.take(index_N)
    target_N = torch.from_numpy(target_items(dataset, targets))
    size = batch_size(recommender)
    columns: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    with measuring(model) as device:
        for first in range(0, len(targets), size):
            rows = slice(first, first + size)
            window_BL = torch.from_numpy(windows(dataset, targets.take(rows), recommender.window)).to(device)
            target_B = target_N[rows].to(device)
            thetas, losses, gains = [], [], []
            for age in (0, 1):
                history = histories(dataset, targets.take(rows), recommender.generator_history, age)
                theta_BP = recommender.generate(torch.from_numpy(history).to(device))
                scores_BV = recommender.score_catalogue(window_BL, theta_BP).float()
                positive_B1 = scores_BV.gather(1, target_B[:, None])
                rank_B = rank_in_catalogue(scores_BV, target_B)
                thetas.append(theta_BP.double())
                losses.append(torch.logsumexp(scores_BV, 1).double() - positive_B1[:, 0].double())
                gains.append(torch.where(rank_B <= 10, 1 / torch.log2(1 + rank_B), 0.0))
            norm_B = (thetas[0].norm(dim=1) + thetas[1].norm(dim=1)) / 2
            distance_B = (thetas[0] - thetas[1]).norm(dim=1) / norm_B.clamp(min=1e-12)
            change_B3 = [distance_B, (losses[0] - losses[1]).abs(), (gains[0] - gains[1]).abs()]
            columns.append(torch.stack(change_B3, dim=1).cpu().numpy())
    theta, log_loss, ndcg = (float(value) for value in np.concatenate(columns).mean(0))
    return Oscillation(theta=theta, log_loss=log_loss, ndcg=ndcg, targets=len(targets))
