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
from torch import Tensor, nn

from duetgen.core import Theta
from duetgen.data.store import Dataset
from duetgen.evaluation.inputs import histories, history_lengths, target_items, windows
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.metrics import Float64, ndcg
from duetgen.evaluation.protocols import FullRanking, Recommender, Scores
from duetgen.evaluation.scoring import batch_size, measuring

TARGETS: Final = 512
"""Targets that are looked at, drawn by a fixed seed."""


class Oscillation(msgspec.Struct, frozen=True, kw_only=True):
    """What one more event does, averaged over targets.

    Attributes:
        theta: relative distance, the norm of the difference of the two thetas over the mean of their norms: 0 where
            nothing changes, about 1.4 for two that have nothing to do with each other.
        log_loss: size of the change of the target's log loss in the softmax over what is ranked, in nats.
        ndcg: size of the change of the target's `ndcg@10` in the protocol `full`.
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
    ranking = FullRanking(target_items(dataset, targets), MetItems.hidden(dataset, targets))
    size = batch_size(recommender)
    columns: list[Float64] = []
    with measuring(model) as device:
        for first in range(0, len(targets), size):
            rows = slice(first, first + size)
            window_BL = torch.from_numpy(windows(dataset, targets.take(rows), recommender.window)).to(device)
            thetas, losses, gains = [], [], []
            for age in (0, 1):
                history = histories(dataset, targets.take(rows), recommender.generator_history, age)
                theta = recommender.trusted(recommender.generate(torch.from_numpy(history).to(device)), 0)
                scored = ranking.rank(Scores(recommender, window_BL, theta), rows)
                assert scored.loss_N is not None
                thetas.append(values_of(theta, recommender.vocabulary).double().cpu().numpy())
                losses.append(scored.loss_N)
                gains.append(ndcg(scored.rank_N, 10))
            norm_B = (np.linalg.norm(thetas[0], axis=1) + np.linalg.norm(thetas[1], axis=1)) / 2
            distance_B = np.linalg.norm(thetas[0] - thetas[1], axis=1) / np.maximum(norm_B, 1e-12)
            columns.append(np.stack([distance_B, abs(losses[0] - losses[1]), abs(gains[0] - gains[1])], axis=1))
    theta, log_loss, gain = (float(value) for value in np.concatenate(columns).mean(0))
    return Oscillation(theta=theta, log_loss=log_loss, ndcg=gain, targets=len(targets))


def values_of(theta: Theta | Tensor, vocabulary: int) -> Tensor:
    """What a theta of one part holds, and of two the weights: [B, P], or [B, V] of a bias alone."""
    if isinstance(theta, Tensor):
        return theta
    if theta.weights_BP is not None:
        return theta.weights_BP
    bias_BV = theta.bias(vocabulary)
    assert bias_BV is not None
    return bias_BV
