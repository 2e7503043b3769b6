"""`duet compare`: DUET against everything else on one dataset or several, with seeds, statistics and a report."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table as RichTable

from duetgen.cli import console
from duetgen.cli.cell_bar import CellBar
from duetgen.cli.datasets import find_dataset
from duetgen.cli.evaluate import ProtocolName, parse_ages
from duetgen.cli.prepare import UsageError
from duetgen.cli.settings import NONE_GIVEN, Settings
from duetgen.comparison.report.numbers import interval
from duetgen.errors import did_you_mean
from duetgen.words import counted

if TYPE_CHECKING:
    from duetgen.comparison.methods.table import Method
    from duetgen.comparison.report.results import Comparison, Results, Table
    from duetgen.data.store import Dataset

MAX_SEEDS = 100
MAX_JOBS = 256
DEFAULT_METHODS = "base,base-long,apg,duet"
NEED_CLOUD = ("cloud", "cloud-list", "base-distilled", "duet-distilled")
"""Methods that are nothing without a cloud model."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""What a finished run may be called: it names a folder too."""


def compare(
    *datasets: Annotated[Path, Parameter(help="Dataset folders, or names of data sets: `duet data list`.")],
    out: Annotated[Path, Parameter(help="Folder for the cells, the results and the report.")],
    backbones: Annotated[
        str | None, Parameter(help="Device models, separated by commas, or all [that of the settings: sasrec].")
    ] = None,
    methods: Annotated[
        str | None, Parameter(help=f"Methods, separated by commas, or all [{DEFAULT_METHODS}; beside --runs none].")
    ] = None,
    runs: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="Finished run of `duet train` on this dataset, as RUN or NAME=RUN: a row of its own, measured and not "
            "trained; may be repeated.",
        ),
    ] = None,
    seeds: Annotated[int, Parameter(help="How often each method is trained, each time with another seed.")] = 3,
    protocol: Annotated[
        list[ProtocolName] | None,
        Parameter(negative="", help="As for `duet evaluate`; may be repeated [full and candidates, or given]."),
    ] = None,
    staleness: Annotated[str, Parameter(help="Ages of theta in events.")] = "0,1,5,20,100",
    policies: Annotated[
        str,
        Parameter(
            help="Policies of requests, separated by commas, as in always,every:10: each method that generates theta "
            "is published and replayed by each, and quality and requests are kept [none]."
        ),
    ] = "",
    settings: Settings = NONE_GIVEN,
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
    overwrite: Annotated[
        bool, Parameter(negative="", help="Replace a comparison on other data or with other settings.")
    ] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the results as JSON.")] = False,
) -> None:
    """Compare methods, and finished runs, on a dataset: each method with each backbone and several seeds, paired over
    devices and seeds. Of several datasets, all cells run side by side, and one report shows them all.

    Every cell (a backbone, a method, a seed) has a folder of its own. Stopped or killed at any moment, the same command
    goes on where it was; cells that are finished are read, and more methods, backbones or seeds may be added. The
    results lie in results.json, and in report.html for people.
    """
    from duetgen.backbones import BACKBONES
    from duetgen.comparison.cells.cell import plan_cells
    from duetgen.comparison.cells.records import Work
    from duetgen.comparison.cells.runner import Outcome, run_cells
    from duetgen.comparison.methods.table import METHODS, encoder_note
    from duetgen.comparison.report.assemble import (
        assemble,
        check_whole,
        folder_job,
        make_job,
        not_asked,
        unfinished,
        write_all,
        write_results,
    )
    from duetgen.jobfolder import alone_in, work_in
    from duetgen.training.job import check_cloud_model
    from duetgen.training.run import RunFolder

    begun = time.monotonic()
    # Beside finished runs only what is asked for by name is trained.
    asked = methods if methods is not None else "" if runs else DEFAULT_METHODS
    wanted = choose("--methods", asked, tuple(METHODS)) if asked.strip() or not runs else []
    ages, asking = parse_ages(staleness), parse_policies(policies)
    within("--seeds", seeds, 1, MAX_SEEDS)
    within("--threads", threads, 1, 1024)
    within("--limit-devices", limit_devices, 1, 2**31)
    within("--jobs", jobs, 1, MAX_JOBS)
    if budget is not None and not budget >= 0:
        raise UsageError(f"--budget {budget:g} is no time", "give minutes, 0 or more")
    config = settings.build()
    named = choose("--backbones", config.model.name if backbones is None else backbones, tuple(BACKBONES))
    if not datasets:
        raise UsageError("`duet compare` needs a dataset", "write `duet compare DATASET [DATASET …] --out DIR`")
    if runs and len(datasets) > 1:
        raise UsageError("finished runs are of one dataset", "compare --runs on that dataset alone")
    opened = [open_dataset(find_dataset(dataset, quiet or json), protocol) for dataset in datasets]
    roots = roots_of(out, opened)
    if len(roots) > 1:
        check_whole(out)
    names = names_of(roots)
    for root, data in roots.items():
        if config.cloud_model:
            check_cloud_model(data, config, RunFolder(root))
    of_it = [name for name in wanted if name in NEED_CLOUD]
    if not config.cloud_model and config.model.cloud.kind == "none" and of_it:
        raise UsageError(
            f"without a cloud model there is no method {of_it[0]}", "leave out --cloud-model none, or the method"
        )
    settled = {
        root: make_job(data, config, protocol or default_protocols(data), ages, limit_devices, asking)
        for root, data in roots.items()
    }
    rows = [METHODS[name] for name in wanted] + open_runs(runs or [], opened[0], wanted)
    if asking and not any(method.family == "generated" for method in rows):
        raise UsageError(
            "--policies replays θ, and none of these generates it", "leave it out, or add duet to --methods"
        )
    numbers = [config.seed + index for index in range(seeds)] if wanted else []
    cells = plan_cells(named, rows, numbers)
    with contextlib.ExitStack() as held:
        for root, job in settled.items():
            held.enter_context(work_in(root, folder_job(root, job), overwrite=overwrite))
        if len(roots) > 1:  # What is written of all of them lies beside them.
            held.enter_context(alone_in(out))
        # The first seed of every dataset goes before the second of any.
        waiting = sorted(
            (
                Work(root, data.root, settled[root], cell, root.name if len(roots) > 1 else "")
                for root, data in roots.items()
                for cell in unfinished(root, cells)
            ),
            key=lambda work: work.cell.seed if work.cell.run is None else -1,
        )
        total = len(cells) * len(roots)
        if not (quiet or json):
            console.notes.print(f"{counted(total, 'cell')}, {total - len(waiting)} of them finished before")
            if others := [name for root in roots for name in not_asked(root, cells)]:
                console.notes.print(
                    f"not in the report, for they were not asked for: {counted(len(others), 'finished cell')} "
                    f"({', '.join(others[:5])}{' …' if len(others) > 5 else ''})"
                )
            if note := encoder_note(next(iter(settled.values())).config, wanted):
                console.notes.print(note)
        outcome = Outcome()
        if waiting:
            with CellBar(total, total - len(waiting), quiet or json) as bar:
                outcome = run_cells(
                    waiting,
                    jobs=jobs or default_jobs(),
                    threads=threads,
                    deadline=None if budget is None else begun + 60 * budget,
                    watcher=bar,
                )
        with console.spinner("statistics and report", quiet or json):
            found = {
                root: assemble(
                    root, data, settled[root], cells, named, rows, numbers, outcome.failures(root), names[root]
                )
                for root, data in roots.items()
            }
            paths = {root: write_results(root, results) for root, results in found.items()}
            whole = write_all(out, list(found.values())) if len(found) > 1 else None
    if json:
        console.print_json(list(found.values()) if whole else found[out])
    else:
        for root, results in found.items():
            print_results(results, paths[root])
        if whole:
            console.results.print(f"\nall of them:\n  report: {whole[1]}\n  results: {whole[0]}")
    if any(results.failed for results in found.values()):
        sys.exit(1)


