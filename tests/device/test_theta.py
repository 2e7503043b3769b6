"""Theta as it grows old: what counts of either part, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from duetgen.device import DeviceModel, load_model
from duetgen.device.theta import Origin, Theta
from duetgen.wire.bias import ItemBias
from duetgen.wire.messages import ParametersAnswer

from .conftest import P, Tiny

ANSWER = ParametersAnswer("", 1, 0, 0, "float32", b"", b"", b"", b"")
WEIGHTS_P = np.arange(P, dtype=np.float32)
OPINIONS = [
    ItemBias(np.array([3, 29]), np.array([0.5, 1], dtype=np.float32)),
    ItemBias(np.array([3]), np.array([0.25], dtype=np.float32)),
]


@pytest.fixture(scope="module")
def model(biased: Tiny) -> DeviceModel:
    """Trust: of the weights from 1 to 1/2 in four events, of the first opinion from 1 to 0, of the other 2 for ever."""
    return load_model(biased.root)


def bias(**at: float) -> np.ndarray:
    bias_V = np.zeros(30, dtype=np.float32)
    for name, value in at.items():
        bias_V[int(name[1:])] = value
    return bias_V


@pytest.mark.parametrize(
    ("events", "weights", "third", "last"),
    [(10, 1, 0.5 + 0.5, 1), (11, 7 / 8, 3 / 8 + 0.5, 3 / 4), (14, 1 / 2, 0.5, 0), (1000, 1 / 2, 0.5, 0)],
)
def test_both_parts_by_age(model: DeviceModel, events: int, weights: float, third: float, last: float) -> None:
    theta = Theta(WEIGHTS_P, OPINIONS, ANSWER, Origin(10, 0, 0, []))
    aged = theta.at(model, events)
    assert (aged.age, aged.weights_trust) == (events - 10, weights)
    assert aged.bias_V is not None
    np.testing.assert_array_equal(aged.values_P, np.float32(weights) * WEIGHTS_P)
    np.testing.assert_array_equal(aged.bias_V, bias(_3=third, _29=last))


def test_it_is_made_once_for_each_age_and_again_only_if_trust_has_changed(model: DeviceModel) -> None:
    theta = Theta(WEIGHTS_P, OPINIONS, ANSWER, Origin(10, 0, 0, []))
    assert theta.at(model, 10).values_P is WEIGHTS_P
    assert theta.at(model, 11) is theta.at(model, 11)
    assert theta.at(model, 12) is not theta.at(model, 11)
    old, older = theta.at(model, 14), theta.at(model, 15)
    assert (old.age, older.age) == (4, 5)
    assert older.values_P is old.values_P
    assert older.bias_V is old.bias_V


def test_events_that_were_lost_make_no_age_below_zero(model: DeviceModel) -> None:
    assert Theta(WEIGHTS_P, OPINIONS, ANSWER, Origin(10, 0, 0, [])).at(model, 3).age == 0


def test_without_weights_they_are_those_of_the_global_model_at_any_age(model: DeviceModel) -> None:
    assert Theta(model.zeros_P, OPINIONS, ANSWER, Origin(0, 0, 0, [])).at(model, 3).values_P is model.zeros_P


def test_without_opinions_there_is_no_bias(model: DeviceModel) -> None:
    assert Theta(WEIGHTS_P, [], ANSWER, Origin(0, 0, 0, [])).at(model, 3).bias_V is None
