"""Plots as inline SVG: drawn by matplotlib, coloured by the page's own variables, so they fit light and dark alike."""

from __future__ import annotations

import html
import io
import itertools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from duetgen.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT_SIZE: Final = 9.0
TICK_GAP: Final = 4.0
"""Points between two labels of an axis at least."""
WIDTH: Final = 4.0
"""Inches; a plot is as wide as a phone, and two of them stand side by side on a desk."""

INK, MUTED, GRID, PAPER = "#010203", "#040506", "#070809", "#0d0e0f"
SERIES: Final = tuple(f"#0a0b0{index}" for index in range(8))
"""Stand-ins: each colour that is drawn becomes a variable of the page. The first is DUET's, the second base's."""

VARIABLES: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(SERIES)},
}
SETTINGS: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "duetgen",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": FONT_SIZE,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def draw(name: str, title: str, description: str, paint: Callable[[Axes], None], height: float = 2.7) -> str:
    """One plot of one pair of axes, into which `paint` draws; otherwise as `draw_figure`."""
    return draw_figure(name, title, description, lambda figure: paint(figure.add_subplot()), (WIDTH, height))


def tell_cut(axes: Axes) -> None:
    """Say in the label of an axis that it is logarithmic, or that it is cut and does not reach 0."""
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        label = axis.get_label_text()
        if label and axis.get_scale() == "log":
            axis.set_label_text(f"{label}, log axis")
        elif label and not min(limits) <= 0 <= max(limits):
            axis.set_label_text(f"{label}, axis does not reach 0")


def thin_ticks(axes: Axes) -> None:
    """Leave out as many ticks below the plot, evenly, as it takes for the others not to touch.

    Args:
        axes: in their final place.
    """
    low, high = sorted(axes.get_xlim())
    shown = [
        (value, label)
        for value, label in zip(axes.get_xticks(), axes.get_xticklabels())
        if low <= value <= high and label.get_text()
    ]
    boxes = [label.get_window_extent() for _, label in shown]
    gap = TICK_GAP * axes.figure.dpi / 72
    step = 1
    while any(one.x1 + gap > other.x0 for one, other in itertools.pairwise(boxes[::step])):
        step += 1
    if step > 1:
        axes.set_xticks([value for value, _ in shown[::step]], [label.get_text() for _, label in shown[::step]])


def draw_figure(
    name: str, title: str, description: str, paint: Callable[[Figure], None], size: tuple[float, float]
) -> str:
    """One plot.

    Args:
        name: of the plot, unlike that of any other on the page; letters, digits and hyphens.
        title: what it is, for those who cannot see it and as a tooltip.
        description: what it shows, in words and figures.
        paint: draws into the figure.
        size: width and height in inches.

    Raises:
        MissingExtraError: matplotlib is not here.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as cause:
        raise MissingExtraError("the report needs matplotlib", "pip install 'duetgen[train]'") from cause
    with mpl.rc_context(cast(Any, SETTINGS)):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        for axes in figure.axes:
            tell_cut(axes)
        settle(figure.axes[0])
        for axes in figure.axes:
            thin_ticks(axes)
        figure.set_layout_engine("none")  # Everything is in its place: drawing would find all places again.
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return inline(file.getvalue(), name, title, description)


def inline(svg: str, name: str, title: str, description: str) -> str:
    """The `svg` element alone, with alternative text, ids of its own and the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    found = re.search(r'viewBox="[^"]*"', head)
    assert found is not None
    body = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(?:xlink:)?href="#([^"]*)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    words = (
        f'<title id="{name}-title">{html.escape(title)}</title><desc id="{name}-desc">{html.escape(description)}</desc>'
    )
    return f'<svg {found[0]} role="img" aria-labelledby="{name}-title {name}-desc">{words}{body}'


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 11.5) -> None:
    """Names beside the right ends of lines, moved apart where they would touch.

    Args:
        axes: with its lines drawn and its limits final.
        ends: (y, name, colour) of each line.
        gap: points between two names at least.
    """
    settle(axes)
    low, high = axes.get_ylim()
    tall = axes.bbox.height / axes.figure.dpi * 72
    ordered = sorted(ends)
    place = [(y - low) / (high - low) * tall for y, _, _ in ordered]
    for _ in range(200):
        for index in range(len(place) - 1):
            short = gap - (place[index + 1] - place[index])
            if short > 0:
                place[index] -= short / 2
                place[index + 1] += short / 2
    for points, (_, text, colour) in zip(place, ordered):
        axes.annotate(
            text,
            xy=(1, points / tall),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )


SIDES: Final = (
    ("left", 7, 0), ("right", -7, 0), ("center", 0, 10), ("center", 0, -10),
    ("left", 6, 8), ("left", 6, -8), ("right", -6, 8), ("right", -6, -8),
)  # fmt: skip
"""Where a name may stand beside its point: how it is aligned, and its distance in points."""


def label_points(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside points, on a side that is free; one that is free nowhere is left out, its point staying.

    Args:
        axes: with its limits and scales final.
        points: (x, y, name, colour), the most important first.
    """
    settle(axes)
    inside, scale = axes.bbox, axes.figure.dpi / 72
    dots = [axes.transData.transform((x, y)) for x, y, _, _ in points]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for index, ((x, y), (left, top, text, colour)) in enumerate(zip(dots, points)):
        wide, tall = 0.55 * FONT_SIZE * len(text) * scale, FONT_SIZE * scale
        for align, right, up in SIDES:
            start = x + right * scale - {"left": 0.0, "right": wide, "center": wide / 2}[align]
            middle = y + up * scale
            box = (start, middle - tall / 2, start + wide, middle + tall / 2)
            others = taken[:index] + taken[index + 1 :]
            if box[0] < inside.x0 or box[2] > inside.x1 + 6 * scale or any(overlap(box, other) for other in others):
                continue
            taken.append(box)
            axes.annotate(
                text,
                xy=(left, top),
                xytext=(right, up),
                textcoords="offset points",
                ha=align,
                va="center",
                color=colour,
                annotation_clip=False,
            )
            break


Box = tuple[float, float, float, float]


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes (left, bottom, right, top) share any area."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def settle(axes: Axes) -> None:
    """Let the layout give the axes, and all others of their figure, their final place."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
