"""`report.html`: one file with everything in it, no script, nothing fetched. What comes from data is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec

from duetgen.comparison.methods.runs import FinishedRun
from duetgen.comparison.methods.table import METHODS, Start, encoder_note
from duetgen.comparison.report.cost_plots import COSTS, cost_plot, delay_plot, oscillation_plot
from duetgen.comparison.report.html_tables import (
    comparison_table,
    cost_table,
    difference_cell,
    figure_cell,
    grid,
    group_table,
    policy_table,
    quality_table,
    said_plainly,
)
from duetgen.comparison.report.numbers import seconds
from duetgen.comparison.report.plots import difference_plot, history_plot, seeds_plot, staleness_plot
from duetgen.comparison.report.results import CLOUD_LIST, DUET, HEADLINE, Results, Table
from duetgen.comparison.report.verdict import best_row, targets_of
from duetgen.evaluation.protocols import full_name
from duetgen.pages.page import escape, figure, page
from duetgen.words import counted, counted_all

NO_SWA = "duet-no-swa"
HOLLOW = "A hollow dot is a difference that is not told apart, or not after correction."
GROUPS = {
    "Cold and warm devices": (HEADLINE, {"cold": "cold: fewer than<br>5 events before", "warm": "warm"}),
    "Repeats and new items": (HEADLINE, {"repeat": "repeat: the device<br>had the item before", "new": "new"}),
    "User AUC of the targets that training knows; all others are missed": ("user_auc", {"known": "known"}),
}
"""What a table of groups is called, its metric, and the head of each group's column."""


def render(results: Results) -> str:
    """The page."""
    return page(
        f"Comparison on {results.dataset.name}", results.verdict, facts(results), alerts(results), sections_of(results)
    )


def render_all(comparisons: Sequence[Results]) -> str:
    """The page of several datasets: the headline of all of them, then each."""
    names = [results.dataset.name for results in comparisons]
    sections = [("overview", "All data sets", overview(comparisons))]
    for number, results in enumerate(comparisons):
        lines = [results.verdict, facts(results), *alerts(results)]
        told = "".join(f"<p>{escape(line)}</p>" for line in lines)
        sections.append((f"data-{number}", results.dataset.name, told))
        sections += [
            (f"d{number}-{anchor}", f"{results.dataset.name}: {title}", body)
            for anchor, title, body in sections_of(results, f"d{number}-")
        ]
    verdicts = " ".join(results.verdict for results in comparisons)
    return page(f"Comparison on {', '.join(names)}", verdicts, "", [], sections)


def sections_of(results: Results, prefix: str = "") -> list[tuple[str, str, str]]:
    """The sections of one dataset; the prefix sets the names inside its pictures apart."""
    return [*backbone_sections(results, prefix), delay_section(results, prefix), provenance_section(results)]


def overview(comparisons: Sequence[Results]) -> str:
    """The headline of every method on every dataset, with its difference to the reference of its table."""
    first = [(results, table) for results in comparisons for table in results.tables if is_first(results, table)]
    methods = dict.fromkeys(row.method for _, table in first for row in table.rows)
    rows = []
    for method in methods:
        cells = []
        for _, table in first:
            row = table.row(method)
            if row is None:
                cells.append("–")
                continue
            shown = figure_cell(row.value(), best_row(table) is row)
            cells.append(f"{shown} {difference_cell(table.against(method, table.reference))}")
        rows.append((method, cells))
    head = [f"{escape(results.dataset.name)}<br>{escape(table.backbone or 'no backbone')}" for results, table in first]
    lead = f"<p>{HEADLINE} by the first protocol, and the difference to the row that the others are compared with.</p>"
    return lead + grid(head, rows, DUET) if rows else ""


def is_first(results: Results, table: Table) -> bool:
    """Whether a table is of the first protocol."""
    return table.protocol == results.tables[0].protocol


