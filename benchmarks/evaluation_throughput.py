"""Evaluation throughput: devices a second of the `full` protocol, base and DUET, against the plain way that sorts; and
the protocols `full` and `candidates` in one evaluation, against one after the other.

    python benchmarks/evaluation_throughput.py [--devices 6000] [--items 3400] [--threads 1] [--repeats 5]

The plain way scores the same batches and takes ranks from a sort of each row. Medians and ratios come from one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch

from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset
from duetgen.evaluation import evaluate
from duetgen.evaluation.conditions import Condition
from duetgen.evaluation.inputs import histories, target_items, windows
from duetgen.machine import use_machine
from duetgen.recommender import ModelConfig, Recommender

PAIRWISE_DEVICES: Final = 1000
"""Devices measured with a backbone that scores each candidate anew."""


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


def rates(ways: dict[str, Callable[[], object]], devices: int, repeats: int) -> dict[str, float]:
    """Devices a second of several ways that take turns: the medians. A single repeat has no warm-up."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    if repeats > 1:
        for way in ways.values():
            way()
    for _ in range(repeats):
        for name, way in ways.items():
            spent[name].append(seconds(way))
    return {name: devices / statistics.median(values) for name, values in spent.items()}


def against_sorting(dataset: Dataset, repeats: int) -> None:
    """The `full` protocol, with SASRec."""
    print(f"{'sasrec, width 32':<20}{'devices/s':>12}{'by sorting':>12}{'ratio':>8}")
    for method, condition in (("base", "zero"), ("duet", "own")):
        torch.manual_seed(0)
        model = Recommender(dataset.vocabulary, ModelConfig(method=method)).eval()  # type: ignore[arg-type]
        ways = {
            "ours": partial(evaluate, model, dataset, conditions=[Condition(condition)], bootstrap=0),
            "sorting": partial(by_sorting, model, dataset),
        }
        rate = rates(ways, dataset.devices, repeats)
        print(f"{method:<20}{rate['ours']:>12,.0f}{rate['sorting']:>12,.0f}{rate['ours'] / rate['sorting']:>7.1f}x")


def together(dataset: Dataset, repeats: int) -> None:
    """Both protocols of a comparison, own theta of four ages."""
    conditions = [Condition("own", age) for age in (0, 1, 5, 20)]
    print(f"{'duet, both protocols':<20}{'together':>12}{'in turn':>12}{'ratio':>8}")
    for name in ("sasrec", "gru4rec", "din"):
        torch.manual_seed(0)
        model = Recommender(dataset.vocabulary, ModelConfig(name=name, method="duet")).eval()  # type: ignore[arg-type]
        devices = PAIRWISE_DEVICES if model.backbone.pairwise else dataset.devices
        measure = partial(evaluate, model, dataset, conditions=conditions, limit_devices=devices, bootstrap=0)
        ways = {
            "together": partial(measure, protocols=("full", "candidates")),
            "in turn": lambda measure=measure: [measure(protocols=(one,)) for one in ("full", "candidates")],
        }
        rate = rates(ways, devices, 1 if model.backbone.pairwise else repeats)
        ratio = rate["together"] / rate["in turn"]
        print(f"{name:<20}{rate['together']:>12,.0f}{rate['in turn']:>12,.0f}{ratio:>7.1f}x")


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
        against_sorting(dataset, options.repeats)
        together(dataset, options.repeats)


if __name__ == "__main__":
    main()
