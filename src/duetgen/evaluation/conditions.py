"""Under which parameters a model is measured: its own, old ones, none, somebody else's, or ones made of nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from duetgen.core.theta import PartName
from duetgen.evaluation.errors import InvalidConditionError
from duetgen.wire.limits import MAX_STALENESS

Kind = Literal["own", "zero", "another", "random"]
KINDS: Final[tuple[Kind, ...]] = ("own", "zero", "another", "random")


class Condition(msgspec.Struct, frozen=True):
    """Where theta comes from while a model is measured; the device's window is the same under every condition.

    Attributes:
        kind: `own`, generated from the device's own history; `zero`, the global model; `another`, generated from
            another device's history; `random`, generated from items drawn by their popularity in training.
        staleness: how many of the newest events the generator has not seen; the first event is always seen.
        part: of a theta that has two, the one that counts alone; None: all of it.
    """

    kind: Kind
    staleness: int = 0
    part: PartName | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidConditionError(f"there is no condition {self.kind!r}", f"choose among {', '.join(KINDS)}")
        if not 0 <= self.staleness <= MAX_STALENESS:
            raise InvalidConditionError(
                f"staleness {self.staleness} is out of range", f"give a number of events from 0 to {MAX_STALENESS}"
            )
        if self.kind == "zero" and self.staleness:
            raise InvalidConditionError("theta = 0 has no age", "ask for `zero` without a staleness")

    @property
    def name(self) -> str:
        """How results are labelled: `own`, `own+5` (five events old), `zero`, `another`, `random`;
        `own-weights`, `own-bias`: one part of theta alone."""
        name = self.kind if self.part is None else f"{self.kind}-{self.part}"
        return f"{name}+{self.staleness}" if self.staleness else name


ZERO: Final = Condition("zero")
OWN: Final = Condition("own")
STALENESS: Final = (0, 1, 5, 20)


def has_parts(model: object) -> bool:
    """Whether the theta of a model has two parts, of which each can count alone."""
    return getattr(model, "generator", None) is not None and getattr(model, "cloud", None) is not None


def default_conditions(
    staleness: Sequence[int] = STALENESS, parts: bool = False, lone: bool = False
) -> tuple[Condition, ...]:
    """Own theta at each age in events, the global model, and the two controls; each part alone, where there are two.

    Args:
        staleness: the ages.
        parts: whether theta has two parts.
        lone: whether one device alone has targets, which then has no other to borrow from.
    """
    own = [Condition("own", age) for age in staleness]
    alone = [Condition("own", age, part) for part in ("weights", "bias") for age in staleness] if parts else []
    another = [] if lone else [Condition("another")]
    return (*own, *alone, ZERO, *another, Condition("random"))
