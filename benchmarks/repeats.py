"""Targets that a device has met before apart from new ones, for every method of a finished comparison.

    python benchmarks/repeats.py COMPARISON DATASET

COMPARISON is a folder of `duet compare`, DATASET the dataset folder that it is of, divided leave-one-out. A method that
remembers what a device had is good at repeats and may be bad at all else; one average hides that.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from duetgen.comparison.records import CellFolder
from duetgen.data.store import Dataset

METRIC = "ndcg@10"


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("dataset", type=Path)
    options = parser.parse_args()
    dataset = Dataset(options.dataset)
    if dataset.manifest.split.kind != "leave-one-out":
        sys.exit(f"repeats.py: {options.dataset} is divided {dataset.manifest.split.kind}; it has to be leave-one-out")
    bounds = zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)
    repeat_U = np.array([dataset.events[end - 1] in dataset.events[begin : end - 1] for begin, end in bounds])
    print(f"{dataset.manifest.name}: {repeat_U.mean():.2%} of the test targets were met before; {METRIC}, full")
    print(f"{'':24s}  {'repeats':>8s}  {'new':>8s}  {'all':>8s}")
    for folder in sorted((options.comparison / "cells").iterdir()):
        cell = CellFolder(folder)
        record = cell.read()
        if record is None:
            continue
        devices = cell.by_device([METRIC])
        value_U = devices.of("full", record.headline, "all", METRIC)
        if value_U is None:
            continue
        own_U = repeat_U[devices.device_U]
        means = [np.nanmean(value_U[own]) if own.any() else np.nan for own in (own_U, ~own_U, own_U | ~own_U)]
        print(f"{folder.name:24s}  {'  '.join(f'{mean:8.4f}' for mean in means)}")


if __name__ == "__main__":
    main()
