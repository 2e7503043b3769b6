"""A device's parameters, whole: weights for its dynamic layers, and a bias for some of the items that it ranks.

Either part may be missing, and with neither the device runs the global model, bit for bit. What old parameters count
for is told by `Trust`.

Shapes: B devices, P values of the weights, K items of an opinion, J opinions, A ages, V items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

PartName = Literal["weights", "bias"]

AGES: Final = (0, 1, 2, 5, 10, 20, 50, 100)
"""Ages of theta, in events, at which trust is told; linear between them, and from the last one on the same."""


class ItemBias(NamedTuple):
    """One opinion: what is added to the scores of a few items of each device.

    Attributes:
        items_BK: their indices, int64; below 2 where there is no item.
        values_BK: what is added, at least 0.
    """

    items_BK: Tensor
    values_BK: Tensor

    def over(self, vocabulary: int) -> Tensor:
        """As a row over the whole catalogue: [B, V]."""
        row_BV = self.values_BK.new_zeros(len(self.items_BK), vocabulary)
        return row_BV.scatter_add_(1, self.items_BK, self.values_BK * (self.items_BK > 1))


@dataclass(frozen=True)
class Theta:
    """Parameters of B devices.

    Attributes:
        weights_BP: of the dynamic layers; None leaves these global.
        opinions: one item bias for each cloud model that has an opinion.
    """

    weights_BP: Tensor | None = None
    opinions: tuple[ItemBias, ...] = ()

    def __len__(self) -> int:
        first = self.opinions[0].items_BK if self.weights_BP is None else self.weights_BP
        return len(first)

    def __getitem__(self, index: Any) -> Theta:
        """Those of some devices."""
        weights = None if self.weights_BP is None else self.weights_BP[index]
        return Theta(weights, tuple(ItemBias(items[index], values[index]) for items, values in self.opinions))

    def only(self, part: PartName) -> Theta:
        """One part, without the other."""
        return replace(self, opinions=()) if part == "weights" else replace(self, weights_BP=None)

    def bias(self, vocabulary: int) -> Tensor | None:
        """What all opinions together add to the scores of the catalogue: [B, V]; None where there is none."""
        rows = [opinion.over(vocabulary) for opinion in self.opinions]
        return torch.stack(rows).sum(0) if rows else None


class Trust(nn.Module):
    """How much each part of theta counts, by its age in events: learnt on the validation part, never increasing.

    Args:
        opinions: J.

    Attributes:
        weights_A: factors of the weights.
        opinions_JA: factors of each opinion's values.
    """

    weights_A: Tensor
    opinions_JA: Tensor

    def __init__(self, opinions: int = 0) -> None:
        super().__init__()
        self.register_buffer("weights_A", torch.ones(len(AGES)))
        self.register_buffer("opinions_JA", torch.zeros(opinions, len(AGES)))

    def forward(self, theta: Theta, age: int, origin_P: Tensor | None = None) -> Theta:
        """Theta as it counts at an age.

        Args:
            theta: as it was generated.
            age: in events.
            origin_P: the global parameters, where the weights replace them; None where they shift them.
        """
        weights = theta.weights_BP
        if weights is not None:
            factor = at_age(self.weights_A, age)
            weights = None if factor == 0 and theta.opinions else part_way(weights, factor, origin_P)
        opinions = zip(theta.opinions, self.opinions_JA, strict=True) if theta.opinions else ()
        return Theta(
            weights, tuple(ItemBias(items, values * at_age(curve_A, age)) for (items, values), curve_A in opinions)
        )


def part_way(weights_BP: Tensor, factor: float, origin_P: Tensor | None) -> Tensor:
    """Weights so far on the way from the global model to a device's own: [B, P]; see `Trust.forward`."""
    return weights_BP * factor if origin_P is None else origin_P + factor * (weights_BP - origin_P)


def at_age(curve_A: Tensor, age: int) -> float:
    """A curve's value at an age."""
    curve = curve_A.tolist()
    for (young, high), (old, low) in zip(zip(AGES, curve), zip(AGES[1:], curve[1:])):
        if age < old:
            return float(high + (low - high) * (age - young) / (old - young))
    return float(curve[-1])
