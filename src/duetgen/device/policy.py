"""When a device asks for new parameters.

A policy is asked after every observed event, and answers from a `Situation` alone: it holds no state, so the same
events give the same requests. A device that has seen nothing new since its theta was made asks for nothing, unless
that theta has expired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from duetgen.device.checks import check_count, check_seconds, need_methods, refuse

Profiles = Callable[[Sequence[int]], npt.NDArray[np.float64]]
"""Item indices to what the model thinks of these items, [N, K]: see `profiles`."""


@dataclass(frozen=True)
class Situation:
    """What a policy may look at.

    Attributes:
        has_theta: whether there is a theta, not expired.
        events: events observed since the theta in use was made.
        seconds: time since then; infinite without a theta, or where the clock went back.
        requests_today: requests sent since midnight, UTC.
        history: item indices of the events kept, oldest first.
        made_from: those that the theta in use was made from.
        profiles: what the model thinks of items.
    """

    has_theta: bool
    events: int
    seconds: float
    requests_today: int
    history: Sequence[int]
    made_from: Sequence[int]
    profiles: Profiles


class Policy(Protocol):
    """The one question. A policy that raises is counted, and asked again after the next event."""

    def due(self, situation: Situation) -> bool:
        """Whether to ask now."""


class Always(msgspec.Struct, frozen=True, tag=True):
    """Ask after every event: the best theta, the most requests."""

    def due(self, situation: Situation) -> bool:
        """Whenever there is anything new."""
        return not situation.has_theta or situation.events > 0


class EveryEvents(msgspec.Struct, frozen=True, tag=True):
    """Ask after every `n` events."""

    n: int = 10

    def __post_init__(self) -> None:
        check_count("EveryEvents", self.n)

    def due(self, situation: Situation) -> bool:
        """At the n-th event since theta was made."""
        return not situation.has_theta or situation.events >= max(self.n, 1)


class AfterSeconds(msgspec.Struct, frozen=True, tag=True):
    """Ask at the first event that comes `seconds` or more after theta was made."""

    seconds: float = 3600.0

    def __post_init__(self) -> None:
        check_seconds("AfterSeconds", self.seconds)

    def due(self, situation: Situation) -> bool:
        """At an event, theta being old enough."""
        return not situation.has_theta or (situation.events > 0 and situation.seconds >= self.seconds)


class Drift(msgspec.Struct, frozen=True, tag=True):
    """Ask when the recent behaviour is no longer that which theta was made from.

    Behaviour is the mean profile of the events, each weighing `decay` times the next newer one; drift is the root mean
    square difference between now and then, in standard deviations of the catalogue: 0 is no change, and 1 that the
    mean moved as far as items lie apart.

    Attributes:
        threshold: drift from which to ask.
        decay: weight of an event against the next newer one.
    """

    threshold: float = 0.2
    decay: float = 0.9

    def __post_init__(self) -> None:
        for name, value in (("threshold", self.threshold), ("decay", self.decay)):
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
            if not number or (name == "decay" and not 0 < value <= 1):
                refuse(f"Drift's {name}", f"{value!r} cannot be", "give a threshold from 0 on, a decay in (0, 1]")

    def due(self, situation: Situation) -> bool:
        """When the drift reaches the threshold."""
        if not situation.has_theta or not situation.made_from:
            return True
        return situation.events > 0 and self.drift(situation) >= self.threshold

    def drift(self, situation: Situation) -> float:
        """How far the behaviour has moved."""
        now_K = self.mean(situation.profiles(situation.history))
        then_K = self.mean(situation.profiles(situation.made_from))
        return float(np.sqrt(np.mean((now_K - then_K) ** 2)))

    def mean(self, profile_NK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The decayed mean of profiles, oldest first."""
        weight_N = self.decay ** np.arange(len(profile_NK) - 1, -1, -1)
        mean_K: npt.NDArray[np.float64] = weight_N @ profile_NK / weight_N.sum()
        return mean_K


POLICIES: Final[dict[str, type[Any]]] = {"always": Always, "every": EveryEvents, "after": AfterSeconds, "drift": Drift}
"""By the names that commands take; what stands behind the colon in `every:10` is the first field."""


def policy_named(text: str) -> Policy:
    """A policy by its name and, behind a colon, its first field: `always`, `every:10`, `drift:0.2`.

    Raises:
        ValueError: it is none; the text says which there are.
    """
    name, colon, value = text.partition(":")
    fields = {known: [field.name for field in msgspec.structs.fields(kind)][:1] for known, kind in POLICIES.items()}
    try:
        policy: Policy = POLICIES[name]()
        if not fields[name]:
            if colon:
                raise ValueError
            return policy
        number = float(value) if isinstance(getattr(policy, fields[name][0]), float) else int(value)
        if not number > 0:
            raise ValueError
        return POLICIES[name](number)  # type: ignore[no-any-return]
    except (KeyError, ValueError):
        forms = ", ".join(":".join([known, *map(str.upper, names)]) for known, names in fields.items())
        raise ValueError(f"give one of {forms}, as in every:10") from None


def policy_name(policy: Policy) -> str:
    """The shortest text that `policy_named` reads as this policy: `every:5`, and not `every:05`."""
    name = next(known for known, kind in POLICIES.items() if type(policy) is kind)
    first = [repr(getattr(policy, field.name)).removesuffix(".0") for field in msgspec.structs.fields(POLICIES[name])]
    return ":".join([name, *first[:1]])


class DailyBudget(msgspec.Struct, frozen=True):
    """Another policy, with at most `n` requests a day (UTC), retries included."""

    policy: Policy
    n: int = 24

    def __post_init__(self) -> None:
        need_methods("DailyBudget", self.policy, ("due",), "another policy, as in DailyBudget(EveryEvents(10), 24)")
        check_count("DailyBudget", self.n)

    def due(self, situation: Situation) -> bool:
        """When the other policy asks and the day's budget is not spent."""
        return situation.requests_today < self.n and self.policy.due(situation)
