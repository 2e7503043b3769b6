"""Paired tests against values worked out by hand and against full enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from duetgen.evaluation.significance import effect_sizes, holm, outcome, paired, sign_flip_p, spread


def enumerated_p(difference_U: list[float]) -> float:
    """The share of all assignments of signs whose sum is at least as far from 0."""
    found = abs(sum(difference_U))
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, difference_U)))
        for signs in itertools.product((-1, 1), repeat=len(difference_U))
    ]
    return sum(value >= found - 1e-12 for value in sums) / len(sums)


def test_holm_by_hand() -> None:
    # Sorted: 0.01, 0.02, 0.03, 0.04; times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04; the last may not fall below 0.06.
    found = holm(np.array([0.04, 0.01, 0.03, 0.02]))
    assert found == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_never_exceeds_1_and_leaves_one_comparison_alone() -> None:
    assert holm(np.array([0.6, 0.5])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.03])).tolist() == [0.03]
    assert holm(np.array([])).tolist() == []


@pytest.mark.parametrize(
    "difference_U",
    [
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],  # 2 of 256 assignments
        [0.3, -0.1, 0.4, 0.2, -0.5, 0.6, 0.1, 0.2],
        [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0],
        [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0, 0.0],  # ties whose sums differ by rounding
    ],
)
def test_random_flips_agree_with_all_256_assignments_of_8_devices(difference_U: list[float]) -> None:
    exact = enumerated_p(difference_U)
    found = sign_flip_p(np.array(difference_U)[:, None], rounds=40_000)[0]
    assert found == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / 40_000) + 1 / 40_000)


def test_p_counts_what_was_found_as_one_of_the_rounds() -> None:
    # Forty devices that all gain: no random assignment comes near, so p is 1 / (1 + R).
    assert sign_flip_p(np.ones((40, 1)), rounds=99)[0] == 1 / 100


def test_no_difference_at_all_is_certain_to_be_matched() -> None:
    assert sign_flip_p(np.zeros((5, 2)), rounds=10).tolist() == [1.0, 1.0]


def test_comparisons_are_tested_alike_together_and_alone() -> None:
    difference_UM = np.random.default_rng(0).normal(0.2, 1, size=(50, 3))
    together = sign_flip_p(difference_UM, rounds=500)
    alone = [sign_flip_p(difference_UM[:, [m]], rounds=500)[0] for m in range(3)]
    assert together.tolist() == alone


def test_blocks_of_rounds_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    difference_UM = np.random.default_rng(1).normal(0.3, 1, size=(16, 1))
    whole = sign_flip_p(difference_UM, rounds=64)
    monkeypatch.setattr("duetgen.evaluation.significance.BLOCK_VALUES", 16 * 8)
    assert sign_flip_p(difference_UM, rounds=64) == pytest.approx(whole)


def test_effect_size_by_hand() -> None:
    # Differences 1, 2, 3, 6: mean 3, squares of deviations 4 + 1 + 0 + 9 = 14, s = √(14/3).
    assert effect_sizes(np.array([[1.0], [2.0], [3.0], [6.0]])) == [pytest.approx(3 / (14 / 3) ** 0.5)]


def test_effect_size_of_what_does_not_vary_is_none() -> None:
    assert effect_sizes(np.full((4, 1), 0.5)) == [None]
    assert effect_sizes(np.array([[0.5]])) == [None]


def test_paired_puts_all_together() -> None:
    difference_U = np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.3, 0.2, 0.2])
    (found,) = paired(difference_U[:, None], seed=3)
    assert found.mean == pytest.approx(1.6 / 8)
    assert found.low is not None
    assert found.high is not None
    assert 0.1 < found.low < found.mean < found.high < 0.3
    assert found.p == pytest.approx(2 / 256, abs=0.004)
    assert found.devices == 8


@pytest.mark.parametrize(
    ("low", "high", "p_corrected", "said"),
    [
        (0.001, 0.02, None, "ahead"),
        (0.001, 0.02, 0.049, "ahead"),
        (0.001, 0.02, 0.05, "not after correction"),
        (-0.02, -0.001, None, "behind"),
        (-0.02, -0.001, 0.049, "behind"),
        (-0.02, -0.001, 0.05, "not after correction"),
        (-0.001, 0.02, None, "not told apart"),
        (-0.001, 0.02, 0.001, "not told apart"),  # the interval that stands there holds zero
        (0.0, 0.02, None, "not told apart"),
        (-0.02, 0.0, 0.001, "not told apart"),
        (0.0, 0.0, 1.0, "not told apart"),
        (None, None, None, "no interval"),
        (None, None, 0.001, "no interval"),
    ],
)
def test_one_rule_for_every_interval(
    low: float | None, high: float | None, p_corrected: float | None, said: str
) -> None:
    assert outcome(low, high, p_corrected) == said


def test_false_alarms_come_as_often_as_alpha_says() -> None:
    noise_UM = np.random.default_rng(2).normal(size=(30, 2000))
    p_M = sign_flip_p(noise_UM, rounds=999)
    assert (p_M <= 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_spread_over_seeds_by_hand() -> None:
    assert spread(np.array([1.0, 2.0, 3.0])) == pytest.approx(1.0)
    assert spread(np.array([1.0])) is None
