"""What `quality.py` keeps of a comparison, and the pages and the picture that are made of it.

    python benchmarks/quality_pages.py

Makes `results/quality/README.md` and `results/quality/gains.svg` anew from the records beside them (`CELL.json`): no
data and no training are needed, and a cell that is measured again changes its own lines and what counts all cells.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec

from duetgen.comparison.results import BASE, DUET, HEADLINE, ON_BASE, Comparison, Results, Row, Table
from duetgen.comparison.svg import GRID, INK, MUTED, SERIES, VARIABLES, draw_figure
from duetgen.comparison.verdict import OUTCOMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
RESULTS = HERE / "results/quality"
FRESH, OLD, ZERO, ANOTHER = "fresh", "own+20", "zero", "another"
CONDITIONS = (FRESH, OLD, ZERO, ANOTHER)
"""What a record keeps of a method: what it is judged by, theta 20 events old, theta = 0, another device's theta."""

BESIDE = (BASE, "base-wide", "base-long", DUET, "apg-on-base")
"""What the summary shows beside a generator for the finished base model."""

OTHERS = ("item-knn", "ease", BASE, "base-wide", "base-long", "finetune", "apg", "duet-no-swa")
"""What it shows beside DUET trained with its global model."""

LEGEND = (
    "`own+20`: θ 20 events old; `zero`: θ = 0; `another`: another device's θ; `random`: θ of a random history. "
    "`user_auc` is averaged by device, `auc` pools all rows. ± is the deviation over seeds."
)


class Difference(msgspec.Struct, frozen=True):
    """A method less base, with its 95 % interval over devices."""

    mean: float
    low: float | None = None
    high: float | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of all methods by one protocol.

    Attributes:
        values: method to condition (of `CONDITIONS`) to value.
        known: method to value, fresh, for the targets that training knows; empty where all are known or were not told
            apart.
        less_base: method to condition to its difference.
        known_less_base: the same, fresh, for the targets that training knows.
    """

    protocol: str
    metric: str
    values: dict[str, dict[str, float]]
    known: dict[str, float]
    less_base: dict[str, dict[str, Difference]]
    known_less_base: dict[str, Difference]

    def value(self, method: str, condition: str = FRESH) -> float | None:
        """A metric of a method; None where it was not measured."""
        return self.values.get(method, {}).get(condition)

    def difference(self, method: str, condition: str = FRESH) -> Difference | None:
        """A method less base; None where it was not measured."""
        return self.less_base.get(method, {}).get(condition)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a cell.

    Attributes:
        cell: dataset and backbone.
        devices: that are measured.
        seeds: method to number of seeds.
        validation: method to the metric of its validation part, for DUET in both ways of training.
        measured: `ndcg@10` in full (`given` on the text form), and the AUC by device of the last protocol.
    """

    cell: str
    devices: int
    seeds: dict[str, int]
    validation: dict[str, float]
    measured: list[Measured]

    @property
    def dataset(self) -> str:
        """What it is measured on."""
        return self.cell.split("/")[0]

    @property
    def backbone(self) -> str:
        """What is trained."""
        return self.cell.split("/")[1]

    @property
    def both_ways(self) -> bool:
        """Whether DUET was trained in both ways, so that the validation part has a choice."""
        return len(self.validation) == 2

    @property
    def way(self) -> str:
        """How DUET is trained by what the validation part prefers; jointly where only that was run."""
        if not self.both_ways:
            return DUET
        return ON_BASE if self.validation[ON_BASE] > self.validation[DUET] else DUET


def keep(cell: str, results: Results) -> Record:
    """The record of a comparison."""
    table = results.tables[0]
    found = {name: row.validation for name in (DUET, ON_BASE) if (row := table.row(name)) is not None}
    return Record(
        cell=cell,
        devices=table.devices,
        seeds={row.method: len(row.seeds) for row in table.rows},
        validation={name: round(value, 6) for name, value in found.items() if value is not None},
        measured=[measured(table, HEADLINE), measured(results.tables[-1], "user_auc")],
    )


