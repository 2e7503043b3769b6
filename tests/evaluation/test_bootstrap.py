"""Intervals over devices: how often they cover the truth, and where there are none."""

import math

import numpy as np
import pytest

from duetgen.evaluation import bootstrap
from duetgen.evaluation.bootstrap import (
    Interval,
    interval,
    intervals,
    pooled_auc_of,
    resampled_counts,
    resampled_means,
    resampled_pooled_auc,
)
from duetgen.evaluation.metrics import pooled_auc, pooled_auc_by_device


class TestDraws:
    def test_each_resample_draws_as_many_devices_as_there_are(self) -> None:
        (counts_RU,) = resampled_counts(7, 50, seed=0)
        assert counts_RU.shape == (50, 7)
        assert (counts_RU.sum(1) == 7).all()
        assert len(np.unique(counts_RU, axis=0)) > 40

    def test_each_device_is_drawn_once_on_average_with_binomial_variance(self) -> None:
        (counts_RU,) = resampled_counts(10, 5_000, seed=0)
        assert counts_RU.mean(0) == pytest.approx([1] * 10, abs=0.06)
        assert counts_RU.var(0) == pytest.approx([1 - 1 / 10] * 10, abs=0.1)

    def test_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 30)
        assert [block.shape for block in resampled_counts(10, 8, seed=0)] == [(3, 10), (3, 10), (2, 10)]
        assert [block.shape for block in resampled_counts(50, 2, seed=0)] == [(1, 50), (1, 50)]

    def test_follow_from_the_seed(self) -> None:
        one, again, other = (np.concatenate(list(resampled_counts(9, 20, seed))) for seed in (1, 1, 2))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)

    def test_columns_share_their_draws(self) -> None:
        value_U = np.random.default_rng(0).normal(size=30)
        means_R3 = resampled_means(np.stack([value_U, value_U + 2, -value_U], axis=1), 100, seed=0)
        assert means_R3[:, 1] - means_R3[:, 0] == pytest.approx(2)
        assert means_R3[:, 2] == pytest.approx(-means_R3[:, 0])

    def test_two_tables_of_one_seed_share_their_draws(self) -> None:
        value_U1 = np.random.default_rng(0).normal(size=(30, 1))
        one, other = resampled_means(value_U1, 100, seed=4), resampled_means(value_U1 + 1, 100, seed=4)
        assert other - one == pytest.approx(1)


class TestInterval:
    def test_is_the_middle_of_the_samples(self) -> None:
        found = interval(50.0, np.arange(101.0), devices=9)
        assert found.mean == 50
        assert found.low == pytest.approx(2.5)
        assert found.high == pytest.approx(97.5)

    def test_one_device_gives_no_bounds(self) -> None:
        assert intervals(np.array([[0.25, 0.5]])) == [Interval(0.25, None, None), Interval(0.5, None, None)]

    def test_zero_rounds_give_no_bounds(self) -> None:
        assert intervals(np.array([[0.0], [1.0]]), rounds=0) == [Interval(0.5, None, None)]

    def test_equal_devices_give_an_interval_of_no_width(self) -> None:
        assert intervals(np.full((5, 1), 0.5)) == [Interval(0.5, 0.5, 0.5)]

    def test_two_devices_by_hand(self) -> None:
        # A resample is (0, 0), (0, 1) twice, or (1, 1): the tails of a quarter each lie beyond 2.5 %.
        assert intervals(np.array([[0.0], [1.0]])) == [Interval(0.5, 0.0, 1.0)]

    def test_covers_the_mean_95_times_in_100(self) -> None:
        rng = np.random.default_rng(0)
        covered = []
        for seed in range(500):
            (found,) = intervals(rng.normal(3, 2, size=(80, 1)), rounds=300, seed=seed)
            assert found.low is not None
            assert found.high is not None
            covered.append(found.low <= 3 <= found.high)
        # The standard error is 0.01; a level of 90 % or 99 % would fall outside.
        assert 0.92 < np.mean(covered) < 0.975


class TestPooledAUC:
    def parts(self, rng: np.random.Generator, devices: int) -> np.ndarray:
        """One positive and five negatives a device, around a level of its own: AUC = Φ(1 / √(1 + 1 + 1 + 1))."""
        level_U1 = rng.normal(size=(devices, 1))
        positive_U = (1 + level_U1 + rng.normal(size=(devices, 1))).astype(np.float32).ravel()
        negative_M = (level_U1 + rng.normal(size=(devices, 5))).astype(np.float32).ravel()
        self.positive_U, self.negative_M = positive_U, negative_M
        device_M = np.repeat(np.arange(devices), 5)
        return pooled_auc_by_device(positive_U, negative_M, np.arange(devices), device_M, devices)

    def test_of_the_sums(self) -> None:
        parts_U4 = self.parts(np.random.default_rng(0), 20)
        assert pooled_auc_of(parts_U4.sum(0)) == pytest.approx(pooled_auc(self.positive_U, self.negative_M))

    def test_interval_covers_the_truth_95_times_in_100(self) -> None:
        truth = (1 + math.erf(0.5 / math.sqrt(2))) / 2
        rng = np.random.default_rng(0)
        covered = []
        for seed in range(300):
            parts_U4 = self.parts(rng, 100)
            found = interval(pooled_auc_of(parts_U4.sum(0)), resampled_pooled_auc(parts_U4, 200, seed), 100)
            assert found.low is not None
            assert found.high is not None
            covered.append(found.low <= truth <= found.high)
        # The standard error is 0.013. Rows drawn as if independent would cover far less.
        assert 0.9 < np.mean(covered) < 0.985

    def test_first_order_is_close_to_resampling_all_rows(self) -> None:
        parts_U4 = self.parts(np.random.default_rng(1), 100)
        near_R = resampled_pooled_auc(parts_U4, 300, seed=0)
        negative_U5 = self.negative_M.reshape(100, 5)
        exact_R = []
        for counts_U in np.concatenate(list(resampled_counts(100, 300, seed=0))).astype(int):
            exact_R.append(pooled_auc(self.positive_U.repeat(counts_U), negative_U5.repeat(counts_U, axis=0).ravel()))
        assert np.corrcoef(near_R, exact_R)[0, 1] > 0.98
        assert near_R.std() == pytest.approx(np.std(exact_R), rel=0.1)
        assert near_R.mean() == pytest.approx(np.mean(exact_R), abs=0.01)

    def test_no_rounds_no_samples(self) -> None:
        assert len(resampled_pooled_auc(self.parts(np.random.default_rng(0), 5), 0, seed=0)) == 0
