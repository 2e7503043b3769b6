"""From a log to a ranking device at growing catalogues: processor time and peak memory of each stage.

    python benchmarks/large_catalogue.py [--items 10000 100000 1000000] [--steps 60] [--targets 200] [--folder DIR]

The log has the skew of real ones (`preparing.make_log`) and ten events an item. Each stage runs in a process of its own
with one thread: preparing; a training step of a base model and of a generator with an embedding of its own, medians;
counting the table of the cloud model; ranking so many targets of the test part among all items and among drawn
candidates, for DUET with weights and two opinions; exporting, of which parity is a part; loading the bundle on a
device, answering in the cloud, ranking 100 candidates and all items. Models are untrained but for the steps: time and
memory do not depend on what they learnt. `times` are ratios to the smallest catalogue.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

Found = dict[str, float]
EVENTS_AN_ITEM: Final = 10
EVENTS_A_USER: Final = 60
CALLS: Final = 20


def make_log(path: Path, items: int) -> None:
    """Write a log in which each item occurs: half of the events by popularity, half evenly."""
    rng = np.random.default_rng(0)
    events, users = items * EVENTS_AN_ITEM, max(items * EVENTS_AN_ITEM // EVENTS_A_USER, 10)
    popular = (items * rng.random(events // 2) ** 3).astype(np.int64)
    even = np.arange(events - len(popular)) % items
    table = {
        "user": (users * rng.random(events) ** 1.5).astype(np.int64),
        "item": rng.permutation(np.concatenate([popular, even])),
        "timestamp": 1_500_000_000 + np.sort(rng.integers(0, 2 * 365 * 86_400, events)),
    }
    text = (pl.format("u{}", "user").alias("user"), pl.format("i{}", "item").alias("item"))
    pl.DataFrame(table).with_columns(text).write_parquet(path)


def prepare_log(folder: Path, _: argparse.Namespace) -> Found:
    """`duet prepare`."""
    from duetgen.data.prepare import PrepareConfig, prepare

    prepare(folder / "log.parquet", folder / "data", PrepareConfig())
    return {}


def config_of(folder: Path, method: str) -> tuple[Any, Any]:
    """The dataset and the configuration of a run by the defaults; of DUET with an embedding of its own."""
    from duetgen.data.store import Dataset
    from duetgen.recommender import HistoryConfig, ModelConfig
    from duetgen.training import TrainConfig
    from duetgen.training.defaults import fill_in

    dataset = Dataset(folder / "data")
    history = HistoryConfig(share_embedding=False)
    return dataset, fill_in(TrainConfig(model=ModelConfig(method=method, history=history)), dataset)  # type: ignore[arg-type]


class EnoughError(Exception):
    """Ends the training after so many steps."""


def train(method: str) -> Callable[[Path, argparse.Namespace], Found]:
    """Steps of a base model, or of a generator for one that is kept."""

    def stage(folder: Path, options: argparse.Namespace) -> Found:
        from duetgen.recommender import Recommender
        from duetgen.training.loop import Trainer
        from duetgen.training.processes import Processes
        from duetgen.training.progress import Silent
        from duetgen.training.run import RunFolder

        dataset, config = config_of(folder, method)
        config = msgspec.structs.replace(config, checkpoint_seconds=1e9)
        base = None
        if method == "duet":
            model = msgspec.structs.replace(config.model, method="base")
            base = Recommender(dataset.vocabulary, model)
        trainer = Trainer(dataset, config, RunFolder(folder / "run"), lambda *_: 0.0, Processes(), base=base)

        class Steps(Silent):
            def __init__(self) -> None:
                self.at: list[float] = []

            def stepped(self, step: int, loss: object, positions_per_second: float) -> None:
                self.at.append(time.process_time())
                if len(self.at) > options.steps:
                    raise EnoughError

        steps = Steps()
        try:
            trainer.run_epoch(steps)
        except EnoughError:
            begun = time.process_time()
            for table in trainer.tables:
                table.settle()
            settled = time.process_time() - begun
        return {"ms a step": 1e3 * float(np.median(np.diff(steps.at))), "ms to settle": 1e3 * settled}

    return stage


def count_table(folder: Path, _: argparse.Namespace) -> Found:
    """The neighbours of the cloud model's table."""
    import torch

    from duetgen.cloudmodel.table import TableModel
    from duetgen.training import cloud_run

    dataset, config = config_of(folder, "duet")
    table = TableModel(dataset.vocabulary, config.model.cloud.neighbours)
    near_VK, weight_VK = cloud_run.count_table("item-knn", dataset, table.near_VK.shape[1])
    np.save(folder / "near.npy", near_VK.to(torch.int32).numpy())
    np.save(folder / "weight.npy", weight_VK.numpy())
    return {"neighbours": table.near_VK.shape[1]}


def model_of(folder: Path) -> tuple[Any, Any, Any]:
    """Dataset, configuration and an untrained DUET with two opinions that count."""
    import torch

    from duetgen.cloudmodel import CloudModel
    from duetgen.cloudmodel.table import TableModel
    from duetgen.recommender import Recommender

    dataset, config = config_of(folder, "duet")
    torch.manual_seed(0)
    model = Recommender(dataset.vocabulary, config.model)
    cloud = CloudModel(dataset.vocabulary, config.model.history.length, config.model.cloud, config.model.met)
    for table in cloud.members.values():
        if isinstance(table, TableModel):
            table.near_VK.copy_(torch.from_numpy(np.load(folder / "near.npy")))
            table.weight_VK.copy_(torch.from_numpy(np.load(folder / "weight.npy")))
    model.attach(cloud)
    model.trust.opinions_JA.fill_(1)  # type: ignore[union-attr]
    return dataset, config, model.eval()


