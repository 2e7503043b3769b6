"""Theta of two parts, and how much each counts by its age, by hand."""

from __future__ import annotations

import pytest
import torch

from duetgen.core import AGES, ItemBias, Theta, Trust
from duetgen.core.theta import at_age

ITEMS = torch.tensor([[4, 2, 0], [3, 1, 5]])
VALUES = torch.tensor([[2.0, 1.0, 9.0], [0.5, 9.0, 0.0]])


def made() -> Theta:
    """Weights of two devices, and two opinions of each."""
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    return Theta(weights, (ItemBias(ITEMS, VALUES), ItemBias(ITEMS.flip(1), VALUES.flip(1) * 2)))


def test_a_bias_over_the_catalogue_says_nothing_of_what_is_no_item() -> None:
    assert ItemBias(ITEMS, VALUES).over(6).tolist() == [[0, 0, 1, 0, 2, 0], [0, 0, 0, 0.5, 0, 0]]


def test_an_item_that_is_named_twice_gets_both() -> None:
    assert ItemBias(torch.tensor([[3, 3]]), torch.tensor([[1.0, 0.5]])).over(4).tolist() == [[0, 0, 0, 1.5]]


def test_all_opinions_add_up() -> None:
    bias = made().bias(6)
    assert bias is not None
    assert bias.tolist() == [[0, 0, 3, 0, 6, 0], [0, 0, 0, 1.5, 0, 0]]
    assert Theta(torch.zeros(2, 3)).bias(6) is None


@pytest.mark.parametrize("index", [[1], [1, 0, 1], slice(1, 2)])
def test_some_devices_keep_all_parts(index: object) -> None:
    theta, some = made(), made()[index]
    assert theta.weights_BP is not None
    assert some.weights_BP is not None
    assert torch.equal(some.weights_BP, theta.weights_BP[index])
    for (items, values), (all_items, all_values) in zip(some.opinions, theta.opinions, strict=True):
        assert torch.equal(items, all_items[index])
        assert torch.equal(values, all_values[index])
    assert len(some) == len(some.weights_BP)


def test_a_theta_without_weights_has_the_length_of_its_opinions() -> None:
    bias = made().only("bias")
    assert bias.weights_BP is None
    assert len(bias) == 2
    assert bias[1:].weights_BP is None
    assert len(bias[1:]) == 1


def test_one_part_leaves_the_other_out() -> None:
    theta = made()
    weights, bias = theta.only("weights"), theta.only("bias")
    assert weights.weights_BP is theta.weights_BP
    assert weights.opinions == ()
    assert bias.opinions is theta.opinions


@pytest.mark.parametrize(
    ("age", "expected"),
    # Told at 0, 1, 2, 5, 10, 20, 50 and 100 events: a line between two of them, and the last value from there on.
    [(0, 8.0), (1, 7.0), (2, 6.0), (3, 5.0), (4, 4.0), (5, 3.0), (7, 2.2), (15, 0.5), (50, 0.0), (1000, 0.0)],
)
def test_between_two_ages_trust_lies_on_a_line(age: int, expected: float) -> None:
    curve = torch.tensor([8.0, 7.0, 6.0, 3.0, 1.0, 0.0, 0.0, 0.0])
    assert at_age(curve, age) == pytest.approx(expected)


def test_the_last_age_goes_on() -> None:
    curve = torch.arange(8, 0, -1.0)
    assert [at_age(curve, age) for age in (75, 100, 4096)] == [1.5, 1.0, 1.0]


def test_each_part_counts_by_its_own_curve() -> None:
    trust, theta = Trust(2), made()
    trust.weights_A[AGES.index(10)] = 0.5
    trust.opinions_JA[0, AGES.index(10)] = 2.0
    trust.opinions_JA[1, :] = 0.25
    found = trust(theta, 10)
    assert found.weights_BP.tolist() == [[0.5, 1.0], [1.5, 2.0]]
    assert [opinion.values_BK.tolist() for opinion in found.opinions] == [
        (VALUES * 2).tolist(),
        (VALUES.flip(1) * 0.5).tolist(),
    ]
    assert all(torch.equal(one.items_BK, own.items_BK) for one, own in zip(found.opinions, theta.opinions))


def test_weights_that_count_nothing_beside_opinions_are_left_out() -> None:
    trust, theta = Trust(2), made()
    trust.weights_A.zero_()
    assert trust(theta, 0).weights_BP is None
    # Without opinions nothing else would tell how many devices these are.
    assert trust(theta.only("weights"), 0).weights_BP.tolist() == [[0, 0], [0, 0]]


def test_before_it_is_learnt_the_weights_count_whole_and_no_opinion_does() -> None:
    theta = made()
    for age in (0, 7, 500):
        found = Trust(2)(theta, age)
        assert torch.equal(found.weights_BP, theta.weights_BP)
        assert not any(opinion.values_BK.any() for opinion in found.opinions)


def test_weights_that_replace_go_part_of_the_way_from_the_global_ones() -> None:
    trust = Trust()
    trust.weights_A.fill_(0.5)
    found = trust(Theta(torch.tensor([[3.0, -1.0]])), 7, torch.tensor([1.0, 1.0])).weights_BP
    assert torch.equal(found, torch.tensor([[2.0, 0.0]]))
    trust.weights_A.zero_()
    assert torch.equal(trust(Theta(torch.tensor([[3.0, -1.0]])), 0, torch.ones(2)).weights_BP, torch.ones(1, 2))
