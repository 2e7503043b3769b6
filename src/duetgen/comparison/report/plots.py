"""Plots of quality. Each function gives an `svg` element, or None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from duetgen.comparison.report.numbers import interval
from duetgen.comparison.report.results import CLOUD_LIST, DUET, HEADLINE, PARTS, Comparison, Estimate, Row, Table
from duetgen.comparison.report.verdict import said
from duetgen.pages.svg import FONT_SIZE, GRID, INK, MUTED, PAPER, SERIES, WIDTH, draw, draw_figure, label_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES: Final = 6
"""Most lines of one plot; more are no longer told apart."""
ROW_INCHES: Final = 0.24
PART_STYLES: Final = {"own-weights": (0, (1, 1.6)), "own-bias": (0, (5, 1.5, 1, 1.5))}

Line = list[tuple[int, Comparison | Estimate]]
"""Figures by their place on the axis."""


def colours(table: Table) -> dict[str, str]:
    """A colour for each method: DUET's and base's own, the rest in turn, the best first, so that lines differ."""
    first = (DUET, table.reference)
    others = [row.method for row in focus(table.rows, table.reference, len(table.rows)) if row.method not in first]
    turn = {method: SERIES[2 + index % (len(SERIES) - 2)] for index, method in enumerate(others)}
    return {DUET: SERIES[0], table.reference: SERIES[1], **turn}


def plain_colour(method: str) -> str:
    """Colour where names stand beside the rows anyway: DUET stands out, and nothing else."""
    return SERIES[0] if method == DUET else SERIES[1]


def focus(rows: Sequence[Row], reference: str, most: int = LINES) -> list[Row]:
    """DUET, base or what stands for it, and of the others those with the highest `ndcg@10`: few enough to read."""

    def key(row: Row) -> tuple[bool, float]:
        value = row.value()
        return (row.method not in (DUET, reference), -(value.mean if value else 0))

    return sorted((row for row in rows if row.value() is not None), key=key)[:most]


def rows_of(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first on top, with light lines to read along."""
    axes.set_yticks(range(len(names)), list(names))
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)


def tall(rows: int) -> float:
    """Height of a plot with a line of text for each row."""
    return 0.75 + ROW_INCHES * rows


def difference_plot(table: Table, name: str) -> str | None:
    """How far each method is from base, with the interval over devices."""
    found = [one for row in table.rows if (one := table.against(row.method, table.reference)) is not None]
    if not found:
        return None

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1)
        for y, one in enumerate(found):
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [y, y], color=plain_colour(one.method), linewidth=2)
            axes.plot(one.mean, y, "o", color=plain_colour(one.method), **dot(one))
        rows_of(axes, [one.method for one in found])
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"{HEADLINE}, difference to {table.reference}")

    words = "; ".join(f"{one.method} {one.mean:+.4f}{bounds(one)}, {said(one)}" for one in found)
    return draw(name, f"Difference to {table.reference} in {HEADLINE}", words, paint, tall(len(found)))


def bounds(one: Comparison | Estimate) -> str:
    """An interval in words."""
    return "" if one.low is None or one.high is None else f" ({interval(one.low, one.high)})"


def dot(one: Comparison | Estimate) -> dict[str, Any]:
    """How the mark of a figure looks: hollow for a difference that is neither ahead nor behind."""
    hollow = isinstance(one, Comparison) and one.outcome not in ("ahead", "behind")
    return {"markersize": 4.5, "markeredgewidth": 1.2} | ({"markerfacecolor": PAPER} if hollow else {})


