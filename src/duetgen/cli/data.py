"""`duet data`: public data sets by name, and what a dataset is like."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter
from rich.table import Table

from duetgen.cli import console
from duetgen.cli.datasets import DatasetPath, find_dataset, terms_of
from duetgen.cli.ranges import SEED
from duetgen.words import counted, counted_all

if TYPE_CHECKING:
    from duetgen.data.catalogue import Entry
    from duetgen.data.describe import Description

data = cyclopts.App(
    name="data",
    help="Public data sets by name, and what a dataset is like.",
    help_format="markdown",
    result_action="return_value",
)

Name = Annotated[str, Parameter(help="Name of a data set; `_` and `-` are alike.")]
AsJson = Annotated[bool, Parameter(negative="", help="Print the result as JSON.")]


@data.command(name="list")
def list_(
    word: Annotated[str | None, Parameter(help="Only names with this in them [all, categories as one line].")] = None,
    /,
    *,
    json: AsJson = False,
) -> None:
    """List the public data sets that are known by name."""
    from duetgen.data.catalogue import CATALOGUE, canonical, find_log, prepared_at
    from duetgen.data.catalogue.entries import FAMILIES

    wanted = None if word is None else word.lower().replace("_", "-")
    found = [one for one in CATALOGUE.values() if wanted is None or wanted in one.name or canonical(wanted) == one.name]
    if json:
        console.print_json([facts(one) for one in found])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "", "events", "users", "items", "here"):
        table.add_column(name, justify="right" if name in ("events", "users", "items") else "left")
    for entry in found:
        if wanted is None and entry.family is not None:
            continue
        here = "prepared" if prepared_at(entry.name).is_dir() else "raw" if find_log(entry.name) else ""
        counts = [f"{count:,}" if count else "" for count in (entry.events, entry.users, entry.items)]
        table.add_row(entry.name, entry.title, *counts, here)
    if wanted is None:
        for family in reversed(FAMILIES):
            entries = [one for one in found if one.family == family]
            titles = entries[0].title.split(",")
            table.add_row(f"{family}-…", f"{titles[0]}: {len(entries)} categories", "", "", "", "")
    console.results.print(table)
    if wanted is None:
        console.results.print("\n`duet data list amazon-2018` shows the categories, `duet data show NAME` one data set")


@data.command
def show(name: Name, /, *, json: AsJson = False) -> None:
    """Show a data set: its size, licence and citation, and where it comes from."""
    from duetgen.data.catalogue.places import find_log, how_to_get, prepared_at

    entry = known(name)
    if json:
        console.print_json(facts(entry))
        return
    rows: list[tuple[str, str]] = [("title", entry.title)]
    counts = ((entry.events, "events"), (entry.users, "users"), (entry.items, "items"))
    rows.append(("size", ", ".join(f"{count:,} {what}" for count, what in counts if count) or "not stated"))
    rows += [(line.split(": ", 1)[0], line.split(": ", 1)[1]) for line in terms_of(entry.name, entry.source)]
    rows += [("page", entry.page)]
    for file in entry.files:
        rows.append(("file", f"{file.url or file.name}{f', {file.size:,} bytes' if file.size else ''}"))
    if entry.note:
        rows.append(("note", entry.note))
    folder, log = prepared_at(entry.name), find_log(entry.name)
    if log is not None:
        rows.append(("log", str(log)))
    if folder.is_dir():
        rows.append(("prepared", str(folder)))
    rows.append(("next", how_to_get(entry) if log is None else f"duet prepare {entry.name}"))
    for key, value in rows:
        console.results.print(f"{key:9} {value}", soft_wrap=True)


@data.command
def get(
    name: Name,
    /,
    *,
    accept_licence: Annotated[
        bool, Parameter(negative="", name=["--accept-licence", "--accept-license"], help="Accept it; do not ask.")
    ] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: AsJson = False,
) -> None:
    """Download a data set from its publisher, if you accept the licence.

    Stopped or cut, the same command goes on where it was. Size and checksum are checked where they are known. Nothing
    is downloaded that is here.
    """
    from duetgen.data.catalogue.download import fetch
    from duetgen.data.catalogue.places import absent, find_log, raw_folder

    entry = known(name)
    folder, found = raw_folder(entry), find_log(entry.name)
    missing = [file for file in entry.files if not (folder / file.name).is_file()]
    if found is None or (folder in found.parents and missing):
        if any(file.url is None for file in missing):
            raise absent(entry)
        accept(entry, accept_licence)
        for file in missing:
            with console.downloading(file.name, quiet or json) as tell:
                fetch(file, folder, tell)
        found = find_log(entry.name)
    if json:
        console.print_json({"name": entry.name, "log": str(found)})
    else:
        console.results.print(f"{entry.name}: {found}", soft_wrap=True)
        console.results.print(f"  next: duet prepare {entry.name}")


def known(name: str) -> Entry:
    """The data set of a name.

    Raises:
        DataUnknownError: there is none.
    """
    from duetgen.data.catalogue import entry_of
    from duetgen.data.catalogue.places import unknown

    entry = entry_of(name)
    if entry is None:
        raise unknown(name)
    return entry


def accept(entry: Entry, accepted: bool) -> None:
    """Show the terms, and ask where nobody has accepted them.

    Raises:
        LicenceNotAcceptedError: nobody does.
    """
    from duetgen.data.catalogue.errors import LicenceNotAcceptedError

    for line in (f"{entry.title}, {entry.page}", *terms_of(entry.name, entry.source)):
        console.notes.print(line)
    if accepted:
        return
    answer = ""
    if sys.stdin.isatty() and console.notes.is_terminal:
        answer = console.notes.input("Do you accept that? [y/N] ", markup=False)
    if answer.strip().lower() not in ("y", "yes"):
        raise LicenceNotAcceptedError(
            f"the licence of {entry.name} is not accepted", "read it, and give --accept-licence if you do"
        )


def facts(entry: Entry) -> dict[str, Any]:
    """A data set for machines."""
    from duetgen.data.catalogue.places import find_log, prepared_at, raw_folder
    from duetgen.data.sources.kinds import KINDS

    source, log, folder = KINDS[entry.source], find_log(entry.name), prepared_at(entry.name)
    return {
        "name": entry.name,
        "title": entry.title,
        "source": entry.source,
        "events": entry.events,
        "users": entry.users,
        "items": entry.items,
        "licence": source.licence,
        "citation": source.citation,
        "page": entry.page,
        "files": entry.files,
        "note": entry.note,
        "folder": str(raw_folder(entry)),
        "log": None if log is None else str(log),
        "prepared": str(folder) if folder.is_dir() else None,
    }


@data.command
def describe(
    dataset: DatasetPath,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Page to write [NAME.html in the current folder].")] = None,
    seed: Annotated[
        int, Parameter(validator=SEED, help="Seed of the devices that drift and reach are measured on.")
    ] = 0,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace a page.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: AsJson = False,
) -> None:
    """Show what a dataset is like, and what decides whether personalisation can help; draws it on one HTML page.

    Events a device, sessions, popularity, repeats, drift between early and late behaviour, equal times, cold items over
    time, and how far a long history tells more than the last ten events. Nothing is trained.
    """
    from duetgen.data.describe import describe as run_description
    from duetgen.data.describe.report import render
    from duetgen.data.store import Dataset
    from duetgen.errors import OutputExistsError
    from duetgen.files import check_outside, write_bytes

    opened = Dataset(find_dataset(dataset, quiet or json))
    path = out or Path(f"{opened.root.resolve().name}.html")
    check_outside(path)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists", "give --overwrite to replace it, or choose another --out")
    with console.spinner(f"describing {opened.manifest.name}", quiet or json):
        found = run_description(opened, seed)
        write_bytes(path, render(found).encode(), replace=overwrite)
    if json:
        console.print_json(found)
    else:
        print_description(found, path)


@data.command
def text(
    dataset: DatasetPath,
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder to write train.txt, test.txt and items.csv to.")],
    window: Annotated[int, Parameter(help="Events of a sequence.")] = 10,
    negatives: Annotated[int, Parameter(help="Drawn rows for each training row.")] = 4,
    test_negatives: Annotated[int, Parameter(help="Drawn rows for each test case.")] = 99,
    seed: Annotated[int, Parameter(validator=SEED, help="Seed of the drawn rows, and of their order.")] = 0,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace such a folder.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: AsJson = False,
) -> None:
    """Write a dataset in the text format of the published DUET code, to train that code on it."""
    from duetgen.data.sources.duet_text.writing import TextConfig, write_text
    from duetgen.data.store import Dataset

    opened = Dataset(find_dataset(dataset, quiet or json))
    config = TextConfig(window=window, negatives=negatives, test_negatives=test_negatives, seed=seed)
    with console.spinner("writing", quiet or json):
        rows = write_text(opened, out, config, overwrite=overwrite)
    if json:
        console.print_json({"folder": str(out), "rows": rows})
    else:
        console.results.print(f"{counted(rows, 'row')}: {out}")


def print_description(found: Description, path: Path) -> None:
    """The figures in a few lines, the warnings, and where the page lies."""
    show = console.results.print
    span = f", {found.span[0]} to {found.span[1]}" if found.span else ", no time"
    span += f", version {found.version}" if found.version > 1 else ""
    sizes = f": {counted_all({'device': found.devices, 'item': found.items, 'event': found.events})}{span}"
    show(console.styled(found.name, "bold", sizes))
    quantiles = found.lengths.quantiles
    three = ", ".join(f"{quantiles[share]:,.0f} at {share}" for share in ("10%", "50%", "90%"))
    show(f"  events a device: {three} of the devices")
    if (sessions := found.sessions) is not None:
        show(f"  sessions: {sessions.per_device:,.0f} a device, {sessions.events:,.0f} events each, at the median")
    top = found.popularity.top
    show(f"  popularity: 1 % of the items have {top['1%']:.0%} of the events, 10 % have {top['10%']:.0%}")
    does = "hidden" if found.met == "hide" else "shown"
    show(f"  repeats: {found.repeats:.2%} of the training events: what a device has met is {does}")
    if found.tied is not None:
        show(f"  equal times: {found.tied:.0%}; new items among the test targets: {found.unseen:.1%}")
    if (drift := found.drift) is not None:
        show(f"  drift: {drift.share:.0%} of what sets a device apart early is gone late")
    if (reach := found.reach) is not None:
        told = ", ".join(f"{length}: {auc:.3f}" for length, auc in reach.auc.items())
        show(f"  AUC of the next item by the last events: {told}")
    for line in found.warnings:
        show(console.styled("  note", "yellow", f": {line}"), soft_wrap=True)
    show(f"  page: {path}")
