"""Quality on real public data: DUET and what it is compared with, trained alike, measured on the test part.

    DUETGEN_DATA=/path/to/data python benchmarks/quality.py [--cells ml-100k/sasrec …] [--methods duet,base] [--seeds 1]
        [--out out/quality] [--jobs 1] [--budget MINUTES] [--write]

Each cell is a dataset, a split and a backbone: one `duet compare`, which can be killed at any moment and goes on with
the same command. All methods of a cell share data, settings and training budget; `SETTINGS` were chosen on validation
parts, but for cells without a page in `results/quality/`: those have the settings of the nearest cell with one. With
`--write` the tables of cells that have DUET go to `benchmarks/results/quality/`, without any row of a dataset.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duetgen.comparison.results import BASE, DUET, HEADLINE, ON_BASE, Results, Row, Table
from duetgen.comparison.verdict import OUTCOMES
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import Dataset

HERE = Path(__file__).parent
RESULTS = HERE / "results/quality"
COMMAND = [sys.executable, "-c", "from duetgen.cli import main; main()"]
MAIN = (
    "popular",
    "item-knn",
    "ease",
    "base",
    "base-wide",
    "base-long",
    "finetune",
    "apg",
    "apg-on-base",
    "duet",
    "duet-on-base",
    "duet-no-swa",
)
LARGE_MAIN = tuple(name for name in MAIN if name not in ("ease", "duet-no-swa"))
"""For large catalogues: EASE inverts a matrix of items by items, and DUET without the adapter takes as long as DUET."""
PAIRWISE = ("base", "base-long", "finetune", "apg", "apg-on-base", "duet", "duet-on-base")
"""For DIN, which scores each candidate anew and takes hours for the others."""
GIVEN = ("popular", "item-knn", "base", "finetune", "apg", "apg-on-base", "duet", "duet-on-base")
"""For the text form, whose rows have small windows."""

BESIDE = (BASE, "base-wide", "base-long", DUET, "apg-on-base")
"""What the summary shows beside a generator for the finished base model."""

LEGEND = (
    "`own+20`: θ 20 events old; `zero`: θ = 0; `another`: another device's θ; `random`: θ of a random history. "
    "`user_auc` is averaged by device, `auc` pools all rows. ± is the deviation over seeds."
)

INPUTS: dict[str, tuple[str, PrepareConfig]] = {
    "ml-100k": ("ml-100k/raw/u.data", PrepareConfig(split="leave-one-out", name="ml-100k")),
    "ml-100k-temporal": ("ml-100k/raw/u.data", PrepareConfig(split="temporal", name="ml-100k-temporal")),
    "ml-latest-small": (
        "ml-latest-small/raw/ratings.csv",
        PrepareConfig(split="leave-one-out", min_item_events=5, name="ml-latest-small"),
    ),
    "ml-latest-small-temporal": (
        "ml-latest-small/raw/ratings.csv",
        PrepareConfig(split="temporal", min_item_events=5, name="ml-latest-small-temporal"),
    ),
    "amazon-musical-instruments-5core": (
        "amazon-musical-instruments-5core/interactions.csv.gz",
        PrepareConfig(split="leave-one-out", name="amazon-musical-instruments-5core"),
    ),
    "amazon-musical-instruments-5core-temporal": (
        "amazon-musical-instruments-5core/interactions.csv.gz",
        PrepareConfig(split="temporal", name="amazon-musical-instruments-5core-temporal"),
    ),
    "ml-1m": ("ml-1m/interactions.csv.gz", PrepareConfig(split="leave-one-out", name="ml-1m")),
    "amazon-beauty-5core": (
        "amazon-beauty-5core/interactions.csv.gz",
        PrepareConfig(split="leave-one-out", name="amazon-beauty-5core"),
    ),
    "yelp-2019-5core": (
        "yelp-2019-5core/interactions.csv.gz",
        PrepareConfig(split="leave-one-out", name="yelp-2019-5core"),
    ),
    "duet-text-ml-100k-30u30i": (
        "duet-text-ml-100k-30u30i/train.txt.gz",
        PrepareConfig(source="duet-text", name="duet-text-ml-100k-30u30i"),
    ),
}
"""Dataset to its file below DUETGEN_DATA, and how it is prepared."""

SMALL = {
    "optimiser.batch_positions": 1024,
    "optimiser.unknown_share": 0.1,
    "optimiser.patience": 12,
    "optimiser.epochs": 30,
}
"""For sets of under a thousand devices with long histories: small steps."""

SPARSE = {
    "optimiser.batch_positions": 256,
    "optimiser.generator_rate": 0.2,
    "model.history.share_embedding": True,
}
"""For sets of short histories, nearly all of which the device's window holds: smaller steps, and a generator that has
little to memorise with and is slow to do so."""

DIN = {"validation_devices": 1000}
"""For a backbone that scores each candidate anew."""

SETTINGS: dict[str, dict[str, Any]] = {
    "ml-100k": SMALL,
    "ml-latest-small": SMALL | SPARSE | {"optimiser.epochs": 24},
    "duet-text-ml-100k-30u30i": SMALL,
    "amazon-musical-instruments-5core": SPARSE
    | {"model.backbone.dropout": 0.3, "optimiser.unknown_share": 0.1, "optimiser.epochs": 40, "optimiser.patience": 20},
    "amazon-beauty-5core": SPARSE | {"model.backbone.dropout": 0.4, "optimiser.epochs": 24},
    "yelp-2019-5core": SPARSE
    | {
        "optimiser.batch_positions": 512,
        "model.backbone.dropout": 0.0,
        "optimiser.epochs": 10,
        "optimiser.patience": 4,
    },
    "ml-1m": {
        # A second softmax on all positions would cost a third of the time.
        "objective.fallback_share": 0.5,
        "optimiser.batch_positions": 1024,
        "optimiser.epochs": 30,
        "model.backbone.dropout": 0.1,
        "model.history.length": 200,
        "model.history.event_dropout": 0.2,
        "model.history.encoder": "gru",
        "model.generator.width": 32,
    },
    "amazon-musical-instruments-5core/gru4rec": {"optimiser.epochs": 80},
    "yelp-2019-5core/gru4rec": {"optimiser.epochs": 20},
    "ml-100k/din": DIN | {"optimiser.batch_positions": 512, "optimiser.epochs": 16},
    "ml-latest-small/din": DIN | {"optimiser.batch_positions": 512, "optimiser.epochs": 16},
    "ml-1m/gru4rec": {"optimiser.epochs": 12},
    "ml-1m/din": DIN | {"optimiser.epochs": 5},
    "amazon-beauty-5core/din": DIN | {"optimiser.epochs": 12},
    "yelp-2019-5core/din": DIN | {"optimiser.epochs": 8},
}
"""Dataset or cell to the settings that are not the defaults, alike for all methods and splits; by validation parts."""


@dataclass(frozen=True)
class Plan:
    """What is compared in a cell.

    Attributes:
        methods: by name.
        seeds: how many.
        limit_devices: devices that are measured, drawn by seed, where measuring all takes hours: a backbone that scores
            each item of a large catalogue anew. None for all.
    """

    methods: tuple[str, ...] = MAIN
    seeds: int = 3
    limit_devices: int | None = None


CELLS: dict[str, Plan] = {
    "ml-100k/sasrec": Plan(),
    "ml-100k/gru4rec": Plan(),
    "ml-100k/din": Plan(PAIRWISE),
    "ml-100k-temporal/sasrec": Plan(),
    "ml-100k-temporal/gru4rec": Plan(),
    "ml-100k-temporal/din": Plan(PAIRWISE),
    "ml-latest-small/sasrec": Plan(),
    "ml-latest-small/gru4rec": Plan(),
    "ml-latest-small/din": Plan(PAIRWISE),
    "ml-latest-small-temporal/sasrec": Plan(),
    "ml-latest-small-temporal/gru4rec": Plan(),
    "ml-latest-small-temporal/din": Plan(PAIRWISE),
    "amazon-musical-instruments-5core/sasrec": Plan(),
    "amazon-musical-instruments-5core/gru4rec": Plan(),
    "amazon-musical-instruments-5core/din": Plan(PAIRWISE),
    "amazon-musical-instruments-5core-temporal/sasrec": Plan(),
    "amazon-musical-instruments-5core-temporal/gru4rec": Plan(),
    "amazon-musical-instruments-5core-temporal/din": Plan(PAIRWISE),
    "duet-text-ml-100k-30u30i/sasrec": Plan(GIVEN, seeds=1),
    "duet-text-ml-100k-30u30i/gru4rec": Plan(GIVEN, seeds=1),
    "ml-1m/sasrec": Plan(seeds=1),
    "ml-1m/gru4rec": Plan(seeds=1),
    "ml-1m/din": Plan(PAIRWISE, seeds=1, limit_devices=2_000),
    "amazon-beauty-5core/sasrec": Plan(LARGE_MAIN, seeds=1),
    "amazon-beauty-5core/gru4rec": Plan(LARGE_MAIN, seeds=1),
    "amazon-beauty-5core/din": Plan(PAIRWISE, seeds=1, limit_devices=2_000),
    "yelp-2019-5core/sasrec": Plan(LARGE_MAIN, seeds=1),
    "yelp-2019-5core/gru4rec": Plan(LARGE_MAIN, seeds=1),
    "yelp-2019-5core/din": Plan(PAIRWISE, seeds=1, limit_devices=2_000),
}
"""All cells; small sets first, the dearest last of each set."""


def open_dataset(name: str, data: Path, out: Path) -> Dataset:
    """The dataset folder of a name, prepared if it is not there."""
    folder = out / "datasets" / name
    if not (folder / Dataset.marker).is_file():
        file, config = INPUTS[name]
        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare(data / file, folder, config)
    return Dataset(folder)


def settings(name: str, backbone: str) -> dict[str, Any]:
    """What is not the default for a dataset and a backbone."""
    of = name.removesuffix("-temporal")
    return SETTINGS.get(of, {}) | SETTINGS.get(f"{of}/{backbone}", {})


def run_cell(cell: str, plan: Plan, data: Path, out: Path, jobs: int, budget: float | None) -> Results | None:
    """Compare the methods of a cell with `duet compare`; None where nothing came of it."""
    name, backbone = cell.split("/")
    dataset = open_dataset(name, data, out)
    root = out / "comparisons" / cell.replace("/", "-")
    words = ["compare", str(dataset.root), "--out", str(root), "--backbones", backbone, "--jobs", str(jobs)]
    words += ["--methods", ",".join(plan.methods), "--seeds", str(plan.seeds)]
    words += [] if plan.limit_devices is None else ["--limit-devices", str(plan.limit_devices)]
    words += [] if budget is None else ["--budget", str(budget)]
    for key, value in settings(name, backbone).items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL) as comparison:
        try:
            code = comparison.wait()
        finally:
            comparison.terminate()
    # 1: a method failed; the results of the others are there.
    return Results.from_json((root / "results.json").read_bytes()) if code in (0, 1) else None


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
    known = group_lines(table, "user_auc", ("known", "unknown"), ("known items", "the unknown item"))
    return [*lines, "", *repeats, *known]


def group_lines(table: Table, metric: str, groups: tuple[str, ...], said: tuple[str, ...]) -> list[str]:
    """Markdown of a metric of groups of targets apart; nothing unless every method was measured so."""
    rows = [(row.method, one.groups) for row in table.rows if (one := row.condition()) and groups[0] in one.groups]
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
    base = table.row(BASE)
    one = None if base is None else table.find(row.method, condition, BASE, base.headline, HEADLINE)
    bounds = "" if one is None or one.low is None or one.high is None else f" ({one.low:+.4f} to {one.high:+.4f})"
    cells += ["", ""] if one is None else [f"{one.mean:+.4f}{bounds}", OUTCOMES[one.outcome]]
    name = row.method if condition == row.headline else f"{row.method}, `{condition}`"
    return f"| {name} | {' | '.join(cells)} |"


def page(cell: str, results: Results, command: str) -> str:
    """The page of a cell."""
    origin = results.origin
    assert origin is not None
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions[0].items())
    machine, facts, seeds = origin.machines[0], results.dataset, ", ".join(map(str, results.seeds))
    lines = [
        f"# {cell}",
        "",
        results.verdict,
        "",
        f"- `{command}`",
        f"- {origin.first[:10]} to {origin.last[:10]}; commits {', '.join(one[:7] for one in origin.commits)}",
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


def summary_page(found: dict[str, Results]) -> str:
    """Tables of a line a cell: ranking in the whole catalogue, and telling one positive from drawn negatives."""
    lines = [
        "# Quality on public data",
        "",
        "On the test part, means over seeds. A cell's page has all metrics, protocols, intervals and sources. An empty",
        "field was not run. `duet-no-swa` is DUET without the Stable Weight Adapter; `duet-on-base` and `apg-on-base`",
        "are generators trained for the finished base model, which θ = 0 is there. The last columns: what was",
        "generated less base, with 95 % intervals over devices; the very last is for the targets that training knows,",
        "where not all are known.",
        "`python benchmarks/quality.py --write` makes all of this.",
        "",
    ]
    full = f"`{HEADLINE}`, protocol `full` (`given` on the text form)"
    drawn = "AUC by device, protocol `candidates` (one of 100 is right)"
    lines += ["## DUET, trained in the way that the validation part prefers", "", *preferred_table(found)]
    others = ("item-knn", "ease", BASE, "base-wide", "base-long", "finetune", "apg", "duet-no-swa")
    kept = {cell: one for cell, one in found.items() if one.tables[0].row(ON_BASE) is not None}
    for index, metric, title in ((0, HEADLINE, full), (1, "user_auc", drawn)):
        lines += [f"## {title}", "", *summary_table(found, index, metric, others, DUET)]
        lines += ["For the finished base model:", "", *summary_table(kept, index, metric, BESIDE, ON_BASE)]
    return "\n".join(lines)


def preferred_table(found: dict[str, Results]) -> list[str]:
    """A line a cell that has both ways of training: which one the validation part prefers, and how that one does."""
    beside = (BASE, "base-long", "finetune", "apg")
    head = ["cell", "way", "validation (other way)", *beside, "DUET", "θ 20 old", "another's θ", "less base"]
    head += ["20 old less base", "AUC of base", "AUC of DUET", "less base"]
    lines = [
        "Choosing between `duet` and `duet-on-base` by the validation part alone is what we advise; this is what comes",
        f"of it. `{HEADLINE}` in full; the AUC by device in `candidates`, of items that training knows where a page",
        "tells them apart: the AUC of the unknown item says only where a model happens to rank that one entry.",
        "",
        f"| {' | '.join(head)} |",
        f"|---|---|{'---:|' * (len(head) - 2)}",
    ]
    for cell, results in found.items():
        table, drawn = results.tables[0], results.tables[-1]
        row = table.preferred()
        if row is None:
            continue
        other = table.row(DUET if row.method == ON_BASE else ON_BASE)
        assert other is not None
        values = [
            "on base" if row.method == ON_BASE else "jointly",
            f"{row.validation:.4f} ({other.validation:.4f})",
            *(figure(table.row(name), HEADLINE) for name in beside),
            *(figure(row, HEADLINE, condition) for condition in (None, "own+20", "another")),
            *(difference(table, HEADLINE, row.method, condition) for condition in ("own", "own+20")),
            *known_aucs(drawn, (BASE, row.method)),
            difference(drawn, "user_auc", row.method, "own", "known")
            or difference(drawn, "user_auc", row.method, "own"),
        ]
        lines.append(f"| [{cell}]({cell.replace('/', '-')}.md) | {' | '.join(values)} |")
    return [*lines, ""]


def summary_table(
    found: dict[str, Results], index: int, metric: str, others: tuple[str, ...], method: str
) -> list[str]:
    """A line a cell: a metric of several methods by one of the protocols, and a generating method against base."""
    conditions = {method: None, "θ 20 old": "own+20", "θ = 0": "zero", "another's θ": "another"}
    lines = [
        f"| cell | seeds | {' | '.join((*others, *conditions))} | fresh | 20 old | fresh, known items |",
        f"|---|{'---:|' * (len(others) + len(conditions) + 4)}",
    ]
    for cell, results in found.items():
        if index >= len(results.tables):
            continue
        table = results.tables[index]
        row = table.row(method)
        values = [figure(table.row(name), metric) for name in others]
        values += [figure(row, metric, condition) for condition in conditions.values()]
        values += [difference(table, metric, method, condition) for condition in ("own", "own+20")]
        values += [difference(table, metric, method, "own", "known")]
        page = f"[{cell}]({cell.replace('/', '-')}.md)"
        lines.append(f"| {page} | {len(row.seeds) if row is not None else 0} | {' | '.join(values)} |")
    return [*lines, ""]


def difference(table: Table, metric: str, method: str, condition: str, group: str = "all") -> str:
    """A method under a condition less base, and its interval; empty where it was not measured."""
    base = table.row(BASE)
    one = None if base is None else table.find(method, condition, BASE, base.headline, metric, group)
    if one is None:
        return ""
    return f"{one.mean:+.4f}" + ("" if one.low is None or one.high is None else f" ({one.low:+.4f} to {one.high:+.4f})")


def known_aucs(table: Table, methods: tuple[str, ...]) -> list[str]:
    """The AUC by device of items that training knows, of several methods; of all items, where some method's were not
    told apart.
    """
    found = [row.condition() for name in methods if (row := table.row(name)) is not None]
    known = [one.groups["known"].metrics["user_auc"] for one in found if one is not None and "known" in one.groups]
    if len(known) < len(methods):
        return [figure(table.row(name), "user_auc") for name in methods]
    return [f"{value:.4f}" for value in known]


def figure(row: Row | None, metric: str, condition: str | None = None) -> str:
    """A metric of a method under a condition; empty where it was not measured."""
    value = None if row is None else row.value(metric, condition)
    return "" if value is None else f"{value.mean:.4f}"


def main() -> None:
    """Run the cells and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS, metavar="DATASET/BACKBONE")
    parser.add_argument("--methods", help="separated by commas; those of the cell's plan by default")
    parser.add_argument("--seeds", type=int, help="that of the cell's plan by default")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    parser.add_argument("--jobs", type=int, default=1, help="methods that run side by side, a thread each")
    parser.add_argument("--budget", type=float, help="minutes a cell after which no method is started")
    parser.add_argument("--write", action="store_true", help="keep the tables in benchmarks/results/quality/")
    options = parser.parse_args()
    if "DUETGEN_DATA" not in os.environ:
        sys.exit("quality.py: set DUETGEN_DATA to the folder of the public data sets")
    # Killed, this script ends as it does otherwise, and ends the comparison that runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    found: dict[str, Results] = {}
    for cell in options.cells:
        plan = CELLS[cell]
        if options.methods:
            plan = dataclasses.replace(plan, methods=tuple(options.methods.split(",")))
        if options.seeds:
            plan = dataclasses.replace(plan, seeds=options.seeds)
        data = Path(os.environ["DUETGEN_DATA"])
        results = run_cell(cell, plan, data, options.out, options.jobs, options.budget)
        if results is None or not results.cells:
            print(f"{cell}: nothing is finished yet", file=sys.stderr)
            continue
        text = page(cell, results, f"python benchmarks/quality.py --cells {cell}")
        print(text, flush=True)
        if results.tables[0].row(DUET) is None:
            continue
        found[cell] = results
        if options.write:
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{cell.replace('/', '-')}.md").write_text(text)
    summary = summary_page(found)
    print(summary)
    if options.write and options.cells == list(CELLS):
        (RESULTS / "README.md").write_text(summary)


if __name__ == "__main__":
    main()
