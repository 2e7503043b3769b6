"""What a person has to know of a dataset before believing a figure, in plain words, one line each.

Shapes: E events, I raw items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from duetgen.data.sequences import Sequences
from duetgen.data.spool import Spool
from duetgen.data.store import Counts
from duetgen.wire.device_ids import device_id_of
from duetgen.wire.messages import MetPolicy

if TYPE_CHECKING:
    from duetgen.data.arrange import Arranged
    from duetgen.data.kept import Standing
    from duetgen.data.prepare import PrepareConfig

FAR: Final = 1.5
"""A part that is this many times larger or smaller than asked for is told."""

SORTED: Final = 0.95
"""From this share of steps on that go up, the events of a user are sorted by item."""

UNSEEN: Final = 0.2
"""From this share of new items on among the test targets, the order of a file without time is doubted."""


def remarks(made: Arranged, log: Spool, counts: Counts, config: PrepareConfig, unseen: float, titled: int) -> list[str]:
    """Everything that there is to say.

    Args:
        made: of the log.
        log: the events.
        counts: of the dataset.
        config: of preparation.
        unseen: share of the test targets whose item training does not know.
        titled: how many items have a title.
    """
    lines = [f"{titled:,} of {counts.items:,} items have a title" if titled else "no item has a title"]
    kind, timed = made.rule.split.kind, made.indexed.timestamps is not None
    if kind == "temporal":
        lines += of_shares(counts, config.valid_share, config.test_share)
    if not timed and kind == "random":
        lines.append("no time in this log: the order of the events was drawn at random, and says nothing of trends")
    elif not timed:
        lines += of_order(next(iter(made.divided)), log.ids("item"), made.once, unseen)
    return lines + of_device_ids(made.indexed.users)


def of_growth(made: Arranged, log: Spool, standing: Standing, met: MetPolicy) -> list[str]:
    """What appending has met: events out of turn, events that stand already, another policy.

    Args:
        made: of all events.
        log: those appended.
        standing: those of before.
        met: the policy of now.
    """
    lines = []
    if standing.last is not None:
        late = pl.col("timestamp") < standing.last
        if count := log.events.select(late.sum()).collect(engine="streaming").item():
            lines.append(f"{count:,} appended events are older than the last that stood: they are put in order")
    if made.exact_appended:
        lines.append(
            f"{made.exact_appended:,} appended events are exact repeats of events that stand, or of each other"
        )
    if met != (before := standing.dataset.manifest.met):
        lines.append(f"the policy of met items follows the repeats: {met} now, {before} in the version before")
    return lines


def of_shares(counts: Counts, valid_share: float, test_share: float) -> list[str]:
    """Parts that are far from the share asked for: many events have the same time."""
    before = counts.events - counts.test_events
    lines = []
    for name, size, whole, asked in (
        ("test", counts.test_events, counts.events, test_share),
        ("validation", counts.valid_events, before, valid_share),
    ):
        share = size / max(whole, 1)
        if not asked / FAR <= share <= asked * FAR:
            lines.append(
                f"the {name} part has {share:.1%} of the events where {asked:.1%} were asked for: "
                "too many events share one moment for a nearer boundary"
            )
    return lines


def of_order(some: Sequences, items: pl.Series, once: float, unseen: float) -> list[str]:
    """A log without time: its order stands for it, and may mean nothing.

    Args:
        some: sequences of its first users.
        items: ids by code.
        once: share of events whose item has no other.
        unseen: share of new items among the test targets.
    """
    lines = ["no time in this log: the order of the file stands for it; if that means nothing, choose --split random"]
    if sorted_by_item(some, items):
        lines.append(
            "the events of a user are sorted by item, so their order is no order in time: choose --split random"
        )
    if unseen >= UNSEEN and unseen > 2 * once:
        lines.append(
            f"{unseen:.0%} of the test targets are items that training does not know; drawn at random, about "
            f"{once:.0%} would be: the order of the file is hardly that of time; --split random draws the test events"
        )
    return lines


def sorted_by_item(sequences: Sequences, items: pl.Series) -> bool:
    """Whether users have their items in the order of their ids, as numbers or as text."""
    item_E = sequences.item_E
    inside_E = sequences.within_E[1:] > 0
    if inside_E.sum() < 2:
        return False
    for ids in (items.cast(pl.Float64, strict=False), items):
        if ids.null_count():
            continue
        place_I = ids.rank("dense").to_numpy().astype(np.int64)
        up = place_I[item_E[1:]] >= place_I[item_E[:-1]]
        if up[inside_E].mean() >= SORTED:
            return True
    return False


def of_device_ids(users: pl.Series) -> list[str]:
    """Users whose ids no device can have."""
    slices = users.to_frame().iter_slices(2**16)
    other = [user for some in slices for user in some.to_series().to_list() if device_id_of(user) != user]
    if not other:
        return []
    example = other[0] if len(other[0]) <= 30 else other[0][:29] + "…"
    return [f"{len(other):,} users have ids that no device may have, as {example!r}: a hash names their devices"]
