"""Evaluation throughput: devices a second of the `full` protocol, base and DUET, against the plain way that sorts.

    python benchmarks/evaluation_throughput.py [--devices 6000] [--items 3400] [--threads 1] [--repeats 5]

The plain way scores the same batches and takes ranks from a sort of each row. Medians and ratio come from one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from duetgen.backbones import ModelConfig, Recommender
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import Dataset
from duetgen.data.synthetic import SyntheticConfig
from duetgen.evaluation import evaluate
from duetgen.evaluation.conditions import Condition
from duetgen.evaluation.inputs import histories, target_items, windows
from duetgen.machine import use_machine


def by_sorting(model: Recommender, dataset: Dataset) -> None:
    """Ranks of all targets by sorting every row of scores."""
    targets = dataset.targets("test")
    window_NL = torch.from_numpy(windows(dataset, targets, model.window))
    item_N = torch.from_numpy(target_items(dataset, targets))
    history_NL = torch.from_numpy(histories(dataset, targets, model.generator_history)) if model.personal else None
    ranks = []
    with torch.inference_mode():
        for begin in range(0, len(targets), 1024):
            rows = slice(begin, begin + 1024)
            theta_BP = None if history_NL is None else model.generate(history_NL[rows])
            order_BV = model.score_catalogue(window_NL[rows], theta_BP).argsort(dim=1, descending=True)
            ranks.append((order_BV == item_N[rows, None]).int().argmax(1))
    assert len(np.concatenate([rank.numpy() for rank in ranks])) == len(targets)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=6000)
    parser.add_argument("--items", type=int, default=3400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    use_machine(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        config = PrepareConfig(
            source="synthetic",
            split="leave-one-out",
            synthetic=SyntheticConfig(people=options.devices, items=options.items),
        )
        prepare(None, Path(folder) / "data", config)
        dataset = Dataset(Path(folder) / "data")
        print(f"{dataset.devices:,} devices, {dataset.vocabulary:,} items, {options.threads} thread(s)")
        print(f"{'SASRec, width 32':<20}{'devices/s':>12}{'by sorting':>12}{'ratio':>8}")
        for method, condition in (("base", "zero"), ("duet", "own")):
            torch.manual_seed(0)
            model = Recommender(dataset.vocabulary, ModelConfig(method=method)).eval()  # type: ignore[arg-type]
            ways = {
                "ours": lambda model=model, condition=condition: evaluate(
                    model, dataset, conditions=[Condition(condition)], bootstrap=0
                ),
                "sorting": lambda model=model: by_sorting(model, dataset),
            }
            spent: dict[str, list[float]] = {name: [] for name in ways}
            for way in ways.values():
                way()
            for _ in range(options.repeats):
                for name, way in ways.items():
                    spent[name].append(seconds(way))
            rate = {name: dataset.devices / statistics.median(values) for name, values in spent.items()}
            ratio = rate["ours"] / rate["sorting"]
            print(f"{method:<20}{rate['ours']:>12,.0f}{rate['sorting']:>12,.0f}{ratio:>7.1f}x")


if __name__ == "__main__":
    main()