def facts(results: Results) -> str:
    """What was measured, in one paragraph."""
    data, job = results.dataset, results.job
    seeds, runs = len(results.seeds), runs_of(results)
    sizes = counted_all({"device": data.devices, "item": data.items, "event": data.events})
    parts = [f"{sizes}; {data.split} split."]
    if seeds:
        parts.append(f"{counted(seeds, 'seed')}; every method with the same data, settings and training budget.")
    if runs:
        parts.append(f"Finished runs on the same data, with settings and seeds of their own: {', '.join(runs)}.")
    found = dict.fromkeys(row.method for table in results.tables for row in table.rows)
    methods = [METHODS[name] for name in found if name not in runs and name in METHODS]
    for start in get_args(Start):
        later = [method.name for method in methods if start in method.uses]
        if later and start == "base-distilled":
            parts.append(
                f"The better one of base and base-distilled on the validation part is the global model of: "
                f"{', '.join(later)}."
            )
        elif later:
            parts.append(f"What starts from the finished {start} model has its training besides: {', '.join(later)}.")
    if note := encoder_note(job.config, [method.name for method in methods]):
        parts.append(note)
    if job.limit_devices is not None:
        parts.append(f"Measured on a choice of at most {counted(job.limit_devices, 'device')}.")
    if data.note:
        parts.append(data.note)
    return " ".join(parts)


def runs_of(results: Results) -> dict[str, FinishedRun]:
    """The finished runs among the rows, by name."""
    return {row.method: row.run for table in results.tables for row in table.rows if row.run is not None}


def alerts(results: Results) -> list[str]:
    """What is missing and what failed, before any figure."""
    lines = []
    if results.missing:
        lines.append(
            f"Not run yet: {', '.join(results.missing)}. The same command goes on with them. "
            "Until then rows may stand on different seeds; differences are taken over those that both methods have."
        )
    lines += [f"Failed: {one.cell}. {one.message} [{one.code}]" for one in results.failed]
    return lines


def backbone_sections(results: Results, prefix: str = "") -> list[tuple[str, str, str]]:
    """A section for each backbone: tables of all protocols, then the plots of the first."""
    sections = []
    for number, backbone in enumerate(dict.fromkeys(table.backbone for table in results.tables)):
        tables = [table for table in results.tables if table.backbone == backbone]
        body = "".join(protocol_part(table) for table in tables) + plots(tables[0], f"{prefix}b{number}")
        alone = "Without a backbone" if results.seeds else "Finished runs"
        sections.append((f"backbone-{number}", backbone or alone, body))
    return sections


POLICIES = (
    "Each policy replayed on devices that run the published graphs, in the log's own time: a θ serves until the policy "
    "asks for the next one. Means over devices, then over seeds."
)
RANKED = {
    "full": "ranked among the catalogue ({:,.0f} items)",
    "candidates": "ranked among {:,.0f} drawn negatives",
    "given": "ranked among {:,.0f} given negatives",
}


def protocol_part(table: Table) -> str:
    """A table of a protocol, what it says, and its details."""
    entries = table.candidates if table.protocol == "full" else table.candidates - 1
    title = f"{full_name(table.protocol, table.met)}: {RANKED[table.protocol].format(entries)}"
    parts = [
        f"<h3>{escape(title)}</h3>",
        f"<p>{escape(targets_of(table))}</p>",
        quality_table(table),
        *(f"<p>{escape(line)}</p>" for line in said_plainly(table)),
        *(
            f"<details><summary>{summary}</summary>{found}</details>"
            for summary, (metric, groups) in GROUPS.items()
            if (found := group_table(table, metric, groups))
        ),
        f"<h4>When devices ask</h4>{found}<p>{escape(POLICIES)}</p>" if (found := policy_table(table)) else "",
        f"<details><summary>Every comparison with its p-value</summary>{comparison_table(table)}</details>"
        if table.comparisons
        else "",
    ]
    return "\n".join(parts)


def plots(table: Table, name: str) -> str:
    """The plots of one backbone."""
    figures = [
        figure(
            difference_plot(table, f"{name}-difference"),
            f"Difference to {table.reference}",
            f"Lines are 95 % intervals over devices. {HOLLOW}",
        ),
        figure(seeds_plot(table, f"{name}-seeds"), "Spread over seeds", "A dot for each seed, a bar at their mean."),
        figure(
            staleness_plot(table, f"{name}-staleness"),
            "Quality as θ grows old",
            of_age(table),
        ),
        figure(
            history_plot(table, f"{name}-history"),
            "Quality by length of history",
            "Few devices lie behind some points; the last stands for all longer histories.",
        ),
        *(
            figure(cost_plot(table, f"{name}-{cost.key}", cost), f"Quality against {cost.label}", cost.caption)
            for cost in COSTS
        ),
        figure(oscillation_plot(table, f"{name}-oscillation"), "What one more event changes", adapter(table)),
    ]
    shown = "".join(figures)
    return (f'<div class="plots">{shown}</div>' if shown else "") + (
        f"<details><summary>All costs</summary>{cost_table(table)}</details>"
    )


