"""Dividing the events into training, validation and test.

- `temporal`: one boundary in time for the whole log: training < valid_from <= validation < test_from <= test.
- `leave-one-out`: each user's last event is the test, the one before the validation; of more than 10,000 users, 5,000
  that are drawn validate, and the others' event before the last trains.
- `random`: the same of events in an order that is drawn, for data whose order means nothing.
- `given`: the data came with its test events; each user's last training event is the validation.

Shapes: E events, U users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from duetgen.data.errors import NoBoundaryError, NoEventsLeftError, NoTimeError, TestInputMissingError
from duetgen.data.sequences import Sequences
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


@dataclass(frozen=True)
class Division:
    """Sequences with the part of each event.

    Attributes:
        sequences: of the users that the split keeps.
        part_E: int64: 0 training, 1 validation, 2 test; non-decreasing within a user.
        split: its kind and boundaries.
        reason: why users were dropped, or None if the split drops none.
    """

    sequences: Sequences
    part_E: Int64
    split: Split
    reason: str | None = None


def divide(sequences: Sequences, kind: str, valid_share: float, test_share: float, seed: int = 0) -> Division:
    """Divide by the split named; see the module."""
    if kind == "temporal":
        return temporal(sequences, valid_share, test_share)
    if kind == "leave-one-out":
        return leave_one_out(sequences, seed)
    if kind == "random":
        return random(sequences, seed)
    return given(sequences)


def boundary(times: Int64, share: float) -> int | None:
    """The time for which the share of `times` at or after it is nearest to `share`, with some on both sides.

    Among equal distances the earlier time, so that the part after it is not the smaller one; None if all times are
    equal.
    """
    values, counts = np.unique(times, return_counts=True)
    if len(values) < 2:
        return None
    after = np.cumsum(counts[::-1])[::-1][1:]
    return int(values[1:][np.argmin(np.abs(after - share * len(times)))])


def temporal(sequences: Sequences, valid_share: float, test_share: float) -> Division:
    """One global boundary in time.

    Raises:
        NoTimeError: the log has no time.
        NoBoundaryError: there are fewer than three different times.
    """
    if sequences.time_E is None:
        raise NoTimeError("the log has no timestamps, so no point in time divides it", "use --split leave-one-out")
    time = sequences.time_E
    test_from = boundary(time, test_share)
    valid_from = None if test_from is None else boundary(time[time < test_from], valid_share)
    if test_from is None or valid_from is None:
        moments = len(np.unique(time))
        raise NoBoundaryError(
            f"the events are at {moments} moment{'s' * (moments > 1)} in time; a temporal split needs three",
            "use --split leave-one-out, or check the timestamps",
        )
    part = (time >= valid_from).astype(np.int64) + (time >= test_from)
    return Division(sequences, part, Split(kind="temporal", valid_from=valid_from, test_from=test_from))


def leave_one_out(sequences: Sequences, seed: int = 0) -> Division:
    """The last event of each user tests, and the one before validates.

    Of a log with more than twice as many users as validation needs, so many are drawn, and the others' event before the
    last trains: events that nobody looks at would else be lost to every model, the newest ones at that.

    Raises:
        NoEventsLeftError: no user has three events.
    """
    sequences = sequences.keep(sequences.lengths >= FEWEST)
    if not len(sequences.users):
        raise NoEventsLeftError(
            f"no user has {FEWEST} events, so leave-one-out leaves none", "use more data, or --split temporal"
        )
    left_E = np.repeat(sequences.lengths, sequences.lengths) - sequences.within_E
    users = len(sequences.users)
    validates_U, drawn = np.ones(users, dtype=bool), VALIDATING if users > 2 * VALIDATING else None
    if drawn is not None:
        validates_U[:] = False
        validates_U[np.random.default_rng([seed, VALIDATING_STREAM]).choice(users, drawn, replace=False)] = True
    second_last = np.where(np.repeat(validates_U, sequences.lengths), VALID, TRAIN)
    part = np.where(left_E == 1, TEST, np.where(left_E == 2, second_last, TRAIN)).astype(np.int64)
    reason = f"leave-one-out needs {FEWEST} events of a user"
    return Division(sequences, part, Split(kind="leave-one-out", validating=drawn), reason)


def random(sequences: Sequences, seed: int) -> Division:
    """Each user's events in an order that is drawn; of these the last, and the one before.

    Raises:
        NoEventsLeftError: no user has three events.
    """
    drawn_E = np.random.default_rng([seed, RANDOM_STREAM]).random(len(sequences.item_E))
    place_E = np.lexsort((drawn_E, sequences.user_E))
    shuffled = replace(sequences, item_E=sequences.item_E[place_E], row_E=sequences.row_E[place_E])
    division = leave_one_out(shuffled, seed)
    reason = f"a random split needs {FEWEST} events of a user"
    return replace(division, split=msgspec.structs.replace(division.split, kind="random"), reason=reason)


def given(sequences: Sequences) -> Division:
    """Test events as they came; the last of two or more other events of each user is validation.

    Raises:
        TestInputMissingError: the data did not come divided.
    """
    if sequences.part_E is None:
        raise TestInputMissingError(
            "the split `given` needs the test events in a second file", "name it with --test-input"
        )
    part = sequences.part_E.copy()
    training_U = np.bincount(sequences.user_E[part == TRAIN], minlength=len(sequences.users))
    last_U = sequences.offsets[:-1] + training_U - 1
    part[last_U[training_U >= 2]] = VALID
    return Division(sequences, part, Split(kind="given"))
