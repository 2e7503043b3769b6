"""A table of nearest items against the baselines that it is made from, and against a plain loop."""

from __future__ import annotations

import pytest
import torch

from duetgen.baselines import EASE, ItemKNN
from duetgen.baselines.counting import Counting, incidence
from duetgen.baselines.ease import gram, solve
from duetgen.baselines.item_knn import neighbours
from duetgen.cloudmodel.table import TableModel, largest
from duetgen.data.store import Dataset

HISTORY = torch.tensor([[3, 9, 4, 1, 3], [5, 6, 0, 0, 0], [29, 2, 2, 0, 0]])


def made(near_VK: torch.Tensor, weight_VK: torch.Tensor, half_life: float) -> TableModel:
    model = TableModel(len(near_VK), near_VK.shape[1])
    model.near_VK.copy_(near_VK)
    model.weight_VK.copy_(weight_VK)
    model.half_life.fill_(half_life)
    return model


def standard(scores_BV: torch.Tensor) -> torch.Tensor:
    """Scores over their deviation."""
    return scores_BV / scores_BV.std(dim=1, correction=0, keepdim=True)


@pytest.mark.parametrize("half_life", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("name", ["ease", "item-knn"])
def test_a_whole_table_is_the_baseline(wandering: Dataset, name: str, half_life: float) -> None:
    baseline: Counting
    if name == "ease":
        weight_VV = solve(gram(wandering), 300.0)
        baseline, table = EASE(weight_VV, 5, half_life), largest(weight_VV, 30)
    else:
        baseline = ItemKNN(wandering, 5, half_life, count=30)
        table = neighbours(incidence(wandering), 30)
    torch.testing.assert_close(made(*table, half_life)(HISTORY), standard(baseline.catalogue(HISTORY)))


def test_the_nearest_alone_against_a_loop(wandering: Dataset) -> None:
    near_VK, weight_VK = largest(solve(gram(wandering), 300.0), 4)
    expected = torch.zeros(3, 30)
    for row, events in enumerate(HISTORY.tolist()):
        real = [item for item in events if item]
        for age, item in enumerate(reversed(real)):
            for near, weight in zip(near_VK[item].tolist(), weight_VK[item].tolist()):
                expected[row, near] += weight * 0.5 ** (age / 2.0)
    torch.testing.assert_close(made(near_VK, weight_VK, 2.0)(HISTORY), standard(expected))


@pytest.mark.parametrize("entries", [1, 40, 2**18])
def test_devices_in_pieces_and_without_their_padding_are_the_same_to_the_bit(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duetgen.cloudmodel.table.PIECE", entries)
    generator = torch.Generator().manual_seed(0)
    near_VK = torch.randint(0, 30, (30, 5), generator=generator)
    model = made(near_VK, torch.randn(30, 5, generator=generator), 3.0)
    history_BL = torch.randint(1, 30, (17, 12), generator=generator)
    history_BL *= torch.arange(12) < torch.randint(0, 13, (17, 1), generator=generator)
    assert torch.equal(model(history_BL), model.of_few(history_BL))
    assert model(history_BL[:0]).shape == (0, 30)


def test_a_scale_changes_all_scores_alike(wandering: Dataset) -> None:
    model = made(*neighbours(incidence(wandering), 4), 10.0)
    plain = model(HISTORY)
    model.scale.fill_(0.25)
    torch.testing.assert_close(model(HISTORY), plain / 4)


def test_the_largest_are_so_in_magnitude() -> None:
    near_VK, weight_VK = largest(torch.tensor([[0.0, -3.0, 2.0, 1.0]]), 2)
    assert near_VK.tolist() == [[1, 2]]
    assert weight_VK.tolist() == [[-3.0, 2.0]]


def test_an_empty_history_and_one_that_nothing_is_near_to_have_no_opinion() -> None:
    model = made(torch.zeros(6, 2, dtype=torch.int64), torch.zeros(6, 2), 10.0)
    assert not model(torch.tensor([[0, 0], [3, 4]])).any()


def test_along_a_sequence_it_scores_as_from_each_history(wandering: Dataset) -> None:
    model = made(*largest(solve(gram(wandering), 300.0), 4), 2.0)
    events, wanted = torch.tensor([[3, 9, 4, 1, 3, 7], [5, 6, 8, 0, 0, 0]]), torch.zeros(2, 6, dtype=torch.bool)
    wanted[0, 1:], wanted[1, 2] = True, True
    histories = [[3, 9, 0], [3, 9, 4], [9, 4, 1], [4, 1, 3], [1, 3, 7], [5, 6, 8]]
    torch.testing.assert_close(model.along(events, wanted, 3), model(torch.tensor(histories)))
