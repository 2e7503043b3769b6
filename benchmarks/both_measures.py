"""One comparison by both measures: what devices have met hidden from the rankings, and shown.

    python benchmarks/both_measures.py COMPARISON DATASET [--backbone sasrec] [--seed 0]

COMPARISON is a folder of `duet compare` (as `quality.py` leaves it) with base, duet and duet-joint on one backbone;
DATASET is the dataset folder of it. Nothing is trained: the same models are measured twice on the test part, with
fresh theta and one that is 20 events old, each less base, device by device, with the 95 % interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final, get_args

import msgspec

from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, Condition, compare, evaluate
from duetgen.training import load_run
from duetgen.wire.messages import MetPolicy

CONDITIONS: Final = (OWN, Condition("own", 20))
METHODS: Final = ("duet-joint", "duet")


def main() -> None:
    """Measure, and print as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dataset, cells = Dataset(options.dataset), Path(options.comparison) / "cells"

    def cell(method: str) -> Path:
        return cells / f"{options.backbone}-{method}-{options.seed}"

    base = load_run(cell("base") / "fit").model
    models = {method: load_run(cell(method) / "fit/run").model for method in METHODS}
    for met in get_args(MetPolicy):
        dataset.manifest = msgspec.structs.replace(dataset.manifest, met=met)
        (reference,) = evaluate(base, dataset)
        print(f"met {met}   base ndcg@10 {reference['zero'].metrics['ndcg@10'].mean:.4f}")
        for method, model in models.items():
            (found,) = evaluate(model, dataset, conditions=list(CONDITIONS))
            for condition in CONDITIONS:
                gap = compare(found, reference, condition_one=condition, condition_other="zero")
                print(
                    f"   {method}, {condition.name}: {found[condition.name].metrics['ndcg@10'].mean:.4f}, less base "
                    f"{gap.mean:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
                )


if __name__ == "__main__":
    main()
