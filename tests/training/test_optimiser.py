"""The learning rate of a run: hand-computed points of the warm-up and of the cosine."""

import pytest

from duetgen.training.config import OptimiserConfig
from duetgen.training.optimiser import rate_share


def test_it_warms_up_in_a_line_and_falls_in_a_cosine_to_a_tenth() -> None:
    config = OptimiserConfig(epochs=4, warmup_steps=10)

    def at(step: int) -> float:
        return rate_share(config, step, steps_per_epoch=10)

    assert [at(0), at(4), at(9)] == pytest.approx([0.1, 0.5, 1.0])
    assert [at(10), at(25), at(40)] == pytest.approx([1.0, 0.55, 0.1])
    assert at(20) == pytest.approx(0.1 + 0.45 * 1.5)  # a third of the way: cos 60 degrees
    assert at(55) == pytest.approx(0.1)  # epochs may differ by a few steps


def test_a_short_run_warms_up_for_half_of_its_steps() -> None:
    config = OptimiserConfig(epochs=1, warmup_steps=1000)
    assert rate_share(config, 0, steps_per_epoch=8) == pytest.approx(0.25)
    assert rate_share(config, 3, steps_per_epoch=8) == pytest.approx(1.0)
    assert rate_share(config, 8, steps_per_epoch=8) == pytest.approx(0.1)


def test_without_a_warm_up_it_begins_at_the_peak() -> None:
    config = OptimiserConfig(epochs=2, warmup_steps=0)
    assert rate_share(config, 0, steps_per_epoch=5) == pytest.approx(1.0)
