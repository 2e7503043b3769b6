"""Ranks and metrics against values worked out by hand and against their plain definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duetgen.evaluation import metrics
from duetgen.evaluation.metrics import (
    auc,
    hit_rate,
    mean_rank,
    ndcg,
    pooled_auc,
    pooled_auc_by_device,
    ranking_metrics,
    reciprocal_rank,
)

INF, NAN = math.inf, math.nan
tied_scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)
real_scores = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=12)


def rank(scores: list[float], target: int = 0) -> float:
    scores_BC = torch.tensor([scores])
    return float(mean_rank(scores_BC, scores_BC[:, target : target + 1]))


def mean_position(scores: list[float], target: int) -> float:
    """The mean, over all places in the sorted list that hold the target's score, of the place, from 1."""
    places = [place for place, score in enumerate(sorted(scores, reverse=True), 1) if score == scores[target]]
    return sum(places) / len(places)


class TestMeanRank:
    @pytest.mark.parametrize(
        ("scores", "expected"),
        [
            ([3.0, 1.0, 2.0], 1),
            ([2.0, 1.0, 3.0], 2),
            ([1.0, 3.0, 2.0], 3),
            ([2.0, 2.0, 1.0], (1 + 2) / 2),
            ([1.0, 2.0, 1.0, 1.0], (2 + 3 + 4) / 3),
            ([5.0, 5.0, 5.0, 5.0], (1 + 2 + 3 + 4) / 4),
            ([-7.0], 1),
        ],
    )
    def test_by_hand(self, scores: list[float], expected: float) -> None:
        assert rank(scores) == expected

    def test_each_row_has_its_own_target(self) -> None:
        scores_BC = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
        assert mean_rank(scores_BC, scores_BC.gather(1, torch.tensor([[0], [2]]))).tolist() == [3, 1]

    def test_padding_takes_no_place(self) -> None:
        assert rank([1.0, -INF, 2.0, -INF, -INF]) == 2

    @pytest.mark.parametrize(
        "scores",
        [
            [0.0, NAN],
            [NAN, 0.0],
            [NAN],
            [NAN, NAN],
            [0.0, 1.0, -INF, NAN],
            [-INF, 1.0],
            [-INF, -INF],
            [INF, 1.0],
            [1.0, INF],
            [INF, INF],
        ],
    )
    def test_scores_without_an_order_have_no_rank(self, scores: list[float]) -> None:
        assert math.isnan(rank(scores))

    def test_nan_spoils_its_own_row_alone(self) -> None:
        scores_BC = torch.tensor([[1.0, 2.0, 3.0], [1.0, NAN, 3.0], [4.0, 2.0, 3.0]])
        assert torch.isnan(mean_rank(scores_BC, scores_BC[:, :1])).tolist() == [False, True, False]

    def test_nan_deep_in_a_long_row(self) -> None:
        scores_BC = torch.zeros(1, 4099)
        scores_BC[0, 4001] = NAN
        assert math.isnan(float(mean_rank(scores_BC, scores_BC[:, :1])))

    def test_the_scores_stay_as_they_were(self) -> None:
        scores_BC = torch.tensor([[1.0, 2.0, -INF]])
        mean_rank(scores_BC, scores_BC[:, :1])
        assert scores_BC.tolist() == [[1.0, 2.0, -INF]]

    def test_more_entries_than_float32_counts_exactly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metrics, "EXACT_FLOAT32", 2)
        assert rank([1.0, 2.0, 1.0, 1.0]) == 3

    @given(scores=tied_scores | real_scores, data=st.data())
    def test_is_the_mean_position_of_equal_scores(self, scores: list[float], data: st.DataObject) -> None:
        target = data.draw(st.integers(0, len(scores) - 1))
        assert rank(scores, target) == mean_position(scores, target)

    @given(scores=tied_scores, data=st.data())
    def test_the_order_of_candidates_does_not_matter(self, scores: list[float], data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(len(scores))))
        shuffled = [scores[i] for i in order]
        assert rank(shuffled, order.index(0)) == rank(scores)

    @given(scores=tied_scores, padding=st.integers(0, 5))
    def test_any_amount_of_padding_changes_nothing(self, scores: list[float], padding: int) -> None:
        assert rank(scores + [-INF] * padding) == rank(scores)