def measured(table: Table, metric: str) -> Measured:
    """What a record keeps of a table."""
    values, known, less, known_less = {}, {}, {}, {}
    for row in table.rows:
        of = {FRESH: row.headline} | {name: name for name in CONDITIONS[1:]}
        kept = {name: row.value(metric, condition) for name, condition in of.items()}
        values[row.method] = {name: round(one.mean, 6) for name, one in kept.items() if one is not None}
        found = {name: difference(against_base(table, row, condition, metric)) for name, condition in of.items()}
        if differences := {name: one for name, one in found.items() if one is not None}:
            less[row.method] = differences
        fresh = row.condition()
        if fresh is not None and "known" in fresh.groups:
            known[row.method] = round(fresh.groups["known"].metrics[metric], 6)
        if (one := difference(against_base(table, row, row.headline, metric, "known"))) is not None:
            known_less[row.method] = one
    return Measured(
        protocol=table.protocol, metric=metric, values=values, known=known, less_base=less, known_less_base=known_less
    )


def against_base(table: Table, row: Row, condition: str, metric: str, group: str = "all") -> Comparison | None:
    """A method under a condition against base; None where it was not measured."""
    base = table.row(BASE)
    return None if base is None else table.find(row.method, condition, BASE, base.headline, metric, group)


def difference(one: Comparison | None) -> Difference | None:
    """What a record keeps of a comparison with base."""
    if one is None:
        return None
    bounds = [None if bound is None else round(bound, 6) for bound in (one.low, one.high)]
    return Difference(round(one.mean, 6), *bounds)


def table_lines(table: Table) -> list[str]:
    """Markdown of one protocol: a row a method, and rows for DUET's theta of other ages and owners."""
    first = table.rows[0]
    pooled = first.value("auc") is not None
    columns = [HEADLINE, "hr@10", "user_auc", *(["auc"] if pooled else []), "log_loss"]
    lines = [
        f"### `{table.protocol}`: {table.targets:,} targets, {table.devices:,} devices, {table.candidates:,.0f} ranked",
        "",
        f"| | {' | '.join(columns)} | {HEADLINE} against base, 95 % interval | |",
        f"|---|{'---:|' * len(columns)}---:|---|",
    ]
    for row in table.rows:
        lines.append(row_line(table, row, row.headline, columns))
        if row.method in (DUET, ON_BASE, "finetune"):
            others = [one.name for one in row.conditions if one.name != row.headline]
            lines += [row_line(table, row, condition, columns) for condition in others]
    repeats = group_lines(table, HEADLINE, ("repeat", "new"), ("repeats", "new items"))
    known = group_lines(table, "user_auc", ("known",), ("targets that training knows",))
    return [*lines, "", *repeats, *known]


def group_lines(table: Table, metric: str, groups: tuple[str, ...], said: tuple[str, ...]) -> list[str]:
    """Markdown of a metric of groups of targets apart; nothing unless every method was measured so."""
    found = [(row.method, one.groups) for row in table.rows if (one := row.condition()) is not None]
    rows = [(method, of) for method, of in found if all(group in of for group in groups)]
    if len(rows) < len(table.rows):
        return []
    heads = [f"{words} ({rows[0][1][group].devices:,} devices)" for group, words in zip(groups, said)]
    lines = [f"| {metric} | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for method, kept in rows:
        lines.append(f"| {method} | {' | '.join(f'{kept[group].metrics[metric]:.4f}' for group in groups)} |")
    return [*lines, ""]


def row_line(table: Table, row: Row, condition: str, columns: list[str]) -> str:
    """A method under a condition."""
    cells = []
    for column in columns:
        value = row.value(column, condition)
        cells.append(
            "" if value is None else f"{value.mean:.4f}" + ("" if value.std is None else f" ± {value.std:.4f}")
        )
    one = against_base(table, row, condition, HEADLINE)
    cells += [interval(one), "" if one is None else OUTCOMES[one.outcome]]
    name = row.method if condition == row.headline else f"{row.method}, `{condition}`"
    return f"| {name} | {' | '.join(cells)} |"


def page(cell: str, results: Results, command: str) -> str:
    """The page of a cell."""
    origin = results.origin
    assert origin is not None
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions[0].items())
    machine, facts, seeds = origin.machines[0], results.dataset, ", ".join(map(str, results.seeds))
    days = " to ".join(dict.fromkeys((origin.first[:10], origin.last[:10])))
    lines = [
        f"# {cell}",
        "",
        results.verdict,
        "",
        f"- `{command}`",
        f"- {days}; commits {', '.join(one[:7] for one in origin.commits)}",
        f"- {versions}; {machine.cpu}, {machine.cores} cores, {machine.device}",
        f"- {facts.devices:,} devices, {facts.items:,} items, {facts.events:,} events",
        f"- split {facts.split}; seeds {seeds}",
        *([f"- {facts.note}"] if facts.note else []),
        *([f"- not run: {', '.join(results.missing)}"] if results.missing else []),
        "",
        LEGEND,
        "",
    ]
    return "\n".join([*lines, *(line for table in results.tables for line in table_lines(table))])


