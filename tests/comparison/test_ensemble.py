"""A base model on a device that carries a counting model too."""

from __future__ import annotations

import pytest
import torch

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel.table import TableModel
from duetgen.comparison.methods.ensemble import BaseEnsemble, ensemble, newest, try_all
from duetgen.data.store import Dataset
from duetgen.evaluation import validate
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training import TrainConfig

CONFIG = TrainConfig(
    model=ModelConfig(method="base", backbone=BackboneConfig(width=8, window=4), history=HistoryConfig(length=12))
)


def base_of(dataset: Dataset) -> Recommender:
    torch.manual_seed(0)
    return Recommender(dataset.vocabulary, CONFIG.model).eval()


def test_the_newest_events_of_a_window() -> None:
    window_BL = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 0, 0, 0], [5, 6, 7, 8, 0], [0, 0, 0, 0, 0]])
    expected = [[7, 8, 9], [5, 6, 0], [6, 7, 8], [0, 0, 0]]
    assert newest(window_BL, 3).tolist() == expected
    assert newest(torch.tensor([[5, 6]]), 3).tolist() == [[5, 6, 0]]


def test_its_scores_are_those_of_both(people: Dataset) -> None:
    base, table = base_of(people), TableModel(people.vocabulary, 3)
    table.near_VK.copy_(torch.arange(people.vocabulary)[:, None] + torch.tensor([1, 2, 3]))
    table.near_VK.remainder_(people.vocabulary)
    table.weight_VK.fill_(1.0)
    model = BaseEnsemble(base, table, window=6, factor=0.5)
    window_BL = torch.tensor([[2, 3, 4, 5, 6, 7], [2, 3, 0, 0, 0, 0]])
    scores_BV = model.score_catalogue(window_BL)
    short_BL = torch.tensor([[4, 5, 6, 7], [2, 3, 0, 0]])
    torch.testing.assert_close(scores_BV, base.score_catalogue(short_BL) + 0.5 * table(window_BL))
    candidates_BC = torch.tensor([[4, 9], [8, 2]])
    torch.testing.assert_close(model.score(window_BL, candidates_BC), scores_BV.gather(1, candidates_BC))
    # Of the second device's events 2 and 3 the items 3 to 6 are near, so that all others have nothing added.
    added_V = model.added(window_BL)[1]
    assert added_V.nonzero().ravel().tolist() == [3, 4, 5, 6]
    assert len((scores_BV - added_V - base.score_catalogue(short_BL))[1, 1:].round(decimals=4).unique()) == 1


def test_what_it_tries_is_what_the_evaluation_measures(people: Dataset) -> None:
    model, found = ensemble(base_of(people), people, CONFIG)
    assert found == pytest.approx(validate(model, people, limit_devices=CONFIG.validation_devices, seed=CONFIG.seed))
    tried = try_all(model, [model.table], people, CONFIG)
    assert max(tried.values()) == pytest.approx(found)
    # Counting nothing it is the base model.
    assert tried[0, 1.0, 0.0] == pytest.approx(validate(model.base, people, limit_devices=5000))
