"""What a dataset is like, as typed figures."""

from __future__ import annotations

import msgspec

from duetgen.wire.messages import MetPolicy


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """Events of the devices.

    Attributes:
        quantiles: by share of the devices: the smallest, a tenth, a quarter, half, …, the largest.
        mean: of all.
        histogram: by upper bound (1, 2, 5, 10, 20, 50, …) how many devices have no more, and more than the one before.
    """

    quantiles: dict[str, float]
    mean: float
    histogram: dict[int, int]


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Events with no pause of `gap` seconds between them.

    Attributes:
        gap: seconds.
        per_device: the median.
        events: of a session, the median.
        single: share of the devices with one session.
        days_between: sessions of a device, the median; None where no device has two.
    """

    gap: int
    per_device: float
    events: float
    single: float
    days_between: float | None


class Popularity(msgspec.Struct, frozen=True, kw_only=True):
    """How the training events spread over the known items.

    Attributes:
        curve: share of the items, most popular first, and the share of the events that are of them.
        top: share of the events of the 1 % and of the 10 % most popular items.
        gini: 0 where all items are alike, near 1 where few have all.
        once: share of the items with one event.
    """

    curve: list[tuple[float, float]]
    top: dict[str, float]
    gini: float
    once: float


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How far the taste of a device moves from its early events to its late ones; means over devices of cosines.

    Attributes:
        devices: that were measured.
        early_late: of the first half of a device's training events and the second.
        mixed: of two halves of the same events, drawn at random: what there would be without drift.
        others: of a device's first half and another's second: what is no device's own.
        share: of what is a device's own, how much is gone: 0 is no drift, 1 is that the device has become anyone.
    """

    devices: int
    early_late: float
    mixed: float
    others: float
    share: float


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How well the taste of the last events finds the next one.

    Attributes:
        targets: of the validation part, with at least `LEAST_HISTORY` events before them, not met before.
        auc: by number of last events: how often the target is nearer than a random item, drawn as popular ones are. Of
            more than ten, the older ones count beside the last ten by the weight that is best on other targets.
    """

    targets: int
    auc: dict[int, float]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset is like.

    Attributes:
        version: of the dataset, from 1.
        span: first and last day; None without time.
        tied: share of events with the time of the event before; None without time.
        new_items: by piece of the log in time, share of the events whose item occurs for the first time; None without
            time.
        unseen: share of the test targets whose item training does not know.
        repeats: share of the training events that repeat an item.
        met: what follows from it.
        warnings: in plain words, the weightiest first.
    """

    name: str
    version: int
    source: str
    split: str
    devices: int
    items: int
    events: int
    has_time: bool
    span: tuple[str, str] | None
    lengths: Lengths
    sessions: Sessions | None
    popularity: Popularity
    repeats: float
    met: MetPolicy
    tied: float | None
    new_items: list[float] | None
    unseen: float
    drift: Drift | None
    reach: Reach | None
    warnings: list[str] = []
