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
from duetgen.data.places import first_of, sorted_with_places
from duetgen.data.sequences import Sequences, pieces
from duetgen.data.store import FIRST_ITEM, Bool, Repeats
from duetgen.wire.messages import MetPolicy

Met = Literal["auto", MetPolicy]
HIDE_BELOW: Final = 0.01
"""Share of repeats below which `auto` hides what was met."""


def exact_repeats(sequences: Sequences) -> Bool:
    """Which events are exact repeats: bool [E].

    With time: equal to an earlier row in user, item and time. Without: of the same item as the user's row before, as
    nothing else tells a row that was written twice.
    """
    user_E, item_E, time_E = sequences.user_E, sequences.item_E, sequences.time_E
    follows_E = np.zeros(len(user_E), dtype=bool)
    follows_E[1:] = user_E[1:] == user_E[:-1]
    if time_E is None:
        follows_E[1:] &= item_E[1:] == item_E[:-1]
        return follows_E
    if sequences.part_E is None:
        # Equal times stand side by side, and only among them is something to look for.
        follows_E[1:] &= time_E[1:] == time_E[:-1]
        tied_E = follows_E.copy()
        tied_E[:-1] |= follows_E[1:]
    else:
        tied_E = np.ones(len(user_E), dtype=bool)
    tied = pl.DataFrame({"user": user_E[tied_E], "item": item_E[tied_E], "time": time_E[tied_E]})
    repeat_E = np.zeros(len(user_E), dtype=bool)
    repeat_E[tied_E] = ~tied.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return repeat_E


def count_repeats(indexed: Indexed, exact_rows: int, dropped: bool) -> Repeats:
    """The share of training events whose item the device had before; rare items, which are one index, do not count."""
    events = again = 0
    vocabulary = FIRST_ITEM + len(indexed.items)
    for devices, some in pieces(indexed.offsets, indexed.events, indexed.timestamps):
        training_D, lengths = indexed.bounds[devices, 0], np.diff(indexed.offsets[devices.start : devices.stop + 1])
        counted_E = first_of(lengths, training_D) & (indexed.events[some] >= FIRST_ITEM)
        device_E = np.repeat(np.arange(len(lengths)), lengths)
        pair_M = device_E[counted_E] * vocabulary + indexed.events[some][counted_E]
        # A device's training events are in order of time, and so are those of one of its items then.
        pair_M, place_M = sorted_with_places(pair_M)
        same = np.flatnonzero(np.diff(pair_M) == 0)
        exact = 0
        if indexed.timestamps is not None:
            time_M = indexed.timestamps[some][counted_E]
            exact = int((time_M[place_M[same]] == time_M[place_M[same + 1]]).sum())
        events += len(pair_M) - exact
        again += len(same) - exact
    return Repeats(share=again / max(1, events), events=events, exact_rows=exact_rows, dropped=dropped)


def choose_policy(met: Met, repeats: Repeats) -> MetPolicy:
    """The policy asked for, or by `auto` the one that the repeats call for."""
    if met != "auto":
        return met
    return "hide" if repeats.share < HIDE_BELOW else "show"