class TestFromRanks:
    RANKS = np.array([1.0, 1.5, 2.0, 5.0, 5.5, 6.0])

    def test_hit_rate(self) -> None:
        assert hit_rate(self.RANKS, 5).tolist() == [1, 1, 1, 1, 0, 0]

    def test_ndcg(self) -> None:
        expected = [1 / math.log2(2), 1 / math.log2(2.5), 1 / math.log2(3), 1 / math.log2(6), 0, 0]
        assert ndcg(self.RANKS, 5).tolist() == pytest.approx(expected, rel=1e-15)

    def test_reciprocal_rank(self) -> None:
        assert reciprocal_rank(self.RANKS).tolist() == [1, 2 / 3, 1 / 2, 1 / 5, 2 / 11, 1 / 6]

    def test_auc(self) -> None:
        count = np.array([6, 3, 2, 9, 6, 6])
        assert auc(self.RANKS, count).tolist() == [1, 3 / 4, 0, 1 / 2, 1 / 10, 0]

    def test_auc_of_a_single_candidate_is_a_half(self) -> None:
        assert auc(np.array([1.0]), np.array([1])).tolist() == [1 / 2]

    def test_auc_where_all_tie_is_a_half(self) -> None:
        assert auc(np.array([(1 + 2 + 3 + 4) / 4]), np.array([4])).tolist() == [1 / 2]

    def test_names_follow_the_cutoffs(self) -> None:
        found = ranking_metrics(np.array([2.0]), np.array([3]), cutoffs=(1, 2))
        assert {name: float(value[0]) for name, value in found.items()} == {
            "ndcg@1": 0,
            "ndcg@2": 1 / math.log2(3),
            "hr@1": 0,
            "hr@2": 1,
            "mrr": 1 / 2,
            "user_auc": 1 / 2,
        }

    @given(scores=tied_scores.filter(lambda scores: len(scores) > 1))
    def test_auc_of_a_rank_is_the_share_of_others_below(self, scores: list[float]) -> None:
        mine, others = scores[0], scores[1:]
        below = sum((mine > other) + (mine == other) / 2 for other in others)
        assert float(auc(np.array([rank(scores)]), np.array([len(scores)]))[0]) == pytest.approx(below / len(others))


def float32(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


class TestPooledAUC:
    def test_by_hand_with_a_tie(self) -> None:
        # 1 beats 0 and ties with 1; 2 beats 0 and 1; nobody beats 3.
        assert pooled_auc(float32([1, 2]), float32([1, 0, 3])) == pytest.approx((1 + 1 / 2 + 2) / 6)

    def test_all_tied(self) -> None:
        assert pooled_auc(float32([2, 2]), float32([2, 2, 2])) == 1 / 2

    def test_a_class_without_rows(self) -> None:
        assert math.isnan(pooled_auc(float32([]), float32([1])))
        assert math.isnan(pooled_auc(float32([1]), float32([])))

    def test_columns_by_hand(self) -> None:
        found = pooled_auc_by_device(
            float32([1, 2]), float32([1, 0, 3]), np.array([0, 1]), np.array([0, 0, 1]), 3
        ).tolist()
        assert found[0] == pytest.approx([(1 + 1 / 2) / 3, 1, (1 / 2 + 1) / 2 + 1, 2])
        assert found[1] == pytest.approx([2 / 3, 1, 0, 1])
        assert found[2] == [0, 0, 0, 0]

    @given(positive=tied_scores | real_scores, negative=tied_scores | real_scores)
    def test_is_every_positive_against_every_negative(self, positive: list[float], negative: list[float]) -> None:
        wins = sum((p > m) + (p == m) / 2 for p in positive for m in negative)
        found = pooled_auc(float32(positive), float32(negative))
        assert found == pytest.approx(wins / (len(positive) * len(negative)), rel=1e-12)

    @given(positive=tied_scores, negative=tied_scores, data=st.data())
    def test_columns_sum_to_it(self, positive: list[float], negative: list[float], data: st.DataObject) -> None:
        devices = [
            np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
            for rows in (positive, negative)
        ]
        below, positives, above, negatives = pooled_auc_by_device(
            float32(positive), float32(negative), *devices, 4
        ).sum(0)
        whole = pooled_auc(float32(positive), float32(negative))
        assert (positives, negatives) == (len(positive), len(negative))
        assert below / positives == pytest.approx(whole, rel=1e-12)
        assert above / negatives == pytest.approx(whole, rel=1e-12)


def test_a_target_that_no_device_can_show_is_a_miss_among_however_few() -> None:
    found = ranking_metrics(np.array([np.inf, np.inf]), np.array([3, 1]))
    assert {name: value.tolist() for name, value in found.items()} == {name: [0.0, 0.0] for name in found}
