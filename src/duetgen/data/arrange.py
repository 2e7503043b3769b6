"""Events to the arrays of a dataset folder: order, divide, filter, index; `prepare` says what comes before and after.

All of it works on partitions of users, and only what a rule needs of the whole log (boundaries, counts) is gathered
from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from duetgen.data.arrays import write_sequences
from duetgen.data.errors import NothingNewError
from duetgen.data.filters import Core, Indexed, Vocabulary, find_vocabulary
from duetgen.data.partitions import Partitions, Run, in_threads, partition
from duetgen.data.repeats import exact_repeats
from duetgen.data.runs import Runs
from duetgen.data.sequences import Sequences
from duetgen.data.splits import FEWEST, Rule, divide, find_rule
from duetgen.data.store import Int64


@dataclass(frozen=True)
class Earlier:
    """What holds of an earlier version.

    Attributes:
        rule: of its split.
        known: how many items are known; their codes come first, in the order of their indices.
        events: how many there are.
        runs: the events.
    """

    rule: Rule
    known: int
    events: int
    runs: Runs


@dataclass(frozen=True)
class Arrangement:
    """How events are arranged.

    Attributes:
        split: kind of the split.
        valid_share: see `prepare.PrepareConfig`, as all others.
        test_share: share of the test part.
        min_user_events: of the core.
        min_item_events: of the core.
        drop_repeats: leave out exact repeats.
        seed: of what the split draws.
        most: events of one partition, at most.
        run: works on partitions.
        earlier: of the version that the events are appended to; None: there is none.
    """

    split: str
    valid_share: float
    test_share: float
    min_user_events: int
    min_item_events: int
    drop_repeats: bool
    seed: int
    most: int
    run: Run = in_threads
    earlier: Earlier | None = None


@dataclass(frozen=True)
class Arranged:
    """What was made of events.

    Attributes:
        rule: of the split.
        divided: sequences with their bounds.
        divided_sizes: events, users and items of them.
        short: sequences of the users that the split drops, a folder a partition; none if it drops none.
        core: which users stay.
        vocabulary: which items are known.
        indexed: the arrays.
        exact_rows: exact repeats among the events.
        exact_appended: how many of them are appended.
        once: without time, the share of events whose item has no other.
    """

    rule: Rule
    divided: Partitions
    divided_sizes: tuple[int, int, int]
    short: list[Path]
    core: Core
    vocabulary: Vocabulary
    indexed: Indexed
    exact_rows: int
    exact_appended: int
    once: float

    def part_of_row(self, rows: int) -> Int64:
        """The part of each row of the log, -1 where its event or its user is left out: int64 [rows]."""
        part = np.full(rows, -1, dtype=np.int64)
        for stays_U, sequences in zip(self.core.stays, self.divided):
            kept = sequences.keep(stays_U)
            assert kept.bounds is not None
            before_U, after_U = kept.bounds[kept.user_E].T
            part[kept.row_E] = (kept.within_E >= before_U).astype(int) + (kept.within_E >= after_U)
        return part


def arrange(
    events: pl.LazyFrame, users: pl.Series, items: pl.Series, how: Arrangement, folder: Path, work: Path
) -> Arranged:
    """Write the sequences of a dataset folder.

    Args:
        events: of the log, `user` and `item` as codes, times in seconds.
        users: ids by code.
        items: ids by code.
        how: the settings.
        folder: of the dataset.
        work: a folder for what lies on disk meanwhile.

    Raises:
        DuetError: any refusal of `splits` and `filters`.
    """
    earlier = how.earlier
    known, stood, since = (earlier.known, earlier.events, earlier.rule) if earlier else (0, 0, None)
    ordered = partition(events, work, how.most, how.run, earlier.runs if earlier else None)
    exact = appended = new = 0
    timed, events_I = False, np.zeros(len(items), dtype=np.int64)
    for sequences in ordered:
        repeat_E, new_E = exact_repeats(sequences), sequences.row_E >= stood
        exact += int(repeat_E.sum())
        appended += int((repeat_E & new_E).sum())
        new += int((~repeat_E & new_E).sum())
        timed = sequences.time_E is not None
        if not timed:
            events_I += np.bincount(sequences.item_E, minlength=len(items))
    if not new and (timed or how.drop_repeats):
        raise NothingNewError(
            f"all {appended:,} events of the log stand in the dataset already", "append a log of events that are new"
        )
    if how.drop_repeats and exact:
        ordered = ordered.change("once", _once)
    rule = find_rule(ordered, how.split, how.valid_share, how.test_share, how.seed, since)
    users_before = before([int((sequences.lengths >= FEWEST).sum()) for sequences in ordered])
    events_before = before([len(sequences.item_E) for sequences in ordered])
    short = [work / f"short-{number:04}" for number in range(len(ordered.folders))] if rule.reason else []
    divided = ordered.change("parts", partial(_in_parts, rule, users_before, events_before, short))
    core, vocabulary = find_vocabulary(divided, len(items), how.min_user_events, how.min_item_events, known)
    indexed = write_sequences(folder, divided, core, vocabulary, users, items)
    left = sizes_of(divided, len(items))
    once = float((events_I == 1).sum() / max(events_I.sum(), 1))
    return Arranged(rule, divided, left, short, core, vocabulary, indexed, exact, appended, once)


def _once(sequences: Sequences, _: int) -> Sequences:
    return sequences.only(~exact_repeats(sequences))


def _in_parts(
    rule: Rule,
    users_before: list[int],
    events_before: list[int],
    short: list[Path],
    sequences: Sequences,
    number: int,
) -> Sequences:
    if short:
        sequences.keep(sequences.lengths < FEWEST).save(short[number])
    return divide(sequences, rule, users_before[number], events_before[number])


def before(counts: list[int]) -> list[int]:
    """How many come before each partition."""
    return [0, *np.cumsum(counts).tolist()][:-1]


def sizes_of(partitions: Partitions, items: int) -> tuple[int, int, int]:
    """Events, users and items of sequences; `items` are as many as there are codes."""
    met_I = np.zeros(items, dtype=bool)
    events = users = 0
    for sequences in partitions:
        met_I[sequences.item_E] = True
        events += len(sequences.item_E)
        users += len(sequences.users)
    return events, users, int(met_I.sum())
