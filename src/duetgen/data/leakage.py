"""The proof that nothing a model reads depends on what it is to predict.

Two kinds of evidence. `check` reads a dataset folder and recomputes, with code of its own, what must hold in it.
`check_stage` runs order, split, filters and indexing on some users of the log, and again with their future replaced by
nonsense: if anything of the training part then differs, the future had a say in it.

Shapes: E events, U devices, V items, N targets, C candidates, R rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from duetgen.data.candidates import CHUNK
from duetgen.data.filters import Indexed
from duetgen.data.sequences import pieces
from duetgen.data.splits import TEST, TRAIN, VALID
from duetgen.data.store import FIRST_ITEM, PADDING, Bool, Check, Dataset, Int64, Part

Stage = Callable[[pl.DataFrame], tuple[Int64, Indexed]]
"""Gives the part of each row of an event table, -1 where its user is dropped, and the arrays made of them."""


def check(dataset: Dataset) -> list[Check]:
    """What must hold in a dataset folder; fails name the first place where it does not."""
    checks = [check_order(dataset), check_boundary(dataset), check_vocabulary(dataset)]
    parts: tuple[Part, ...] = ("valid", "test")
    for part in parts:
        checks.append(check_histories(dataset, part))
        if checks[2].passed:  # Else there is no vocabulary to draw from.
            checks.append(check_candidates(dataset, part))
    if dataset.has_rows:
        checks.append(check_rows(dataset))
    return checks


def check_order(dataset: Dataset) -> Check:
    """Within a device, time never runs backwards."""
    if dataset.timestamps is None:
        return Check(name="order", passed=True, evidence="the log has no time; file order stands for it")
    wrong = 0
    for devices, events in pieces(dataset.offsets, dataset.timestamps):
        wrong += _steps_back(dataset.timestamps[events], dataset.offsets[devices.start : devices.stop + 1])
    steps = len(dataset.events) - 1
    evidence = f"time runs backwards at {wrong:,} of {steps:,} steps within devices"
    return Check(name="order", passed=not wrong, evidence=evidence)


def _steps_back(times: Int64, offsets: Int64) -> int:
    """How often time runs backwards within a device."""
    back = times[1:] < times[:-1]
    back[offsets[1:-1] - offsets[0] - 1] = False
    return int(back.sum())


def check_boundary(dataset: Dataset) -> Check:
    """Training ends before validation begins, and validation before the test: in time, or in each device's order."""
    lengths, bounds = np.diff(dataset.offsets), dataset.bounds
    nested = (bounds[:, 0] >= 0) & (bounds[:, 0] <= bounds[:, 1]) & (bounds[:, 1] <= lengths)
    if not nested.all():
        return Check(
            name="boundary", passed=False, evidence=f"bounds of {int((~nested).sum())} devices do not fit their events"
        )
    split = dataset.manifest.split
    if split.kind == "temporal" and dataset.timestamps is not None:
        first, last = _ends_of_parts(dataset.timestamps, dataset.offsets, bounds)
        borders = ((last[0], split.valid_from, first[1]), (last[1], split.test_from, first[2]))
        passed = all(
            border is not None and (before is None or before < border) and (after is None or after >= border)
            for before, border, after in borders
        )
        evidence = (
            f"last training event {last[0]} < valid_from {split.valid_from} <= first validation event {first[1]}; "
            f"last validation event {last[1]} < test_from {split.test_from} <= first test event {first[2]}"
        )
        return Check(name="boundary", passed=passed, evidence=evidence)
    validation, test = bounds[:, 1] - bounds[:, 0], lengths - bounds[:, 1]
    if split.kind in ("leave-one-out", "random"):
        validating, each = int(validation.sum()), bool((validation <= 1).all())
        drawn = split.validating
        enough = validating == len(lengths) if drawn is None else 0 < validating <= drawn
        passed = bool(each and enough and (test == 1).all() and (bounds[:, 0] >= 1).all())
        evidence = (
            f"each device's last event is its test, the one before the validation of {validating:,} devices; "
            "this split orders events within devices only: training of others may be later in time"
        )
    else:
        passed = bool((validation <= 1).all())
        evidence = f"{int(test.sum()):,} given test events follow all others of their devices"
    return Check(name="boundary", passed=passed, evidence=evidence)


def _ends_of_parts(timestamps: Int64, offsets: Int64, bounds: Int64) -> tuple[list[int | None], list[int | None]]:
    """The first and the last time of training, validation and test."""
    ends: list[list[int]] = [[], [], []]
    for devices, events in pieces(offsets, timestamps):
        start_D3 = offsets[devices, None] + np.pad(bounds[devices], ((0, 0), (1, 0))) - events.start
        some_D3 = np.diff(start_D3.ravel(), append=events.stop - events.start).reshape(-1, 3) > 0
        part = np.nonzero(some_D3)[1]
        for least in (np.minimum, np.maximum):
            end = least.reduceat(timestamps[events], start_D3[some_D3])
            for number in np.unique(part).tolist():
                ends[number].append(int(least.reduce(end[part == number])))
    return [min(some, default=None) for some in ends], [max(some, default=None) for some in ends]


