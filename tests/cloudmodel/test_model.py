"""Opinions and rankings of cloud models, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tests.conftest import MakeDataset, wandering_sequences

from duetgen.baselines.counting import incidence
from duetgen.baselines.item_knn import neighbours
from duetgen.cloudmodel import CloudConfig, CloudList, CloudModel
from duetgen.cloudmodel.model import best
from duetgen.cloudmodel.table import TableModel
from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, ZERO, Condition, evaluate
from duetgen.wire.messages import MetPolicy

L = 4
DEVIATION = math.sqrt(30 / 6 - (10 / 6) ** 2)
"""Of the scores 0, 0, 2, 1, 4, 3 of `table`."""


def table(met: MetPolicy = "show", items: int = 3) -> CloudModel:
    """A table of six indices: after 2 and 3, of 2, 3, 4 and 5 the scores are 2, 1, 4 and 3, but for their deviation."""
    cloud = CloudModel(6, L, CloudConfig(kind="item-knn", items=items, neighbours=2), met).eval()
    (model,) = cloud.members.values()
    assert isinstance(model, TableModel)
    model.half_life.fill_(torch.inf)
    model.near_VK[2], model.weight_VK[2] = torch.tensor([4, 5]), torch.tensor([3.0, 3.0])
    model.near_VK[3], model.weight_VK[3] = torch.tensor([2, 4]), torch.tensor([2.0, 1.0])
    model.near_VK[1], model.weight_VK[1] = torch.tensor([3, 5]), torch.tensor([1.0, 0.0])
    return cloud


HISTORY = torch.tensor([[2, 3, 1, 0]])


def test_an_opinion_is_what_the_best_exceed_the_last_of_them_by() -> None:
    opinion = best(torch.tensor([[5.0, 2.0, 7.0, 4.0], [1.0, 1.5, 0.0, 9.0]]), 3)
    # They come in any order.
    assert opinion.items_BK.sort().values.tolist() == [[0, 2, 3], [0, 1, 3]]
    row = torch.zeros(2, 4).scatter(1, opinion.items_BK, opinion.values_BK)
    assert row.tolist() == [[1.0, 0.0, 3.0, 0.0], [0.0, 0.5, 0.0, 8.0]]


@pytest.mark.parametrize(
    ("met", "row"),
    [
        ("show", [0, 0, 0, 0, 2, 1]),
        # Of the items that are shown, 4 and 5, the last is the measure; what the history holds is worth nothing.
        ("hide", [0, 0, 0, 0, 1, 0]),
    ],
)
def test_what_the_history_holds_is_in_no_opinion_where_it_is_hidden(met: MetPolicy, row: list[float]) -> None:
    (opinion,) = table(met).opinions(HISTORY)
    assert opinion.items_BK.shape == (1, 3)
    torch.testing.assert_close(opinion.over(6), torch.tensor([row]) / DEVIATION)


def test_where_nothing_can_be_shown_nothing_is_said() -> None:
    for history in ([2, 3, 4, 5], [5, 4, 3, 2]):
        (opinion,) = table("hide").opinions(torch.tensor([history]))
        assert not opinion.values_BK.any()


def test_a_list_is_no_longer_than_the_catalogue() -> None:
    cloud = table(items=100)
    assert cloud.items == 4
    (opinion,) = cloud.opinions(HISTORY)
    assert sorted(opinion.items_BK[0].tolist()) == [2, 3, 4, 5]


def blend(vocabulary: int = 30, met: MetPolicy = "show", items: int = 5) -> CloudModel:
    """Two members, untrained: the sequence model as it begins, the table at random."""
    torch.manual_seed(0)
    config = CloudConfig(kind="blend", table="item-knn", items=items, width=8, neighbours=6)
    cloud = CloudModel(vocabulary, 12, config, met).eval()
    table = cloud.members["item-knn"]
    assert isinstance(table, TableModel)
    table.near_VK.copy_(torch.randint(2, vocabulary, table.near_VK.shape))
    table.weight_VK.copy_(torch.rand(table.weight_VK.shape))
    return cloud


@pytest.mark.parametrize("met", ["show", "hide"])
def test_padding_changes_nothing(met: MetPolicy) -> None:
    cloud = blend(met=met)
    short, padded = torch.tensor([[3, 9, 1, 7]]), torch.tensor([[3, 9, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0]])
    for one, other in zip(cloud.opinions(short), cloud.opinions(padded), strict=True):
        assert torch.equal(one.items_BK, other.items_BK)
        torch.testing.assert_close(one.values_BK, other.values_BK)
    torch.testing.assert_close(cloud.score_catalogue(short), cloud.score_catalogue(padded))


def test_each_member_has_an_opinion_of_its_own_and_shares_count_in_the_common_ranking_alone() -> None:
    cloud, history = blend(), torch.tensor([[3, 9, 1, 7]])
    before = cloud.opinions(history)
    assert len(before) == 2
    scores = [model(history) for model in cloud.members.values()]
    cloud.shares_J.copy_(torch.tensor([1.0, 0.25]))
    common = (scores[0] + scores[1] / 4)[:, 2:]
    torch.testing.assert_close(cloud.score_catalogue(history)[:, 2:], common)
    # The unknown item is as likely as the least item, so that a log loss tells something where it is the target.
    assert cloud.score_catalogue(history)[0, :2].tolist() == pytest.approx([-torch.inf, common.min().item()])
    # What the table adds is a quarter of its scores, nothing for what is near no item of the history.
    added_BV = cloud.added(history)
    assert added_BV is not None
    torch.testing.assert_close(added_BV, (scores[1] - scores[1].amin()) / 4)
    assert table().added(HISTORY) is None
    candidates = torch.tensor([[5, 2]])
    torch.testing.assert_close(cloud.score(history, candidates), cloud.score_catalogue(history)[:, [5, 2]])
    for one, other in zip(before, cloud.opinions(history), strict=True):
        assert torch.equal(one.values_BK, other.values_BK)


@pytest.mark.parametrize("met", ["show", "hide"])
def test_a_list_is_in_the_order_of_the_clouds_ranking(met: MetPolicy) -> None:
    cloud, history = blend(met=met), torch.tensor([[3, 9, 1, 7], [2, 8, 0, 0]])
    order = cloud.score_catalogue(history)[:, 2:].argsort(dim=1, descending=True) + 2
    shown = CloudList(cloud)
    (opinion,) = shown.generate(history).opinions
    for row, found in enumerate(opinion.items_BK.tolist()):
        seen = set(history[row].tolist()) if met == "hide" else set()
        assert found == [item for item in order[row].tolist() if item not in seen][:5]
    assert opinion.values_BK.tolist() == [[5, 4, 3, 2, 1]] * 2
    scores = shown.score_catalogue(history[:, :1], shown.trusted(shown.generate(history), 50))
    assert scores[0, 0] == -torch.inf
    assert scores[:, 1:].argsort(dim=1, descending=True)[:, :5].add(1).tolist() == opinion.items_BK.tolist()
    assert shown.score(history[:, :1], torch.tensor([[2], [3]]), None).tolist() == [[0.0], [0.0]]


def counted(dataset: Dataset, items: int) -> CloudModel:
    """The table of item-based neighbours of a dataset."""
    config = CloudConfig(kind="item-knn", items=items, neighbours=30)
    cloud = CloudModel(dataset.vocabulary, 12, config, dataset.manifest.met).eval()
    (model,) = cloud.members.values()
    assert isinstance(model, TableModel)
    near_VK, weight_VK = neighbours(incidence(dataset), 30)
    model.near_VK.copy_(near_VK)
    model.weight_VK.copy_(weight_VK)
    return cloud


def test_a_list_of_the_whole_catalogue_is_measured_as_the_cloud_itself(wandering: Dataset) -> None:
    cloud = counted(wandering, items=100)
    (mine,) = evaluate(CloudList(cloud), wandering, conditions=[OWN], bootstrap=0)
    (its,) = evaluate(cloud, wandering, bootstrap=0)
    for name in ("ndcg@10", "hr@10"):
        # Neighbours that no history has tie at 0: the list breaks the tie, the ranking takes the mean place.
        assert mine["own"].metrics[name].mean == pytest.approx(its["zero"].metrics[name].mean, abs=0.01)
    assert [result.name for result in its.conditions] == [ZERO.name]


@pytest.mark.parametrize("age", [0, 1, 5])
@pytest.mark.parametrize("met", ["show", "hide"])
def test_an_old_list_is_made_from_what_was_there_then(make_dataset: MakeDataset, met: MetPolicy, age: int) -> None:
    dataset = make_dataset(wandering_sequences(20, 30, seed=1), vocabulary=30, met=met)
    cloud = counted(dataset, items=8)
    condition = Condition("own", age)
    (found,) = evaluate(CloudList(cloud), dataset, conditions=[condition], bootstrap=0)
    inverse, targets = [], dataset.targets("test")
    for start, end in zip(targets.start_N.tolist(), targets.position_N.tolist()):
        events, target = dataset.events[start:end].tolist(), int(dataset.events[end])
        old = events[: max(1, len(events) - age)][-12:]
        (opinion,) = CloudList(cloud).generate(torch.tensor([old])).opinions
        # What was met since the list was made is left out by the device; what is not on the list ties behind it.
        hidden = set(events) if met == "hide" else set()
        places = dict.fromkeys(range(2, 30), 0) | dict(zip(opinion.items_BK[0].tolist(), range(8, 0, -1)))
        shown = {item: place for item, place in places.items() if item not in hidden or item == target}
        ahead = sum(place > shown[target] for place in shown.values())
        ties = sum(place == shown[target] for place in shown.values())
        inverse.append(0 if target in hidden else 1 / (ahead + (1 + ties) / 2))
    assert found[condition].metrics["mrr"].mean == pytest.approx(sum(inverse) / len(inverse))
