"""The figures of a dataset: how much each device has, how it spreads over items and time, and what histories tell.

Shapes: U devices, V items, E events.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from duetgen.data.describe.description import Description, Lengths, Popularity, Sessions
from duetgen.data.describe.tastes import measure_drift, measure_reach, place_items
from duetgen.data.describe.warnings import warn
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset, Int64

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
        span=None if time_E is None else (day_of(int(time_E.min())), day_of(int(time_E.max()))),
        lengths=measure_lengths(np.diff(dataset.offsets)),
        sessions=None if time_E is None else measure_sessions(np.asarray(time_E), dataset.offsets),
        popularity=measure_popularity(dataset.training_counts()[FIRST_ITEM:]),
        repeats=manifest.repeats.share,
        met=manifest.met,
        tied=manifest.tied_timestamps,
        new_items=None if time_E is None else measure_new_items(np.asarray(time_E), np.asarray(dataset.events)),
        unseen=manifest.unseen_item_share.get("test", 0.0),
        drift=measure_drift(dataset, places, rng),
        reach=measure_reach(dataset, places, rng),
    )
    return msgspec.structs.replace(found, warnings=warn(found))


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
    gap = DAY if (time_E % DAY == time_E[0] % DAY).all() else SESSION_GAP
    first_E = np.zeros(len(time_E), dtype=bool)
    first_E[offsets[:-1][np.diff(offsets) > 0]] = True
    pause_E = np.diff(time_E, prepend=time_E[:1])
    begins_E = first_E | (pause_E >= gap)
    device_E = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    per_device_U = np.bincount(device_E[begins_E], minlength=len(offsets) - 1)
    per_device_U = per_device_U[per_device_U > 0]
    between = pause_E[begins_E & ~first_E]
    return Sessions(
        gap=gap,
        per_device=float(np.median(per_device_U)),
        events=float(np.median(np.diff(np.append(np.flatnonzero(begins_E), len(time_E))))),
        single=float((per_device_U == 1).mean()),
        days_between=float(np.median(between)) / DAY if len(between) else None,
    )


def measure_popularity(count_V: Int64) -> Popularity:
    """How training events spread over items."""
    sorted_V = np.sort(count_V)[::-1].astype(np.float64)
    size, total = len(sorted_V), max(1.0, float(sorted_V.sum()))
    share_V = np.cumsum(sorted_V) / total
    ranks = np.unique(np.geomspace(1, size, min(POINTS, size)).round().astype(np.int64))
    top = {f"{share:.0%}": float(share_V[max(1, round(share * size)) - 1]) for share in (0.01, 0.1)}
    weight_V = np.arange(1, size + 1)
    gini = float(2 * (weight_V * sorted_V[::-1]).sum() / (size * total) - (size + 1) / size)
    curve = [(float(rank / size), float(share_V[rank - 1])) for rank in ranks.tolist()]
    return Popularity(curve=curve, top=top, gini=gini, once=float((count_V == 1).mean()))


def measure_new_items(time_E: Int64, event_E: np.ndarray[tuple[int], np.dtype[np.int32]]) -> list[float]:
    """By piece of the log in time: share of the events whose item occurs for the first time in it, or is not known."""
    order_E = np.argsort(time_E, kind="stable")
    item_E = event_E[order_E]
    new_E = np.zeros(len(item_E), dtype=bool)
    new_E[np.unique(item_E, return_index=True)[1]] = True
    new_E |= item_E == UNKNOWN
    return [float(piece.mean()) for piece in np.array_split(new_E, min(PIECES, len(new_E)))]
