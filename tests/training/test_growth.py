"""Rows of new items: where each rule takes them from, by values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import MakeDataset
from tests.lineage import with_titles

from duetgen.training.growth import REACH, Growth, alike, beside

TABLE = torch.tensor([[0.0, 0.0], [9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [4.0, 2.0]])
"""Rows of padding, the unknown item and items 2, 3, 4."""


def test_an_item_begins_as_the_mean_of_what_it_stands_beside(make_dataset: MakeDataset) -> None:
    # Item 5 stands beside 2 twice and beside 3 once; the unknown item tells nothing.
    dataset = make_dataset([[2, 5, 2, 1, 3, 4, 4], [5, 1, 3, 4, 4]], vocabulary=6, bounds=[(3, 4), (3, 4)])
    new_M, known_M, count_M = beside(dataset, 5)
    assert list(zip(new_M, known_M, count_M)) == [(5, 2, 2), (5, 3, 1)]
    grown = Growth(dataset, 5).rows(TABLE)
    assert torch.equal(grown[:5], TABLE)
    assert grown[5].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_neighbours_of_other_devices_of_the_validation_part_and_out_of_reach_do_not_count(
    make_dataset: MakeDataset,
) -> None:
    far = [5, *[1] * (REACH - 1), 2, 3]
    dataset = make_dataset([far, [4, 5, 4, 4]], vocabulary=6, bounds=[(len(far), len(far)), (0, 2)])
    new_M, known_M, _ = beside(dataset, 5)
    assert list(zip(new_M, known_M)) == [(5, 2)]


def test_an_item_without_neighbours_begins_as_those_whose_titles_share_most_words(make_dataset: MakeDataset) -> None:
    titles = ["Toy Story (1995)", "The Toy (1995)", "Heat (1995)", "Toy Story II (1999)", None]
    dataset = with_titles(make_dataset([[2, 3, 4, 2], [3, 4, 5, 6]], vocabulary=7, bounds=[(3, 3), (2, 2)]), titles)
    new_M, known_M, weight_M = alike(dataset, 5)
    assert list(zip(new_M, known_M, weight_M)) == [(5, 2, 1)]
    grown = Growth(dataset, 5).rows(TABLE)
    assert torch.equal(grown[5], TABLE[2])
    # Nothing is known of the last one: the mean of the known items, (1, 0), (0, 1) and (4, 2).
    assert grown[6].tolist() == pytest.approx([5 / 3, 1.0])


def test_a_word_that_many_titles_have_tells_nothing(make_dataset: MakeDataset) -> None:
    many = 60
    titles: list[str | None] = [*[f"the {place}" for place in range(many)], "the last"]
    dataset = with_titles(make_dataset([[2, 3, 4]], vocabulary=many + 3), titles)
    assert len(alike(dataset, many + 2)[0]) == 0


def test_titles_that_share_as_much_count_alike(make_dataset: MakeDataset) -> None:
    dataset = with_titles(make_dataset([[2, 3, 4]], vocabulary=6), ["red car", "red bus", "green bus", "red"])
    grown = Growth(dataset, 5).rows(TABLE)
    assert grown[5].tolist() == [0.5, 0.5]


def test_without_new_items_a_table_stays_as_it_is(make_dataset: MakeDataset) -> None:
    assert torch.equal(Growth(make_dataset([[2, 3, 4]], vocabulary=5), 5).rows(TABLE), TABLE)


def test_halves_stay_halves(make_dataset: MakeDataset) -> None:
    dataset = make_dataset([[2, 5, 3, 4, 4]], vocabulary=6)
    grown = Growth(dataset, 5).rows(TABLE.half())
    assert grown.dtype == torch.float16
    assert grown[5].tolist() == [0.5, 0.5]