def roots_of(out: Path, datasets: Sequence[Dataset]) -> dict[Path, Dataset]:
    """The folder of the comparison on each dataset: that of all, or one named after it inside.

    Raises:
        UsageError: two have one name.
    """
    if len(datasets) == 1:
        return {out: datasets[0]}
    roots = {out / data.root.resolve().name: data for data in datasets}
    if len(roots) < len(datasets):
        raise UsageError("two of the datasets have one name", "give their folders names of their own")
    return roots


def names_of(roots: dict[Path, Dataset]) -> dict[Path, str]:
    """What each dataset is called: by its name, or by its folder where another one has the same name."""
    told = [data.manifest.name for data in roots.values()]
    return {root: root.name if told.count(name) > 1 else name for root, name in zip(roots, told)}


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
            hint = did_you_mean(name, known, f"choose among {', '.join(known)}")
            raise UsageError(f"{option} has no {name!r}", hint)
    if not names:
        raise UsageError(f"{option} names nothing", f"choose among {', '.join(known)}")
    return names


def open_runs(texts: Sequence[str], dataset: Dataset, methods: Sequence[str]) -> list[Method]:
    """The finished runs of `RUN` or `NAME=RUN`, by name, which is that of the folder where none is given.

    A method's name is free for a run of that kind, where the method is not asked for: a row named base is a base model.

    Raises:
        UsageError: two rows with one name, or a name that says something else or cannot be one.
        NotARunError, DamagedError, DatasetMismatchError: it is no finished run, is damaged, or is of another dataset.
    """
    from duetgen.comparison.methods.runs import open_run
    from duetgen.comparison.methods.table import METHODS, finished_run

    found: dict[str, Method] = {}
    hint = "give the run a name of its own: --runs NAME=RUN"
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).is_dir():
            name, path = Path(text).resolve().name, text
        if not path:
            raise UsageError(f"--runs {text} names no run", "write --runs NAME=RUN")
        run, _ = open_run(Path(path), dataset)
        if not NAME.fullmatch(name):
            raise UsageError(f"--runs {text}: {name!r} is no name for a row", f"{hint}, of letters, digits and . _ + -")
        if name in found or name in methods:
            raise UsageError(f"--runs {text}: two rows would be named {name}", hint)
        if name in METHODS and name != run.kind:
            raise UsageError(f"--runs {text}: {name} is a method, and this is a {run.kind} run", hint)
        found[name] = finished_run(name, run)
    return list(found.values())


