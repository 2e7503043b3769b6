"""What a comparison says, in words: whichever way it went, and plainly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from duetgen.comparison.report.numbers import interval, p_value
from duetgen.comparison.report.results import BASE, DUET, HEADLINE, Comparison, Row, Table
from duetgen.evaluation.protocols import missed_targets
from duetgen.words import counted

MOST_NAMES: Final = 5


def verdict(dataset: str, tables: Sequence[Table], missing: int) -> str:
    """One sentence about the first protocol, on `ndcg@10`."""
    unfinished = f" ({missing} of the cells asked for {'is' if missing == 1 else 'are'} missing)" if missing else ""
    if not tables:
        return f"Nothing was measured on {dataset} yet{unfinished}."
    first = [table for table in tables if table.protocol == tables[0].protocol]
    sentence = about_duet(first) or about_best(first)
    return f"On {dataset} ({counted(first[0].devices, 'device')}), {sentence}{unfinished}."


def about_duet(tables: Sequence[Table]) -> str | None:
    """DUET against base, and against all others, over the backbones; None where either is missing."""
    against = [(table, table.against(DUET, table.reference)) for table in tables]
    found = [(table, one) for table, one in against if one is not None]
    if not found:
        return None
    parts = [f"{against_base(one)}{with_backbone(table, tables)}" for table, one in found]
    beaten, alike, ahead = list[str](), list[str](), list[str]()
    for table, _ in found:
        for row in table.rows:
            # The comparison has the rival first: where it is behind, DUET wins.
            other = None if row.method in (DUET, table.reference) else table.against(row.method, DUET)
            if other is not None:
                those = {"behind": beaten, "ahead": ahead}.get(other.outcome, alike)
                if row.method not in those:
                    those.append(row.method)
    words = []
    if beaten:
        words.append(f"it is ahead of {named(beaten)}")
    if alike:
        words.append(f"not told apart from {named(alike)}")
    if ahead:
        words.append(f"behind {listed(ahead)}")
    if words and not beaten:
        words[0] = f"it is {words[0]}"
    return "duet " + listed(parts) + ("; " + listed(words) if words else "")


def named(methods: Sequence[str]) -> str:
    """Some methods by name; many by their number. Those that DUET loses to are always named."""
    return listed(methods) if len(methods) <= MOST_NAMES else f"{len(methods)} of the others"


def with_backbone(table: Table, tables: Sequence[Table]) -> str:
    """The backbone, where there are several."""
    return f" with {table.backbone}" if len(tables) > 1 and table.backbone else ""


def against_base(one: Comparison) -> str:
    """DUET, or another, against base, or what stands for it, in numbers."""
    told = {"ahead": "is ahead of", "behind": "is behind"}.get(one.outcome, "is not told apart from")
    numbers = [f"{one.mean:+.4f} {HEADLINE}", *([] if one.relative is None else [f"{one.relative:+.0%}"])]
    if one.outcome != "no interval":
        numbers.append(f"95 % interval {interval(one.low, one.high)}")
    if one.outcome in ("no interval", "not after correction"):
        numbers.append(said(one))
    return f"{told} {one.reference}: {', '.join(numbers)}"


def said(one: Comparison) -> str:
    """The outcome as it stands beside the interval; with the corrected p-value where that decides against it."""
    return f"{one.outcome} (p {p_value(one.p_holm)})" if one.outcome == "not after correction" else one.outcome


def about_best(tables: Sequence[Table]) -> str:
    """Which method has the highest figure, where DUET or base is missing; of finished runs, against the first."""
    parts = []
    for table in tables:
        best = best_row(table)
        if best is not None:
            value = best.value()
            assert value is not None
            part = f"{best.method} has the highest {HEADLINE}, {value.mean:.4f}{with_backbone(table, tables)}"
            one = table.against(best.method, table.reference) if table.reference != BASE else None
            parts.append(part if one is None else f"{part}, and {against_base(one)}")
    return listed(parts) if parts else f"no cell has {HEADLINE}"


def targets_of(table: Table) -> str:
    """How many targets there are, and which of them nobody can hit."""
    told = f"{counted(table.targets, 'target')} of {counted(table.devices, 'device')}."
    missed = missed_targets(table.targets, table.unknown_targets, table.repeat_targets, table.met)
    return f"{told} {missed}" if missed else told


def best_row(table: Table, metric: str = HEADLINE) -> Row | None:
    """The row with the highest value; what nobody could tell apart from it is another matter."""
    rows = [(value.mean, row) for row in table.rows if (value := row.value(metric)) is not None]
    return max(rows, key=lambda one: one[0])[1] if rows else None


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
