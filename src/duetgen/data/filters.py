"""Which users and items are known, decided by the training part alone.

The split comes first. k-core, vocabulary, counts and popularity then follow from training events only, so nothing that
a model is made of knows of an event that it will be asked to predict. An item that training does not know (or too
rarely) becomes the unknown item; its events stay in place, for they did happen.

Shapes: E events, U users, I raw items, V item indices with padding and unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from duetgen.data.errors import NoEventsLeftError
from duetgen.data.splits import TRAIN, VALID, Division
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Bool, Int32, Int64


@dataclass(frozen=True)
class Indexed:
    """The arrays of a dataset, and the vocabulary that made them.

    Attributes:
        users: text [U].
        items: text [V-2]: the known items, from index 2 on.
        counts: int64 [V-2]: training events of each known item, non-increasing.
        events: int32 [E].
        offsets: int64 [U+1].
        bounds: int64 [U, 2].
        timestamps: int64 [E], or None.
        row_E: row of each event in the event table.
        index_I: int32: index of each raw item.
        core_users: users that the core dropped.
    """

    users: pl.Series
    items: pl.Series
    counts: Int64
    events: Int32
    offsets: Int64
    bounds: Int64
    timestamps: Int64 | None
    row_E: Int64
    index_I: Int32
    core_users: int


def core(division: Division, min_user_events: int, min_item_events: int) -> tuple[Bool, Bool]:
    """Users and raw items of the training core: the largest sets that hold each other up.

    A user stays with at least `min_user_events` training events of known items; an item is known with at least
    `min_item_events` training events of users that stay. `min_user_events` 1 keeps every user, also one without any
    training event: a new device, which the generator serves without having trained on it.

    Returns:
        Which users stay [U], which items are known [I].
    """
    sequences, training = division.sequences, division.part_E == TRAIN
    user, item = sequences.user_E[training], sequences.item_E[training]
    users, items = len(sequences.users), len(sequences.items)
    stays, known = np.ones(users, dtype=bool), np.ones(items, dtype=bool)
    while True:
        counts_I = np.bincount(item[stays[user]], minlength=items)
        known_next = counts_I >= max(min_item_events, 1)
        counts_U = np.bincount(user[known_next[item]], minlength=users)
        stays_next = stays & (counts_U >= min_user_events) if min_user_events > 1 else stays
        if np.array_equal(stays_next, stays) and np.array_equal(known_next, known):
            return stays, known
        stays, known = stays_next, known_next


def index(division: Division, min_user_events: int = 1, min_item_events: int = 1) -> Indexed:
    """Give known items their indices: from 2 by falling training count, ties by the first training event in the log.

    Raises:
        NoEventsLeftError: the core is empty.
    """
    stays, known = core(division, min_user_events, min_item_events)
    part_E = division.part_E[np.repeat(stays, division.sequences.lengths)]
    sequences = division.sequences.keep(stays)
    training = part_E == TRAIN
    if not len(sequences.users) or not known.any():
        raise NoEventsLeftError(
            f"no user with {min_user_events} training events and item with {min_item_events} is left",
            "lower --min-user-events or --min-item-events, or use more data",
        )
    item, items = sequences.item_E[training], len(sequences.items)
    counts_I = np.bincount(item, minlength=items)
    first_I = np.full(items, np.iinfo(np.int64).max)
    np.minimum.at(first_I, item, sequences.row_E[training])
    chosen = np.flatnonzero(known)
    chosen = chosen[np.lexsort((first_I[chosen], -counts_I[chosen]))]
    index_I = np.full(items, UNKNOWN, dtype=np.int32)
    index_I[chosen] = np.arange(FIRST_ITEM, FIRST_ITEM + len(chosen), dtype=np.int32)
    user_E = sequences.user_E
    users = len(sequences.users)
    in_training = np.bincount(user_E[training], minlength=users)
    in_both = np.bincount(user_E[part_E <= VALID], minlength=users)
    return Indexed(
        users=sequences.users,
        items=sequences.items.gather(chosen),
        counts=counts_I[chosen].astype(np.int64),
        events=index_I[sequences.item_E],
        offsets=sequences.offsets,
        bounds=np.stack([in_training, in_both], axis=1).astype(np.int64),
        timestamps=sequences.time_E,
        row_E=sequences.row_E,
        index_I=index_I,
        core_users=int((~stays).sum()),
    )


def keep_rated(events: pl.DataFrame, min_rating: float) -> pl.DataFrame:
    """The events rated at least `min_rating`.

    Raises:
        NoEventsLeftError: there is none.
    """
    kept = events.filter(pl.col("rating") >= min_rating)
    if not len(kept):
        highest = float(events["rating"].max() or 0)  # type: ignore[arg-type]
        raise NoEventsLeftError(
            f"no event is rated {min_rating:g} or more (the highest is {highest:g})",
            "lower --min-rating",
        )
    return kept