def parse_policies(text: str) -> list[str]:
    """Names of policies of requests from a list such as `always,every:10`, each policy by its one name.

    Raises:
        UsageError: one is none.
    """
    from duetgen.device.policy import policy_name, policy_named

    names = []
    for name in (part.strip() for part in text.split(",") if part.strip()):
        try:
            names.append(policy_name(policy_named(name)))
        except ValueError as cause:
            raise UsageError(f"--policies has no {name!r}", str(cause)) from None
    return list(dict.fromkeys(names))


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
    return ["full", "candidates"]


def default_jobs() -> int:
    """One cell a GPU; without one, a core for each but the last, which the rest of the machine keeps."""
    import torch

    from duetgen.evaluation.provenance import usable_cores

    return torch.cuda.device_count() if torch.cuda.is_available() else max(1, usable_cores() - 1)


def print_results(results: Results, paths: tuple[Path, Path]) -> None:
    """The tables, the verdict, what is missing, and where the files lie."""
    for table in results.tables:
        print_table(table)
        print_policies(table)
    for failure in results.failed:
        console.notes.print(f"failed: {failure.cell}: {failure.message} [{failure.code}]")
        console.notes.print(f"  hint: {failure.hint}")
    if results.missing:
        console.results.print(
            f"Not run: {counted(len(results.missing), 'cell')} ({', '.join(results.missing)}). "
            "The same command goes on with them.",
        )
    console.results.print(f"\n{results.verdict}")
    console.results.print(f"  report: {paths[1]}\n  results: {paths[0]}")


def print_table(table: Table) -> None:
    """A row a method: quality, difference to base, controls, size."""
    from duetgen.comparison.report.results import HEADLINE
    from duetgen.comparison.report.verdict import best_row, targets_of
    from duetgen.evaluation.protocols import full_name

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    aged = table.shown_age()
    columns = (
        HEADLINE,
        f"against {table.reference}",
        "95 % interval",
        "",
        "user AUC",
        *([f"θ {aged} old"] if aged else []),
        "another's θ",
        "kB on device",
        "θ bytes",
    )
    shown.add_column("")
    for index, name in enumerate(columns):
        shown.add_column(name, justify="left" if index == 3 else "right")
    best = best_row(table)
    for row in table.rows:

        def value(metric: str, condition: str | None = None) -> str:
            found = row.value(metric, condition)  # noqa: B023 - called within the turn
            return "" if found is None else f"{found.mean:.4f}"

        shown.add_row(
            console.styled(row.method, "bold" if row is best else ""),
            value(HEADLINE),
            *difference(table.against(row.method, table.reference)),
            value("user_auc"),
            *([value(HEADLINE, f"own+{aged}")] if aged else []),
            value(HEADLINE, "another"),
            f"{row.cost.device_bytes / 1000:,.0f}",
            f"{row.cost.theta_bytes:,}" if row.cost.theta_bytes else "",
        )
    where = f"{table.backbone}, " if table.backbone else ""
    console.results.print(f"\n{where}{full_name(table.protocol, table.met)}: {targets_of(table)}")
    console.results.print(shown)


def print_policies(table: Table) -> None:
    """A row a policy of requests, where some were replayed."""
    from duetgen.comparison.report.results import HEADLINE

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(("", HEADLINE, "less θ = 0", "requests a device", "age of θ, events")):
        shown.add_column(name, justify="right" if number else "left")
    for row in table.rows:
        for one in row.policies:
            age = "" if one.age is None else f"{one.age:,.1f}"
            shown.add_row(
                f"{row.method}, {one.policy}",
                f"{one.metrics[HEADLINE]:.4f}",
                f"{one.gain(HEADLINE):+.4f}",
                f"{one.requests:,.1f}",
                age,
            )
    if shown.row_count:
        console.results.print(shown)


def difference(one: Comparison | None) -> tuple[str, str, str]:
    """A difference, its interval, and what it comes to."""
    from duetgen.comparison.report.verdict import said

    return ("", "", "") if one is None else (f"{one.mean:+.4f}", interval(one.low, one.high), said(one))
