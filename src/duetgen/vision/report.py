"""`report.html` of a vision experiment, in the form of a comparison's: one file, no script, nothing fetched."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from duetgen.comparison.report.html_tables import difference_cell, figure_cell, grid
from duetgen.comparison.report.numbers import milliseconds, seconds
from duetgen.pages.page import escape, figure, page
from duetgen.pages.svg import MUTED, SERIES, draw, label_ends
from duetgen.vision.fleet import Fleet
from duetgen.vision.images import Pixels
from duetgen.vision.results import BASE, DESCRIPTIONS, DUET, WORST, Table, VisionResults
from duetgen.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES: Final = (DUET, BASE, "batch-norm", "tent", "arm", "finetune")
SHOWN_DEVICES: Final = 12
SHOWN_IMAGES: Final = 8
PARTS: Final = {"seen": "shifts of the kinds that train", "unseen": "shifts that no device in training has"}


def render(results: VisionResults, title: str, fleets: Mapping[str, Fleet] | None = None) -> str:
    """The page.

    Args:
        results: what was found.
        title: of the page.
        fleets: devices to show, by the part that they are of.
    """
    sections = [
        *([("devices", "What each device sees", pictures(results, fleets))] if fleets else []),
        *(
            (f"t{number}", heading(table), table_part(table, f"t{number}"))
            for number, table in enumerate(results.tables)
        ),
        ("costs", "Costs", cost_table(results)),
        ("words", "In words", f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in results.verdict)}</ul>"),
    ]
    summary = results.verdict[0] if results.verdict else "No shift here costs base two points."
    return page(title, summary, facts(results), [], sections)


def facts(results: VisionResults) -> str:
    """What was measured."""
    seeds = max((len(table.seeds) for table in results.tables), default=0)
    return (
        f"{counted(seeds, 'seed')}; {seconds(results.seconds)} of one core. "
        "No device gives a label, but to fine-tuning."
    )


def heading(table: Table) -> str:
    """A table's title."""
    return f"{table.setting}: {PARTS[table.part]}"


def table_part(table: Table, name: str) -> str:
    """A table with its plot."""
    said = f"{counted(table.devices, 'device')}. The shift costs base {100 * table.shift_cost:+.1f} points of accuracy."
    plot = figure(
        count_plot(table, name), "Accuracy by images of a device", "Mean over devices; fine-tuning has labels."
    )
    return f"<p>{escape(said)}</p>{quality_table(table)}<div class='plots'>{plot}</div>"


def quality_table(table: Table) -> str:
    """Every method with each number of images: mean and worst tenth, against base and against DUET."""
    rows = []
    for row in table.rows:
        rows.append(
            (
                row.method if not row.images else f"{row.method}, {counted(row.images, 'image')}",
                [
                    figure_cell(row.accuracy),
                    difference_cell(table.against(row.method, BASE, row.images)),
                    figure_cell(row.worst),
                    difference_cell(table.against(row.method, BASE, row.images, WORST)),
                    difference_cell(table.against(DUET, row.method, row.images)) if row.method != DUET else "–",
                    "–" if row.another is None else f"{row.another:.4f}",
                    "–" if row.accuracy.std is None else f"{row.accuracy.std:.4f}",
                ],
            )
        )
    head = [
        "accuracy",
        "against base",
        "worst tenth<br>of devices",
        "worst tenth,<br>against base",
        "DUET<br>against it",
        "another's<br>θ",
        "std over<br>seeds",
    ]
    return grid(head, rows)


def count_plot(table: Table, name: str) -> str | None:
    """Accuracy against the number of images that a device gives."""
    lines = {
        method: [(row.images, row.accuracy.mean) for row in table.rows if row.method == method] for method in LINES
    }
    counts = sorted({images for points in lines.values() for images, _ in points if images})
    base = table.row(BASE, 0)
    if len(counts) < 2 or base is None:
        return None
    lines[BASE] = [(images, base.accuracy.mean) for images in counts]
    colour = {method: SERIES[number] for number, method in enumerate(LINES)}

    def paint(axes: Axes) -> None:
        for method, points in lines.items():
            places = [counts.index(images) for images, _ in points]
            axes.plot(places, [value for _, value in points], "o-", color=colour[method], markersize=3.5)
        axes.set_xticks(range(len(counts)), [str(images) for images in counts])
        axes.set_xlabel("images of a device", color=MUTED)
        axes.set_ylabel("accuracy")
        axes.margins(y=0.12)
        label_ends(axes, [(points[-1][1], method, colour[method]) for method, points in lines.items() if points])

    words = "; ".join(
        f"{method}: " + ", ".join(f"{value:.4f} at {images}" for images, value in points)
        for method, points in lines.items()
    )
    return draw(name, "Accuracy by the number of images that a device gives", words, paint)


def cost_table(results: VisionResults) -> str:
    """What each method costs."""
    rows = [
        (
            method,
            [
                f"{cost.device_values:,}",
                f"{cost.theta_bytes:,}" if cost.theta_bytes else "–",
                "; ".join(map(milliseconds, cost.delays)) or "–",
                seconds(cost.fit_seconds) if cost.fit_seconds else "–",
                escape(DESCRIPTIONS[method]),
            ],
        )
        for method in DESCRIPTIONS
        if (cost := results.costs.get(method)) is not None
    ]
    return grid(
        ["values on<br>the device", "θ, bytes<br>as sent", "from 16 images<br>to a model", "training", ""], rows, DUET
    )


def pictures(results: VisionResults, fleets: Mapping[str, Fleet]) -> str:
    """The first images of some devices, with what each does to them."""
    parts = []
    for part, fleet in fleets.items():
        shown = []
        for device in range(min(SHOWN_DEVICES, len(fleet))):
            shifts = ", ".join(
                f"{shift.kind} {shift.amount:+.0f}°"
                if shift.kind == "rotation"
                else f"{shift.kind} {shift.amount:+.2f}"
                for shift in fleet.shifts[device]
            )
            source = base64.b64encode(strip(fleet.pixels[device, :SHOWN_IMAGES])).decode()
            picture = (
                f'<img src="data:image/png;base64,{source}" alt="{SHOWN_IMAGES} images as the device sees them" '
                'width="100%">'
            )
            shown.append(f"<figure>{picture}<figcaption>{html.escape(shifts)}</figcaption></figure>")
        parts.append(f"<h3>{escape(PARTS[part])}</h3><div class='plots'>{''.join(shown)}</div>")
    return "".join(parts)


def strip(pixels_NCHW: Pixels, scale: int = 2) -> bytes:
    """Images side by side, as PNG."""
    from PIL import Image

    wide = np.concatenate(list(pixels_NCHW), axis=2).repeat(scale, axis=1).repeat(scale, axis=2)
    image = Image.fromarray(wide[0] if len(wide) == 1 else wide.transpose(1, 2, 0))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
