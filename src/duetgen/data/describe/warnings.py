"""What the figures of a dataset mean for personalisation, one line each; the weightiest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from duetgen.data.describe.description import Description
from duetgen.words import counted

FEW_EVENTS: Final = 10
FEW_DEVICES: Final = 1_000
MANY_TIED: Final = 0.2
MANY_UNSEEN: Final = 0.2
MANY_SINGLE: Final = 0.5
MUCH_DRIFT: Final = 0.5
LITTLE_DRIFT: Final = 0.1
HEAD: Final = 0.5
TELLS_MORE: Final = 0.01
"""AUC by which a long history must find the next event better than the last ten."""

GUESSING: Final = 0.55
"""AUC below which histories tell hardly more than a coin."""


def warn(found: Description) -> list[str]:
    """What a person should know before training on it."""
    return [*_of_histories(found), *_of_order(found), *_of_items(found), *_of_size(found)]


def _of_histories(found: Description) -> Iterator[str]:
    half = found.lengths.quantiles["50%"]
    if half < FEW_EVENTS:
        yield (
            f"Half of the devices have at most {half:,.0f} events: there is little to generate parameters from, and "
            "little to gain over one model for all."
        )
    reach = found.reach
    if reach is not None and 10 in reach.auc:
        longest = max(reach.auc)
        gain = reach.auc[longest] - reach.auc[10]
        if reach.auc[longest] < GUESSING:
            yield (
                f"A history of {longest} events finds the next item hardly better than a coin (AUC "
                f"{reach.auc[longest]:.3f}): what a device chose says little of what it chooses next."
            )
        elif gain < TELLS_MORE:
            yield (
                f"The last ten events tell as much of the next as {longest} do (AUC {reach.auc[10]:.3f} and "
                f"{reach.auc[longest]:.3f}, counted and not trained): what a generator reads further back may have "
                "little to add to a device model that sees the last ten."
            )
    drift = found.drift
    if drift is not None and drift.share >= MUCH_DRIFT:
        yield (
            f"Tastes move: {drift.share:.0%} of what sets a device apart early is gone late. Parameters grow old fast; "
            "ask for new ones often, and train with --staleness."
        )
    elif drift is not None and drift.share < LITTLE_DRIFT:
        yield (
            f"Tastes hardly move ({drift.share:.0%} of what sets a device apart is gone late): parameters stay good "
            "for long."
        )
    sessions = found.sessions
    if sessions is not None and sessions.single >= MANY_SINGLE:
        yield (
            f"{sessions.single:.0%} of the devices have one session: nothing shows how they go on after a pause, and a "
            "split in time tests mostly devices that training has not seen."
        )


def _of_order(found: Description) -> Iterator[str]:
    if not found.has_time:
        yield "There is no time: the order of the file stands for it, and nothing here tells whether it means anything."
    elif found.tied is not None and found.tied >= MANY_TIED:
        yield (
            f"{found.tied:.0%} of the events share their time with the event before: their order is that of the file, "
            "and models that live by order (SASRec, GRU4Rec) learn part of it from chance."
        )


def _of_items(found: Description) -> Iterator[str]:
    if found.unseen >= MANY_UNSEEN:
        yield (
            f"{found.unseen:.0%} of the test targets are items that training does not know: no model can hit them. "
            "Training more often helps more here than any model."
        )
    top = found.popularity.top["1%"]
    if top >= HEAD:
        yield (
            f"1 % of the items have {top:.0%} of the events: showing everybody what is popular is hard to beat, so "
            "have it among the methods: `duet compare --methods popular,base,duet`."
        )


def _of_size(found: Description) -> Iterator[str]:
    if found.devices < FEW_DEVICES:
        yield f"Of {counted(found.devices, 'device')} intervals are wide, and small gains cannot be told from chance."
