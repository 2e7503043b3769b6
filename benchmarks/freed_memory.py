"""What keeping freed memory is worth, in training and measuring: `keep_freed_memory` against glibc's defaults.

    python benchmarks/freed_memory.py [--items 3500 12000] [--batch-positions 1024] [--threads 1] [--repeats 3]

Each figure comes from a process of its own, for the choice holds for a whole process; the two take turns on the same
synthetic devices. Beside the ratio of positions a second: the share of processor time that the kernel took, and the
most memory that the process ever held.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset
from duetgen.evaluation import evaluate
from duetgen.evaluation.conditions import Condition
from duetgen.machine import keep_freed_memory
from duetgen.recommender import ModelConfig, Recommender
from training_throughput import Way, rate

CASES = (
    "sasrec base",
    "sasrec duet",
    "sasrec base-long",
    "sasrec measured",
    "gru4rec duet",
    "gru4rec measured",
    "din base",
    "din duet",
    "din base-long",
    "din measured",
)
"""Backbone and method of a training step; `measured` is DUET's evaluation, `full` protocol, in targets a second."""


def measure(case: str, data: Path, options: argparse.Namespace) -> dict[str, float]:
    """Work in this process for a while: positions or targets a second, the kernel's share, the most memory in MB."""
    torch.set_num_threads(options.threads)
    if options.keep and not keep_freed_memory():
        sys.exit("this C library has no mallopt: nothing to compare")
    options.backbone, what = case.split()
    work = measuring(options.backbone, Dataset(data)) if what == "measured" else training(what, Dataset(data), options)
    work()
    before = resource.getrusage(resource.RUSAGE_SELF)
    speed = rate(work, options.seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    kernel, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
    return {"rate": speed, "kernel": kernel / (kernel + user), "megabytes": after.ru_maxrss / 1024}


def training(method: str, dataset: Dataset, options: argparse.Namespace) -> Callable[[], int]:
    """Training steps."""
    kind, long = "bce" if options.backbone == "din" else "softmax", method == "base-long"
    return Way(method, dataset, options, method.removesuffix("-long"), kind, long=long)


def measuring(backbone: str, dataset: Dataset) -> Callable[[], int]:
    """Evaluations of some devices with DUET, `full` protocol."""
    devices = 100 if backbone == "din" else 1000
    torch.manual_seed(0)
    model = Recommender(dataset.vocabulary, ModelConfig(name=backbone, method="duet")).eval()  # type: ignore[arg-type]

    def some() -> int:
        evaluate(model, dataset, conditions=[Condition("own")], limit_devices=devices, bootstrap=0)
        return devices

    return some


def in_turn(case: str, data: Path, options: argparse.Namespace, keep: bool) -> dict[str, float]:
    """The same in a new process."""
    command = [sys.executable, __file__, "--one", case, "--data", str(data), "--threads", str(options.threads)]
    command += ["--batch-positions", str(options.batch_positions), "--seconds", str(options.seconds)]
    done = subprocess.run(command + ["--keep"] * keep, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--items", type=int, nargs="+", default=[3500, 12000])
    parser.add_argument("--batch-positions", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.encoder = "average"
    if options.one:
        print(json.dumps(measure(options.one, options.data, options)))
        return
    print(f"batches of {options.batch_positions} positions, {options.threads} thread(s), median of {options.repeats}")
    print(f"{'':<27}{'a second':>24}{'':>8}{'kernel time':>18}{'most memory, MB':>20}")
    print(
        f"{'items':>6}{'':<21}{'returned':>12}{'kept':>12}{'':>8}{'returned':>10}{'kept':>8}{'returned':>12}{'kept':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for items in options.items:
            data = Path(folder) / str(items)
            synthetic = SyntheticConfig(people=2000, items=items)
            prepare(None, data, PrepareConfig(source="synthetic", split="leave-one-out", synthetic=synthetic))
            for case in CASES:
                turns = [[in_turn(case, data, options, keep) for keep in (False, True)] for _ in range(options.repeats)]
                (rate0, kernel0, most0), (rate1, kernel1, most1) = (
                    [statistics.median(turn[way][key] for turn in turns) for key in ("rate", "kernel", "megabytes")]
                    for way in (0, 1)
                )
                print(
                    f"{items:>6,} {case:<20}{rate0:>12,.0f}{rate1:>12,.0f}{rate1 / rate0:>7.2f}x"
                    f"{kernel0:>10.0%}{kernel1:>8.0%}{most0:>12,.0f}{most1:>8,.0f}"
                )


if __name__ == "__main__":
    main()
