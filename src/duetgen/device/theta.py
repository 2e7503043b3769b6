"""Theta: what passed every check of the store, and what counts of it as it grows old.

Shapes: P weights, V item indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from duetgen.device.loaded import Float32, LoadedModel
from duetgen.wire.bias import ItemBias
from duetgen.wire.messages import ParametersAnswer


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """What the device knows of a theta beyond the cloud's answer.

    Attributes:
        events: events that the device had observed when it asked.
        asked: when it asked, in seconds of the clock that policies count by.
        received: when the answer came, in seconds of the wall clock.
        history: the item indices that it sent.
    """

    events: int
    asked: float
    received: float
    history: list[int]


@dataclass(frozen=True)
class Aged:
    """Theta as it counts at one age.

    Attributes:
        age: events observed since it was asked for.
        weights_trust: how much the weights count.
        opinions_trust: how much each opinion of the version counts.
        values_P: the weights times their trust, float32 [P].
        bias_V: the opinions times theirs, added up: float32 [V]; None without any.
    """

    age: int
    weights_trust: float
    opinions_trust: list[float]
    values_P: Float32
    bias_V: Float32 | None


class Theta:
    """A theta that passed every check.

    Args:
        values_P: the weights, float32 [P]; the version's `zeros_P` for none.
        opinions: the item bias; empty for none.
        answer: as it came.
        origin: where it comes from.
    """

    def __init__(
        self, values_P: Float32, opinions: Sequence[ItemBias], answer: ParametersAnswer, origin: Origin
    ) -> None:
        self.values_P, self.opinions, self.answer, self.origin = values_P, opinions, answer, origin
        self._aged: Aged | None = None
        """Kept here, so that it is forgotten with theta."""

    def age(self, events: int) -> int:
        """Its age when the device has observed so many events."""
        return max(0, events - self.origin.events)

    def at(self, model: LoadedModel, events: int) -> Aged:
        """What counts of it then; made once for each age.

        Args:
            model: the version that it is for.
            events: that the device has observed.
        """
        age, aged = self.age(events), self._aged
        if aged is None or aged.age != age:
            self._aged = aged = self._grow(model, age, aged)
        return aged

    def _grow(self, model: LoadedModel, age: int, before: Aged | None) -> Aged:
        trust = model.manifest.trust
        weights, opinions = trust.weights_at(age), trust.opinions_at(age)
        if before is not None and (weights, opinions) == (before.weights_trust, before.opinions_trust):
            return replace(before, age=age)
        unchanged = weights == 1 or self.values_P is model.zeros_P
        values_P = self.values_P if unchanged else np.float32(weights) * self.values_P
        bias_V = np.zeros(model.vocabulary, dtype=np.float32) if self.opinions else None
        for factor, opinion in zip(opinions, self.opinions):
            assert bias_V is not None
            bias_V[opinion.items] += np.float32(factor) * opinion.values
        return Aged(age, weights, opinions, values_P, bias_V)
