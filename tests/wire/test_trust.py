"""Trust by age: values worked out by hand, between the ages and beyond them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from duetgen.wire.trust import Trust

TRUST = Trust(ages=[0, 10, 50], weights=[1.0, 0.5, 0.1], opinions=[[2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("age", "weights", "opinion"),
    [(0, 1.0, 2.0), (1, 0.95, 2.0), (10, 0.5, 2.0), (20, 0.4, 1.5), (50, 0.1, 0.0), (51, 0.1, 0.0), (10**9, 0.1, 0.0)],
)
def test_trust_is_linear_between_the_ages_and_constant_beyond(age: int, weights: float, opinion: float) -> None:
    assert TRUST.weights_at(age) == pytest.approx(weights, abs=1e-12)
    assert TRUST.opinions_at(age) == pytest.approx([opinion, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ages": [1, 10, 50]}, "ascend from 0"),
        ({"ages": [0, 10, 10]}, "ascend from 0"),
        ({"ages": [0, 10]}, "3 values for 2 ages"),
        ({"weights": [1.0, 0.5, 0.6]}, "increases"),
        ({"weights": [1.0, 0.5, float("nan")]}, "increases"),
        ({"opinions": [[0.0, 0.1, 0.1]]}, "increases"),
    ],
)
def test_curves_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        msgspec.structs.replace(TRUST, **change)
