"""A description as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duetgen.data.describe.description import Description
from duetgen.pages.page import escape, figure, page
from duetgen.pages.svg import MUTED, SERIES, draw
from duetgen.words import counted, counted_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def render(found: Description) -> str:
    """The page."""
    first = found.warnings[0] if found.warnings else "Nothing here speaks against personalisation."
    sections = [
        ("warnings", "What it means", "".join(f"<p>{escape(line)}</p>" for line in found.warnings[1:])),
        ("devices", "Devices", plots(lengths_plot(found), sessions_note(found))),
        ("items", "Items", plots(popularity_plot(found), new_items_plot(found))),
        ("histories", "What histories tell", plots(reach_plot(found), drift_plot(found))),
        ("figures", "Figures", figures(found)),
    ]
    return page(f"{found.name}: what it is like", first, facts(found), [], sections)


def facts(found: Description) -> str:
    """What was looked at, in one paragraph."""
    span = f", {found.span[0]} to {found.span[1]}" if found.span else ", without time"
    sizes = counted_all({"device": found.devices, "known item": found.items, "event": found.events})
    return f"{sizes}{span}; {found.split} split; read as {found.source}."


def plots(*shown: str) -> str:
    """Plots side by side."""
    return f'<div class="plots">{"".join(shown)}</div>' if any(shown) else ""


def lengths_plot(found: Description) -> str:
    """How many devices have how many events."""
    bounds, counts = list(found.lengths.histogram), list(found.lengths.histogram.values())
    steps = {1: 1, 2: 2, 5: 3}
    low = [steps.get(bound, bound // 5 * 2 + 1 if str(bound)[0] == "5" else bound // 2 + 1) for bound in bounds]
    names = [str(one) if one == other else f"{one:,}–{other:,}" for one, other in zip(low, bounds)]

    def paint(axes: Axes) -> None:
        axes.barh(range(len(counts)), counts, color=SERIES[0], height=0.7)
        axes.set_yticks(range(len(counts)), names)
        axes.invert_yaxis()
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel("devices")

    words = "; ".join(f"{name} events: {counted(count, 'device')}" for name, count in zip(names, counts))
    median = found.lengths.quantiles["50%"]
    caption = f"Half of the devices have at most {median:,.0f} events; the mean is {found.lengths.mean:,.1f}."
    svg = draw("lengths", "Events a device", words, paint, 0.9 + 0.24 * len(counts))
    return figure(svg, "Events a device", caption)


def sessions_note(found: Description) -> str:
    """Sessions in words."""
    sessions = found.sessions
    if sessions is None:
        return ""
    pause = "a day" if sessions.gap >= 86_400 else f"{sessions.gap // 60} minutes"
    lines = [
        f"A session is over after {pause} without an event.",
        f"Sessions of the median device: {sessions.per_device:,.0f}.",
        f"Events of the median session: {sessions.events:,.0f}.",
        f"Devices with one session: {sessions.single:.0%}.",
    ]
    if sessions.days_between is not None:
        lines.append(f"Days between two sessions of a device, at the median: {sessions.days_between:,.1f}.")
    body = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f"<figure><strong>Sessions</strong>{body}</figure>"


def popularity_plot(found: Description) -> str:
    """Which share of the events the most popular items have."""
    curve = found.popularity.curve
    x, y = [100 * share for share, _ in curve], [100 * share for _, share in curve]

    def paint(axes: Axes) -> None:
        axes.plot(x, x, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        axes.plot(x, y, color=SERIES[0])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(0, 102)
        axes.set_xlabel("% of the items, most popular first")
        axes.set_ylabel("% of the events")

    top = found.popularity.top
    words = f"1 % of the items have {top['1%']:.0%} of the training events, 10 % have {top['10%']:.0%}."
    caption = f"{words} {found.popularity.once:.0%} of the items have one event. Dashed: all items alike."
    return figure(draw("popularity", "Popularity", words, paint), "Popularity", caption)


def new_items_plot(found: Description) -> str:
    """New items over time."""
    new = found.new_items
    if new is None:
        return ""
    x = [100 * (index + 0.5) / len(new) for index in range(len(new))]

    def paint(axes: Axes) -> None:
        axes.plot(x, [100 * share for share in new], color=SERIES[0])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("% of the log, in order of time")
        axes.set_ylabel("% of the events")

    words = f"{new[0]:.0%} of the events in the first piece of the log, {new[-1]:.1%} in the last."
    caption = (
        "Events whose item occurs for the first time, or too rarely to be known. The first pieces are high in any log. "
        f"Of the test targets, {found.unseen:.1%} are items that training does not know."
    )
    return figure(draw("new-items", "Cold items over time", words, paint), "Cold items over time", caption)


def reach_plot(found: Description) -> str:
    """How well histories of different lengths find the next event."""
    reach = found.reach
    if reach is None:
        return ""
    lengths, auc = list(reach.auc), list(reach.auc.values())

    def paint(axes: Axes) -> None:
        axes.plot(range(len(lengths)), auc, "o-", color=SERIES[0], markersize=4)
        axes.set_xticks(range(len(lengths)), [str(length) for length in lengths])
        axes.set_ylim(min(0.5, *auc), max(0.7, *auc) + 0.02)
        axes.set_xlabel("last events that are read")
        axes.set_ylabel("AUC")

    words = "; ".join(f"last {length}: {value:.3f}" for length, value in reach.auc.items())
    caption = (
        "How often the mean of the last events lies nearer to the next item than to a random one, drawn as popular "
        f"items are; {reach.targets:,} validation targets with 50 events before them. What is older than ten events "
        "counts by the weight that is best on other targets. Items are placed by who chose them: counted, not trained. "
        "A trained model gets more out of a history, and out of its order."
    )
    return figure(draw("reach", "How far back it pays to read", words, paint), "How far back it pays to read", caption)


def drift_plot(found: Description) -> str:
    """Early taste against late taste."""
    drift = found.drift
    if drift is None:
        return ""
    rows = {"two halves, mixed": drift.mixed, "early and late half": drift.early_late, "another device": drift.others}

    def paint(axes: Axes) -> None:
        axes.barh(range(3), list(rows.values()), color=[SERIES[1], SERIES[0], SERIES[1]], height=0.6)
        axes.set_yticks(range(3), list(rows))
        axes.invert_yaxis()
        axes.set_xlabel("cosine of tastes")

    words = "; ".join(f"{name}: {value:.3f}" for name, value in rows.items())
    caption = (
        f"{drift.share:.0%} of what sets a device apart is gone from its early half to its late one; "
        f"{counted(drift.devices, 'device')} with 20 or more training events."
    )
    return figure(draw("drift", "Drift", words, paint, 1.6), "Drift", caption)


def figures(found: Description) -> str:
    """Everything else, as a list."""
    quantiles = ", ".join(f"{share} {value:,.0f}" for share, value in found.lengths.quantiles.items())
    does = "hidden from its rankings" if found.met == "hide" else "ranked like any other"
    entries = [
        ("events a device", f"{quantiles} (share of the devices, and events)"),
        ("repeats", f"{found.repeats:.2%} of the training events repeat an item: what a device has met is {does}"),
        (
            "equal times",
            "no time" if found.tied is None else f"{found.tied:.1%} of the events have that of the one before",
        ),
        ("new test targets", f"{found.unseen:.2%}"),
        ("Gini of popularity", f"{found.popularity.gini:.3f}"),
    ]
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in entries)}</dl>"
