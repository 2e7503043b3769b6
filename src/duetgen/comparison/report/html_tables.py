"""The tables of the report, as HTML. Names come from fixed lists, and are escaped all the same."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import get_args

import msgspec

from duetgen.comparison.report.numbers import count, interval, milliseconds, p_value, seconds, signed
from duetgen.comparison.report.results import DUET, HEADLINE, JOINTLY, METRICS, PARTS, Comparison, Estimate, Row, Table
from duetgen.comparison.report.verdict import best_row, listed, said
from duetgen.evaluation.significance import Outcome, outcome
from duetgen.words import counted

MARKS = {"ahead": "▲", "behind": "▼"}


def grid(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], marked: str = "") -> str:
    """A table that scrolls sideways: column titles, and for each row its name and its cells, already HTML."""
    lines = []
    for name, cells in rows:
        mark = ' class="duet"' if name == marked else ""
        columns = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr{mark}><th scope="row">{html.escape(name)}</th>{columns}</tr>')
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>'
        f"<thead><tr><th></th>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def figure_cell(value: Estimate | None, best: bool = False) -> str:
    """A mean over its interval; the best in bold."""
    if value is None:
        return "–"
    mean = f"<b>{value.mean:.4f}</b>" if best else f"{value.mean:.4f}"
    return mean + (
        "" if value.low is None or value.high is None else f"<small>{value.low:.4f} to {value.high:.4f}</small>"
    )


def difference_cell(one: Comparison | None) -> str:
    """A difference, its interval, and what it comes to, in colour, sign and word."""
    if one is None:
        return "–"
    bounds = interval(one.low, one.high).replace("-", "−")
    mark = f'<span aria-hidden="true">{MARKS.get(one.outcome, "○")}</span> {said(one).replace("(p ", "(p&nbsp;")}'
    colour = one.outcome if one.outcome in MARKS else "undecided"
    return f'<span class="{colour}">{signed(one.mean)}</span><small>{bounds}</small><small class="said">{mark}</small>'


def quality_table(table: Table) -> str:
    """Each method: quality, difference to base and to DUET, the controls, and size."""
    aged = table.shown_age()
    best = {metric: best_row(table, metric) for metric in METRICS}
    has_base = table.row(table.reference) is not None
    has_duet = table.row(DUET) is not None and table.reference != DUET
    against = f"against {html.escape(table.reference)}"
    alone = [name for name in PARTS if any(row.condition(name) is not None for row in table.rows)]
    shows_repeats = table.met == "show" and table.repeat_targets > 0
    rows = []
    for row in table.rows:
        headline = row.value()
        cells = [figure_cell(headline, best[HEADLINE] is row)]
        if has_base:
            cells.append(difference_cell(table.against(row.method, table.reference)))
        if has_duet:
            turned = row.method == table.reference
            cells.append(difference_cell(flipped(table) if turned else table.against(row.method, DUET)))
        if shows_repeats:
            condition = row.condition()
            new = condition.groups.get("new") if condition is not None else None
            cells.append("–" if new is None else f"{new.metrics[HEADLINE]:.4f}")
            if has_base:
                cells.append(difference_cell(table.against(row.method, table.reference, group="new")))
        cells.append(figure_cell(row.value("user_auc"), best["user_auc"] is row))
        if aged:
            cells.append(plain(row, f"own+{aged}"))
        cells += [plain(row, name) for name in (*alone, "another", "zero")]
        cells.append(spread_cell(headline))
        rows.append((row.method, cells))
    head = [
        HEADLINE,
        *([against] if has_base else []),
        *(["against duet"] if has_duet else []),
        *(["new items<br>alone"] if shows_repeats else []),
        *([f"new items,<br>{against}"] if shows_repeats and has_base else []),
        "user AUC",
        *([f"θ {aged}<br>events old"] if aged else []),
        *(PARTS[name].replace(" ", "<br>") for name in alone),
        "another's<br>θ",
        "θ = 0",
        "std over<br>seeds",
    ]
    return grid(head, rows, DUET)


def spread_cell(value: Estimate | None) -> str:
    """The standard deviation over seeds, and how many there are."""
    if value is None:
        return "–"
    seeds = counted(len(value.by_seed), "seed")
    return seeds if value.std is None else f"{value.std:.4f}<small>{seeds}</small>"


def flipped(table: Table) -> Comparison | None:
    """Base, or what stands for it, against DUET, from the comparison the other way round."""
    one = table.against(DUET, table.reference)
    if one is None:
        return None
    low, high = (None if one.high is None else -one.high), (None if one.low is None else -one.low)
    other = outcome(low, high, one.p_holm)
    return msgspec.structs.replace(one, mean=-one.mean, low=low, high=high, outcome=other)


def plain(row: Row, condition: str) -> str:
    """The headline metric under a condition."""
    value = row.value(HEADLINE, condition) if row.personal else None
    return "–" if value is None else f"{value.mean:.4f}"


def said_plainly(table: Table) -> list[str]:
    """Wins, ties and losses in words: against base, then against DUET."""
    lines = []
    for reference in dict.fromkeys((table.reference, DUET)):
        found: dict[str, list[str]] = {name: [] for name in get_args(Outcome)}
        for row in table.rows:
            one = table.against(row.method, reference)
            if one is not None:
                found[one.outcome].append(row.method)
        words = [f"{name}: {listed(methods)}" for name, methods in found.items() if methods]
        if words:
            lines.append(f"Against {reference} in {HEADLINE}, {'; '.join(words)}.")
    # The validation part is ranked in full, whatever the protocol of the test part is: said once.
    preferred = table.preferred() if table.protocol != "candidates" else None
    if preferred is not None:
        said = ", ".join(f"{row.method} {row.validation:.4f}" for row in table.rows if row.method in (DUET, JOINTLY))
        lines.append(
            f"Of DUET's two ways of training, the validation part prefers {preferred.method}: {HEADLINE} {said}."
        )
    return lines


def group_table(table: Table, metric: str, groups: dict[str, str]) -> str:
    """A metric of groups of targets, by what their columns say; nothing where no target is in the first."""
    if not any(next(iter(groups)) in c.groups for row in table.rows if (c := row.condition()) is not None):
        return ""
    rows = []
    for row in table.rows:
        condition, cells = row.condition(), []
        for group in groups:
            kept = condition.groups.get(group) if condition is not None else None
            cells += [
                "–" if kept is None else f"{kept.metrics[metric]:.4f}<small>{counted(kept.devices, 'device')}</small>"
            ]
            cells.append(difference_cell(table.against(row.method, table.reference, metric, group=group)))
        rows.append((row.method, cells))
    against = f"against {html.escape(table.reference)}"
    head = [text for group, said in groups.items() for text in (said, f"{group},<br>{against}")]
    return grid(head, rows, DUET)


def policy_table(table: Table) -> str:
    """What came of each policy of requests; nothing where none was replayed."""
    rows = [
        (
            f"{row.method}, {one.policy}",
            [
                f"{one.metrics[HEADLINE]:.4f}",
                signed(one.gain(HEADLINE)),
                f"{one.requests:,.1f}",
                "–" if one.age is None else f"{one.age:,.1f}",
                f"{one.metrics['user_auc']:.4f}",
            ],
        )
        for row in table.rows
        for one in row.policies
    ]
    head = [HEADLINE, "less θ = 0", "requests<br>a device", "age of θ,<br>events", "user AUC"]
    return grid(head, rows) if rows else ""


def comparison_table(table: Table) -> str:
    """Every comparison."""
    rows = []
    for one in table.comparisons:
        group = "" if one.group == "all" else f", {one.group} targets"
        name = f"{one.method} ({one.condition}) − {one.reference} ({one.reference_condition}){group}"
        rows.append(
            (
                name,
                [
                    one.metric,
                    difference_cell(one),
                    "–" if one.relative is None else f"{one.relative:+.1%}".replace("-", "−"),
                    p_value(one.p),
                    p_value(one.p_holm),
                    "–" if one.effect_size is None else signed(one.effect_size, 2),
                    "–" if one.std is None else f"{one.std:.4f}",
                    f"{one.devices:,}",
                ],
            )
        )
    return grid(["metric", "difference", "relative", "p", "p, Holm", "d_z", "std over seeds", "devices"], rows)


def cost_table(table: Table) -> str:
    """What each method costs."""
    rows = []
    for row in table.rows:
        cost = row.cost
        rows.append(
            (
                row.method,
                [
                    f"{cost.parameters:,}",
                    f"{cost.device_parameters:,}",
                    f"{cost.device_bytes / 1000:,.0f}",
                    f"{cost.theta_bytes:,}" if cost.theta_bytes else "–",
                    f"{cost.opinion_bytes:,}" if cost.opinion_bytes else "–",
                    count(cost.recommendation_flops),
                    "–" if cost.generation_flops is None else count(cost.generation_flops),
                    milliseconds(cost.scoring_ms),
                    "–" if cost.generation_ms is None else milliseconds(cost.generation_ms),
                    "–" if cost.finetuning_ms is None else milliseconds(cost.finetuning_ms),
                    seconds(row.fit_seconds),
                ],
            )
        )
    head = [
        "parameters",
        "on the<br>device",
        "kB with<br>int8 items",
        "θ, bytes<br>as sent",
        "of these,<br>opinions",
        "FLOPs a re-<br>commendation",
        "FLOPs<br>a θ",
        "scoring 100<br>candidates",
        "on the cloud,<br>one θ or list",
        "fine-tuning<br>one device",
        "training",
    ]
    return grid(head, rows, DUET)
