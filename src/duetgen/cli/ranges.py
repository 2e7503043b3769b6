"""Ranges of the numbers that options take: what is out of them is refused before anything begins."""

from __future__ import annotations

from typing import Annotated, Any, Final

from cyclopts import Parameter
from cyclopts.validators import Number

from duetgen.wire.limits import MAX_PASSES

COUNT: Final = Number(gte=1, lte=2**31 - 1)
SEED: Final = Number(gte=0, lte=2**31 - 1)
FEWEST_RESAMPLES: Final = 40
"""Of fewer, not one lies beyond each bound of a 95 % interval."""
MOST_RESAMPLES: Final = 1_000_000
WORKERS: Final = Number(gte=1, lte=1024)
"""Threads or processes of one machine."""

Threads = Annotated[int | None, Parameter(validator=WORKERS, help="Processor threads to use [all].")]


def resamples(_: Any, value: int) -> None:
    """Refuse what no interval can be read from; 0 is none.

    Raises:
        ValueError: it is too few or too many.
    """
    if value and not FEWEST_RESAMPLES <= value <= MOST_RESAMPLES:
        raise ValueError(f"Must be {FEWEST_RESAMPLES} to {MOST_RESAMPLES:,}, or 0 for no intervals.")


def passes(_: Any, value: int | None) -> None:
    """Refuse what is no number of passes; 0 as well, with which a configuration leaves them to the data.

    Raises:
        ValueError: it is none.
    """
    if value is not None and not 1 <= value <= MAX_PASSES:
        raise ValueError(f"Must be 1 to {MAX_PASSES:,}; leave it out for the default.")
