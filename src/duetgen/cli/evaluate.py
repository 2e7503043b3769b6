"""`duet evaluate`: measure runs, and how far each is from the first."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.table import Table

from duetgen.cli import console
from duetgen.cli.datasets import find_dataset, say_version
from duetgen.cli.prepare import UsageError
from duetgen.cli.ranges import COUNT, SEED, Threads, resamples
from duetgen.comparison.report.numbers import interval
from duetgen.wire.limits import MAX_STALENESS
from duetgen.words import counted

if TYPE_CHECKING:
    from torch import nn

    from duetgen.evaluation import Evaluation

ProtocolName = Literal["full", "candidates", "given"]
METRIC = "ndcg@10"
LABELS = {
    "own": "DUET",
    "own-weights": "DUET, weights alone",
    "own-bias": "DUET, opinions alone",
    "zero": "DUET, theta = 0",
    "another": "DUET, another device's theta",
    "random": "DUET, theta of a random history",
}
FINETUNED = {
    "own": "fine-tuned",
    "zero": "base",
    "another": "fine-tuned on another device's events",
    "random": "fine-tuned on a random history",
}
LISTED = {
    "own": "the cloud's list",
    "zero": "no list",
    "another": "another device's list",
    "random": "the list of a random history",
}
COLUMNS = {
    "full": ("ndcg@10", "hr@10", "mrr", "user_auc", "log_loss"),
    "candidates": ("ndcg@10", "hr@10", "user_auc", "auc", "log_loss"),
    "given": ("ndcg@10", "hr@10", "user_auc", "auc", "log_loss"),
}


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """How much better a run is than the first under a condition, device by device, with the 95 % interval and what it
    comes to, see `evaluation.significance.outcome`.
    """

    run: str
    label: str
    reference: str
    protocol: str
    condition: str
    reference_condition: str
    group: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    verdict: str


def evaluate(
    *paths: Annotated[
        Path,
        Parameter(
            help="Run or bundle folders, then the dataset that they were trained on or a later version of it: a folder "
            "or a name."
        ),
    ],
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
    limit_devices: Annotated[
        int | None, Parameter(validator=COUNT, help="Measure a seeded choice of so many devices [all].")
    ] = None,
    bootstrap: Annotated[
        int, Parameter(validator=resamples, help="Resamples of the devices behind each interval; 0: no intervals.")
    ] = 1000,
    seed: Annotated[int, Parameter(validator=SEED, help="Seed of resamples and control conditions.")] = 0,
    by_history: Annotated[bool, Parameter(negative="", help="Show results by length of history too.")] = False,
    threads: Threads = None,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print every figure as JSON.")] = False,
) -> None:
    """Measure runs on the test part: `duet evaluate RUN [RUN …] DATASET`.

    A DUET run is measured with each device's own theta at several ages, with theta = 0 (the global model), and, as
    controls, with another device's theta and that of a random history. A base run has its global model alone; a
    fine-tuned run is measured like DUET, with a copy of the model trained for each device in place of a theta. Where
    theta has weights and opinions, each is measured alone too. A cloud run ranks on the cloud, and then by its list at
    several ages. Of several runs the first is the one that the others are compared with, device by device. The 95 %
    intervals come from a bootstrap over devices.
    """
    from duetgen.cloudmodel import CloudList, CloudModel
    from duetgen.data.store import Dataset
    from duetgen.evaluation import evaluate as run_evaluation
    from duetgen.evaluation.conditions import default_conditions, has_parts
    from duetgen.export.published import load_model
    from duetgen.machine import use_machine

    if len(paths) < 2:
        raise UsageError("`duet evaluate` needs a run and its dataset", "write `duet evaluate RUN [RUN …] DATASET`")
    *roots, dataset = paths
    ages = parse_ages(staleness)
    use_machine(threads)
    data = Dataset(find_dataset(dataset, quiet or json))
    models: list[tuple[str, nn.Module, dict[str, Any], Dataset]] = []
    for root in roots:
        model, settings, seen = load_model(root, data)
        say_version(root, seen)
        models.append((str(root), model, settings, seen))
        if isinstance(model, CloudModel):
            models.append((f"{root} (list)", CloudList(model), settings, seen))
    names = [name for name, *_ in models]
    protocols = protocol or ["given" if data.has_given and part == "test" else "full"]
    found = []
    for _, model, settings, seen in models:
        with console.counting(quiet or json) as progress:
            found.append(
                run_evaluation(
                    model,
                    seen,
                    part=part,
                    protocols=protocols,
                    conditions=default_conditions(ages, has_parts(model), seen.targets(part).lone),
                    limit_devices=limit_devices,
                    bootstrap=bootstrap,
                    seed=seed,
                    config=settings,
                    progress=progress,
                )
            )
    gaps = [
        gap
        for name, its in zip(names[1:], found[1:])
        for gap in gaps_of(name, its, names[0], found[0], bootstrap, seed)
    ]
    if json:
        alone = len(names) == 1
        runs_found = [{"run": name, "evaluations": its} for name, its in zip(names, found)]
        console.print_json(found[0] if alone else {"runs": runs_found, "differences": gaps})
        return
    for name, its in zip(names, found):
        if len(names) > 1:
            console.results.print(name, style="bold")
        for evaluation in its:
            print_evaluation(evaluation, name)
            if by_history:
                print_history(evaluation)
    for ranked in dict.fromkeys(one.protocol for one in gaps):
        print_gaps([one for one in gaps if one.protocol == ranked])


def gaps_of(
    run: str, found: list[Evaluation], reference: str, theirs: list[Evaluation], rounds: int, seed: int
) -> list[Gap]:
    """A run under every condition against the first run as it is judged: with fresh theta, or with its global model."""
    from duetgen.evaluation import compare
    from duetgen.evaluation.protocols import full_name
    from duetgen.evaluation.significance import outcome

    gaps = []
    for one, other in zip(found, theirs):
        headline = "own" if other.personal else "zero"
        # Where repeats are shown, new items stand beside all.
        groups = ("all", "new") if one.met == "show" and "new" in one.conditions[0].groups else ("all",)
        for group, result in itertools.product(groups, one.conditions):
            found_gap = compare(
                one,
                other,
                METRIC,
                condition_one=result.name,
                condition_other=headline,
                group=group,
                rounds=rounds,
                seed=seed,
            )
            gaps.append(
                Gap(
                    run=run,
                    label=label(result.name, one) + (", new items alone" if group == "new" else ""),
                    reference=reference,
                    protocol=full_name(one.protocol, one.met),
                    condition=result.name,
                    reference_condition=headline,
                    group=group,
                    metric=METRIC,
                    mean=found_gap.mean,
                    low=found_gap.low,
                    high=found_gap.high,
                    verdict=outcome(found_gap.low, found_gap.high),
                )
            )
    return gaps


def print_gaps(gaps: list[Gap]) -> None:
    """The differences of one protocol to the first run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "", gaps[0].metric, "95 % interval", ""):
        table.add_column(column, justify="right" if column else "left")
    for one in gaps:
        table.add_row(one.run, one.label, f"{one.mean:+.4f}", interval(one.low, one.high), one.verdict)
    console.results.print(f"less {gaps[0].reference} ({gaps[0].protocol})")
    console.results.print(table)


