"""What a device had met: found, hidden or shown, against a plain loop over targets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tests.conftest import MakeDataset, wandering_sequences

from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset
from duetgen.evaluation import OWN, ZERO, evaluate, met, validate
from duetgen.evaluation.errors import NonFiniteScoresError
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.metrics import ranking_metrics
from duetgen.evaluation.protocols import CandidateRanking, FullRanking, full_name, missed_targets
from duetgen.recommender import Recommender

from .conftest import MakeModel
from .test_protocols import Table, scores_of

SEQUENCES = [[2, 3, 2, 4, 4], [4, 5, 3, 1, 1], [6, 2, 6, 6, 7]]
"""Tests are the last three events of each device; 1 is the unknown item."""
BOUNDS = [(1, 2)] * 3


def test_a_repeat_was_met_by_its_own_device_and_by_none_other(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(SEQUENCES, bounds=BOUNDS)
    targets = dataset.targets("test")
    expected = [True, False, True, False, False, False, True, True, False]
    assert MetItems(dataset, targets).repeat_N.tolist() == expected
    # The same for a choice of devices, and for targets that are not the last events.
    assert MetItems(dataset, targets.take(targets.device_N == 2)).repeat_N.tolist() == expected[6:]
    assert MetItems(dataset, dataset.targets("valid")).repeat_N.tolist() == [False, False, False]


@pytest.mark.parametrize("block", [1, 3, 2**22])
def test_repeats_are_the_same_however_many_are_looked_at_in_one_go(
    make_dataset: MakeDataset, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(met, "BLOCK_PAIRS", block)
    dataset = make_dataset(SEQUENCES, bounds=BOUNDS)
    expected = [True, False, True, False, False, False, True, True, False]
    assert MetItems(dataset, dataset.targets("test")).repeat_N.tolist() == expected


def test_what_is_older_than_a_log_is_forgotten(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(met, "MAX_LOG_EVENTS", 2)
    dataset = make_dataset([[2, 3, 4, 2]], bounds=[(1, 2)])
    found = MetItems(dataset, dataset.targets("test"))
    assert found.repeat_N.tolist() == [False, False]
    assert found.pairs(slice(0, 2))[1].tolist() == [2, 3, 3, 4]


class TestHiding:
    def hidden(self, make_dataset: MakeDataset, sequence: list[int], vocabulary: int = 7) -> MetItems:
        """What a device had met before the last event of its sequence."""
        dataset = make_dataset([sequence], vocabulary=vocabulary, met="hide")
        found = MetItems.hidden(dataset, dataset.targets("test"))
        assert found is not None
        return found

    def test_met_items_take_no_place_by_hand(self, make_dataset: MakeDataset) -> None:
        # Of the items 2..6 the device had met 2 and 3, which score best: 5 is second of the three that are left.
        row = [0.0, 0.0, 9.0, 8.0, 3.0, 2.0, 1.0]
        ranking = FullRanking(np.array([5]), self.hidden(make_dataset, [2, 3, 2, 5]))
        found = ranking.rank(scores_of(Table([row]), 1), slice(0, 1))
        assert (found.rank_N.tolist(), found.count_N.tolist()) == ([2], [3])
        # Its share is among what is left and the unknown item, which scores 0.
        shares = np.exp([0.0, 3.0, 2.0, 1.0])
        assert found.loss_N == pytest.approx(-np.log(shares[2] / shares.sum()), rel=1e-6)

    def test_the_unknown_item_keeps_its_share_where_the_device_met_one(self, make_dataset: MakeDataset) -> None:
        row = [0.0, 2.0, 9.0, 8.0, 3.0, 2.0, 1.0]
        ranking = FullRanking(np.array([5]), self.hidden(make_dataset, [2, UNKNOWN, 3, 5]))
        found = ranking.rank(scores_of(Table([row]), 1), slice(0, 1))
        assert (found.rank_N.tolist(), found.count_N.tolist()) == ([2], [3])
        shares = np.exp([2.0, 3.0, 2.0, 1.0])
        assert found.loss_N == pytest.approx(-np.log(shares[2] / shares.sum()), rel=1e-6)

    def test_a_target_that_was_met_is_a_miss(self, make_dataset: MakeDataset) -> None:
        row = [0.0, 0.0, 9.0, 8.0, 3.0, 2.0, 1.0]
        ranking = FullRanking(np.array([2]), self.hidden(make_dataset, [2, 3, 3, 2]))
        found = ranking.rank(scores_of(Table([row]), 1), slice(0, 1))
        # Behind 4, 5 and 6, which can be shown.
        assert (found.rank_N.tolist(), found.count_N.tolist()) == ([np.inf], [4])

    def test_an_unknown_target_stands_behind_all_that_is_shown(self, make_dataset: MakeDataset) -> None:
        row = [0.0, 99.0, 9.0, 8.0, 3.0, 2.0, 1.0]
        ranking = FullRanking(np.array([UNKNOWN]), self.hidden(make_dataset, [2, UNKNOWN, 3, UNKNOWN]))
        found = ranking.rank(scores_of(Table([row]), 1), slice(0, 1))
        assert (found.rank_N.tolist(), found.count_N.tolist()) == ([np.inf], [4])

    def test_where_the_device_has_met_the_whole_catalogue_an_unknown_target_is_a_miss_like_any(
        self, make_dataset: MakeDataset
    ) -> None:
        hidden = self.hidden(make_dataset, [2, 3, 4, UNKNOWN], vocabulary=5)
        ranking, row = FullRanking(np.array([UNKNOWN]), hidden), [0.0, 99.0, 9.0, 8.0, 3.0]
        found = ranking.rank(scores_of(Table([row]), 1), slice(0, 1))
        assert (found.rank_N.tolist(), found.count_N.tolist()) == ([np.inf], [1])
        with pytest.raises(NonFiniteScoresError):
            ranking.rank(scores_of(Table([[*row[:1], np.nan, *row[2:]]]), 1), slice(0, 1))

    def test_the_scores_of_other_protocols_are_not_touched(self, make_dataset: MakeDataset) -> None:
        table = Table([[0.0, 0.0, 9.0, 8.0, 3.0, 2.0, 1.0]])
        before = table.scores_BV.clone()
        FullRanking(np.array([5]), self.hidden(make_dataset, [2, 3, 2, 5])).rank(scores_of(table, 1), slice(0, 1))
        torch.testing.assert_close(table.scores_BV, before)

    @pytest.mark.parametrize(("target", "rank", "count"), [(5, 1, 2), (3, np.inf, 3), (UNKNOWN, np.inf, 3)])
    def test_candidates_that_were_met_take_no_place(
        self, make_dataset: MakeDataset, target: int, rank: float, count: int
    ) -> None:
        hidden = self.hidden(make_dataset, [2, 3, 2, target])
        others = np.array([[2, 6, 4, 0] if target != 5 else [2, 6, 3, 0]], dtype=np.int32)
        ranking = CandidateRanking("given", np.array([target]), np.arange(1), others, hidden)
        found = ranking.rank(scores_of(Table([[0.0, 0.0, 9.0, 8.0, 3.0, 2.0, 1.0]]), 1), slice(0, 1))
        assert (found.rank_N.tolist(), found.count_N.tolist()) == ([rank], [count])


def plain_rank(scores: Sequence[float], target: int, met_items: set[int], hide: bool) -> tuple[float, int]:
    """The rank of a target and among how many, in a plain loop."""
    shown = [i for i in range(FIRST_ITEM, len(scores)) if i == target or not (hide and i in met_items)]
    missed = target == UNKNOWN or (hide and target in met_items)
    if missed:
        others = [i for i in shown if i != target]
        return math.inf, len(others) + 1
    higher = sum(scores[i] > scores[target] for i in shown)
    equal = sum(scores[i] == scores[target] for i in shown) - 1
    return 1 + higher + equal / 2, len(shown)


@pytest.mark.parametrize("policy", ["hide", "show"])
@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "din"])
def test_every_target_as_a_plain_loop_has_it(
    make_dataset: MakeDataset, make_model: MakeModel, policy: str, name: str
) -> None:
    dataset: Dataset = make_dataset(wandering_sequences(12, 30, seed=1), vocabulary=30, met=policy)
    model: Recommender = make_model(dataset, name).eval()
    rank, count, repeats = [], [], 0
    for sequence in (dataset.events[a:b].tolist() for a, b in zip(dataset.offsets[:-1], dataset.offsets[1:])):
        *before, target = sequence
        with torch.no_grad():
            theta = model.generate(torch.tensor([before[-model.generator_history :]]))
            scores = model.score_catalogue(torch.tensor([before[-model.window :]]), theta)[0].tolist()
        place, among = plain_rank(scores, target, set(before), policy == "hide")
        rank.append(place)
        count.append(among)
        repeats += target in before and target != UNKNOWN
    expected = {name: value.mean() for name, value in ranking_metrics(np.array(rank), np.array(count)).items()}
    assert repeats > 2
    (found,) = evaluate(model, dataset, conditions=[OWN, ZERO], bootstrap=0)
    assert (found.met, found.repeat_targets) == (policy, repeats)
    assert found.candidates == np.mean(count)
    for metric, value in expected.items():
        assert found["own"].metrics[metric].mean == pytest.approx(value), metric
    assert found["own"].groups["repeat"].targets == repeats
    assert (found["own"].groups["repeat"].metrics["hr@10"] == 0) == (policy == "hide")


def test_early_stopping_follows_the_policy(make_dataset: MakeDataset, make_model: MakeModel) -> None:
    sequences = wandering_sequences(30, 20, seed=2)
    datasets = [make_dataset(sequences, vocabulary=20, met=policy) for policy in ("hide", "show")]
    model = make_model(datasets[0])
    hide, show = (validate(model, dataset) for dataset in datasets)
    assert hide != show
    for dataset, value in zip(datasets, (hide, show)):
        (found,) = evaluate(model, dataset, part="valid", conditions=[OWN], bootstrap=0)
        assert found["own"].metrics["ndcg@10"].mean == pytest.approx(value)


def test_protocols_are_named_completely() -> None:
    assert full_name("full", "hide") == "full, met hidden"
    assert full_name("candidates", "show") == "candidates, met shown"


def test_what_nobody_can_hit_is_told_as_shares() -> None:
    assert missed_targets(200, 0, 0, "hide") == ""
    assert missed_targets(200, 3, 0, "show").startswith("1.50% of the targets are items that training does not know")
    assert "2.00% are items that the device had met: hidden, so missed by all." in missed_targets(200, 0, 4, "hide")
    assert "shown; figures of new items stand beside." in missed_targets(200, 0, 4, "show")