def of_age(table: Table) -> str:
    """What the curves of age show."""
    words = "θ generated so many events before it is used; bands are 95 % intervals over devices"
    own = f" {CLOUD_LIST} has a scale of its own." if table.row(CLOUD_LIST) is not None else ""
    if table.row(table.reference) is None:
        return f"{words}.{own}"
    return f"{words} of the difference to {table.reference}, dashed, as in the tables. {HOLLOW}{own}"


def adapter(table: Table) -> str:
    """What the Stable Weight Adapter does to oscillation, where it was measured."""
    without, with_it = table.row(NO_SWA), table.row(DUET)
    text = "Size of the change of the target's log loss when θ is generated with one event more, all else alike."
    if without is None or with_it is None or without.oscillation is None or with_it.oscillation is None:
        return text
    return (
        f"{text} Without the Stable Weight Adapter {without.oscillation.log_loss:.3f} nats, "
        f"with it {with_it.oscillation.log_loss:.3f}."
    )


def delay_section(results: Results, prefix: str = "") -> tuple[str, str, str]:
    """Time until a device has its own parameters."""
    first = [table for table in results.tables if is_first(results, table)]
    svg = delay_plot(first, f"{prefix}delay")
    caption = "One device, in torch, on one thread of the processor: one forward pass of the generator"
    tuned = any(row.cost.finetuning_ms is not None for table in first for row in table.rows)
    caption += ", or training on the device's own events." if tuned else "."
    body = figure(svg, "Time for one device", caption)
    return ("delay", "Generation and fine-tuning", f'<div class="plots">{body}</div>' if body else "")


def provenance_section(results: Results) -> tuple[str, str, str]:
    """Where the figures come from, and how to read them."""
    entries: list[tuple[str, str]] = [
        ("dataset", f"{results.dataset.name}, content {results.dataset.sha256[:16]}"),
        *([("seeds", ", ".join(map(str, results.seeds)))] if results.seeds else []),
        *((f"run {name}", f"{run.path}, content {run.sha256[:16]}") for name, run in runs_of(results).items()),
    ]
    origin = results.origin
    if origin is not None:
        entries += [
            ("measured", origin.first if origin.first == origin.last else f"{origin.first} to {origin.last}"),
            ("commit", ", ".join(origin.commits)),
            ("versions", "; ".join(", ".join(f"{k} {v}" for k, v in one.items()) for one in origin.versions)),
            (
                "machine",
                "; ".join(f"{m.cpu}, {m.cores} cores, {m.threads} thread(s), {m.device}" for m in origin.machines),
            ),
            ("computing", seconds(sum(cell.fit_seconds + cell.evaluation_seconds for cell in results.cells))),
        ]
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in entries)
    settings = msgspec.toml.encode(results.job.config).decode()
    reading = "".join(f"<p>{escape(line)}</p>" for line in HOW_TO_READ)
    body = f"<dl>{items}</dl>\n<details><summary>How to read the figures</summary>{reading}</details>"
    if results.seeds:
        shared = f"<summary>Settings that all methods share</summary><pre>{escape(settings)}</pre>"
        body += f"\n<details>{shared}</details>"
    return ("provenance", "Provenance", body)


HOW_TO_READ: Sequence[str] = (
    (
        "Every metric is averaged over a device's targets, then over devices. Differences are taken device by device, "
        "after averaging over seeds; intervals come from drawing devices with replacement, p-values from flipping the "
        "signs of the differences at random."
    ),
    (
        "p-values are corrected by Holm's method for all comparisons of a metric in a table: in the first one both "
        "columns of differences together, cold and warm targets, repeats and new items, ages of θ, its parts "
        "and controls each on their own. "
        "A method is ahead where the whole interval lies above zero, behind where it lies below, and not told apart "
        "where it holds zero, which does not mean that two methods are equal. “Not after correction” is an interval "
        "that leaves zero out beside a corrected p-value of 0.05 or more: with so many comparisons that may be chance."
    ),
    (
        "d_z is the mean difference in standard deviations of the differences. “Another's” is the quality with the θ "
        "of another device: if it is as good as a device's own, the parameters are not personal. base is the global "
        "model alone. cloud ranks on the cloud itself, with everything that it has seen; cloud-list is what a device "
        "has of that ranking that shows the cloud's list and nothing else."
    ),
)