def check_vocabulary(dataset: Dataset) -> Check:
    """Known items and their counts are those of the training part, counted anew, device by device."""
    items = dataset.table("items")
    counts = np.zeros(dataset.vocabulary, dtype=np.int64)
    for devices, some in pieces(dataset.offsets, dataset.events):
        events = np.asarray(dataset.events[some])
        if len(events) and (events.min() < 1 or events.max() >= dataset.vocabulary):
            return Check(name="vocabulary", passed=False, evidence="an event has an index outside the vocabulary")
        starts = dataset.offsets[devices] - some.start
        trained = [events[start : start + n] for start, n in zip(starts, dataset.bounds[devices, 0])]
        counts += np.bincount(np.concatenate(trained), minlength=len(counts))
    known = counts[FIRST_ITEM:]
    wrong = int((items["count"].to_numpy() != known).sum()) if len(items) == len(known) else len(known)
    unseen = int((known == 0).sum())
    versions = dataset.manifest.versions
    sorted_ = bool((np.diff(known[versions[-1].counts.items if versions else 0 :]) <= 0).all())
    in_place = np.array_equal(items["index"].to_numpy(), np.arange(FIRST_ITEM, dataset.vocabulary))
    evidence = (
        f"{len(known):,} known items: {wrong} counts differ from those of the training part, "
        f"{unseen} do not occur in it, order by count {'holds' if sorted_ and in_place else 'broken'}"
    )
    return Check(name="vocabulary", passed=not wrong and not unseen and sorted_ and in_place, evidence=evidence)


def check_histories(dataset: Dataset, part: Part) -> Check:
    """What is read for a target ends before it: events of the same device, none later than the target."""
    targets = dataset.targets(part)
    begin = dataset.offsets[targets.device_N]
    bound = dataset.bounds[targets.device_N, 0 if part == "valid" else 1]
    ok = (targets.start_N == begin) & (targets.start_N < targets.position_N)
    ok &= (targets.position_N - begin >= bound) & (targets.position_N < dataset.offsets[targets.device_N + 1])
    if dataset.timestamps is not None:
        for devices, events in pieces(dataset.offsets, dataset.timestamps):
            offsets = dataset.offsets[devices.start : devices.stop + 1]
            latest = time = dataset.timestamps[events]
            if _steps_back(time, offsets):
                time = _by_device(time, offsets)
                latest = np.maximum.accumulate(time)
            some = slice(*np.searchsorted(targets.device_N, [devices.start, devices.stop]))
            position = targets.position_N[some] - events.start
            ok[some] &= latest[position - 1] <= time[position]
    evidence = f"{int((~ok).sum())} of {len(targets):,} targets have something in their history that is not before them"
    return Check(name=f"history-{part}", passed=bool(ok.all()), evidence=evidence)


def _by_device(times: Int64, offsets: Int64) -> Int64:
    """Times shifted so that a running maximum over all events never carries from one device to the next."""
    lengths = np.diff(offsets)
    if not len(times):
        return times
    span = int(times.max()) - int(times.min()) + 1
    if span * len(lengths) >= 2**62:  # such a span only comes of absurd timestamps: ranks do as well
        times = np.unique(times, return_inverse=True)[1].astype(np.int64)
        span = int(times.max()) + 1
    return np.asarray((times - times.min()) + span * np.repeat(np.arange(len(lengths), dtype=np.int64), lengths))


