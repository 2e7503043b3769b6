"""Ranges of the numbers that options take: what is out of them is refused before anything begins."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter
from cyclopts.validators import Number

COUNT: Final = Number(gte=1, lte=2**31 - 1)
SEED: Final = Number(gte=0, lte=2**31 - 1)
RESAMPLES: Final = Number(gte=0, lte=1_000_000)

Threads = Annotated[int | None, Parameter(validator=Number(gte=1, lte=1024), help="Processor threads to use [all].")]
