"""Lists for many devices, against a plain loop over devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.conftest import MakeDataset, wandering_sequences

from duetgen.data.store import FIRST_ITEM
from duetgen.evaluation.errors import VocabularyMismatchError
from duetgen.evaluation.lists import best_items

from .conftest import MakeModel


@pytest.mark.parametrize("policy", ["hide", "show"])
@pytest.mark.parametrize("personal", [True, False])
@pytest.mark.parametrize("name", ["sasrec", "din"])
def test_as_a_plain_loop_has_it(
    make_dataset: MakeDataset, make_model: MakeModel, policy: str, personal: bool, name: str
) -> None:
    dataset = make_dataset(wandering_sequences(9, 30, seed=3), vocabulary=30, met=policy)
    model = make_model(dataset, name)
    device_U = np.array([7, 0, 3])
    item_UK, score_UK = best_items(model, dataset, device_U, 5, personal=personal)
    model.eval()
    for device, items, scores in zip(device_U, item_UK.tolist(), score_UK.tolist()):
        events = dataset.events[dataset.offsets[device] : dataset.offsets[device + 1]].tolist()
        with torch.no_grad():
            theta = model.generate(torch.tensor([events[-model.generator_history :]])) if personal else None
            found = model.score_catalogue(torch.tensor([events[-model.window :]]), theta)[0].tolist()
        shown = [i for i in range(FIRST_ITEM, 30) if policy == "show" or i not in events]
        best = sorted(shown, key=lambda item: -found[item])[:5]
        assert [item for item in items if item] == best
        assert scores[: len(best)] == pytest.approx([found[item] for item in best], abs=1e-5)
    assert model.training is False


def test_a_list_is_shorter_where_fewer_items_can_be_shown(make_dataset: MakeDataset, make_model: MakeModel) -> None:
    dataset = make_dataset([[2, 3, 4, 5], [2, 2, 2, 2]], vocabulary=7, met="hide")
    item_UK, score_UK = best_items(make_model(dataset), dataset, np.array([0, 1]), 100)
    assert item_UK.shape == (2, 5)
    assert [sorted(row[row > 0].tolist()) for row in item_UK] == [[6], [3, 4, 5, 6]]
    assert (np.isneginf(score_UK) == (item_UK == 0)).all()


def test_what_is_asked_for_goes_before_the_policy(make_dataset: MakeDataset, make_model: MakeModel) -> None:
    dataset = make_dataset([[2, 3, 4, 5]], vocabulary=7, met="hide")
    assert (best_items(make_model(dataset), dataset, np.array([0]), 5, met="show")[0] > 0).all()


def test_a_model_of_other_items_is_refused(make_dataset: MakeDataset, make_model: MakeModel) -> None:
    one, other = make_dataset([[2, 3, 4]], vocabulary=7), make_dataset([[2, 3, 4]], vocabulary=8)
    with pytest.raises(VocabularyMismatchError):
        best_items(make_model(one), other, np.array([0]), 3)
