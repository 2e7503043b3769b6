"""What a method holds, counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel import CloudConfig, CloudList, CloudModel
from duetgen.cloudmodel.table import TableModel
from duetgen.comparison.cells.costs import count_bytes, count_flops, count_parameters, count_theta
from duetgen.comparison.methods.ensemble import BaseEnsemble
from duetgen.core import ItemBias, Theta, Trust
from duetgen.recommender import ModelConfig, Recommender


class Tables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("near", torch.zeros(5, 3))


class Shared(nn.Module):
    """A device part of 4 x 3 and 3 values; a generator that reads its embedding and has 2 x 6 values of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"embedding": nn.Embedding(4, 3), "norm": nn.LayerNorm(3, bias=False)})
        self.generator = nn.ModuleDict({"embedding": self.backbone["embedding"], "map": nn.Linear(2, 6, bias=False)})


def test_what_both_parts_share_is_the_devices() -> None:
    assert count_parameters(Shared()) == (12 + 3 + 12, 12 + 3)


def test_a_model_that_learns_nothing_is_its_tables() -> None:
    assert count_parameters(Tables()) == (15, 15)


def test_a_model_without_a_generator_is_on_the_device_whole() -> None:
    assert count_parameters(nn.Linear(3, 2)) == (8, 8)


def test_a_multiply_add_is_two_operations() -> None:
    left, right = torch.ones(3, 4), torch.ones(4, 5)
    assert count_flops(lambda: left @ right) == 2 * 3 * 4 * 5


BASE = ModelConfig(method="base", backbone=BackboneConfig(width=4, window=3))


def cloud_model() -> CloudModel:
    return CloudModel(9, 5, CloudConfig(kind="blend", table="ease", width=4, neighbours=3), "hide")


def test_no_device_holds_anything_of_a_cloud_model() -> None:
    cloud, base = cloud_model(), Recommender(9, BASE)
    for model in (cloud, CloudList(cloud)):
        assert count_parameters(model) == (sum(one.numel() for one in cloud.parameters()), 0)
        assert count_bytes(model) == 0
    own, held = count_parameters(base)
    assert own == held
    before = count_bytes(base)
    base.attach(cloud)
    assert count_parameters(base) == (own + sum(one.numel() for one in cloud.parameters()), held)
    assert count_bytes(base) == before


@pytest.mark.parametrize(("items", "pair"), [(9, 3), (2**16 + 1, 5)])
def test_a_table_on_the_device_takes_an_id_and_a_byte_a_pair_and_a_scale_a_row(items: int, pair: int) -> None:
    base = Recommender(items, BASE)
    with_table = BaseEnsemble(base, TableModel(items, 2), window=5)
    assert count_bytes(with_table) == count_bytes(base) + items * (2 * pair + 4)
    assert count_parameters(with_table) == count_parameters(base)


def test_theta_is_counted_as_it_travels() -> None:
    # Of each opinion: a count, a float16 scale, and two bytes a pair whose value is not 0.
    items_BK = torch.tensor([[5, 2, 7], [3, 4, 0]])
    opinion = ItemBias(items_BK, torch.tensor([[2.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    theta, trust = Theta(torch.ones(2, 6), (opinion, opinion)), Trust(2)
    trust.opinions_JA[0] = 1.0
    one = ((1 + 2 + 2 * 2) + (1 + 2 + 2)) // 2
    assert count_theta(theta, 9, trust) == (6 + 3, 2 * 6 + one, one)
    assert count_theta(theta, 9, None) == (6 + 6, 2 * 6 + 2 * one, 2 * one)
    trust.weights_A.zero_()
    assert count_theta(theta, 9, trust) == (3, one, one)
    assert count_theta(torch.ones(2, 6), 9, None) == (6, 12, 0)


def test_a_module_that_shares_its_values_with_another_takes_no_bytes() -> None:
    one, other = nn.Embedding(4, 3), nn.Embedding(4, 3)
    other.weight = one.weight
    assert count_bytes(nn.ModuleList([one, other])) == 4 * 3 + 4 * 4
