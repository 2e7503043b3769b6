"""Quality on real public data: DUET and what it is compared with, by the defaults, measured on the test part.

    DUETGEN_DATA=/path/to/data python benchmarks/quality.py [--cells ml-1m/sasrec …] [--methods duet,base] [--seeds 1]
        [--out out/quality] [--jobs 1] [--budget MINUTES] [--write]

Each cell is a dataset, a split and a device model: one `duet compare`, which can be killed at any moment and goes on
with the same command. No cell has settings of its own but for the width of the device: the dataset decides what the
defaults leave open. What is shared is trained once: the cloud model of a dataset serves its other device models, so
these come after it. With `--write` what
came of a cell is kept in `benchmarks/results/quality/`, without any row of a dataset: a record, and one page of all.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from duetgen.comparison.report.results import BASE, Results
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import Dataset
from quality_pages import write_cell

COMMAND: Final = [sys.executable, "-c", "from duetgen.cli import main; main()"]
AGES: Final = "0,5,20"
CLOUD_RUN: Final = "cells/any-cloud-0/fit"
"""Where a comparison keeps the cloud model of its first seed."""
CLOUD: Final = ("cloud", "cloud-list")
DUET: Final = ("duet", "duet-joint")
SASREC: Final = ("popular", "base", "base-small", "base-distilled", "base-ensemble", "finetune", "apg", *CLOUD, *DUET)
EASE: Final = (*SASREC, "ease")
KNN: Final = (*SASREC, "item-knn")
"""For larger catalogues: EASE inverts a matrix of items by items."""
MORE: Final = ("base-long", "concat")
OTHERS: Final = ("base", *CLOUD, "duet")
"""What tells whether it holds with another device model."""
SMALL: Final = ("base", "base-distilled", "base-ensemble", *CLOUD, *DUET)

LEAVE_ONE_OUT: Final = (
    "ml-1m",
    "amazon-beauty-5core",
    "amazon-sports-5core",
    "amazon-video-games-sasrec",
    "yelp-2019-5core",
    "taobao-mclrec",
)
TEMPORAL: Final = ("ml-100k", "ml-1m-users-1-2999")
INPUTS: Final = {name: (name, "leave-one-out") for name in LEAVE_ONE_OUT} | {
    f"{name}-temporal": (name, "temporal") for name in TEMPORAL
}
"""Dataset to its folder below DUETGEN_DATA, and its split."""


@dataclass(frozen=True)
class Plan:
    """What is compared in a cell.

    Attributes:
        methods: by name.
        seeds: how many.
        limit_devices: devices that are measured, drawn by seed, where measuring all takes hours: a backbone that scores
            each item of a large catalogue anew. None for all.
        width: of the device model; None for the default.
        cloud_of: the cell whose cloud model, of its first seed, is taken: it is the same whatever the device model is.
    """

    methods: tuple[str, ...]
    seeds: int = 1
    limit_devices: int | None = None
    width: int | None = None
    cloud_of: str | None = None


CELLS: Final = {
    "ml-1m/sasrec": Plan((*EASE, *MORE), seeds=3),
    "amazon-beauty-5core/sasrec": Plan((*KNN, *MORE), seeds=3),
    "ml-1m/sasrec-32": Plan(SMALL, width=32, cloud_of="ml-1m/sasrec"),
    "amazon-beauty-5core/sasrec-32": Plan(SMALL, width=32, cloud_of="amazon-beauty-5core/sasrec"),
    "amazon-sports-5core/sasrec": Plan(KNN),
    "amazon-video-games-sasrec/sasrec": Plan(KNN),
    "yelp-2019-5core/sasrec": Plan(KNN),
    "taobao-mclrec/sasrec": Plan(KNN),
    "ml-100k-temporal/sasrec": Plan(EASE, seeds=3),
    "ml-1m-users-1-2999-temporal/sasrec": Plan(EASE),
    "ml-1m/gru4rec": Plan(OTHERS, cloud_of="ml-1m/sasrec"),
    "amazon-beauty-5core/gru4rec": Plan(OTHERS, cloud_of="amazon-beauty-5core/sasrec"),
    "ml-1m/din": Plan(OTHERS, limit_devices=2_000, cloud_of="ml-1m/sasrec"),
    "amazon-beauty-5core/din": Plan(OTHERS, limit_devices=2_000, cloud_of="amazon-beauty-5core/sasrec"),
}
"""All cells by dataset and device model, as they are run one after the other; leave-one-out but for the temporal."""


def open_dataset(name: str, data: Path, out: Path) -> Dataset:
    """The dataset folder of a name, prepared if it is not there."""
    folder = out / "datasets" / name
    if not (folder / Dataset.marker).is_file():
        source, split = INPUTS[name]
        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare(data / source / "interactions.csv.gz", folder, PrepareConfig(split=split, name=name))
    return Dataset(folder)


def folder_of(cell: str, out: Path) -> Path:
    """The folder of a cell's comparison."""
    return out / "comparisons" / cell.replace("/", "-")


def run_cell(cell: str, plan: Plan, data: Path, out: Path, jobs: int, budget: float | None) -> Results | None:
    """Compare the methods of a cell with `duet compare`; None where nothing came of it."""
    name, device = cell.split("/")
    dataset = open_dataset(name, data, out)
    root = folder_of(cell, out)
    words = ["compare", str(dataset.root), "--out", str(root), "--jobs", str(jobs)]
    words += ["--backbones", device.partition("-")[0]]
    words += ["--methods", ",".join(plan.methods), "--seeds", str(plan.seeds), "--staleness", AGES]
    words += [] if plan.limit_devices is None else ["--limit-devices", str(plan.limit_devices)]
    words += [] if plan.width is None else ["--width", str(plan.width)]
    words += [] if plan.cloud_of is None else ["--cloud-model", str(folder_of(plan.cloud_of, out) / CLOUD_RUN)]
    words += [] if budget is None else ["--budget", str(budget)]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL) as comparison:
        try:
            code = comparison.wait()
        finally:
            comparison.terminate()
    # 1: a method failed; the results of the others are there.
    return Results.from_json((root / "results.json").read_bytes()) if code in (0, 1) else None


def main() -> None:
    """Run the cells; with `--write`, keep what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS, metavar="DATASET/DEVICE")
    parser.add_argument("--methods", help="separated by commas; those of the cell's plan by default")
    parser.add_argument("--seeds", type=int, help="that of the cell's plan by default")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    parser.add_argument(
        "--jobs", type=int, default=1, help="methods that run side by side, a thread each; they share a GPU"
    )
    parser.add_argument("--budget", type=float, help="minutes a cell after which no method is started")
    parser.add_argument("--write", action="store_true", help="keep what came of it in benchmarks/results/quality/")
    options = parser.parse_args()
    if "DUETGEN_DATA" not in os.environ:
        sys.exit("quality.py: set DUETGEN_DATA to the folder of the public data sets")
    # Killed, this script ends as it does otherwise, and ends the comparison that runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for cell in options.cells:
        plan = CELLS[cell]
        if options.methods:
            plan = replace(plan, methods=tuple(options.methods.split(",")))
        if options.seeds:
            plan = replace(plan, seeds=options.seeds)
        data = Path(os.environ["DUETGEN_DATA"])
        results = run_cell(cell, plan, data, options.out, options.jobs, options.budget)
        if results is None or not results.tables:
            print(f"{cell}: nothing is finished yet", file=sys.stderr)
            continue
        print(f"{cell}: {results.verdict}", flush=True)
        if options.write and results.tables[0].row(BASE) is not None:
            write_cell(cell, results)


if __name__ == "__main__":
    main()
