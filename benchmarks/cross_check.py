"""EASE, item-knn and SASRec beside those of RecTools: the same data, the same protocol, both figures.

    python3 -m venv .venv-rectools && .venv-rectools/bin/pip install torch==2.13.0 'rectools[torch]==0.19.0'
    DUETGEN_DATA=/path/to/data python benchmarks/cross_check.py --rectools .venv-rectools/bin/python [--set ml-100k]

RecTools wants older versions of numpy and pandas, so it has an environment of its own and runs as a process. Both sides
learn from the training part; the target is each device's validation event, ranked among all items that it has not met.
RecTools gives its ten best, this project ranks by `duet evaluate --part valid`; `ndcg@10` is computed from both.
Counting models must agree to the fourth digit but for ties; two SASRecs are two implementations of one idea, each
trained for as long as it takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

WIDTH, WINDOW, PASSES, THEIR_PASSES = 64, 200, 40, 100
"""RecTools trains on the newest `WINDOW` events of a user alone: a short window would keep most of the data from it."""
NEIGHBOURS, REGULARISATION = 200, 300.0
MODELS: Final = {"ease": "ease", "ease, weights transposed": "ease", "item-knn": "item-knn", "sasrec": "sasrec"}
"""Ours to theirs. RecTools 0.19 ranks EASE by the weights transposed: item i gets the sum of B_ij, not of B_ji."""


def theirs(folder: Path) -> None:
    """What RecTools recommends: run in its environment. Reads train.csv, writes MODEL.csv for each model."""
    import pandas as pd
    import torch
    from implicit.nearest_neighbours import CosineRecommender
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import EASEModel, ImplicitItemKNNWrapperModel, SASRecModel

    torch.set_num_threads(1)
    train = pd.read_csv(folder / "train.csv")
    train[Columns.Weight] = 1.0
    train[Columns.Datetime] = pd.to_datetime(train[Columns.Datetime], unit="s")
    dataset = Dataset.construct(train)
    made = {
        "ease": lambda: EASEModel(regularization=REGULARISATION),
        "item-knn": lambda: ImplicitItemKNNWrapperModel(CosineRecommender(K=NEIGHBOURS + 1)),
        "sasrec": lambda: SASRecModel(
            n_factors=WIDTH,
            n_blocks=1,
            n_heads=1,
            session_max_len=WINDOW,
            epochs=THEIR_PASSES,
            loss="softmax",
            dropout_rate=0.3,
            batch_size=64,
            lr=1e-3,
        ),
    }
    for name, make in made.items():
        model = make().fit(dataset)
        found = model.recommend(train[Columns.User].unique(), dataset, k=10, filter_viewed=True)
        found[[Columns.User, Columns.Item, Columns.Rank]].to_csv(folder / f"{name}.csv", index=False)


def main() -> None:
    """Print both figures of each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rectools", help="the Python of an environment that has RecTools")
    parser.add_argument("--set", default="ml-100k", dest="name")
    parser.add_argument("--theirs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs is not None:
        theirs(options.theirs)
        return
    if options.rectools is None or "DUETGEN_DATA" not in os.environ:
        sys.exit("cross_check.py: give --rectools, and set DUETGEN_DATA to the folder of the public data sets")
    import numpy as np
    import polars as pl

    from duetgen.backbones import BackboneConfig
    from duetgen.baselines import EASE, ItemKNN
    from duetgen.baselines.ease import gram, solve
    from duetgen.data.prepare import PrepareConfig, prepare
    from duetgen.data.store import Dataset
    from duetgen.evaluation import evaluate
    from duetgen.recommender import ModelConfig
    from duetgen.training import OptimiserConfig, TrainConfig, load_run, train

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log = Path(os.environ["DUETGEN_DATA"]) / options.name / "interactions.csv.gz"
        prepare(log, folder / "data", PrepareConfig(split="leave-one-out", met="hide"))
        data = Dataset(folder / "data")
        device_E = np.repeat(np.arange(data.devices), np.diff(data.offsets))
        within_E = np.arange(len(data.events)) - data.offsets[device_E]
        mask = data.training_mask()
        # Days stand for the order, which is all that a model reads of time.
        columns = {"user_id": device_E, "item_id": data.events, "datetime": 86_400 * within_E}
        pl.DataFrame({name: np.asarray(column)[mask] for name, column in columns.items()}).write_csv(
            folder / "train.csv"
        )
        subprocess.run([options.rectools, __file__, "--theirs", str(folder)], check=True)
        targets = data.targets("valid")
        item_of = dict(zip(targets.device_N.tolist(), data.events[targets.position_N].tolist()))
        longest = int(np.diff(data.offsets).max())
        config = TrainConfig(
            model=ModelConfig(method="base", backbone=BackboneConfig(width=WIDTH, window=WINDOW, dropout=0.3)),
            optimiser=OptimiserConfig(epochs=PASSES),
        )
        train(data, config, folder / "run")
        ours = {
            "ease": EASE(solve(gram(data), REGULARISATION), longest, half_life=float("inf")),
            "ease, weights transposed": EASE(solve(gram(data), REGULARISATION).T.contiguous(), longest, float("inf")),
            "item-knn": ItemKNN(data, longest, half_life=float("inf"), count=NEIGHBOURS),
            "sasrec": load_run(folder / "run").model,
        }
        print(f"{options.name}: {data.devices:,} devices, {data.manifest.counts.items:,} items; validation, met hidden")
        print(f"{'':<25} duetgen  RecTools   (ndcg@10)")
        for name, its in MODELS.items():
            (found,) = evaluate(ours[name], data, part="valid", bootstrap=0)
            listed = pl.read_csv(folder / f"{its}.csv")
            hits = [1 / np.log2(1 + rank) for user, item, rank in listed.iter_rows() if item_of.get(user) == item]
            print(
                f"{name:<25} {found['zero'].metrics['ndcg@10'].mean:.4f}   {sum(hits) / len(item_of):.4f}", flush=True
            )


if __name__ == "__main__":
    main()