def parse_ages(text: str) -> tuple[int, ...]:
    """Ages of theta from `0,1,5,20`.

    Raises:
        UsageError: not whole numbers from 0, or more than there is.
    """
    try:
        ages = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        ages = (-1,)
    if min(ages) < 0:
        raise UsageError(f"--staleness {text} is no list of ages", "give whole numbers, as in --staleness 0,1,5,20")
    if max(ages) > MAX_STALENESS:
        raise UsageError(f"--staleness {max(ages)} is out of range", f"give 0 to {MAX_STALENESS:,} events")
    return ages


def label(name: str, evaluation: Evaluation) -> str:
    """What a condition is called in a table."""
    settings = evaluation.provenance.config or {}
    method = settings.get("model", {}).get("method")
    if not evaluation.personal:
        return "ranked on the cloud" if method == "cloud" else "base"
    kind, _, age = name.partition("+")
    said = {"finetune": FINETUNED, "cloud": LISTED}.get(method, LABELS)[kind]
    if not age:
        return said
    events = counted(int(age), "event")
    return f"{said}, theta {events} old" if said in LABELS.values() else f"{said} {events} ago"


def heading(evaluation: Evaluation) -> str:
    """One line that says what was measured."""
    from duetgen.evaluation.protocols import full_name

    ranked = {
        "full": f"the catalogue ({evaluation.candidates:,.0f} items)",
        "candidates": f"{evaluation.candidates - 1:,.0f} drawn negatives",
        "given": f"{evaluation.candidates - 1:,.0f} given negatives",
    }
    targets = f"{counted(evaluation.targets, 'target')} of {counted(evaluation.devices, 'device')}"
    return (
        f"{evaluation.part} part, {evaluation.split} split, {full_name(evaluation.protocol, evaluation.met)}: "
        f"{targets}, ranked among {ranked[evaluation.protocol]}"
    )


def print_evaluation(evaluation: Evaluation, run: str) -> None:
    """A table of conditions and metrics of a run, with the interval of the first."""
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
        table.add_row(label(result.name, evaluation), *values, bounds)
    console.results.print(heading(evaluation))
    for line in notes(evaluation, run):
        console.results.print(line)
    console.results.print(table)
    print_groups(evaluation)


def notes(evaluation: Evaluation, run: str) -> list[str]:
    """What a reader of the table of a run must know."""
    from duetgen.evaluation.protocols import missed_targets

    known = evaluation.provenance
    missed = missed_targets(
        evaluation.targets,
        evaluation.unknown_targets,
        evaluation.repeat_targets,
        evaluation.met,
        run if known.trained_version < known.version else "training",
    )
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
        said = f"{kind}\n({counted(first[kind].targets, 'target')})"
        for metric in first[kind].metrics:
            table.add_column(f"{said}\n{metric}", justify="right")
            said = "\n"
    for result in evaluation.conditions:
        values = [f"{value:.4f}" for kind in kinds for value in result.groups[kind].metrics.values()]
        table.add_row(label(result.name, evaluation), *values)
    console.results.print(table)


def print_history(evaluation: Evaluation) -> None:
    """`ndcg@10` of each condition by the number of events before the target."""
    table = Table(box=None, pad_edge=False, header_style="bold", title="ndcg@10 by events before the target")
    table.add_column("")
    buckets = evaluation.conditions[0].by_history
    for bucket in buckets:
        span = f"{bucket.shortest}+" if bucket.longest is None else f"{bucket.shortest}-{bucket.longest}"
        table.add_column(f"{span}\n({counted(bucket.devices, 'device')})", justify="right")
    for result in evaluation.conditions:
        values = [f"{bucket.metrics['ndcg@10']:.4f}" for bucket in result.by_history]
        table.add_row(label(result.name, evaluation), *values)
    console.results.print(table)
