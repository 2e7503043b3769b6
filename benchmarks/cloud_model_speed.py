"""Time of one theta with a cloud model, both parts: ONNX Runtime, one thread, untrained models of the default sizes.

    python benchmarks/cloud_model_speed.py [--items 3400 10000 100000 1000000]
        [--kinds none sasrec sequence item-knn blend] [--seconds 2]

The device model has width 32. The sequence model is a SASRec of width 128 and a GRU4Rec of width 64 that read 100
events (`sasrec`: the first alone), the table holds 200 neighbours of each item, and an opinion has 100 items. Medians
are of single calls with histories that change, in processor time of the one thread, so that other work on the machine
is not counted: of the graph that scores the whole catalogue, of the one that finds the sequence model's opinion in two
steps, taking turns with it, and of the encoding of the item bias for the wire. `goal` is the design's absolute figure,
in ms. Devices that wait together are generated and encoded together, which takes less of each.

Shapes: B devices, L history length.
"""

from __future__ import annotations

import argparse
import itertools
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from duetgen.cloudmodel import CloudModel
from duetgen.cloudmodel.table import TableModel
from duetgen.evaluation.provenance import cpu_name
from duetgen.export.errors import NotExportableError
from duetgen.export.graphs import export_generator
from duetgen.export.parity import session
from duetgen.recommender import Recommender
from duetgen.wire.bias import BiasCodec
from inference_speed import medians, recommender

GOALS = {(3_400, "sasrec"): 0.25}
HISTORIES = 256
"""Of which one follows another: what a processor learns of one of them, branches above all, flatters it."""


def with_cloud(items: int, kind: str) -> Recommender:
    """An untrained model of the default sizes, with a cloud model of a kind."""
    alone = kind == "sasrec"
    cloud = {"kind": "sequence" if alone else kind, "recurrent": 0 if alone else 64}
    model = recommender(items, backbone={"width": 32}, cloud=cloud)
    config = model.config
    if config.cloud.members:
        own = CloudModel(model.vocabulary, config.history.length, config.cloud, config.met).eval()
        for table in own.members.values():
            if isinstance(table, TableModel):
                table.near_VK.copy_(torch.randint(2, model.vocabulary, table.near_VK.shape))
                table.weight_VK.uniform_()
        model.attach(own)
    return model


def measure(items: int, kind: str, seconds: float) -> None:
    """One line of the table."""
    model = with_cloud(items, kind)
    two_step = model.cloud is not None and "sequence" in model.cloud.members
    try:
        contents = [export_generator(model, way) for way in (False, True)[: 1 + two_step]]
    except NotExportableError as refused:
        print(f"{items:>9,}  {kind:<10} {refused.message}")
        return
    length = model.generator_history
    histories = itertools.cycle(np.random.default_rng(0).integers(2, items + 2, (HISTORIES, 1, length)))

    def generating(content: bytes) -> Callable[[], list[Any]]:
        graph = session(content)
        return lambda: graph.run(None, {"history": next(histories)})

    ways: list[Callable[[], object]] = [generating(content) for content in contents]
    if model.cloud is not None:
        codec = BiasCodec(model.vocabulary, [model.cloud.items] * len(model.cloud.members))
        _, items_BJK, values_BJK = generating(contents[0])()
        ways.append(lambda: codec.encode_rows(items_BJK, values_BJK))
    spent = medians(ways, seconds)
    exact, few = spent[0], spent[1] if two_step else None
    encoding = spent[-1] if model.cloud is not None else None
    told = "".join(" " * 10 if one is None else f"{one:>10.4f}" for one in (exact, few, encoding))
    goal = GOALS.get((items, kind))
    reached = "" if goal is None else f"{goal:>8.2f}  {'reached' if exact <= goal else 'missed'}"
    print(f"{items:>9,}  {kind:<10}{len(contents[-1]) / 1e6:>9.1f}{told}{reached}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[3_400, 10_000, 100_000, 1_000_000])
    parser.add_argument("--kinds", nargs="+", default=["none", "sasrec", "sequence", "item-knn", "blend"])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "onnxscript"))
    print(f"{cpu_name()}, {platform.system()}, {versions}, one thread")
    print(f"{'items':>9}  {'kind':<10}{'graph, MB':>9}{'exact, ms':>10}{'two-step':>10}{'encoding':>10}{'goal':>8}")
    for items in options.items:
        for kind in options.kinds:
            measure(items, kind, options.seconds)


if __name__ == "__main__":
    main()
