"""Platt's two numbers: what they recover, and that nothing makes them or the loss infinite."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.evaluation.calibration import Calibration, fit, log_losses


def float32(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


class TestLogLosses:
    FITTED = Calibration(slope=2.0, intercept=-1.0, rows=1)

    @pytest.mark.parametrize(("score", "logit"), [(0.5, 0), (1, 1), (-1, -3), (400, 799)])
    def test_by_hand(self, score: float, logit: float) -> None:
        # -log σ(z) = log(1 + exp(-z)), which is 0 for z = 799 and 799 for z = -799.
        one, zero = (max(-z, 0) + math.log1p(math.exp(-abs(z))) for z in (logit, -logit))
        assert float(log_losses(self.FITTED, float32([score]), 1)[0]) == pytest.approx(one)
        assert float(log_losses(self.FITTED, float32([score]), 0)[0]) == pytest.approx(zero)

    @pytest.mark.parametrize("label", [0, 1])
    @pytest.mark.parametrize("slope", [2.0, 0.0, -2.0])
    def test_padding_costs_nothing_whatever_the_slope(self, slope: float, label: int) -> None:
        losses = log_losses(Calibration(slope, 0.0, 1), float32([-np.inf, 0, -np.inf]), label)
        assert losses.tolist() == [0, pytest.approx(math.log(2)), 0]


class TestFit:
    @pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -2.0), (-1.5, 1.0)])
    def test_recovers_slope_and_intercept(self, slope: float, intercept: float) -> None:
        rng = np.random.default_rng(0)
        score = rng.normal(1, 2, 40_000)
        positive = rng.random(len(score)) < 1 / (1 + np.exp(-(slope * score + intercept)))
        found = fit(float32(score[positive]), float32(score[~positive]))
        assert found is not None
        assert found.rows == 40_000
        # The standard error of either is about 0.02.
        assert found.slope == pytest.approx(slope, abs=0.06)
        assert found.intercept == pytest.approx(intercept, abs=0.06)

    def test_probabilities_are_right_on_average(self) -> None:
        rng = np.random.default_rng(1)
        positive, negative = float32(rng.normal(1, 1, 300)), float32(rng.normal(0, 1, 900))
        found = fit(positive, negative)
        assert found is not None
        score = np.concatenate([positive, negative])
        probability = 1 / (1 + np.exp(-(found.slope * score + found.intercept)))
        softened = 300 * 301 / 302 + 900 * 1 / 902
        assert float(probability.sum()) == pytest.approx(softened, rel=1e-5)

    def test_no_nearby_line_is_better(self) -> None:
        rng = np.random.default_rng(2)
        positive, negative = float32(rng.normal(1, 1, 50)), float32(rng.normal(0, 1, 200))
        found = fit(positive, negative)
        assert found is not None

        def loss(slope: float, intercept: float) -> float:
            logit = slope * np.concatenate([positive, negative]) + intercept
            label = np.repeat([51 / 52, 1 / 202], [50, 200])
            return float(np.mean(np.logaddexp(0, logit) - label * logit))

        best = loss(found.slope, found.intercept)
        for a, b in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01), (0.01, -0.01), (-0.01, 0.01)):
            assert loss(found.slope + a, found.intercept + b) > best

    def test_units_and_origin_of_scores_do_not_matter(self) -> None:
        rng = np.random.default_rng(3)
        positive, negative = rng.normal(1, 1, 100), rng.normal(0, 1, 300)
        one = fit(float32(positive), float32(negative))
        other = fit(float32(positive * 1000 - 5000), float32(negative * 1000 - 5000))
        assert one is not None
        assert other is not None
        assert other.slope * 1000 == pytest.approx(one.slope, rel=1e-3)
        assert other.intercept - 5000 * other.slope == pytest.approx(one.intercept, rel=1e-3)

    def test_separable_scores_have_a_finite_line(self) -> None:
        found = fit(float32([5, 6, 7]), float32([-1, 0, 1, 2]))
        assert found is not None
        assert math.isfinite(found.slope)
        assert math.isfinite(found.intercept)
        assert found.slope > 0
        # The softened labels are 4/5 and 1/6: the probabilities stay between those of much surer lines.
        assert 0 < found.slope * 5 + found.intercept < 20

    def test_equal_scores_give_the_base_rate(self) -> None:
        found = fit(float32([3, 3]), float32([3] * 8))
        assert found is not None
        softened = (2 * 3 / 4 + 8 * 1 / 10) / 10
        assert 1 / (1 + math.exp(-(found.slope * 3 + found.intercept))) == pytest.approx(softened, rel=1e-4)
        assert log_losses(found, float32([-np.inf]), 0).tolist() == [0]

    def test_a_class_without_rows(self) -> None:
        assert fit(float32([]), float32([1])) is None
        assert fit(float32([1]), float32([])) is None

    @given(
        positive=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
        negative=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    )
    def test_is_finite_for_any_scores(self, positive: list[float], negative: list[float]) -> None:
        found = fit(float32(positive), float32(negative))
        assert found is not None
        assert math.isfinite(found.slope)
        assert math.isfinite(found.intercept)
