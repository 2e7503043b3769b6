"""Trust: how much each part of theta counts at its age, learnt with the model and published with it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from duetgen.wire.limits import MAX_OPINIONS, MAX_STALENESS, MAX_TRUST_AGES

Age = Annotated[int, Meta(ge=0, le=MAX_STALENESS)]
Curve = Annotated[list[Annotated[float, Meta(ge=0, le=100)]], Meta(min_length=1, max_length=MAX_TRUST_AGES)]


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Curves over the age of theta: what a part is multiplied by, linear between the ages, the last value beyond.

    Attributes:
        ages: in events since theta was asked for, ascending from 0.
        weights: of the weights, at these ages; never increasing.
        opinions: of each opinion of the item bias, likewise.

    Raises:
        ValueError: the ages do not ascend from 0, or a curve is not as long as they are, or increases.
    """

    ages: Annotated[list[Age], Meta(min_length=1, max_length=MAX_TRUST_AGES)]
    weights: Curve
    opinions: Annotated[list[Curve], Meta(max_length=MAX_OPINIONS)]

    def __post_init__(self) -> None:
        if self.ages[0] != 0 or any(one >= other for one, other in pairwise(self.ages)):
            raise ValueError("the ages of trust do not ascend from 0")
        for curve in (self.weights, *self.opinions):
            if len(curve) != len(self.ages):
                raise ValueError(f"a curve of trust has {len(curve)} values for {len(self.ages)} ages")
            if not all(one >= other for one, other in pairwise(curve)):
                raise ValueError("a curve of trust increases")

    def weights_at(self, age: int) -> float:
        """What the weights are multiplied by."""
        return float(np.interp(age, self.ages, self.weights))

    def opinions_at(self, age: int) -> list[float]:
        """What the values of each opinion are multiplied by."""
        return [float(np.interp(age, self.ages, curve)) for curve in self.opinions]
