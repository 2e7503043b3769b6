"""Plots of what quality costs, and of what more events do to it; see `plots`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from duetgen.comparison.cells.costs import Cost
from duetgen.comparison.report.numbers import count, milliseconds
from duetgen.comparison.report.plots import colours, focus, plain_colour, rows_of, tall
from duetgen.comparison.report.results import CLOUD, DUET, ENSEMBLE, HEADLINE, PARTS, Table
from duetgen.pages.svg import MUTED, PAPER, SERIES, draw, label_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Against:
    """A cost that quality is held against.

    Attributes:
        key: in the name of the plot.
        label: of its axis.
        read: how it is read; 0 or None for a method without it.
        caption: what has to be said beside the plot.
    """

    key: str
    label: str
    read: Callable[[Cost], float | None]
    caption: str = ""


DEVICE: Final = Against(
    "device",
    "bytes on the device",
    lambda cost: cost.device_bytes,
    "What a device holds, its items in int8; without counting methods.",
)
SENT: Final = Against(
    "bytes",
    "bytes of θ as it is sent",
    lambda cost: cost.theta_bytes,
    "Weights as float16, opinions as they are coded; dashed: nothing is sent.",
)
COSTS: Final = (
    DEVICE,
    SENT,
    Against("flops", "FLOPs a recommendation of 100 candidates", lambda cost: cost.recommendation_flops),
    Against(
        "ms",
        "milliseconds to make one θ",
        lambda cost: cost.generation_ms if cost.finetuning_ms is None else cost.finetuning_ms,
    ),
)
"""What quality is held against."""


def points_of(table: Table, cost: Against) -> list[tuple[float, float, str, str]]:
    """Cost, quality, name and method of all that have the cost; of what is sent, each part of DUET alone too."""
    points = [
        (float(spent), value.mean, row.method, row.method)
        for row in focus(table.rows, table.reference, len(table.rows))
        if not (cost is DEVICE and row.family == "counting")
        and (value := row.value()) is not None
        and (spent := cost.read(row.cost))
    ]
    duet = table.row(DUET)
    if cost is SENT and duet is not None:
        sent = {"own-weights": duet.cost.theta_bytes - duet.cost.opinion_bytes, "own-bias": duet.cost.opinion_bytes}
        points += [
            (float(sent[part]), value.mean, said, DUET)
            for part, said in PARTS.items()
            if sent[part] and (value := duet.value(HEADLINE, part)) is not None
        ]
    return points


def levels_of(table: Table, cost: Against) -> list[tuple[float, str]]:
    """Quality and name of what stands as a line: base, ensemble and cloud, where they have nothing of the cost."""
    rows = [table.row(method) for method in dict.fromkeys((table.reference, ENSEMBLE, CLOUD))]
    return [
        (value.mean, row.method)
        for row in rows
        if row is not None and cost.read(row.cost) == 0 and (value := row.value()) is not None
    ]


def cost_plot(table: Table, name: str, cost: Against) -> str | None:
    """Quality against one cost, on a log axis; methods without that cost are left out, or are a line."""
    points, levels, label = points_of(table, cost), levels_of(table, cost), cost.label
    if not points:
        return None
    palette = colours(table)

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_xscale("log")
        for y, method in levels:
            axes.axhline(y, color=palette[method], linestyle=(0, (4, 3)), linewidth=1.2)
            at = axes.get_yaxis_transform()
            axes.annotate(
                method, (0, y), (3, 2), xycoords=at, textcoords="offset points", va="bottom", color=palette[method]
            )
        for x, y, said, method in points:
            axes.plot(x, y, "o", color=palette[method], markersize=6 if said == DUET else 4.5)
        low, high = min(x for x, *_ in points), max(x for x, *_ in points)
        room = max(1.6, (high / low) ** 0.3)
        axes.set_xlim(low / room**0.7, high * room)
        close = high / low < 30
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if close else (1.0,), numticks=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_tick_params(which="minor", size=0)
        axes.set_xlabel(label)
        axes.set_ylabel(HEADLINE)
        axes.margins(y=0.15)
        label_points(axes, [(x, y, said, palette[method]) for x, y, said, method in points])

    told = [f"{said}: {count(x)}, {HEADLINE} {y:.4f}" for x, y, said, _ in points]
    words = "; ".join([*told, *(f"{method}: nothing, {HEADLINE} {y:.4f}" for y, method in levels)])
    return draw(name, f"{HEADLINE} against {label}", words, paint)


def note_beside(axes: Axes, note: str, x: float, y: float) -> None:
    """A figure in words beside its dot, on paper of its own so that no line runs through it."""
    paper = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
    axes.annotate(note, (x, y), (7, 0), textcoords="offset points", va="center", color=MUTED, bbox=paper)


def oscillation_plot(table: Table, name: str) -> str | None:
    """What one more event does to the log loss, and to theta."""
    found = [(row.method, row.oscillation) for row in table.rows if row.oscillation is not None]
    if not found:
        return None

    def paint(axes: Axes) -> None:
        for y, (method, one) in enumerate(found):
            axes.plot([0, one.log_loss], [y, y], color=plain_colour(method), linewidth=1.4)
            axes.plot(one.log_loss, y, "o", color=plain_colour(method), markersize=5)
            note = f"{one.log_loss:.3f} nats; θ moves {one.theta:.0%}"
            note_beside(axes, note, one.log_loss, y)
        rows_of(axes, [method for method, _ in found])
        axes.set_xlim(0, 2.2 * max(max(one.log_loss for _, one in found), 1e-6))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("mean change of log loss by one more event, nats")

    words = "; ".join(
        f"{method}: log loss changes by {one.log_loss:.4f} nats, theta by {one.theta:.1%}, ndcg@10 by {one.ndcg:.4f}"
        for method, one in found
    )
    return draw(name, "Change of quality and of theta when one event is added", words, paint, tall(len(found)))


def delay_plot(tables: Sequence[Table], name: str) -> str | None:
    """Time until a device has parameters of its own, generated against fine-tuned, on a log axis."""
    found: dict[str, tuple[float, str]] = {}
    for table in tables:
        for row in table.rows:
            tuned = row.cost.finetuning_ms
            spent = row.cost.generation_ms if tuned is None else tuned
            if spent is not None:
                place = f"{row.method}, {table.backbone}" if len({t.backbone for t in tables}) > 1 else row.method
                found.setdefault(place, (spent, SERIES[0] if tuned is None else SERIES[3]))
    if not found:
        return None
    ordered = sorted(found.items(), key=lambda one: one[1][0])

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator

        axes.set_xscale("log")
        for y, (_, (spent, colour)) in enumerate(ordered):
            axes.plot(spent, y, "o", color=colour, markersize=5)
            note_beside(axes, milliseconds(spent), spent, y)
        rows_of(axes, [place for place, _ in ordered])
        low, high = ordered[0][1][0], ordered[-1][1][0]
        axes.set_xlim(low / 2, high * max(3.0, (high / low) ** 0.35))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 10 else (1.0, 2.0, 5.0), numticks=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: milliseconds(value)))
        axes.xaxis.set_tick_params(which="minor", size=0, labelbottom=False)
        axes.set_xlabel("time for one device, one thread")

    words = "; ".join(f"{place}: {milliseconds(spent)}" for place, (spent, _) in ordered)
    return draw(name, "Delay of generation and of fine-tuning for one device", words, paint, tall(len(ordered)))
