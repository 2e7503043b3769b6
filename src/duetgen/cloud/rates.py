"""A share of requests for each device: a bucket that fills with time, and that each request takes from."""

from __future__ import annotations

import math
import time
from typing import Final

from duetgen.cloud.errors import RateLimitedError

MAX_BUCKETS: Final = 200_000
"""Devices that are remembered at once; those longest unseen are forgotten first, with a full bucket."""


class RateLimiter:
    """Buckets of all devices of a worker.

    Args:
        rate: requests a second that flow in; 0: no limit.
        burst: what a bucket holds.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, device: str) -> None:
        """Take one request from a device's bucket.

        Raises:
            RateLimitedError: it is empty; `retry_after` says when it is not.
        """
        if not self.rate:
            return
        now = time.monotonic()
        left, then = self._buckets.pop(device, (self.burst, now))
        left = min(self.burst, left + (now - then) * self.rate)
        granted = left >= 1
        # Put back last: the dictionary's order is that of last use.
        self._buckets[device] = (left - 1 if granted else left, now)
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        if not granted:
            error = RateLimitedError(
                f"more than {self.rate:g} requests a second by this device", "ask again after Retry-After"
            )
            error.retry_after = max(1, math.ceil((1 - left) / self.rate))
            raise error
