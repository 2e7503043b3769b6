"""`duet evaluate`: measure one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from duetgen.cli import console
from duetgen.cli.prepare import UsageError

if TYPE_CHECKING:
    from duetgen.evaluation import Evaluation

ProtocolName = Literal["full", "candidates", "given"]
LABELS = {
    "own": "DUET",
    "zero": "DUET, theta = 0",
    "another": "DUET, another device's theta",
    "random": "DUET, theta of a random history",
}
COLUMNS = {
    "full": ("ndcg@10", "hr@10", "mrr", "user_auc", "log_loss"),
    "candidates": ("ndcg@10", "hr@10", "user_auc", "auc", "log_loss"),
    "given": ("ndcg@10", "hr@10", "user_auc", "auc", "log_loss"),
}


def evaluate(
    run: Annotated[Path, Parameter(help="Run folder.")],
    dataset: Annotated[Path, Parameter(help="Dataset folder that the run was trained on.")],
    /,
    *,
    protocol: Annotated[
        list[ProtocolName] | None,
        Parameter(
            negative="",
            help="full: the whole catalogue; candidates: 99 drawn negatives; given: those of the data; may be repeated "
            "[given where the data has them, else full].",
        ),
    ] = None,
    staleness: Annotated[str, Parameter(help="Ages of theta in events.")] = "0,1,5,20",
    part: Annotated[Literal["test", "valid"], Parameter(help="Part to measure.")] = "test",
    devices: Annotated[int | None, Parameter(help="Measure a seeded choice of so many devices.")] = None,
    bootstrap: Annotated[int, Parameter(help="Resamples of the devices behind each interval.")] = 1000,
    seed: Annotated[int, Parameter(help="Seed of resamples and control conditions.")] = 0,
    by_history: Annotated[bool, Parameter(negative="", help="Show results by length of history too.")] = False,
    threads: Annotated[int | None, Parameter(help="Processor threads to use [all].")] = None,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print every figure as JSON.")] = False,
) -> None:
    """Measure one run on the test part.

    A DUET run is measured with each device's own theta at several ages, with theta = 0 (the global model), and, as
    controls, with another device's theta and that of a random history. A base run has its global model alone. The 95 %
    intervals come from a bootstrap over devices.
    """
    from duetgen.data.store import Dataset
    from duetgen.evaluation import evaluate as run_evaluation
    from duetgen.evaluation.conditions import default_conditions
    from duetgen.machine import use_machine
    from duetgen.training import load_run

    ages = parse_ages(staleness)
    if devices is not None and devices < 1:
        raise UsageError(f"--devices {devices} measures nothing", "give 1 or more, or leave it out for all")
    use_machine(threads)
    loaded, data = load_run(run), Dataset(dataset)
    loaded.check_dataset(data)
    conditions = [c for c in default_conditions(ages) if c.kind != "another" or data.devices > 1]
    protocols = protocol or ["given" if data.has_given and part == "test" else "full"]
    with console.counting(quiet or json) as progress:
        found = run_evaluation(
            loaded.model,
            data,
            part=part,
            protocols=protocols,
            conditions=conditions,
            limit_devices=devices,
            bootstrap=bootstrap,
            seed=seed,
            config=loaded.settings(),
            progress=progress,
        )
    if json:
        console.print_json(found)
        return
    for evaluation in found:
        print_evaluation(evaluation)
        if by_history:
            print_history(evaluation)


def parse_ages(text: str) -> tuple[int, ...]:
    """Ages of theta from `0,1,5,20`.

    Raises:
        UsageError: not whole numbers from 0.
    """
    try:
        ages = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        ages = (-1,)
    if min(ages) < 0:
        raise UsageError(f"--staleness {text} is no list of ages", "give whole numbers, as in --staleness 0,1,5,20")
    return ages


def label(name: str, personal: bool) -> str:
    """What a condition is called in a table."""
    if not personal:
        return "base"
    kind, _, age = name.partition("+")
    return f"{LABELS[kind]}, theta {age} event{'s' if age != '1' else ''} old" if age else LABELS[kind]


def heading(evaluation: Evaluation) -> str:
    """One line that says what was measured."""
    from duetgen.evaluation.protocols import full_name

    ranked = {
        "full": f"the catalogue ({evaluation.candidates:,.0f} items)",
        "candidates": f"{evaluation.candidates - 1:,.0f} drawn negatives",
        "given": f"{evaluation.candidates - 1:,.0f} given negatives",
    }
    return (
        f"{evaluation.part} part, {evaluation.split} split, {full_name(evaluation.protocol, evaluation.met)}: "
        f"{evaluation.targets:,} targets of {evaluation.devices:,} devices, ranked among {ranked[evaluation.protocol]}"
    )


def print_evaluation(evaluation: Evaluation) -> None:
    """A table of conditions and metrics, with the interval of the first."""
    columns = COLUMNS[evaluation.protocol]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for metric in columns:
        table.add_column(metric, justify="right")
    table.add_column(f"{columns[0]}, 95 % interval", justify="right")
    for result in evaluation.conditions:
        first = result.metrics[columns[0]]
        values = [f"{result.metrics[m].mean:.4f}" if m in result.metrics else "" for m in columns]
        bounds = "" if first.low is None or first.high is None else f"{first.low:.4f} to {first.high:.4f}"
        table.add_row(label(result.name, evaluation.personal), *values, bounds)
    console.results.print(heading(evaluation))
    for line in notes(evaluation):
        console.results.print(line)
    console.results.print(table)
    print_groups(evaluation)


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader of the table must know."""
    from duetgen.evaluation.protocols import missed_targets

    missed = missed_targets(evaluation.targets, evaluation.unknown_targets, evaluation.repeat_targets, evaluation.met)
    return [line for line in (evaluation.note, missed) if line]


def print_groups(evaluation: Evaluation) -> None:
    """The metrics of known, new and repeated targets under each condition, where targets are of several kinds."""
    kinds = [name for name in ("known", "new", "repeat") if name in evaluation.conditions[0].groups]
    if not kinds:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    first = evaluation.conditions[0].groups
    for kind in kinds:
        said = f"{kind}\n({first[kind].targets:,} targets)"
        for metric in first[kind].metrics:
            table.add_column(f"{said}\n{metric}", justify="right")
            said = "\n"
    for result in evaluation.conditions:
        values = [f"{value:.4f}" for kind in kinds for value in result.groups[kind].metrics.values()]
        table.add_row(label(result.name, evaluation.personal), *values)
    console.results.print(table)


def print_history(evaluation: Evaluation) -> None:
    """`ndcg@10` of each condition by the number of events before the target."""
    table = Table(box=None, pad_edge=False, header_style="bold", title="ndcg@10 by events before the target")
    table.add_column("")
    buckets = evaluation.conditions[0].by_history
    for bucket in buckets:
        span = f"{bucket.shortest}+" if bucket.longest is None else f"{bucket.shortest}-{bucket.longest}"
        table.add_column(f"{span}\n({bucket.devices:,} devices)", justify="right")
    for result in evaluation.conditions:
        values = [f"{bucket.metrics['ndcg@10']:.4f}" for bucket in result.by_history]
        table.add_row(label(result.name, evaluation.personal), *values)
    console.results.print(table)
