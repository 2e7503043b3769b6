"""What a method holds, counted."""

from __future__ import annotations

import torch
from torch import nn

from duetgen.comparison.costs import count_flops, count_parameters


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
