"""Three nights: a log that grows, and what it costs and gives to go on from yesterday's run instead of training anew.

    DUETGEN_DATA=… python benchmarks/three_nights.py [--data ml-100k] [--method base] [--width 32] [--epochs N]

The log is divided by time: four fifths of its events are the first day, a tenth each of the two others. These are
appended, and trained on in two ways: `anew`, and `on` from the run of the day before, by the rules of `duet train`.
Printed for each day:

- `ndcg@10` on the test part of that day's version, of both, and of the run of the day before as it is; and the share of
  the targets that each does not know;
- passes that were made, which was the best, and seconds of the processor, as ratios to `anew` too.

With --epochs a run that begins anew takes at most so many passes, and one that goes on a quarter of them, as the rule
has it. Times are of the processor, so other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel import CloudConfig
from duetgen.data.append import append
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, evaluate
from duetgen.export.published import load_model
from duetgen.machine import use_machine
from duetgen.recommender import ModelConfig
from duetgen.training import OptimiserConfig, TrainConfig, going_on, train
from duetgen.training.defaults import LATER

DAYS = (0.8, 0.9, 1.0)
"""Share of the events that lie before the end of each day."""


@dataclass(frozen=True)
class Trained:
    """A run, and what it took."""

    root: Path
    passes: int
    best_pass: int
    seconds: float


def write_days(data: str, root: Path) -> list[Path]:
    """A folder for each day, with the events of that day and the titles of all items."""
    source = Path(os.environ["DUETGEN_DATA"]) / data
    log = pl.read_csv(source / "interactions.csv.gz").sort("timestamp", maintain_order=True)
    items = pl.read_csv(source / "items.csv.gz", infer_schema=False)
    ends = [0, *(int(share * len(log)) for share in DAYS)]
    folders = []
    for day, (begin, end) in enumerate(itertools.pairwise(ends)):
        folder = root / f"day{day}"
        folder.mkdir()
        log[begin:end].write_csv(folder / "interactions.csv")
        items.write_csv(folder / "items.csv")
        folders.append(folder)
    return folders


def run(dataset: Dataset, config: TrainConfig, out: Path) -> Trained:
    """Train."""
    begun = time.process_time()
    found = train(dataset, config, out)
    return Trained(found.root, found.epochs, found.best_epoch, time.process_time() - begun)


def measured(root: Path, dataset: Dataset) -> tuple[float, float]:
    """`ndcg@10` on the test part with each device's own theta, and the share of targets that are unknown to it."""
    model, settings, seen = load_model(root, dataset)
    (found,) = evaluate(model, seen, conditions=[OWN], bootstrap=0, config=settings)
    return found.conditions[0].metrics["ndcg@10"].mean, found.unknown_targets / found.targets


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k", help="folder below $DUETGEN_DATA with interactions.csv.gz")
    parser.add_argument("--backbone", default="sasrec", choices=["sasrec", "gru4rec", "din"])
    parser.add_argument("--method", default="base", choices=["base", "duet"])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=0, help="most passes of a run that begins anew [by the data]")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    use_machine(options.threads)
    anew = TrainConfig(
        model=ModelConfig(
            name=options.backbone,
            method=options.method,
            backbone=BackboneConfig(width=options.width),
            cloud=CloudConfig(kind="none"),
        ),
        optimiser=OptimiserConfig(epochs=options.epochs),
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        days, data = write_days(options.data, root), root / "data"
        prepare(days[0], data, PrepareConfig(name=options.data, split="temporal"))
        dataset = Dataset(data)
        before = run(dataset, anew, root / "run0")
        print(
            f"{options.data}, {options.backbone}, {options.method}, width {options.width}, {options.threads} thread(s)"
        )
        print(f"first day: {tell(dataset)}; {before.passes} passes in {before.seconds:.0f} s")
        for day, log in enumerate(days[1:], 1):
            known = dataset.vocabulary
            append(log, data)
            dataset = Dataset(data)
            config = going_on(before.root)
            if options.epochs:
                epochs = max(1, options.epochs // LATER)
                config = msgspec.structs.replace(
                    config, optimiser=msgspec.structs.replace(config.optimiser, epochs=epochs)
                )
            on, new = run(dataset, config, root / f"on{day}"), run(dataset, anew, root / f"anew{day}")
            print(f"\nday {day}: {tell(dataset)}, {dataset.vocabulary - known:,} items are new")
            names = ("ndcg@10", "of anew", "unknown", "passes", "best", "seconds", "of anew")
            print(" " * 12 + "".join(f"{name:>9}" for name in names))
            quality_anew, _ = measured(new.root, dataset)
            for name, one in (("as it was", before), ("on from it", on), ("anew", new)):
                quality, unknown = measured(one.root, dataset)
                line = f"{name:12}{quality:>9.4f}{quality / quality_anew:>9.2f}{unknown:>9.1%}"
                if one is not before:
                    line += f"{one.passes:>9}{one.best_pass:>9}{one.seconds:>9.0f}{one.seconds / new.seconds:>9.2f}"
                print(line, flush=True)
            before = on


def tell(dataset: Dataset) -> str:
    """The size of a version."""
    counts = dataset.manifest.counts
    return f"version {dataset.version}, {counts.devices:,} devices, {counts.items:,} items, {counts.events:,} events"


if __name__ == "__main__":
    main()
