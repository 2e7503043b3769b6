"""Time of one theta with a cloud model, both parts: ONNX Runtime, one thread, untrained models of the default sizes.

    python benchmarks/cloud_model_speed.py [--items 3400 10000 100000] [--kinds none sequence item-knn blend]
        [--seconds 2]

The device model has width 32. The sequence model is a SASRec of width 128 that reads 100 events, the table holds 200
neighbours of each item, and an opinion has 100 items. Medians are of single calls, in processor time of the one thread,
so that other work on the machine is not counted: of the graph, and of the encoding of the item bias for the wire.
`goal` is the design's absolute figure, in ms. Devices that wait together are generated and encoded together, which
takes less of each.

Shapes: B devices, L history length.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch

from duetgen.cloudmodel import CloudModel
from duetgen.cloudmodel.table import TableModel
from duetgen.evaluation.provenance import cpu_name
from duetgen.export.graphs import export_generator
from duetgen.export.parity import session
from duetgen.recommender import Recommender
from duetgen.wire.bias import BiasCodec
from inference_speed import medians, recommender

GOALS = {(3_400, "sequence"): 0.25}


def with_cloud(items: int, kind: str) -> Recommender:
    """An untrained model of the default sizes, with a cloud model of a kind."""
    model = recommender(items, backbone={"width": 32}, cloud={"kind": kind})
    config = model.config
    if config.cloud.members:
        cloud = CloudModel(model.vocabulary, config.history.length, config.cloud, config.met).eval()
        for table in cloud.members.values():
            if isinstance(table, TableModel):
                table.near_VK.copy_(torch.randint(2, model.vocabulary, table.near_VK.shape))
                table.weight_VK.uniform_()
        model.attach(cloud)
    return model


def measure(items: int, kind: str, seconds: float) -> None:
    """One line of the table."""
    model = with_cloud(items, kind)
    content = export_generator(model)
    graph = session(content)
    history_BL = np.random.default_rng(0).integers(2, items + 2, (1, model.generator_history))
    ways: list[Callable[[], object]] = [lambda: graph.run(None, {"history": history_BL})]
    if model.cloud is not None:
        codec = BiasCodec(model.vocabulary, [model.cloud.items] * len(model.cloud.members))
        _, items_BJK, values_BJK = graph.run(None, {"history": history_BL})
        ways.append(lambda: codec.encode_rows(items_BJK, values_BJK))
    whole, *encoding = medians(ways, seconds)
    told = "".join(f"{one:>10.4f}" for one in (whole, *encoding))
    goal = GOALS.get((items, kind))
    reached = "" if goal is None else f"{goal:>10.2f}  {'reached' if whole <= goal else 'missed'}"
    print(f"{items:>9,}  {kind:<10}{len(content) / 1e6:>9.1f}{told}{reached}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[3_400, 10_000, 100_000])
    parser.add_argument("--kinds", nargs="+", default=["none", "sequence", "item-knn", "blend"])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "onnxscript"))
    print(f"{cpu_name()}, {platform.system()}, {versions}, one thread")
    print(f"{'items':>9}  {'kind':<10}{'graph, MB':>9}{'graph, ms':>10}{'encoding':>10}{'goal':>10}")
    for items in options.items:
        for kind in options.kinds:
            measure(items, kind, options.seconds)


if __name__ == "__main__":
    main()