def check_candidates(dataset: Dataset, part: Part) -> Check:
    """No negative is the target, something met before it, a repeat, or an item that training does not know.

    Of a large part, as many targets are looked at as are drawn for at once, for negatives are drawn by one rule: the
    first of validation, and of the test the last.
    """
    whole, drawn = dataset.targets(part), dataset.candidates(part)
    first = 0 if part == "valid" else max(len(whole) // CHUNK - 1, 0) * CHUNK
    index_N = np.arange(first, min(first + CHUNK, len(whole)))
    targets, drawn_NC = whole.take(index_N), drawn[index_N]
    events = np.asarray(dataset.events)
    real_NC = drawn_NC != PADDING
    sorted_NC = np.sort(drawn_NC, axis=1)
    bad_N = (real_NC[:, 1:] & ~real_NC[:, :-1]).any(axis=1)
    bad_N |= (real_NC & ((drawn_NC < FIRST_ITEM) | (drawn_NC >= dataset.vocabulary))).any(axis=1)
    bad_N |= ((sorted_NC[:, 1:] == sorted_NC[:, :-1]) & (sorted_NC[:, 1:] != PADDING)).any(axis=1)
    bad_N |= (drawn_NC == events[targets.position_N][:, None]).any(axis=1)
    # What each device has met grows with its targets, which come in order; plain sets, unlike the drawing.
    met: set[int] = set()
    device, reached = -1, 0
    of_N, start_N, position_N = (a.tolist() for a in (targets.device_N, targets.start_N, targets.position_N))
    for row, (owner, start, position, drawn_C) in enumerate(zip(of_N, start_N, position_N, drawn_NC.tolist())):
        if owner != device:
            device, reached, met = owner, start, set()
        met.update(events[reached:position].tolist())
        reached = position
        bad_N[row] |= not met.isdisjoint(drawn_C)
    bad = int(bad_N.sum())
    of = f"{len(targets):,} targets" + (f" (of {len(whole):,})" if len(targets) < len(whole) else "")
    evidence = f"{bad} of {of} have a negative that is the target, met before it, or no known item"
    return Check(name=f"candidates-{part}", passed=bad == 0, evidence=evidence)


def check_rows(dataset: Dataset) -> Check:
    """No training row asks for, or shows, an event of validation or test."""
    rows, events = dataset.rows(), np.asarray(dataset.events)
    width = rows.window_RL.shape[1]
    forbidden: set[tuple[int, ...]] = set()
    parts: tuple[Part, ...] = ("valid", "test")
    for part in parts:
        targets = dataset.targets(part)
        for device, start, position in zip(targets.device_N, targets.start_N, targets.position_N):
            window = events[max(int(start), int(position) - width) : int(position)].tolist()
            forbidden.add((int(device), *window, *[0] * (width - len(window))))
    keys = np.concatenate([np.asarray(rows.device_R)[:, None], np.asarray(rows.window_RL)], axis=1)
    bad = sum(tuple(key) in forbidden for key in keys.tolist())
    evidence = f"{bad} of {len(keys):,} training rows stand where a validation or test event is predicted"
    return Check(name="rows", passed=bad == 0, evidence=evidence)


def check_stage(events: pl.DataFrame, stage: Stage) -> list[Check]:
    """Prepare some events; replace their future by nonsense, prepare again, and compare what must not have noticed.

    Args:
        events: an event table: all events of some users.
        stage: how events are ordered, divided and indexed.
    """
    part_of_row, indexed = stage(events)
    checks = [check_source(events, part_of_row, indexed)]
    for name, first in (("test-blind", TEST), ("validation-blind", VALID)):
        replaced = part_of_row >= first
        again = stage(with_nonsense(events, replaced))[1]
        column = 1 if first == TEST else 0
        differing = [what for what, a, b in _compared(indexed, again, column) if not np.array_equal(a, b)]
        evidence = (
            f"with {int(replaced.sum()):,} later events of {len(events):,} replaced by nonsense, "
            f"{'nothing before them differs' if not differing else ', '.join(differing) + ' differ'}"
        )
        checks.append(Check(name=name, passed=not differing, evidence=evidence))
    return checks


def with_nonsense(events: pl.DataFrame, replaced: Bool) -> pl.DataFrame:
    """The log with other items in the events `replaced`: new ones, and ones that training knows."""
    row = np.arange(len(events))
    known = events["item"].gather(np.flatnonzero(~replaced)[row % max(int((~replaced).sum()), 1)])
    new = pl.Series([f"nonsense {i}" for i in range(7)]).gather(row % 7)
    even = pl.Series(row % 2 == 0)
    other = pl.select(pl.when(even).then(new).otherwise(known)).to_series()
    item = pl.select(pl.when(pl.Series(replaced)).then(other).otherwise(events["item"])).to_series()
    return events.with_columns(item.alias("item"))


def _compared(a: Indexed, b: Indexed, column: int) -> list[tuple[str, Any, Any]]:
    def until(indexed: Indexed) -> Any:
        within = np.arange(len(indexed.events)) - np.repeat(indexed.offsets[:-1], np.diff(indexed.offsets))
        return indexed.events[within < np.repeat(indexed.bounds[:, column], np.diff(indexed.offsets))]

    return [
        ("devices", a.users.to_numpy(), b.users.to_numpy()),
        ("bounds", a.bounds[:, : column + 1], b.bounds[:, : column + 1]),
        ("vocabulary", a.items.to_numpy(), b.items.to_numpy()),
        ("counts", a.counts, b.counts),
        ("events", until(a), until(b)),
    ]


def check_source(events: pl.DataFrame, part_of_row: Int64, indexed: Indexed) -> Check:
    """Vocabulary and counts again from the text of the log: training rows of the devices that stay, grouped by item."""
    training = events.filter(pl.Series(part_of_row == TRAIN))
    counted = dict(training.group_by("item").len().iter_rows())
    wrong = sum(
        counted.get(item) != count for item, count in zip(indexed.items.to_list(), indexed.counts.tolist(), strict=True)
    )
    evidence = (
        f"{wrong} of {len(indexed.items):,} counts differ from those of the log's {len(training):,} training rows"
    )
    return Check(name="counts-of-log", passed=wrong == 0, evidence=evidence)
