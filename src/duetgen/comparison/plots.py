"""Plots of quality. Each function gives an `svg` element, or None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from duetgen.comparison.results import DUET, HEADLINE, Comparison, Row, Table
from duetgen.comparison.svg import GRID, INK, MUTED, SERIES, draw, label_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES: Final = 6
"""Most lines of one plot; more are no longer told apart."""
ROW_INCHES: Final = 0.24


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
            sure = one.outcome != "undecided"
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [y, y], color=plain_colour(one.method), linewidth=2)
            axes.plot(one.mean, y, "o", color=plain_colour(one.method), markersize=5.5 if sure else 4)
        rows_of(axes, [one.method for one in found])
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"{HEADLINE}, difference to {table.reference}")

    words = "; ".join(f"{one.method} {one.mean:+.4f}{bounds(one)}" for one in found)
    return draw(name, f"Difference to {table.reference} in {HEADLINE}", words, paint, tall(len(found)))


def bounds(one: Comparison) -> str:
    """An interval in words."""
    return "" if one.low is None or one.high is None else f" ({one.low:+.4f} to {one.high:+.4f})"


def staleness_plot(table: Table, name: str) -> str | None:
    """Quality against the age of theta; base, which has none, as a line across."""
    rows = focus([row for row in table.rows if row.personal], table.reference)
    ages = sorted({0, *(age_of(one.name) for row in rows for one in row.conditions if one.name.startswith("own+"))})
    if not rows or len(ages) < 2:
        return None
    palette, base = colours(table), table.row(table.reference)
    level = base.value() if base is not None and not base.personal else None
    lines = {row.method: [row.value(HEADLINE, f"own+{age}" if age else "own") for age in ages] for row in rows}

    def paint(axes: Axes) -> None:
        ends = []
        if level is not None:
            axes.axhline(level.mean, color=palette[table.reference], linestyle=(0, (4, 3)), linewidth=1.4)
            ends.append((level.mean, table.reference, palette[table.reference]))
        for method, values in lines.items():
            known = [(x, value) for x, value in enumerate(values) if value is not None]
            heights = [value.mean for _, value in known]
            width = 2.2 if method == DUET else 1.5
            axes.plot([x for x, _ in known], heights, "o-", color=palette[method], markersize=3.5, linewidth=width)
            ends.append((heights[-1], method, palette[method]))
        axes.set_xticks(range(len(ages)), [str(age) for age in ages])
        axes.set_xlabel("age of θ in events")
        axes.set_ylabel(HEADLINE)
        axes.margins(y=0.12)
        axes.grid(axis="x", visible=False)
        label_ends(axes, ends)

    words = "; ".join(
        f"{method}: " + ", ".join(f"{v.mean:.4f} at {age}" for age, v in zip(ages, values) if v is not None)
        for method, values in lines.items()
    )
    if level is not None:
        words += f"; {table.reference}: {level.mean:.4f}"
    return draw(name, f"{HEADLINE} against the age of theta in events", words, paint)


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
