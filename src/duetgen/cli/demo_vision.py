"""`duet demo --vision`: devices that see each in its own way, on images that are made or on an image folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table as RichTable

from duetgen.cli import console
from duetgen.comparison.report.numbers import interval, milliseconds
from duetgen.files import new_folder
from duetgen.words import counted

if TYPE_CHECKING:
    from duetgen.vision.results import VisionResults

MADE_IMAGES = 6000
COUNTS = (1, 16)
DEVICES = (240, 32)
TESTED = (12, 30, 64)
EPOCHS = 8
IMAGES = 16


def demo_vision(
    input: Path | None, out: Path, epochs: int | None, seed: int, *, overwrite: bool, silent: bool, json: bool
) -> None:
    """Train on some devices, measure on others, and write the report."""
    from duetgen.vision import Fleet, Images, Setting, assemble, make_digits, make_fleet, run_cell
    from duetgen.vision.experiment import FLEET_SEED, MEASURED
    from duetgen.vision.report import render

    begun = time.monotonic()
    with new_folder(out, marker="report.html", own=("results.json",), overwrite=overwrite) as folder:
        images = make_digits(MADE_IMAGES, seed) if input is None else Images.read(input)
        setting = Setting(
            name=images.name,
            world="rotation",
            devices=DEVICES,
            tested=TESTED,
            epochs=EPOCHS if epochs is None else epochs,
        )
        if not silent:
            console.results.print(
                f"{len(images.labels):,} images ({images.name}). Each device is held at an angle of its own and gives "
                "up to 16 images without labels."
            )
        cell = run_cell(images, setting, seed, COUNTS, say=lambda line: None if silent else console.notes.print(line))
        results = assemble([cell])
        fleets: dict[str, Fleet] = {part: make_fleet(images, setting, part, FLEET_SEED) for part in MEASURED}
        (folder / "results.json").write_bytes(results.to_json())
        (folder / "report.html").write_text(render(results, f"Devices that see {images.name}", fleets), "utf-8")
    if json:
        console.print_json(results)
        return
    print_results(results)
    console.results.print(f"\nDone in {time.monotonic() - begun:.0f} s. What each device sees: {out}/report.html")


def print_results(results: VisionResults) -> None:
    """A table for each part, and what came of it."""
    from duetgen.vision.fleet import GIVEN
    from duetgen.vision.results import BASE

    for one in results.tables:
        table = RichTable(box=None, pad_edge=False, header_style="bold")
        table.add_column("")
        for name in ("accuracy", "worst tenth", "another's θ", "against base", "95 % interval", "", "one device"):
            table.add_column(name, justify="right" if name else "left")
        for row in one.rows:
            if row.images not in (0, IMAGES, GIVEN):
                continue
            against, cost = one.against(row.method, BASE, row.images), results.costs.get(row.method)
            delay = None if cost is None else cost.delay_ms
            table.add_row(
                f"{row.method}, {GIVEN} with labels" if row.images == GIVEN else row.method,
                f"{row.accuracy.mean:.4f}",
                f"{row.worst.mean:.4f}",
                "" if row.another is None else f"{row.another:.4f}",
                *(
                    ("", "", "")
                    if against is None
                    else (f"{against.mean:+.4f}", interval(against.low, against.high), against.outcome)
                ),
                "" if delay is None else milliseconds(delay),
            )
        seen = "angles between those that train" if one.part == "unseen" else "angles like those that train"
        costs = f", {IMAGES} images each: being turned costs base {100 * one.shift_cost:.1f} points"
        console.results.print()
        console.results.print(console.styled(f"{counted(one.devices, 'device')}, {seen}", "bold", costs))
        console.results.print(table)
    for line in results.verdict:
        console.results.print(line)