DATASETS = {
    "ml-1m": "MovieLens 1M",
    "amazon-beauty-5core": "Amazon Beauty",
    "yelp-2019-5core": "Yelp",
    "ml-100k": "MovieLens 100K",
    "ml-100k-temporal": "MovieLens 100K, temporal split",
    "ml-latest-small": "MovieLens latest-small",
    "ml-latest-small-temporal": "MovieLens latest-small, temporal split",
    "amazon-musical-instruments-5core": "Amazon Instruments",
    "amazon-musical-instruments-5core-temporal": "Amazon Instruments, temporal split",
    "duet-text-ml-100k-30u30i": "MovieLens 100K, text form",
}
"""Datasets as people call them, in the order of the summary: those that can tell most first."""

BACKBONES = {"sasrec": "SASRec", "gru4rec": "GRU4Rec", "din": "DIN"}


def place(record: Record) -> tuple[int, int]:
    """Where a cell stands in the summary."""
    return list(DATASETS).index(record.dataset), list(BACKBONES).index(record.backbone)


def file_of(cell: str, suffix: str) -> Path:
    """Where the page (`.md`) or the record (`.json`) of a cell lies."""
    return RESULTS / f"{cell.replace('/', '-')}{suffix}"


def records() -> list[Record]:
    """What is kept of every cell, in the order of the summary."""
    return sorted((msgspec.json.decode(file.read_bytes(), type=Record) for file in RESULTS.glob("*.json")), key=place)


