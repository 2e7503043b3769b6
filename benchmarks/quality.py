"""Quality on real public data: DUET and what it is compared with, trained alike, measured on the test part.

    DUETGEN_DATA=/path/to/data python benchmarks/quality.py [--cells ml-100k/sasrec …] [--methods duet,base] [--seeds 1]
        [--out out/quality] [--jobs 1] [--budget MINUTES] [--write]

Each cell is a dataset, a split and a backbone: one `duet compare`, which can be killed at any moment and goes on with
the same command. All methods of a cell share data, settings and training budget; `SETTINGS` were chosen on validation
parts, but for cells without a page in `results/quality/`: those have the settings of the nearest cell with one. With
`--write` a cell that has DUET is kept in `benchmarks/results/quality/`, as a page and as a record without any row of a
dataset, and the summary of all cells is made anew.
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

from duetgen.comparison.results import DUET, Results
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import Dataset
from quality_pages import page, write_cell, write_summary

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


def main() -> None:
    """Run the cells and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS, metavar="DATASET/BACKBONE")
    parser.add_argument("--methods", help="separated by commas; those of the cell's plan by default")
    parser.add_argument("--seeds", type=int, help="that of the cell's plan by default")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    parser.add_argument("--jobs", type=int, default=1, help="methods that run side by side, a thread each")
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
        if options.write and results.tables[0].row(DUET) is not None:
            write_cell(cell, results, text)
            write_summary()


if __name__ == "__main__":
    main()
