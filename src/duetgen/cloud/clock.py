"""Times of answers: a sequence that only ever grows, and times of day."""

from __future__ import annotations

import time


def clock_offset() -> int:
    """Microseconds from the machine's monotonic clock to those since 1970, as of now."""
    return (time.time_ns() - time.monotonic_ns()) // 1000


class Clock:
    """Numbers the answers of a worker.

    The numbers are microseconds since 1970, taken once when the service starts and counted on with the machine's
    monotonic clock. All workers share that start, so whichever worker a device meets, its numbers grow, even while
    the machine's time of day is set back; after a restart they go on from the time of day.

    Args:
        offset: see `clock_offset`.
    """

    def __init__(self, offset: int | None = None) -> None:
        self.offset = clock_offset() if offset is None else offset
        self._last = 0

    def next(self) -> int:
        """The next number."""
        self._last = max(self._last + 1, time.monotonic_ns() // 1000 + self.offset)
        return self._last

    @staticmethod
    def now() -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000
