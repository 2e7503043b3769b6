"""How often a device meets an item again, and the policy of met items that follows from it.

Where nearly nothing repeats, as with films or books, a device hides what was met: showing it would waste the place.
Where people come back, as with places or songs, it shows all. The dataset's policy holds in training, evaluation, the
bundle and on the device alike.

A row that stands twice in a log written at least once is no second meeting: such exact repeats are counted apart.

Shapes: E events, M events of the training part.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import polars as pl

from duetgen.data.filters import Indexed
from duetgen.data.store import FIRST_ITEM, Repeats
from duetgen.wire.messages import MetPolicy

Met = Literal["auto", MetPolicy]
HIDE_BELOW: Final = 0.01
"""Share of repeats below which `auto` hides what was met."""


def exact_repeats(events: pl.DataFrame) -> pl.Series:
    """Which rows are exact repeats: bool [E].

    With time: equal to an earlier row in user, item and time. Without: of the same item as the user's row before, as
    nothing else tells a row that was written twice.
    """
    if "timestamp" in events.columns:
        return events.select((~pl.struct("user", "item", "timestamp").is_first_distinct()).alias("repeat"))["repeat"]
    again = pl.col("item") == pl.col("item").shift(1).over("user")
    return events.select(again.fill_null(False).alias("repeat"))["repeat"]


def count_repeats(indexed: Indexed, exact_rows: int, dropped: bool) -> Repeats:
    """The share of training events whose item the device had before; rare items, which are one index, do not count."""
    lengths = np.diff(indexed.offsets)
    device_E = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    within_E = np.arange(len(indexed.events)) - np.repeat(indexed.offsets[:-1], lengths)
    counted_E = (within_E < indexed.bounds[device_E, 0]) & (indexed.events >= FIRST_ITEM)
    vocabulary = FIRST_ITEM + len(indexed.items)
    pair_M = device_E[counted_E] * vocabulary + indexed.events[counted_E]
    if indexed.timestamps is not None:
        time_M = indexed.timestamps[counted_E]
        order_M = np.lexsort((time_M, pair_M))
        pair_M, time_M = pair_M[order_M], time_M[order_M]
        exact_M = np.zeros(len(pair_M), dtype=bool)
        exact_M[1:] = (pair_M[1:] == pair_M[:-1]) & (time_M[1:] == time_M[:-1])
        pair_M = pair_M[~exact_M]
    again = len(pair_M) - len(np.unique(pair_M))
    return Repeats(share=again / max(1, len(pair_M)), events=len(pair_M), exact_rows=exact_rows, dropped=dropped)


def choose_policy(met: Met, repeats: Repeats) -> MetPolicy:
    """The policy asked for, or by `auto` the one that the repeats call for."""
    if met != "auto":
        return met
    return "hide" if repeats.share < HIDE_BELOW else "show"