def staleness_plot(table: Table, name: str) -> str | None:
    """Quality against the age of theta, with 95 % bands: less base, or as it is where there is no base. Each part of
    theta alone has lines of its own; so has the cloud's list, on its own scale."""
    base = table.row(table.reference)
    rows = focus([row for row in table.rows if row.personal and row.method != CLOUD_LIST], table.reference, LINES - 1)
    rows += [row for row in table.rows if row.method == CLOUD_LIST]
    ages = sorted({0, *(age_of(one.name) for row in rows for one in row.conditions if one.name.startswith("own+"))})
    if not rows or len(ages) < 2:
        return None
    palette, what = colours(table), HEADLINE if base is None else f"{HEADLINE}, less {table.reference}"

    def value(row: Row, kind: str, age: int) -> Comparison | Estimate | None:
        condition = f"{kind}+{age}" if age else kind
        if base is None:
            return row.value(HEADLINE, condition)
        return table.find(row.method, condition, base.method, base.headline, HEADLINE)

    def line(row: Row, kind: str) -> Line:
        return [(x, one) for x, age in enumerate(ages) if (one := value(row, kind, age)) is not None]

    lines = {row.method: points for row in rows if (points := line(row, "own"))}
    parts = {row.method: {kind: points for kind in PARTS if (points := line(row, kind))} for row in rows}
    if not lines:
        return None

    def paint(figure: Figure) -> None:
        panels = figure.subplots(-(-len(lines) // 2), min(2, len(lines)), sharex=True, squeeze=False)
        for axes in list(panels.flat)[len(lines) :]:
            axes.set_visible(False)
        for axes, (method, points) in zip(panels.flat, lines.items()):
            if base is not None:
                axes.axhline(0, color=palette[base.method], linestyle=(0, (4, 3)), linewidth=1.4)
            for kind, alone in parts[method].items():
                band(axes, alone, palette[method], 0.1)
                places, means = [x for x, _ in alone], [one.mean for _, one in alone]
                axes.plot(places, means, color=palette[method], linestyle=PART_STYLES[kind], linewidth=1.4)
            band(axes, points, palette[method], 0.2)
            axes.plot([x for x, _ in points], [one.mean for _, one in points], color=palette[method])
            for x, one in points:
                axes.plot(x, one.mean, "o", color=palette[method], **dot(one))
            axes.set_title(method, fontsize=FONT_SIZE, color=palette[method], loc="left")
            axes.set_xticks(range(len(ages)), [str(age) for age in ages])
            axes.grid(axis="x", visible=False)
        for axes in list(panels.flat)[max(0, len(lines) - 2) : len(lines)]:
            axes.tick_params(axis="x", labelbottom=True)
        figure.supxlabel("age of θ in events", fontsize=FONT_SIZE, color=MUTED)
        panels[0, 0].set_ylabel(what)
        alike = [axes for axes, method in zip(panels.flat, lines) if method != CLOUD_LIST]
        for axes in panels.flat:
            axes.margins(y=0.12)
        limits = [bound for axes in alike for bound in axes.get_ylim()]
        for axes in alike:
            axes.set_ylim(min(limits), max(limits))
        if len(lines) > 1 and panels[0, 1] in alike:
            for axes in set(panels[:, 1]) & set(alike):
                axes.tick_params(axis="y", labelleft=False)
        if any(parts.values()):
            for kind, said in PARTS.items():
                panels[0, 0].plot([], [], color=MUTED, linestyle=PART_STYLES[kind], linewidth=1.4, label=said)
            figure.legend(loc="outside upper center", ncols=2, frameon=False, labelcolor=MUTED, fontsize=FONT_SIZE - 1)

    named = lines | {f"{method}, {PARTS[kind]}": alone for method, its in parts.items() for kind, alone in its.items()}
    words = "; ".join(
        f"{method}: " + ", ".join(f"{one.mean:.4f}{bounds(one)} at {ages[x]}" for x, one in points)
        for method, points in named.items()
    )
    size = (WIDTH, 0.6 + 1.5 * -(-len(lines) // 2))
    return draw_figure(name, f"{what}, against the age of theta in events", words, paint, size)


def band(axes: Axes, points: Line, colour: str, alpha: float) -> None:
    """The intervals of a line."""
    low = [one.mean if one.low is None else one.low for _, one in points]
    high = [one.mean if one.high is None else one.high for _, one in points]
    axes.fill_between([x for x, _ in points], low, high, color=colour, alpha=alpha, linewidth=0)


def age_of(condition: str) -> int:
    """The age in `own+20`."""
    return int(condition.partition("+")[2] or 0)


def history_plot(table: Table, name: str) -> str | None:
    """Quality by the number of events before the target."""
    rows = [
        row for row in focus(table.rows, table.reference) if (found := row.condition()) is not None and found.by_history
    ]
    if not rows:
        return None
    palette = colours(table)
    first = rows[0].condition()
    assert first is not None
    buckets = [bucket_name(b.shortest, b.longest) for b in first.by_history]
    lines = {
        row.method: [b.metrics[HEADLINE] for b in found.by_history]
        for row in rows
        if (found := row.condition()) is not None
    }
    if len(buckets) < 2:
        return None

    def paint(axes: Axes) -> None:
        for method, values in lines.items():
            width = 2.2 if method == DUET else 1.5
            axes.plot(range(len(values)), values, "o-", color=palette[method], markersize=3.5, linewidth=width)
        axes.set_xticks(range(len(buckets)), buckets)
        axes.set_xlabel("events before the target")
        axes.set_ylabel(HEADLINE)
        axes.margins(y=0.12)
        axes.grid(axis="x", visible=False)
        label_ends(axes, [(values[-1], method, palette[method]) for method, values in lines.items()])

    words = "; ".join(
        f"{method}: " + ", ".join(f"{value:.4f} at {bucket}" for bucket, value in zip(buckets, values))
        for method, values in lines.items()
    )
    return draw(name, f"{HEADLINE} by the number of events before the target", words, paint)


def bucket_name(shortest: int, longest: int | None) -> str:
    """A bucket of history lengths, as an axis has it."""
    return f"{shortest}+" if longest is None else f"{shortest}–{longest}"


def seeds_plot(table: Table, name: str) -> str | None:
    """Every seed's quality as a dot."""
    found = [(row.method, value) for row in table.rows if (value := row.value()) is not None]
    if max((len(value.by_seed) for _, value in found), default=0) < 2:
        return None

    def paint(axes: Axes) -> None:
        for y, (method, value) in enumerate(found):
            axes.plot([min(value.by_seed), max(value.by_seed)], [y, y], color=GRID, linewidth=3)
            axes.plot(
                value.by_seed, [y] * len(value.by_seed), "o", color=plain_colour(method), markersize=4, alpha=0.75
            )
            axes.plot(value.mean, y, "|", color=plain_colour(method), markersize=11, markeredgewidth=1.6)
        rows_of(axes, [method for method, _ in found])
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"{HEADLINE}, a dot a seed")

    words = "; ".join(f"{method}: " + ", ".join(f"{v:.4f}" for v in value.by_seed) for method, value in found)
    return draw(name, f"Spread of {HEADLINE} over seeds", words, paint, tall(len(found)))
