"""Quality on real public data: base model and DUET, trained alike, measured on the test part.

    DUETGEN_DATA=/path/to/data python benchmarks/quality.py [--cells ml-100k/sasrec …] [--out out/quality] [--seed 0]

Each cell is a dataset and a backbone. Base and DUET of a cell share device model, data, objective, optimiser and
budget; the settings of `SETTINGS` were chosen on validation parts. Everything can be resumed: runs that are finished
are not trained again. The tables go to standard output and, with `--write`, to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from duetgen.cli.train import build_config
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import Dataset
from duetgen.evaluation import Evaluation, compare, evaluate
from duetgen.evaluation.conditions import Condition
from duetgen.training import load_run, train

HERE = Path(__file__).parent
CONDITIONS = (Condition("own"), Condition("own", 5), Condition("own", 20), Condition("zero"), Condition("another"))

INPUTS: dict[str, tuple[str, PrepareConfig]] = {
    "ml-100k": ("ml-100k/raw/u.data", PrepareConfig(split="leave-one-out", name="ml-100k")),
    "ml-1m": ("ml-1m/interactions.csv.gz", PrepareConfig(split="leave-one-out", name="ml-1m")),
    "amazon-beauty-5core": (
        "amazon-beauty-5core/interactions.csv.gz",
        PrepareConfig(split="leave-one-out", name="amazon-beauty-5core"),
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
    "optimiser.epochs": 40,
    "optimiser.patience": 12,
    "model.history.encoder": "average",
    "model.generator.width": 16,
}
"""For sets of under a thousand devices: small steps, and an encoder with little to memorise."""

DIN = {"optimiser.batch_positions": 1024, "optimiser.patience": 5, "validation_devices": 1000}
"""For a backbone that scores each candidate anew."""

SETTINGS: dict[str, dict[str, Any]] = {
    "ml-100k": SMALL,
    "duet-text-ml-100k-30u30i": SMALL,
    "amazon-beauty-5core": {"optimiser.epochs": 40, "model.backbone.dropout": 0.5},
    "ml-1m": {
        "optimiser.epochs": 30,
        "model.backbone.dropout": 0.1,
        "model.history.length": 200,
        "model.history.event_dropout": 0.2,
        "objective.staleness": 20,
        "objective.fallback_weight": 1.0,
    },
    "ml-100k/din": DIN | {"optimiser.epochs": 20},
    "amazon-beauty-5core/din": DIN | {"optimiser.epochs": 12},
}
"""Dataset or cell to the settings that are not the defaults, alike for base and DUET; chosen on validation parts."""

CELLS = (
    "ml-100k/sasrec",
    "ml-100k/gru4rec",
    "ml-100k/din",
    "duet-text-ml-100k-30u30i/sasrec",
    "duet-text-ml-100k-30u30i/gru4rec",
    "amazon-beauty-5core/sasrec",
    "amazon-beauty-5core/gru4rec",
    "amazon-beauty-5core/din",
    "ml-1m/sasrec",
)


LIMIT = {"amazon-beauty-5core/din": 5_000}
"""Cell to the devices that are measured, drawn by seed, where measuring all takes hours: a backbone that scores each
item of a large catalogue anew."""


class Line:
    """Prints one line an epoch."""

    def __init__(self, title: str) -> None:
        self.title = title

    def started(self, epochs: int, steps: int, resumed_epoch: int) -> None:
        print(f"{self.title}: at most {epochs} epochs of {steps} steps, {resumed_epoch} done", file=sys.stderr)

    def stepped(self, step: int, loss: float, positions_per_second: float) -> None:
        pass

    def measured(self, epoch: int, loss: float, ndcg: float, best: float) -> None:
        print(f"{self.title}  epoch {epoch}  loss {loss:.3f}  ndcg@10 {ndcg:.4f}  best {best:.4f}", file=sys.stderr)


def open_dataset(name: str, data: Path, out: Path) -> Dataset:
    """The dataset folder of a name, prepared if it is not there."""
    folder = out / "datasets" / name
    if not (folder / Dataset.marker).is_file():
        file, config = INPUTS[name]
        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare(data / file, folder, config)
    return Dataset(folder)


def run_cell(cell: str, seed: int, data: Path, out: Path) -> list[tuple[Evaluation, Evaluation]]:
    """Train and measure base and DUET of a cell: (base, DUET) for each protocol."""
    name, backbone = cell.split("/")
    dataset = open_dataset(name, data, out)
    protocols = ["given", "full"] if dataset.has_given else ["full", "candidates"]
    found = {}
    for method in ("base", "duet"):
        overrides = {"model.name": backbone, "model.method": method, "seed": seed}
        config = build_config(None, overrides | SETTINGS.get(name, {}) | SETTINGS.get(cell, {}), [])
        folder = out / "runs" / cell.replace("/", "-") / f"{method}-{seed}"
        train(dataset, config, folder, progress=Line(f"{cell} {method} seed {seed}"))
        run = load_run(folder)
        found[method] = evaluate(
            run.model,
            dataset,
            protocols=protocols,
            conditions=CONDITIONS,
            limit_devices=LIMIT.get(cell),
            config=run.settings(),
            seed=seed,
        )
    return list(zip(found["base"], found["duet"], strict=True))


def table(cell: str, pairs: list[tuple[Evaluation, Evaluation]]) -> str:
    """Markdown tables of a cell, one for each protocol."""
    lines = []
    for base, duet in pairs:
        pooled = "auc" in base["zero"].metrics
        columns = ["ndcg@10", "hr@10", "user_auc", *(["auc"] if pooled else []), "log_loss"]
        lines += [
            (
                f"### {cell}, `{base.protocol}`: {base.targets:,} targets of {base.devices:,} devices "
                f"out of {base.devices_in_part:,}, "
                f"{base.candidates:,.0f} entries ranked"
            ),
            "",
            f"| | {' | '.join(columns)} | ndcg@10 against base, 95 % interval |",
            f"|---|{'---:|' * len(columns)}---:|",
        ]
        rows = [("base", base, "zero"), *((result.name, duet, result.name) for result in duet.conditions)]
        for label, evaluation, condition in rows:
            values = [evaluation[condition].metrics[metric].mean for metric in columns]
            against = ""
            if evaluation is duet:
                found = compare(duet, base, condition_one=condition, condition_other="zero")
                against = f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
            name = label if evaluation is base else f"DUET, {label}"
            lines.append(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} | {against} |")
        lines.append("")
    return "\n".join(lines)


def heading(evaluation: Evaluation, command: str) -> str:
    """Where the figures come from."""
    found = evaluation.provenance
    return "\n".join(
        [
            "# Base model and DUET on real data",
            "",
            f"- command: `{command}`",
            f"- date: {datetime.datetime.now(datetime.UTC).date()}; commit: {found.commit}",
            (
                f"- {', '.join(f'{name} {version}' for name, version in found.versions.items())}; "
                f"{found.machine.cpu}, {found.machine.cores} cores, {found.machine.device}"
            ),
            (
                "- `own`: the device's own theta, fresh; `own+20`: 20 events old; `zero`: theta = 0; `another`: "
                "another device's theta. `user_auc` is averaged by device, `auc` pools all rows."
            ),
            "",
        ]
    )


def main() -> None:
    """Run the cells and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS, metavar="DATASET/BACKBONE")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--write", action="store_true", help="keep the tables in benchmarks/results/")
    options = parser.parse_args()
    if "DUETGEN_DATA" not in os.environ:
        sys.exit("quality.py: set DUETGEN_DATA to the folder of the public data sets")
    if options.threads:
        torch.set_num_threads(options.threads)
    command = "python benchmarks/quality.py" + "".join(f" {word}" for word in sys.argv[1:] if word != "--write")
    tables, evaluations = [], {}
    for cell in options.cells:
        pairs = run_cell(cell, options.seed, Path(os.environ["DUETGEN_DATA"]), options.out)
        evaluations[cell] = pairs
        tables.append(table(cell, pairs))
        print(tables[-1], flush=True)
    first = next(iter(evaluations.values()))[0][0]
    text = heading(first, command) + "\n" + "\n".join(tables)
    if options.write:
        results = HERE / "results"
        results.mkdir(exist_ok=True)
        (results / "quality.md").write_text(text)
        (results / "quality.json").write_bytes(msgspec.json.encode(evaluations))


if __name__ == "__main__":
    main()
