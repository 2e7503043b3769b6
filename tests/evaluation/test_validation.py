"""The figure that stops training early is the one that an evaluation of the validation part gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.conftest import MakeDataset, wandering_sequences

from duetgen.core import Theta
from duetgen.data.store import UNKNOWN, Dataset
from duetgen.evaluation import OWN, Condition, evaluate, protocols, validate
from duetgen.evaluation.protocols import Scores, TopRanking
from duetgen.recommender import Recommender
from duetgen.wire.messages import MetPolicy

from .conftest import MakeModel


@pytest.mark.parametrize("method", ["duet", "base"])
def test_is_the_ndcg_of_evaluate_on_the_validation_part(temporal: Dataset, make_model: MakeModel, method: str) -> None:
    model = make_model(temporal, method=method)
    (whole,) = evaluate(model, temporal, part="valid", conditions=[OWN], bootstrap=0)
    name = "own" if method == "duet" else "zero"
    assert validate(model, temporal) == whole[name].metrics["ndcg@10"].mean
    (some,) = evaluate(model, temporal, part="valid", conditions=[OWN], bootstrap=0, limit_devices=3, seed=4)
    assert validate(model, temporal, limit_devices=3, seed=4) == some[name].metrics["ndcg@10"].mean


def test_is_the_mean_over_ages(temporal: Dataset, make_model: MakeModel) -> None:
    model = make_model(temporal)
    conditions = [OWN, Condition("own", 5)]
    (found,) = evaluate(model, temporal, part="valid", conditions=conditions, bootstrap=0)
    expected = sum(found[condition].metrics["ndcg@10"].mean for condition in conditions) / 2
    assert validate(model, temporal, staleness=(0, 5)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", ["duet", "base"])
@pytest.mark.parametrize("met", ["show", "hide"])
def test_a_target_is_done_with_once_ten_items_are_ahead(
    make_dataset: MakeDataset, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, method: str, met: MetPolicy
) -> None:
    sequences = wandering_sequences(40, 60, seed=1, longest=24)
    sequences[3][-2] = sequences[3][0]
    sequences[4][-2] = UNKNOWN
    dataset = make_dataset(sequences, vocabulary=60, met=met)
    model = make_model(dataset, "din", method=method)
    scored: list[int] = []

    def counted(window_BL: torch.Tensor, items_M: torch.Tensor, theta: Theta | None) -> torch.Tensor:
        scored.append(len(window_BL) * len(items_M))
        return Recommender.score_items(model, window_BL, items_M, theta)

    (whole,) = evaluate(model, dataset, part="valid", conditions=[OWN], bootstrap=0)
    expected = whole["own" if method == "duet" else "zero"].metrics["ndcg@10"].mean
    assert 0 < expected < 1
    monkeypatch.setattr(protocols, "FIRST_PIECE", 7)
    monkeypatch.setattr(model, "score_items", counted)
    assert validate(model, dataset) == pytest.approx(expected, rel=1e-12)
    targets = 40
    # All targets meet the first items and each other; hardly one is left for the last ones.
    assert scored[:2] == [targets * targets, (targets - 1 - (met == "hide")) * 7]
    assert sum(scored[1:]) < 0.75 * targets * 58


def test_items_that_tie_take_the_mean_of_their_ranks() -> None:
    scores = torch.tensor(
        [[0.0, 0.0, 5.0, 3.0, 3.0, 1.0], [0.0, 0.0, 5.0, 3.0, 3.0, 1.0], [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]
    )

    class Fixed:
        vocabulary = 6

        def score_items(self, window_BL: torch.Tensor, items_M: torch.Tensor, theta: None) -> torch.Tensor:
            return scores[window_BL[:, 0]][:, items_M]

    target_N = np.array([3, 5, 2])
    given = Scores(Fixed(), torch.arange(3)[:, None], None)  # type: ignore[arg-type]
    for last, expected in ((3, [2.5, np.inf, 2.5]), (4, [2.5, 4.0, 2.5])):
        ranking = TopRanking(target_N, torch.arange(2, 6), last)
        assert ranking.rank(given, slice(0, 3)).rank_N.tolist() == expected
