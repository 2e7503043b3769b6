"""Rankings: the order of numpy's stable sort, and a sequence like a list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duetgen.device.ranking import Ranking, best_first

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=True)


@given(arrays(np.float32, st.integers(0, 40), elements=FINITE | st.sampled_from([0.0, -0.0, 1.0])))
def test_the_order_is_that_of_a_stable_sort(scores_C: np.ndarray) -> None:
    np.testing.assert_array_equal(best_first(scores_C), np.argsort(-scores_C, kind="stable"))


def test_the_order_of_many_with_ties_and_every_magnitude() -> None:
    rng = np.random.default_rng(0)
    scores_C = (rng.normal(size=70_000) * 10.0 ** rng.integers(-30, 30, 70_000)).astype(np.float32)
    scores_C[::7] = 1.5
    np.testing.assert_array_equal(best_first(scores_C), np.argsort(-scores_C, kind="stable"))


def make() -> Ranking:
    scores_C = np.array([1.0, 3.0, 2.0], dtype=np.float32)
    order_C = best_first(scores_C)
    return Ranking(["a", "b", "c"], order_C, scores_C[order_C])


def test_a_ranking_is_a_sequence_of_pairs() -> None:
    ranking, pairs = make(), [("b", 3.0), ("c", 2.0), ("a", 1.0)]
    assert ranking == pairs == list(ranking)
    assert ranking == make() != pairs[:2]
    assert ranking != [("b", 3.0), ("c", 2.0), ("a", 1.5)]
    assert ranking != "bca"
    assert (len(ranking), ranking[0], ranking[-1]) == (3, pairs[0], pairs[-1])
    assert ranking[:2] == pairs[:2]
    assert ranking[::-1] == pairs[::-1]
    assert list(reversed(ranking)) == pairs[::-1]
    assert ("c", 2.0) in ranking
    assert ranking.index(("a", 1.0)) == 2
    assert dict(ranking) == dict(pairs)
    assert ranking.ids == ["b", "c", "a"]
    assert repr(ranking) == repr(pairs)
    assert type(ranking[0][1]) is float
    with pytest.raises(IndexError):
        ranking[3]
