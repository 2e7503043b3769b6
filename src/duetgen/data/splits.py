"""Dividing the events into training, validation and test.

- `temporal`: one boundary in time for the whole log: training < valid_from <= validation < test_from <= test.
- `leave-one-out`: each user's last event is the test, the one before the validation; of more than 10,000 users, 5,000
  that are drawn validate, and the others' event before the last trains.
- `random`: the same of events in an order that is drawn, for data whose order means nothing.
- `given`: the data came with its test events; each user's last training event is the validation.

Shapes: E events, U users, S spans of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from duetgen.data.errors import NoBoundaryError, NoEventsLeftError, NoTimeError, TestInputMissingError
from duetgen.data.places import count_spans
from duetgen.data.sequences import PIECE, Sequences
from duetgen.data.store import Int64, Split

TRAIN, VALID, TEST = 0, 1, 2
RANDOM_STREAM: Final = 17
"""Keeps the drawn order apart from what else the seed draws."""
VALIDATING: Final = 5_000
"""Users that validate a leave-one-out split of a large log: the error of their `ndcg@10` is below 0.002."""
VALIDATING_STREAM: Final = 9
"""Keeps the choice of them apart from what else the seed draws."""

FEWEST: Final = 3
"""Fewest events of a user in leave-one-out: one to learn from, one to validate, one to test."""


BINS_BITS: Final = 16
"""A boundary is looked for in two to the power of so many spans of time at once."""


@dataclass(frozen=True)
class Rule:
    """How a log is divided, found from all of it, so that some users can be divided without the others.

    Attributes:
        split: its kind and boundaries.
        seed: of what is drawn.
        reason: why users are dropped, or None if the split drops none.
        validating: where the split draws who validates: their places among the users that it keeps.
    """

    split: Split
    seed: int = 0
    reason: str | None = None
    validating: Int64 | None = None


def find_rule(
    partitions: Iterable[Sequences],
    kind: str,
    valid_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    earlier: Rule | None = None,
) -> Rule:
    """The rule of a split, from the sequences of all users.

    With the rule of an `earlier` version no boundary goes back, and who was drawn to validate still does: what it
    trained on trains, so that a model that goes on from it is never asked for what it has learnt.

    Raises:
        NoTimeError: temporal, and the log has no time.
        NoBoundaryError: temporal, and there are fewer than three different times.
        NoEventsLeftError: leave-one-out or random, and no user has three events.
        TestInputMissingError: given, and the data did not come divided.
    """
    if kind == "temporal":
        since = Split(kind=kind) if earlier is None else earlier.split
        return Rule(find_boundaries(partitions, valid_share, test_share, since), seed)
    if kind == "given":
        if any(sequences.part_E is None for sequences in partitions):
            raise TestInputMissingError(
                "the split `given` needs the test events in a second file", "name it with --test-input"
            )
        return Rule(Split(kind="given"), seed)
    users = sum(int((sequences.lengths >= FEWEST).sum()) for sequences in partitions)
    if not users:
        timed = all(sequences.time_E is not None for sequences in partitions)
        raise NoEventsLeftError(
            f"no user has the {FEWEST} events that the split {kind} needs",
            f"use more data{', or --split temporal' if timed else ''}; is the column of users the right one?",
        )
    needs = f"{'leave-one-out' if kind == 'leave-one-out' else 'a random split'} needs {FEWEST} events of a user"
    if earlier is not None and earlier.validating is not None:
        return Rule(earlier.split, seed, needs, earlier.validating)
    if users <= 2 * VALIDATING:
        return Rule(Split(kind=kind), seed, needs)
    drawn = np.random.default_rng([seed, VALIDATING_STREAM]).choice(users, VALIDATING, replace=False)
    return Rule(Split(kind=kind, validating=VALIDATING), seed, needs, np.sort(drawn))


def find_boundaries(partitions: Iterable[Sequences], valid_share: float, test_share: float, since: Split) -> Split:
    """The two points in time of a temporal split, none before the one `since` which it may be.

    Raises:
        NoTimeError: the log has no time.
        NoBoundaryError: there are fewer than three different times.
    """
    test_from = boundary(partitions, test_share, since=since.test_from)
    valid_from = None if test_from is None else boundary(partitions, valid_share, test_from, since.valid_from)
    if test_from is None or valid_from is None:
        moments = 1 if test_from is None else 2
        raise NoBoundaryError(
            f"the events are at {moments} moment{'s' * (moments > 1)} in time; a temporal split needs three",
            "use --split leave-one-out, or check the timestamps",
        )
    return Split(kind="temporal", valid_from=valid_from, test_from=test_from)


def boundary(
    partitions: Iterable[Sequences], share: float, before: int | None = None, since: int | None = None
) -> int | None:
    """The time for which the share of events at or after it is nearest to `share`, with some on both sides.

    Among equal distances the earlier time, so that the part after it is not the smaller one; None if all times are
    equal. With `before`, only the events before that time count. With `since`, the time of an event that was a boundary
    once, none before it.
    """
    first, high, events = _extent(partitions, before=before)
    low, later, shift = first if since is None else since, 0, 1
    while shift:
        # Equal spans of time from `low` to `high`; the last that has so many events from its beginning on is the next.
        shift = max((high - low).bit_length() - BINS_BITS, 0)
        events_S = np.zeros(1 << BINS_BITS, dtype=np.int64)
        for time in _blocks(partitions):
            count_spans(events_S, time, low, high, shift)
        after_S = later + np.cumsum(events_S[::-1])[::-1]
        if after_S[0] < share * events:
            return since
        crossed = int(np.flatnonzero(after_S >= share * events)[-1])
        low, later = low + (crossed << shift), int(after_S[crossed] - events_S[crossed])
        high = min(high, low + (1 << shift) - 1)
    reached = int(after_S[crossed])
    if low > first and reached - share * events <= share * events - later:
        return low
    return _extent(partitions, above=low, before=before)[0] if later else low if low > first else None


def _extent(
    partitions: Iterable[Sequences], before: int | None = None, above: int | None = None
) -> tuple[int, int, int]:
    """The first and the last time of some events, and how many there are."""
    ends: list[int] = []
    events = 0
    for time in _blocks(partitions):
        time = time if before is None else time[time < before]
        time = time if above is None else time[time > above]
        ends += [int(time.min()), int(time.max())] if len(time) else []
        events += len(time)
    return min(ends), max(ends), events


def _blocks(partitions: Iterable[Sequences]) -> Iterator[Int64]:
    """The times of all events, some at once."""
    for sequences in partitions:
        time = _times(sequences)
        yield from (time[first : first + PIECE] for first in range(0, len(time), PIECE))


def _times(sequences: Sequences) -> Int64:
    if sequences.time_E is None:
        raise NoTimeError("the log has no timestamps, so no point in time divides it", "use --split leave-one-out")
    return sequences.time_E


def divide(sequences: Sequences, rule: Rule, users: int = 0, events: int = 0) -> Sequences:
    """The sequences of some users with the bounds of their parts; see the module.

    Args:
        sequences: of the users.
        rule: of the whole log.
        users: how many users before these are kept.
        events: how many events are before these.
    """
    kind = rule.split.kind
    if kind == "temporal":
        return _at_moments(sequences, rule.split)
    if kind == "given":
        return _given(sequences)
    return _leave_one_out(_shuffled(sequences, rule.seed, events) if kind == "random" else sequences, rule, users)


def _at_moments(sequences: Sequences, split: Split) -> Sequences:
    assert split.valid_from is not None
    assert split.test_from is not None
    time = _times(sequences)
    bounds = [sequences.count(time < moment) for moment in (split.valid_from, split.test_from)]
    return replace(sequences, bounds=np.stack(bounds, axis=1))


def _leave_one_out(sequences: Sequences, rule: Rule, before: int) -> Sequences:
    """The last event of each user tests, and the one before validates.

    Of a log with more than twice as many users as validation needs, so many are drawn, and the others' event before the
    last trains: events that nobody looks at would else be lost to every model, the newest ones at that.
    """
    sequences = sequences.keep(sequences.lengths >= FEWEST)
    validates_U = np.full(len(sequences.users), rule.validating is None)
    if rule.validating is not None:
        first, end = np.searchsorted(rule.validating, [before, before + len(validates_U)])
        validates_U[rule.validating[first:end] - before] = True
    last_U = sequences.lengths - 1
    return replace(sequences, bounds=np.stack([last_U - validates_U, last_U], axis=1))


def _shuffled(sequences: Sequences, seed: int, before: int) -> Sequences:
    """Each user's events in an order that is drawn: one number for each event of the log."""
    stream = np.random.PCG64(np.random.SeedSequence([seed, RANDOM_STREAM]))
    drawn_E = np.random.Generator(stream.advance(before)).random(len(sequences.item_E))
    place_E = np.lexsort((drawn_E, sequences.user_E))
    return replace(sequences, item_E=sequences.item_E[place_E], row_E=sequences.row_E[place_E])


def _given(sequences: Sequences) -> Sequences:
    """Test events as they came, which stand last; the last of two or more other events of each user is validation."""
    assert sequences.part_E is not None
    training_U = sequences.count(sequences.part_E == TRAIN)
    return replace(sequences, bounds=np.stack([training_U - (training_U >= 2), training_U], axis=1))
