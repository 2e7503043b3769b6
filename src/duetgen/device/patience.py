"""How long a device waits before it asks again after a failure: jittered exponential back-off and a circuit breaker.

The wait before try n is drawn uniformly from 0 to `first` · 2^(n-1), at most `longest`, so that devices which failed
together do not come back together. After `failures` in a row the circuit opens: nothing is sent for a longer while,
then one try decides whether it closes or stays open for twice as long.
"""

from __future__ import annotations

import random
from typing import Literal, TypeAlias

import msgspec

from duetgen.device.checks import check_count, check_seconds

Circuit: TypeAlias = Literal["closed", "open", "half-open"]


class PatienceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Waits, in seconds.

    Attributes:
        first: longest wait after the first failure.
        longest: longest wait while the circuit is closed, and longest Retry-After that is honoured.
        failures: so many in a row open the circuit.
        cooldown: how long it stays open at first.
        longest_cooldown: how long it stays open at most.
    """

    first: float = 1.0
    longest: float = 300.0
    failures: int = 5
    cooldown: float = 60.0
    longest_cooldown: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("first", "longest", "cooldown", "longest_cooldown"):
            check_seconds(f"patience.{name}", getattr(self, name))
        check_count("patience.failures", self.failures, 1)


class Patience:
    """The state of one kind of request. Times are seconds of a clock that never goes back.

    Args:
        config: see `PatienceConfig`.
        rng: where jitter comes from.
    """

    def __init__(self, config: PatienceConfig, rng: random.Random) -> None:
        self.config, self.rng = config, rng
        self.failures = 0
        self.not_before = float("-inf")
        """When the next try may be."""
        self.asked_to_wait = float("-inf")
        """Until when the cloud itself asked to wait."""

    def circuit(self, now: float) -> Circuit:
        """Whether requests flow."""
        if self.failures < self.config.failures:
            return "closed"
        return "open" if now < self.not_before else "half-open"

    def wait(self, now: float, insisted: bool = False) -> float:
        """Seconds until the next try; one that a person insists on waits only for what the cloud asked."""
        return max(0.0, (self.asked_to_wait if insisted else self.not_before) - now)

    def succeeded(self) -> None:
        """A try went well: everything is forgotten."""
        self.failures = 0
        self.not_before = self.asked_to_wait = float("-inf")

    def failed(self, now: float, retry_after: float | None = None) -> None:
        """A try failed; `retry_after` is how long the cloud asks to wait."""
        config = self.config
        self.failures += 1
        opened = self.failures - config.failures
        if opened < 0:
            wait = self.rng.uniform(0, min(config.longest, config.first * 2.0 ** min(self.failures - 1, 60)))
        else:
            wait = min(config.longest_cooldown, config.cooldown * 2.0 ** min(opened, 60)) * self.rng.uniform(0.5, 1)
        if retry_after is not None:
            asked = min(max(retry_after, 0.0), config.longest)
            self.asked_to_wait = now + asked
            # Spread over a tenth more, so that those who were told the same do not return in one moment.
            wait = max(wait, asked * self.rng.uniform(1, 1.1))
        self.not_before = now + wait
