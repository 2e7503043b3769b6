"""`duet compare`: DUET against everything else on one dataset, with seeds, statistics and a report."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table as RichTable

from duetgen.cli import console
from duetgen.cli.cell_bar import CellBar
from duetgen.cli.evaluate import ProtocolName, parse_ages
from duetgen.cli.prepare import UsageError
from duetgen.cli.train import build_config

if TYPE_CHECKING:
    from duetgen.comparison.results import Comparison, Results, Table
    from duetgen.data.store import Dataset

MAX_SEEDS = 100
MAX_JOBS = 256


def compare(
    dataset: Annotated[Path, Parameter(help="Dataset folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder for the cells, the results and the report.")],
    backbones: Annotated[str, Parameter(help="Device models, separated by commas, or all.")] = "sasrec",
    methods: Annotated[str, Parameter(help="Methods, separated by commas, or all.")] = "base,base-long,apg,duet",
    seeds: Annotated[int, Parameter(help="How often each method is trained, each time with another seed.")] = 3,
    protocol: Annotated[
        list[ProtocolName] | None,
        Parameter(negative="", help="As for `duet evaluate`; may be repeated [full and candidates, or given]."),
    ] = None,
    staleness: Annotated[str, Parameter(help="Ages of theta in events.")] = "0,1,5,20,100",
    budget: Annotated[
        float | None,
        Parameter(help="Minutes after which no cell is started; those that run go on to their end [none]."),
    ] = None,
    jobs: Annotated[
        int | None,
        Parameter(help="Cells that run side by side [one a GPU; without one, all cores but one, at least 1]."),
    ] = None,
    threads: Annotated[int, Parameter(help="Processor threads of each cell.")] = 1,
    limit_devices: Annotated[int | None, Parameter(help="Measure a seeded choice of so many devices [all].")] = None,
    window: Annotated[int | None, Parameter(help="Events that the device model reads, L_d [10].")] = None,
    history: Annotated[int | None, Parameter(help="Events that the generator reads, L_g [100].")] = None,
    width: Annotated[int | None, Parameter(help="Width of the device model [64].")] = None,
    epochs: Annotated[int | None, Parameter(help="Most passes over the training part [by the data].")] = None,
    patience: Annotated[int | None, Parameter(help="Epochs without a better one before it stops [a third].")] = None,
    learning_rate: Annotated[float | None, Parameter(help="Peak learning rate [0.003].")] = None,
    config: Annotated[Path | None, Parameter(help="A config.toml to start from, for all methods.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", negative="", help="Any setting, as KEY=VALUE, for all methods; may be repeated."),
    ] = None,
    overwrite: Annotated[
        bool, Parameter(negative="", help="Replace a comparison on other data or with other settings.")
    ] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the results as JSON.")] = False,
) -> None:
    """Compare methods on one dataset: each with each backbone and several seeds, paired over devices and seeds.

    Every cell (a backbone, a method, a seed) has a folder of its own. Stopped or killed at any moment, the same command
    goes on where it was; cells that are finished are read, and more methods, backbones or seeds may be added. The
    results lie in results.json, and in report.html for people.
    """
    from duetgen.comparison.assemble import assemble, folder_job, make_job, unfinished, write_results
    from duetgen.comparison.cells import plan_cells
    from duetgen.comparison.methods import METHODS
    from duetgen.comparison.runner import Outcome, run_cells
    from duetgen.jobfolder import work_in

    begun = time.monotonic()
    named = choose("--backbones", backbones, ("sasrec", "gru4rec", "din"))
    wanted = choose("--methods", methods, tuple(METHODS))
    ages = parse_ages(staleness)
    within("--seeds", seeds, 1, MAX_SEEDS)
    within("--threads", threads, 1, 1024)
    within("--limit-devices", limit_devices, 1, 2**31)
    within("--jobs", jobs, 1, MAX_JOBS)
    if budget is not None and not budget >= 0:
        raise UsageError(f"--budget {budget} is no time", "give minutes, 0 or more")
    overrides = {
        "model.backbone.window": window,
        "model.backbone.width": width,
        "model.history.length": history,
        "optimiser.epochs": epochs,
        "optimiser.patience": patience,
        "optimiser.learning_rate": learning_rate,
    }
    settings = build_config(config, overrides, set_ or [])
    data = open_dataset(dataset, protocol)
    job = make_job(data, settings, protocol or default_protocols(data), ages, limit_devices)
    numbers = [settings.seed + index for index in range(seeds)]
    cells = plan_cells(named, wanted, numbers)
    with work_in(out, folder_job(out, job), overwrite=overwrite):
        waiting = unfinished(out, cells)
        if not (quiet or json):
            console.notes.print(f"{len(cells)} cells, {len(cells) - len(waiting)} of them finished before")
        outcome = Outcome()
        if waiting:
            with CellBar(len(cells), len(cells) - len(waiting), quiet or json) as bar:
                outcome = run_cells(
                    out,
                    dataset,
                    job,
                    waiting,
                    jobs=jobs or default_jobs(),
                    threads=threads,
                    deadline=None if budget is None else begun + 60 * budget,
                    watcher=bar,
                )
        with console.spinner("statistics and report", quiet or json):
            results = assemble(out, data, job, cells, named, wanted, numbers, outcome.failures)
            paths = write_results(out, results)
    if json:
        console.print_json(results)
    else:
        print_results(results, paths)
    if results.failed:
        sys.exit(1)


def choose(option: str, text: str, known: Sequence[str]) -> list[str]:
    """Names from a list such as `base,duet`, in the order given, or all of them.

    Raises:
        UsageError: one that is not known, or none.
    """
    if text.strip() == "all":
        return list(known)
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"{option} has no {name!r}", f"{hint}choose among {', '.join(known)}")
    if not names:
        raise UsageError(f"{option} names nothing", f"choose among {', '.join(known)}")
    return names


def within(option: str, value: int | None, low: int, high: int) -> None:
    """Refuse a number out of its range.

    Raises:
        UsageError: it is.
    """
    if value is not None and not low <= value <= high:
        raise UsageError(f"{option} {value} is out of range", f"give {low:,} to {high:,}")


def open_dataset(path: Path, protocols: Sequence[str] | None) -> Dataset:
    """The dataset, with what the protocols need.

    Raises:
        NotADatasetError: it is none.
        ProtocolUnavailableError: it cannot serve a protocol; better said now than after hours of training.
    """
    import numpy as np

    from duetgen.data.store import Dataset
    from duetgen.evaluation.protocols import make_ranking

    data = Dataset(path)
    for name in protocols or ():
        make_ranking(name, data, "test", np.arange(len(data.targets("test"))))
    return data


def default_protocols(dataset: Dataset) -> list[str]:
    """What the data can serve: the candidates that came with it, or the whole catalogue and drawn ones."""
    if dataset.has_given:
        return ["given"]
    return ["full", "candidates"] if dataset.has("candidates/test.npy") else ["full"]


def default_jobs() -> int:
    """One cell a GPU; without one, a core for each but the last, which the rest of the machine keeps."""
    import torch

    from duetgen.evaluation.provenance import usable_cores

    return torch.cuda.device_count() if torch.cuda.is_available() else max(1, usable_cores() - 1)


def print_results(results: Results, paths: tuple[Path, Path]) -> None:
    """The tables, the verdict, what is missing, and where the files lie."""
    for table in results.tables:
        print_table(table)
    for failure in results.failed:
        console.notes.print(f"failed: {failure.cell}: {failure.message} [{failure.code}]", markup=False)
        console.notes.print(f"  hint: {failure.hint}", markup=False)
    if results.missing:
        several = len(results.missing) > 1
        console.results.print(
            f"Not run: {len(results.missing)} cell{'s' if several else ''} ({', '.join(results.missing)}). "
            "The same command goes on with them.",
            markup=False,
        )
    console.results.print(f"\n{results.verdict}", markup=False)
    console.results.print(f"  report: {paths[1]}\n  results: {paths[0]}", markup=False)


def print_table(table: Table) -> None:
    """A row a method: quality, difference to base, controls, size."""
    from duetgen.comparison.results import BASE, HEADLINE
    from duetgen.comparison.verdict import best_row

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    columns = (
        HEADLINE,
        "user AUC",
        "against base",
        "95 % interval",
        "",
        "θ 20 old",
        "another's θ",
        "on device",
        "θ bytes",
    )
    shown.add_column("")
    for index, name in enumerate(columns):
        shown.add_column(name, justify="left" if index == 4 else "right")
    best = best_row(table)
    for row in table.rows:

        def value(metric: str, condition: str | None = None) -> str:
            found = row.value(metric, condition)  # noqa: B023 - called within the turn
            return "" if found is None else f"{found.mean:.4f}"

        name = f"[bold]{row.method}[/]" if row is best else row.method
        shown.add_row(
            name,
            value(HEADLINE),
            value("user_auc"),
            *difference(table.against(row.method, BASE)),
            value(HEADLINE, "own+20"),
            value(HEADLINE, "another"),
            f"{row.cost.device_parameters:,}",
            f"{row.cost.theta_bytes:,}" if row.cost.theta_bytes else "",
        )
    where = f"{table.backbone}, " if table.backbone else ""
    console.results.print(f"\n{where}{table.protocol}: {table.targets:,} targets of {table.devices:,} devices")
    console.results.print(shown)


def difference(one: Comparison | None) -> tuple[str, str, str]:
    """A difference, its interval, and what it comes to."""
    from duetgen.comparison.verdict import OUTCOMES

    if one is None:
        return "", "", ""
    bounds = "" if one.low is None or one.high is None else f"{one.low:+.4f} to {one.high:+.4f}"
    return f"{one.mean:+.4f}", bounds, OUTCOMES[one.outcome]
