"""Counting baselines against counts by hand and dense numpy on hand-made data."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.conftest import MakeDataset

from duetgen.baselines import EASE, CatalogueTooLargeError, Counting, ItemKNN, Popularity, ease, item_knn, recent_counts
from duetgen.baselines.counting import incidence, recency
from duetgen.baselines.ease import gram, solve
from duetgen.baselines.item_knn import neighbours
from duetgen.data.store import Dataset

Floats = npt.NDArray[np.float64]

# The last event of each is its test part, the one before it validation: items 8 and 9 are in no training part.
SEQUENCES = [[2, 3, 4, 2, 8, 9], [3, 4, 5, 9, 8], [2, 5, 6, 3, 9, 9], [6, 7, 1, 6, 8, 8], [7, 8, 9]]
V = 10


@pytest.fixture
def five(make_dataset: MakeDataset) -> Dataset:
    return make_dataset(SEQUENCES, vocabulary=V)


def met() -> Floats:
    """Which device met which known item in training."""
    found = np.zeros((len(SEQUENCES), V))
    for row, sequence in enumerate(SEQUENCES):
        found[row, [item for item in sequence[:-2] if item > 1]] = 1
    return found


def make(name: str, dataset: Dataset) -> Counting:
    if name == "popular":
        return Popularity(torch.from_numpy(dataset.training_counts()))
    if name == "item-knn":
        return ItemKNN(dataset, window=4, half_life=3.0, count=V)
    return EASE(solve(gram(dataset), 2.0), window=4, half_life=3.0)


WINDOW = torch.tensor([[2, 3, 5, 2], [6, 0, 0, 0], [1, 7, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("name", ["popular", "item-knn", "ease"])
class TestCounting:
    def test_candidates_and_catalogue_agree_and_padding_is_no_item(self, five: Dataset, name: str) -> None:
        model = make(name, five)
        scores = model.score_catalogue(WINDOW)
        assert scores.shape == (4, V)
        assert torch.isneginf(scores[:, 0]).all()
        assert torch.isfinite(scores[:, 1:]).all()
        candidates = torch.tensor([[3, 9, 1]]).expand(4, -1)
        assert torch.equal(model.score(WINDOW, candidates), scores.gather(1, candidates))

    def test_padding_of_a_window_changes_nothing(self, five: Dataset, name: str) -> None:
        model = make(name, five)
        longer = torch.cat([WINDOW, torch.zeros(4, 3, dtype=torch.long)], dim=1)
        assert torch.equal(model.score_catalogue(WINDOW)[:, 1:], model.score_catalogue(longer)[:, 1:])

    def test_it_is_a_recommender_without_parameters(self, five: Dataset, name: str) -> None:
        model = make(name, five)
        assert (model.personal, model.generator_history, model.vocabulary) == (False, 0, V)
        assert not list(model.parameters())
        assert model.normalised == (name == "popular")
        with pytest.raises(ValueError, match="no generator"):
            model.generate(WINDOW)

    def test_validation_and_test_events_are_not_counted(
        self, five: Dataset, make_dataset: MakeDataset, name: str
    ) -> None:
        other = make_dataset([[*sequence[:-2], 4, 5] for sequence in SEQUENCES], vocabulary=V)
        assert torch.equal(make(name, five).score_catalogue(WINDOW), make(name, other).score_catalogue(WINDOW))


def test_popularity_counts_exactly_and_its_softmax_is_the_share() -> None:
    # Item 3 was met three times, item 5 once; plus one each, padding left out and the unknown item as if never
    # met: 1 + 1 + 4 + 1 + 2.
    model = Popularity(torch.tensor([7, 8, 0, 3, 0, 1]))
    scores = model.score_catalogue(torch.zeros(1, 1, dtype=torch.long))
    share = scores.softmax(1)
    torch.testing.assert_close(share, torch.tensor([[0, 1 / 9, 1 / 9, 4 / 9, 1 / 9, 2 / 9]]))


def test_training_counts_by_hand(five: Dataset) -> None:
    assert five.training_counts().tolist() == [0, 1, 3, 3, 2, 2, 3, 2, 0, 0]
    model = make("popular", five)
    assert isinstance(model, Popularity)
    assert model.counts_V.tolist() == [0, 0, 3, 3, 2, 2, 3, 2, 0, 0]


def test_recent_counts_without_time_take_the_last_tenth_of_each_device(make_dataset: MakeDataset) -> None:
    # Training parts of 11, 4 and 0 events: the last two, the last one and none.
    dataset = make_dataset([[*range(2, 13), 5, 5], [2, 2, 2, 3, 5, 5], [4, 4]], vocabulary=14)
    expected = np.zeros(14, dtype=np.int64)
    expected[[11, 12, 3]] = 1
    assert recent_counts(dataset).tolist() == expected.tolist()


def test_recent_counts_with_time_take_the_newest_tenth_of_all(five: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    # Sixteen training events: the newest two, and a third as old as the older of them; later events do not count.
    times = np.full(len(five.events), 10**6)
    mask = five.training_mask()
    times[mask] = [1, 2, 3, 50, 5, 6, 50, 8, 9, 10, 11, 12, 13, 14, 60, 0][: mask.sum()]
    monkeypatch.setattr(five, "manifest", msgspec.structs.replace(five.manifest, has_time=True))
    monkeypatch.setitem(five.__dict__, "timestamps", times)
    kept = np.sort(times[mask])[-2:]
    expected = np.bincount(np.asarray(five.events)[mask & (times >= kept[0])], minlength=V)
    assert recent_counts(five).tolist() == expected.tolist()
    assert expected.sum() == 3


def test_recency_by_hand() -> None:
    weight = recency(torch.tensor([[4, 5, 6], [4, 5, 0], [0, 0, 0]]), half_life=1.0)
    assert weight.tolist() == [[1 / 4, 1 / 2, 1.0], [1 / 2, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert recency(torch.tensor([[4, 5, 6]]), float("inf")).tolist() == [[1.0, 1.0, 1.0]]


def test_incidence_knows_each_pair_once_and_no_unknown_item(five: Dataset) -> None:
    assert incidence(five).to_dense().numpy().tolist() == met().tolist()


def weighted(window: torch.Tensor, half_life: float) -> Floats:
    """Each window as a row over the catalogue, events weighed by age."""
    rows = np.zeros((len(window), V))
    for row, events in enumerate(window.tolist()):
        real = [item for item in events if item]
        for age, item in enumerate(reversed(real)):
            rows[row, item] += 2 ** (-age / half_life)
    return rows


def test_item_knn_is_the_dense_computation(five: Dataset) -> None:
    together = met().T @ met()
    count = np.maximum(np.diag(together), 1)
    cosine = together / np.sqrt(np.outer(count, count))
    np.fill_diagonal(cosine, 0)
    # Items 2 and 3 were met by two and three devices, by two of them both.
    assert cosine[2, 3] == pytest.approx(2 / np.sqrt(2 * 3))
    expected = weighted(WINDOW, 3.0) @ cosine
    np.testing.assert_allclose(make("item-knn", five).score_catalogue(WINDOW)[:, 1:], expected[:, 1:], atol=1e-6)


def test_item_knn_keeps_the_nearest_alone(five: Dataset) -> None:
    model = ItemKNN(five, window=4, half_life=3.0, count=1)
    scores = model.score_catalogue(torch.tensor([[4]]))
    # Item 4 and item 3 were met by the same two devices, and item 3 by a third.
    assert scores[0].nonzero().flatten().tolist() == [0, 3]
    assert float(scores[0, 3]) == pytest.approx(2 / np.sqrt(2 * 3))


def test_ease_is_the_dense_closed_form(five: Dataset) -> None:
    found = met()
    inverse = np.linalg.inv(found.T @ found + 2.0 * np.eye(V))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0)
    np.testing.assert_allclose(solve(gram(five), 2.0), weight, atol=1e-5)
    expected = weighted(WINDOW, 3.0) @ weight
    np.testing.assert_allclose(make("ease", five).score_catalogue(WINDOW)[:, 1:], expected[:, 1:], atol=1e-5)


def test_ease_minimises_what_it_says(five: Dataset) -> None:
    """Ridge regression of each item on all others has the same weights."""
    found, weight = met(), solve(gram(five), 2.0)
    for item in (2, 6):
        others = [other for other in range(V) if other != item]
        x = found[:, others]
        expected = np.linalg.solve(x.T @ x + 2.0 * np.eye(V - 1), x.T @ found[:, item])
        np.testing.assert_allclose(weight[others, item], expected, atol=1e-5)


def test_ease_refuses_a_large_catalogue(five: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "MAX_ITEMS", V - 1)
    with pytest.raises(CatalogueTooLargeError, match="10 by 10"):
        gram(five)


@pytest.mark.parametrize("pairs", [1, 7, 1000])
def test_neighbours_in_a_large_catalogue_are_those_of_dense_counts(
    five: Dataset, wandering: Dataset, monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    for dataset in (five, wandering):
        monkeypatch.setattr(item_knn, "SPARSE_ITEMS", 10**6)
        cosine = neighbours(incidence(dataset), 4)[1]
        table = torch.zeros(2 * (dataset.vocabulary,)).scatter_(1, *neighbours(incidence(dataset), dataset.vocabulary))
        monkeypatch.setattr(item_knn, "SPARSE_ITEMS", 0)
        monkeypatch.setattr(item_knn, "BLOCK_PAIRS", pairs)
        its_near, its_cosine = neighbours(incidence(dataset), 4)
        torch.testing.assert_close(its_cosine, cosine)
        # Which of several that tie is taken may differ; what is named has the cosine that is told.
        torch.testing.assert_close(table.gather(1, its_near), its_cosine)