def rank(protocol: str) -> Callable[[Path, argparse.Namespace], Found]:
    """Rank targets by a protocol."""

    def stage(folder: Path, options: argparse.Namespace) -> Found:
        from duetgen.evaluation.conditions import Condition
        from duetgen.evaluation.met import MetItems
        from duetgen.evaluation.protocols import make_ranking
        from duetgen.evaluation.scoring import measuring, score, select

        dataset, _, model = model_of(folder)
        selection = select(dataset, "test", options.targets, 0)
        met = MetItems.hidden(dataset, selection.targets)
        ranking = make_ranking(protocol, dataset, "test", selection.index_N, met=met)
        begun = time.process_time()
        with measuring(model) as place:
            score(model, dataset, selection, Condition("own"), [ranking], place, 0)
        return {"ms a target": 1e3 * (time.process_time() - begun) / len(selection.targets)}

    return stage


def export(folder: Path, _: argparse.Namespace) -> Found:
    """`duet export`, but for measuring quality."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from duetgen.export import export_bundle
    from duetgen.training.run import Run, describe

    dataset, config, model = model_of(folder)
    run = Run(folder, config, describe(dataset, config, "cpu"), model)
    key, laps = Ed25519PrivateKey.generate(), {"": time.process_time()}

    def lap(line: str) -> None:
        laps[line] = time.process_time()

    export_bundle(run, dataset, folder / "bundle", key=key, measure=False, say=lap)
    laps["end"] = time.process_time()
    times = list(laps.items())
    for (name, begun), (_, ended) in itertools.pairwise(times):
        print(f"{ended - begun:8.1f} s  {name}", file=sys.stderr)
    large = ("device.onnx", "generator.onnx", "items.json")
    return {f"MB of {name}": (folder / "bundle" / name).stat().st_size / 1e6 for name in large}


def load(folder: Path, _: argparse.Namespace) -> Found:
    """A device opens the bundle, and ranks."""
    from duetgen.device.model import load_model

    begun = time.process_time()
    model = load_model(folder / "bundle")
    opened = time.process_time()
    rng = np.random.default_rng(0)
    theta_P = np.zeros(model.manifest.size, dtype=np.float32)
    windows_NL = rng.integers(2, model.vocabulary, (CALLS, 10))
    few_C = rng.integers(2, model.vocabulary, 100)
    model.score(theta_P, windows_NL[0], few_C)
    first = time.process_time()
    for window_L in windows_NL:
        model.score(theta_P, window_L, few_C)
    listed = time.process_time()
    for window_L in windows_NL:
        model.score_catalogue(theta_P, window_L)
    ranked = time.process_time()
    return {
        "s to open": opened - begun,
        "ms for 100": 1e3 * (listed - first) / CALLS,
        "ms for all": 1e3 * (ranked - listed) / CALLS,
    }


def answer(folder: Path, _: argparse.Namespace) -> Found:
    """The cloud opens the bundle, and answers."""
    from duetgen.cloud.engine import Engine
    from duetgen.wire.bundle import open_bundle

    begun = time.process_time()
    engine = Engine(open_bundle(folder / "bundle"))
    opened = time.process_time()
    rng = np.random.default_rng(0)
    histories = engine.histories(rng.integers(2, engine.vocabulary, (CALLS + 1, 100)).tolist())
    engine.thetas(histories[:1])
    first = time.process_time()
    for history in histories[1:]:
        engine.thetas([history])
    return {"s to open": opened - begun, "ms an answer": 1e3 * (time.process_time() - first) / CALLS}


STAGES: Final[dict[str, Callable[[Path, argparse.Namespace], Found]]] = {
    "prepare": prepare_log,
    "train base": train("base"),
    "train generator": train("duet"),
    "count table": count_table,
    "rank all": rank("full"),
    "rank candidates": rank("candidates"),
    "export": export,
    "device": load,
    "cloud": answer,
}


def run_stage(name: str, folder: Path) -> dict[str, Any]:
    """A stage in a process of its own: processor seconds, peak megabytes, and what it tells."""
    command = [sys.executable, __file__, *sys.argv[1:], "--stage", name, "--folder", str(folder)]
    one = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | one)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1][:100]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        found = STAGES[options.stage](options.folder, options)
        used = resource.getrusage(resource.RUSAGE_SELF)
        whole = {"processor": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss / 1024}
        print(json.dumps(whole | found))
        return
    print(f"{'items':>10}  {'stage':<16}{'processor':>10}{'times':>7}{'MB':>8}{'times':>7}   of it")
    smallest: dict[str, dict[str, Any]] = {}
    for items in options.items:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            make_log(Path(folder) / "log.parquet", items)
            for name in STAGES:
                found = run_stage(name, Path(folder))
                if "failed" in found:
                    print(f"{items:>10,}  {name:<16}{found['failed']}", flush=True)
                    continue
                least = smallest.setdefault(name, found)
                ratios = [found[one] / least[one] for one in ("processor", "megabytes")]
                more = ", ".join(f"{one} {found[one]:,.4g}" for one in found if one not in ("processor", "megabytes"))
                print(
                    f"{items:>10,}  {name:<16}{found['processor']:>8.1f} s{ratios[0]:>7.1f}{found['megabytes']:>8,.0f}"
                    f"{ratios[1]:>7.1f}   {more}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
