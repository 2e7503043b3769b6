"""The figures of a dataset: how much each device has, how it spreads over items and time, and what histories tell.

The arrays of all events are gone through in pieces, so a large log takes no more memory than a small one.

Shapes: U devices, V items, E events, P events of a piece, I items of a piece, S parts of the log in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from duetgen.data.describe.description import Description, Lengths, Popularity, Sessions
from duetgen.data.describe.ranks import at_ranks, median
from duetgen.data.describe.tastes import measure_drift, measure_reach, place_items
from duetgen.data.describe.warnings import warn
from duetgen.data.places import sort_by
from duetgen.data.sequences import pieces
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset, Int32, Int64

QUANTILES: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SESSION_GAP: Final = 1800
"""Seconds without an event after which a session is over; in a log of whole days, a day."""

DAY: Final = 86_400
PIECES: Final = 20
"""Pieces of the log, of equal numbers of events, in which new items are counted."""

POINTS: Final = 40


def describe(dataset: Dataset, seed: int = 0) -> Description:
    """Measure a dataset; drift and reach on devices that are drawn by the seed."""
    manifest, rng = dataset.manifest, np.random.default_rng(seed)
    places = place_items(dataset, rng)
    time_E = dataset.timestamps
    found = Description(
        name=manifest.name,
        version=dataset.version,
        source=manifest.source.kind,
        split=manifest.split.kind,
        devices=manifest.counts.devices,
        items=manifest.counts.items,
        events=manifest.counts.events,
        has_time=manifest.has_time,
        span=None if time_E is None else span_of(time_E, dataset.offsets),
        lengths=measure_lengths(np.diff(dataset.offsets)),
        sessions=None if time_E is None else measure_sessions(time_E, dataset.offsets),
        popularity=measure_popularity(dataset.table("items")["count"].to_numpy()),
        repeats=manifest.repeats.share,
        met=manifest.met,
        tied=manifest.tied_timestamps,
        new_items=None
        if time_E is None
        else measure_new_items(time_E, dataset.events, dataset.offsets, dataset.vocabulary),
        unseen=manifest.unseen_item_share.get("test", 0.0),
        drift=measure_drift(dataset, places, rng),
        reach=measure_reach(dataset, places, rng),
    )
    return msgspec.structs.replace(found, warnings=warn(found))


def span_of(time_E: Int64, offsets: Int64) -> tuple[str, str]:
    """The first day and the last."""
    ends = [
        (time_E[events].min(), time_E[events].max()) for _, events in pieces(offsets, time_E) if len(time_E[events])
    ]
    return day_of(int(min(ends)[0])), day_of(int(max(last for _, last in ends)))


def day_of(seconds: int) -> str:
    """The day of a time."""
    return str(np.datetime64(seconds, "s").astype("datetime64[D]"))


def measure_lengths(length_U: Int64) -> Lengths:
    """Events a device."""
    bounds = [1, 2, 5]
    while bounds[-1] < length_U.max():
        bounds.append(bounds[-3] * 10)
    place_U = np.searchsorted(bounds, length_U)
    counts = np.bincount(place_U, minlength=len(bounds))
    low, high = np.flatnonzero(counts)[[0, -1]].tolist()
    return Lengths(
        quantiles={f"{share:.0%}": float(np.quantile(length_U, share)) for share in QUANTILES},
        mean=float(length_U.mean()),
        histogram=dict(zip(bounds[low : high + 1], counts[low : high + 1].tolist())),
    )


def measure_sessions(time_E: Int64, offsets: Int64) -> Sessions:
    """Sessions by pauses; in a log of whole days a day is a session."""
    days = all((time_E[events] % DAY == time_E[0] % DAY).all() for _, events in pieces(offsets, time_E))
    gap = DAY if days else SESSION_GAP

    def sessions() -> Iterator[tuple[Int64, Int64, Int64]]:
        """By piece: how many each device has, how many events each of them has, and the pauses between them."""
        for devices, events in pieces(offsets, time_E):
            time_P, own = time_E[events], offsets[devices.start : devices.stop + 1] - events.start
            first_P = np.zeros(len(time_P), dtype=bool)
            first_P[own[:-1][np.diff(own) > 0]] = True
            pause_P = np.diff(time_P, prepend=time_P[:1])
            begins_P = first_P | (pause_P >= gap)
            device_P = np.repeat(np.arange(len(own) - 1), np.diff(own))
            per_device = np.bincount(device_P[begins_P])
            lengths = np.diff(np.append(np.flatnonzero(begins_P), len(time_P)))
            yield per_device[per_device > 0], lengths, pause_P[begins_P & ~first_P]

    per_device_U = np.concatenate([per_device for per_device, _, _ in sessions()])
    between = median(lambda: (between for _, _, between in sessions()))
    return Sessions(
        gap=gap,
        per_device=float(np.median(per_device_U)),
        events=median(lambda: (lengths for _, lengths, _ in sessions())) or 0.0,
        single=float((per_device_U == 1).mean()),
        days_between=None if between is None else between / DAY,
    )


def measure_popularity(count_V: Int64) -> Popularity:
    """How training events spread over items."""
    sorted_V = np.sort(count_V)[::-1].astype(np.float64)
    size, total = len(sorted_V), max(1.0, float(sorted_V.sum()))
    share_V = np.cumsum(sorted_V) / total
    ranks = np.unique(np.geomspace(1, size, min(POINTS, size)).round().astype(np.int64))
    # Of few items a hundredth is a part of one.
    top = {f"{share:.0%}": float(np.interp(share * size, np.arange(size + 1), [0, *share_V])) for share in (0.01, 0.1)}
    weight_V = np.arange(1, size + 1)
    gini = float(2 * (weight_V * sorted_V[::-1]).sum() / (size * total) - (size + 1) / size)
    curve = [(float(rank / size), float(share_V[rank - 1])) for rank in ranks.tolist()]
    return Popularity(curve=curve, top=top, gini=gini, once=float((count_V == 1).mean()))


def measure_new_items(time_E: Int64, event_E: Int32, offsets: Int64, vocabulary: int) -> list[float]:
    """By part of the log in time: share of the events whose item occurs for the first time in it, or is not known."""
    parts = min(PIECES, len(time_E))
    ends_S = np.cumsum([len(time_E) // parts + (part < len(time_E) % parts) for part in range(parts)])
    borders = at_ranks(lambda: (time_E[events] for _, events in pieces(offsets, time_E)), ends_S[:-1].tolist())
    border_S = np.array([time for time, _ in borders], dtype=np.int64)
    # Of the events at the time of a border, so many come before it.
    before_S = [int(end) - smaller for end, (_, smaller) in zip(ends_S, borders)]
    first_V, part_V = np.full(vocabulary, np.iinfo(np.int64).max), np.full(vocabulary, parts)
    new_S = np.zeros(parts + 1, dtype=np.int64)
    for _, events in pieces(offsets, time_E, event_E):
        time_P, item_P = time_E[events], event_E[events]
        part_P = np.searchsorted(border_S, time_P)
        for border, time in enumerate(border_S):
            tied = np.flatnonzero(time_P == time)
            part_P[tied] += np.arange(len(tied)) >= before_S[border]
            before_S[border] -= len(tied)
        new_S += np.bincount(part_P[item_P == UNKNOWN], minlength=len(new_S))
        order_P = sort_by(time_P)
        item_I, place_I = np.unique(item_P[order_P], return_index=True)
        place_I = order_P[place_I]
        earlier_I = time_P[place_I] < first_V[item_I]
        first_V[item_I[earlier_I]] = time_P[place_I[earlier_I]]
        part_V[item_I[earlier_I]] = part_P[place_I[earlier_I]]
    new_S += np.bincount(part_V[FIRST_ITEM:], minlength=len(new_S))
    return [float(share) for share in new_S[:-1] / np.diff(ends_S, prepend=0)]
