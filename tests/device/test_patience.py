"""Waits after failures."""

from __future__ import annotations

import random

from duetgen.device import PatienceConfig
from duetgen.device.patience import Patience


class Highest(random.Random):
    """Jitter at its upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


CONFIG = PatienceConfig(first=1, longest=300, failures=4, cooldown=60, longest_cooldown=200)


def test_waits_double_then_the_circuit_opens() -> None:
    patience = Patience(CONFIG, Highest())
    waits, circuits = [], []
    for _ in range(7):
        patience.failed(1000.0)
        waits.append(patience.wait(1000.0))
        circuits.append(patience.circuit(1000.0))
    assert waits == [1, 2, 4, 60, 120, 200, 200]
    assert circuits == ["closed"] * 3 + ["open"] * 4


def test_an_open_circuit_lets_one_try_through_and_closes_when_it_goes_well() -> None:
    patience = Patience(CONFIG, Highest())
    for _ in range(4):
        patience.failed(0.0)
    assert patience.wait(59.0) == 1.0
    assert (patience.circuit(59.0), patience.circuit(60.0)) == ("open", "half-open")
    patience.failed(60.0)
    assert patience.wait(60.0) == 120.0
    patience.succeeded()
    assert (patience.wait(61.0), patience.circuit(61.0), patience.failures) == (0.0, "closed", 0)


def test_jitter_spreads_devices_over_the_whole_wait() -> None:
    waits = []
    for seed in range(400):
        patience = Patience(CONFIG, random.Random(seed))
        for _ in range(3):
            patience.failed(0.0)
        waits.append(patience.wait(0.0))
    assert min(waits) < 0.1
    assert max(waits) > 3.9
    assert 1.8 < sum(waits) / len(waits) < 2.2


def test_retry_after_is_honoured_even_by_those_who_insist_and_bounded() -> None:
    patience = Patience(CONFIG, random.Random(0))
    patience.failed(0.0, 30.0)
    assert 30.0 <= patience.wait(0.0) <= 33.0
    assert patience.wait(0.0, insisted=True) == 30.0
    assert patience.wait(31.0, insisted=True) == 0.0
    patience.failed(100.0, 1e9)
    assert patience.wait(100.0) <= 330.0
    patience.failed(1000.0, -5.0)
    assert patience.wait(1000.0, insisted=True) == 0.0


def test_one_who_insists_does_not_wait_for_the_back_off() -> None:
    patience = Patience(CONFIG, Highest())
    for _ in range(5):
        patience.failed(0.0)
    assert patience.wait(0.0, insisted=True) == 0.0


def test_so_many_failures_that_no_float_counts_their_wait() -> None:
    patience = Patience(PatienceConfig(first=1.0, longest=5.0, failures=10**6), random.Random(0))
    for _ in range(3000):
        patience.failed(0.0)
    assert 0 <= patience.wait(0.0) <= 5
    assert patience.circuit(0.0) == "closed"
