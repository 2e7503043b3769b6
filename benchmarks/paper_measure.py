"""The measure of the DUET paper on MovieLens 1M, one positive among 99 drawn negatives, beside the published code's.

    python benchmarks/paper_measure.py DATASET RUN [RUN …]

DATASET is MovieLens 1M in leave-one-out, as `reproduce.py` and `quality.py` prepare it, and each RUN a run of it,
base or DUET. Public logs of the published code are of all 3,706 items; ours has the 3,416 with five ratings and more.
So a second line says what the same ranks are worth with as many rare items among the negatives as theirs have: every
model ranks these last.
"""

from __future__ import annotations

import argparse
from math import comb
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, evaluate
from duetgen.training import load_run

Float64 = npt.NDArray[np.float64]

ALL_ITEMS: Final = 3706
NEGATIVES: Final = 99
CUTOFF: Final = 10
ROUNDING: Final = 1e-6
"""A rank comes as the inverse of an inverse."""
METRICS: Final = ("auc", "user_auc", "ndcg@10", "hr@10")
PUBLISHED: Final = {
    "published code: SASRec": (0.9375, 0.9308, 0.584, 0.812),
    "published code: fine-tuned": (0.9393, 0.9331, 0.591, 0.820),
    "published code: DUET, best of its logs": (0.9396, 0.9321, 0.591, 0.820),
}
"""At width 32: public logs of a third party, the best pass chosen on the test part."""


def with_rare(auc: float, rank_U: Float64, rare: float) -> tuple[float, ...]:
    """What `METRICS` would be if each negative were, with probability `rare`, an item that ranks last.

    Args:
        auc: over all devices together.
        rank_U: of each device's target, all as they are; infinite where no device can show it.
        rare: that share.
    """
    # How many of the negatives ahead of the target stay ahead is binomial.
    worth_2A = np.zeros((2, NEGATIVES + 1))
    for ahead in range(NEGATIVES + 1):
        for left in range(min(ahead + 1, CUTOFF)):
            chance = comb(ahead, left) * (1 - rare) ** left * rare ** (ahead - left)
            worth_2A[:, ahead] += chance / np.log2(2 + left), chance
    shown_U = np.isfinite(rank_U)
    ahead_U = np.floor(np.where(shown_U, rank_U, 1) + ROUNDING).astype(int) - 1
    below_U = np.where(shown_U, 1 - (rank_U - 1) / NEGATIVES * (1 - rare), 0)
    ndcg, hits = (worth_2A[:, ahead_U] * shown_U).mean(1)
    return (1 - rare) * auc + rare, float(below_U.mean()), float(ndcg), float(hits)


def line(name: str, values: tuple[float, ...]) -> str:
    """A line of the table."""
    return f"  {name:<40}" + "".join(f"{value:>10.4f}" for value in values)


def print_measure(dataset: Dataset, runs: list[Path]) -> None:
    """Measure runs on the test part, and print them beside what was published."""
    items = dataset.manifest.counts.items
    name = dataset.manifest.name
    print(f"{name}, one positive among 99 drawn negatives: ours on {items:,} items, theirs on {ALL_ITEMS:,}")
    print(" " * 42 + "".join(f"{metric:>10}" for metric in METRICS))
    for run in runs:
        (evaluation,) = evaluate(load_run(run).model, dataset, protocols=["candidates"], conditions=[OWN])
        (found,) = evaluation.conditions
        means = {metric: found.metrics[metric].mean for metric in METRICS}
        with np.errstate(divide="ignore"):
            # Each device has one target.
            rank_U = 1 / evaluation.by_device.values[found.name]["mrr"]
        print(line(f"{run.parent.name}/{run.name}", tuple(means.values())))
        print(line("  with their rare items", with_rare(means["auc"], rank_U, 1 - items / ALL_ITEMS)))
    for name, values in PUBLISHED.items():
        print(line(name, values))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    options = parser.parse_args()
    print_measure(Dataset(options.dataset), options.runs)


if __name__ == "__main__":
    main()