def write_cell(cell: str, results: Results, text: str) -> None:
    """Keep a cell: its page and its record."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file_of(cell, ".md").write_text(text)
    file_of(cell, ".json").write_bytes(msgspec.json.format(msgspec.json.encode(keep(cell, results)), indent=1) + b"\n")


def write_summary() -> None:
    """The summary page and its picture, of all cells that are kept."""
    found = records()
    (RESULTS / "README.md").write_text(summary_page(found))
    (RESULTS / "gains.svg").write_text(picture(found))


def summary_page(found: list[Record]) -> str:
    """The picture, and tables of a line a cell: ranking in the whole catalogue, and telling one positive from drawn
    negatives.
    """
    full = f"`{HEADLINE}`, protocol `full` (`given` on the text form)"
    drawn = "AUC by device, protocol `candidates` (one of 100 is right; `given` on the text form)"
    lines = [
        "# Quality on public data",
        "",
        "On the test part, means over seeds. A cell's page has all metrics, protocols, intervals and sources. An empty",
        "field was not run. `duet-no-swa` is DUET without the Stable Weight Adapter; `duet-on-base` and `apg-on-base`",
        "are generators trained for the finished base model, which θ = 0 is there. The last columns: what was",
        "generated less base, with 95 % intervals over devices; the very last is for the targets that training knows,",
        "where not all are known.",
        "`python benchmarks/quality.py --cells CELL --write` measures a cell and makes its page, its record (`.json`)",
        "and this page anew.",
        "",
        "## DUET, trained in the way that the validation part prefers",
        "",
        "![DUET less base in every cell](gains.svg)",
        "",
        counts(found),
        "",
        *preferred_table(found),
        *choice([record for record in found if record.both_ways]),
    ]
    kept = [one for one in found if ON_BASE in one.seeds]
    for index, title in ((0, full), (1, drawn)):
        lines += [f"## {title}", "", *summary_table(found, index, OTHERS, DUET)]
        lines += ["For the finished base model:", "", *summary_table(kept, index, BESIDE, ON_BASE)]
    return "\n".join(lines)


def counts(found: list[Record]) -> str:
    """In how many cells the interval is above zero and below it, in one sentence."""
    said = []
    for index, name in ((0, f"`{HEADLINE}`"), (1, "AUC")):
        gains = [one for record in found if (one := gain(record, index)) is not None]
        above = sum(one.low is not None and one.low > 0 for one in gains)
        below = sum(one.high is not None and one.high < 0 for one in gains)
        said.append(f"in {name} above zero in {above} and below it in {below}")
    return f"Of {len(found)} cells the 95 % interval of DUET less base is {', '.join(said)}."


def gain(record: Record, index: int) -> Difference | None:
    """DUET in the preferred way less base; for the targets that training knows, where those were told apart."""
    measured = record.measured[index]
    return measured.known_less_base.get(record.way) or measured.difference(record.way)


def choice(found: list[Record]) -> list[str]:
    """What choosing by the validation part is worth, over the cells where both ways were run."""
    if not found:
        return []
    seen = [record.validation[ON_BASE] - record.validation[DUET] for record in found]
    came = [record.measured[0].value(ON_BASE) - record.measured[0].value(DUET) for record in found]
    agreed = sum((a > 0) == (b > 0) for a, b in zip(seen, came))
    return [
        f"In {agreed} of the {len(found)} cells with both ways the one that validation prefers is ahead on the test",
        f"part too. On base less jointly is on average {fmean(seen):+.4f} on validation and {fmean(came):+.4f} on",
        "the test part: a generator's pass is chosen on the devices on which the base model's was, so what validation",
        "says of it has been chosen twice.",
        "",
    ]


def preferred_table(found: list[Record]) -> list[str]:
    """A line a cell: which way of training the validation part prefers, and how that one does."""
    beside = (BASE, "base-long", "finetune", "apg")
    head = ["cell", "seeds", "way", "validation (other way)", *beside, "DUET", "θ 20 old", "another's θ", "less base"]
    head += ["20 old less base", "AUC of base", "AUC of DUET", "less base"]
    lines = [
        "Choosing between `duet` and `duet-on-base` by the validation part alone is what we advise; this is what comes",
        f"of it. `{HEADLINE}` in full; the AUC by device in `candidates`. The AUC, and both columns *less base*, are",
        "of the targets that training knows where a page tells them apart. Where one way alone was run, it stands",
        "there without a validation figure.",
        "",
        f"| {' | '.join(head)} |",
        f"|---|---:|---|{'---:|' * (len(head) - 3)}",
    ]
    for record in found:
        ranking, drawn = record.measured
        way = record.way
        other = DUET if way == ON_BASE else ON_BASE
        values = [
            str(record.seeds[way]),
            "on base" if way == ON_BASE else "jointly",
            f"{record.validation[way]:.4f} ({record.validation[other]:.4f})" if record.both_ways else "",
            *(figure(ranking.value(name)) for name in beside),
            *(figure(ranking.value(way, condition)) for condition in (FRESH, OLD, ANOTHER)),
            interval(gain(record, 0)),
            interval(ranking.difference(way, OLD)),
            *known_values(drawn, (BASE, way)),
            interval(gain(record, 1)),
        ]
        lines.append(f"| {link(record)} | {' | '.join(values)} |")
    return [*lines, ""]


def summary_table(found: list[Record], index: int, others: tuple[str, ...], method: str) -> list[str]:
    """A line a cell: a metric of several methods by one of the protocols, and a generating method against base."""
    shown = {method: FRESH, "θ 20 old": OLD, "θ = 0": ZERO, "another's θ": ANOTHER}
    lines = [
        f"| cell | seeds | {' | '.join((*others, *shown))} | fresh | 20 old | fresh, known items |",
        f"|---|{'---:|' * (len(others) + len(shown) + 4)}",
    ]
    for record in found:
        of = record.measured[index]
        values = [figure(of.value(name)) for name in others]
        values += [figure(of.value(method, condition)) for condition in shown.values()]
        values += [interval(of.difference(method, condition)) for condition in (FRESH, OLD)]
        values += [interval(of.known_less_base.get(method))]
        lines.append(f"| {link(record)} | {record.seeds.get(method, 0)} | {' | '.join(values)} |")
    return [*lines, ""]


def link(record: Record) -> str:
    """A cell, leading to its page."""
    return f"[{record.cell}]({file_of(record.cell, '.md').name})"


def figure(value: float | None) -> str:
    """A metric; empty where it was not measured."""
    return "" if value is None else f"{value:.4f}"


def interval(one: Difference | Comparison | None) -> str:
    """A difference and its interval; empty where it was not measured."""
    if one is None:
        return ""
    return f"{one.mean:+.4f}" + ("" if one.low is None or one.high is None else f" ({one.low:+.4f} to {one.high:+.4f})")


def known_values(measured: Measured, methods: tuple[str, ...]) -> list[str]:
    """A metric of several methods for the targets that training knows; for all, where some method's were not told
    apart.
    """
    if all(name in measured.known for name in methods):
        return [figure(measured.known[name]) for name in methods]
    return [figure(measured.value(name)) for name in methods]


PALETTE = {
    INK: ("#1d2330", "#e8ebf2"),
    MUTED: ("#5b6475", "#9aa4b8"),
    GRID: ("#dfe3ea", "#353d4c"),
    SERIES[0]: ("#0b7a53", "#3ecb96"),
    SERIES[1]: ("#8a93a3", "#7f8a9d"),
    SERIES[2]: ("#c2410c", "#fb8a4c"),
}
"""A stand-in of `comparison.svg` to its colour on light and on dark pages."""


def picture(found: list[Record]) -> str:
    """How far DUET, trained in the preferred way, is from base in every cell, as one SVG file for light and dark."""
    height = 0.9 + 0.23 * sum(len(one) + 1 for one in by_dataset(found).values())
    words = " ".join([counts(found), *(told(record) for record in found)])

    def panels(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        paint(left, found, 0, f"{HEADLINE}, DUET less base, % of base")
        paint(right, found, 1, "AUC by device, DUET less base")
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=5, frameon=False, labelcolor=MUTED)

    svg = draw_figure("gains", "DUET less base in every cell", words, panels, (9.4, height))
    light, dark = (
        "".join(f"{VARIABLES[stand_in][4:-1]}:{pair[side]};" for stand_in, pair in PALETTE.items()) for side in (0, 1)
    )
    style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    head, _, body = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{style}{body}'


def by_dataset(found: list[Record]) -> dict[str, list[Record]]:
    """Cells of each dataset."""
    of: dict[str, list[Record]] = {}
    for record in found:
        of.setdefault(record.dataset, []).append(record)
    return of


def paint(axes: Axes, found: list[Record], index: int, label: str) -> None:
    """One panel: the difference of each cell with its interval; for the ranking in per cent of base, and with where old
    and another's theta stand.
    """
    axes.axvline(0, color=MUTED, linewidth=1)
    ticks, names, y = [], [], 0
    for dataset, cells in by_dataset(found).items():
        devices = max(record.devices for record in cells)
        ticks.append(y)
        names.append(f"{DATASETS[dataset]} ({devices:,} devices)")
        for record in cells:
            y += 1
            one, ranking = gain(record, index), record.measured[0]
            ticks.append(y)
            names.append(BACKBONES[record.backbone])
            if one is None:
                continue
            low, high = (one.mean if bound is None else bound for bound in (one.low, one.high))
            colour = SERIES[0] if low > 0 else SERIES[2] if high < 0 else SERIES[1]
            old, another, base = (ranking.value(*of) for of in ((record.way, OLD), (record.way, ANOTHER), (BASE,)))
            of_gain = ranking.known.get(BASE, base) if record.way in ranking.known_less_base else base
            unit = of_gain / 100 if of_gain and not index else 1
            axes.plot([low / unit, high / unit], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
            axes.plot(one.mean / unit, y, "o", color=colour, markersize=5.5)
            if not index and old is not None and another is not None and base:
                axes.plot(100 * (old / base - 1), y, "|", color=INK, markersize=8, markeredgewidth=1.3)
                axes.plot(100 * (another / base - 1), y, "x", color=INK, markersize=4, markeredgewidth=1.1)
        y += 1
    for colour, words in ((SERIES[0], "ahead"), (SERIES[1], "not told apart"), (SERIES[2], "behind")):
        axes.plot([], [], "o-", color=colour, markersize=5.5, linewidth=2.4, label=words)
    axes.plot([], [], "|", color=INK, markersize=8, label="θ 20 events old")
    axes.plot([], [], "x", color=INK, markersize=4, label="another's θ")
    axes.set_yticks(ticks, names)
    axes.set_ylim(y - 0.5, -0.6)
    for name in axes.get_yticklabels():
        name.set_color(MUTED if name.get_text() in BACKBONES.values() else INK)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=4 if index else 6)
    axes.set_xlabel(label)


def told(record: Record) -> str:
    """A cell in words, for those who cannot see the picture."""
    return f"{record.cell}: {interval(gain(record, 0))} in {HEADLINE}, {interval(gain(record, 1))} in AUC."


if __name__ == "__main__":
    write_summary()
