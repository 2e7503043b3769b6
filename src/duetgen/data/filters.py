"""Which users and items are known, decided by the training part alone.

The split comes first. k-core, vocabulary, counts and popularity then follow from training events only, so nothing that
a model is made of knows of an event that it will be asked to predict. An item that training does not know (or too
rarely) becomes the unknown item; its events stay in place, for they did happen.

Shapes: E events, U users of a partition, I raw items, V item indices with padding and unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from duetgen.data.errors import BadSettingError, NoEventsLeftError
from duetgen.data.sequences import Sequences
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Bool, Int32, Int64


@dataclass(frozen=True)
class Core:
    """The users and items that hold each other up.

    Attributes:
        stays: by partition, which of its users stay: bool [U].
        known_I: which raw items are known.
        counts_I: their training events, of the users that stay.
    """

    stays: list[Bool]
    known_I: Bool
    counts_I: Int64


@dataclass(frozen=True)
class Vocabulary:
    """The known items.

    Attributes:
        items: int64 [V-2]: raw items, from index 2 on.
        counts: int64 [V-2]: training events of each, non-increasing among the items that one version brought.
        index_I: int32: index of each raw item.
    """

    items: Int64
    counts: Int64
    index_I: Int32


@dataclass(frozen=True)
class Indexed:
    """The arrays of a dataset folder, and the vocabulary that made them.

    Attributes:
        users: text [U].
        items: text [V-2]: the known items, from index 2 on.
        counts: int64 [V-2]: training events of each known item.
        events: int32 [E], memory-mapped.
        offsets: int64 [U+1].
        bounds: int64 [U, 2].
        timestamps: int64 [E], memory-mapped, or None.
        met_I: which raw items the events have.
    """

    users: pl.Series
    items: pl.Series
    counts: Int64
    events: Int32
    offsets: Int64
    bounds: Int64
    timestamps: Int64 | None
    met_I: Bool


def find_core(divided: Iterable[Sequences], items: int, min_user_events: int, min_item_events: int) -> Core:
    """The largest sets of users and raw items of which the training part holds enough of each other.

    A user stays with at least `min_user_events` training events of known items; an item is known with at least
    `min_item_events` training events of users that stay. `min_user_events` 1 keeps every user, also one without any
    training event: a new device, which the generator serves without having trained on it.

    Args:
        divided: sequences with their bounds, by partition; gone through once for each step of the core.
        items: I.
        min_user_events: of a user.
        min_item_events: of an item.
    """
    stays = [np.ones(len(sequences.users), dtype=bool) for sequences in divided]
    counts_I = _count(divided, stays, items)
    known_I = counts_I >= max(min_item_events, 1)
    changed = min_user_events > 1
    while changed:
        changed = False
        for number, sequences in enumerate(divided):
            training_E = sequences.training_E & known_I[sequences.item_E]
            stays_U = stays[number] & (sequences.count(training_E) >= min_user_events)
            changed |= not np.array_equal(stays_U, stays[number])
            stays[number] = stays_U
        counts_I = _count(divided, stays, items)
        known_next_I = counts_I >= max(min_item_events, 1)
        changed |= not np.array_equal(known_next_I, known_I)
        known_I = known_next_I
    return Core(stays, known_I, counts_I)


def _count(divided: Iterable[Sequences], stays: list[Bool], items: int) -> Int64:
    """Training events of each raw item, of users that stay: int64 [I]."""
    counts_I = np.zeros(items, dtype=np.int64)
    for stays_U, sequences in zip(stays, divided):
        counts_I += np.bincount(sequences.item_E[_training(sequences, stays_U)], minlength=items)
    return counts_I


def _training(sequences: Sequences, stays_U: Bool) -> Bool:
    """Which events are training, of users that stay: bool [E]."""
    training_E = sequences.training_E
    return training_E if stays_U.all() else training_E & np.repeat(stays_U, sequences.lengths)


def make_vocabulary(divided: Iterable[Sequences], core: Core, known: int = 0) -> Vocabulary:
    """Give known items their indices: from 2 by falling training count, ties by the first training event in the log.

    The first `known` raw items are known already, and their indices come before.
    """
    items, counts_I = len(core.known_I), core.counts_I
    first_I = np.full(items, np.iinfo(np.int64).max)
    for stays_U, sequences in zip(core.stays, divided):
        new_E = _training(sequences, stays_U) & (sequences.item_E >= known)
        np.minimum.at(first_I, sequences.item_E[new_E], sequences.row_E[new_E])
    new = known + np.flatnonzero(core.known_I[known:])
    chosen = np.append(np.arange(known), new[np.lexsort((first_I[new], -counts_I[new]))])
    index_I = np.full(items, UNKNOWN, dtype=np.int32)
    index_I[chosen] = np.arange(FIRST_ITEM, FIRST_ITEM + len(chosen), dtype=np.int32)
    return Vocabulary(chosen, counts_I[chosen], index_I)


def find_vocabulary(
    divided: Iterable[Sequences], items: int, min_user_events: int = 1, min_item_events: int = 1, known: int = 0
) -> tuple[Core, Vocabulary]:
    """The core and its vocabulary, which begins with the first `known` items.

    Raises:
        NoEventsLeftError: the core is empty.
    """
    core = find_core(divided, items, min_user_events, min_item_events)
    if not core.known_I.any() or not any(stays_U.any() for stays_U in core.stays):
        raise NoEventsLeftError(
            f"no user with {min_user_events} training events and item with {min_item_events} is left",
            "lower --min-user-events or --min-item-events, or use more data",
        )
    return core, make_vocabulary(divided, core, known)


def keep_rated(events: pl.LazyFrame, min_rating: float) -> pl.LazyFrame:
    """The events rated at least `min_rating`.

    Raises:
        BadSettingError: the log has no ratings.
        NoEventsLeftError: no event is left.
    """
    if "rating" not in events.collect_schema().names():
        raise BadSettingError("min_rating is set, but the log has no ratings", "leave --min-rating out")
    highest = events.select(pl.col("rating").max()).collect(engine="streaming").item() or 0.0
    if highest < min_rating:
        raise NoEventsLeftError(
            f"no event is rated {min_rating:g} or more (the highest is {highest:g})",
            "lower --min-rating",
        )
    return events.filter(pl.col("rating") >= min_rating)
