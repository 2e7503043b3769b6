"""Time of one inference of both graphs of a bundle, ONNX Runtime against torch, one thread, in one run.

    python benchmarks/inference_speed.py [--items 3400] [--seconds 2] [--all]

Turns of both ways alternate; medians are of single calls, in processor time of the one thread, so that other work on
the machine is not counted. `goal` is the design's absolute figure, in ms.

Shapes: B devices, L history length, C candidates, P values in theta.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
import torch

from duetgen.evaluation.provenance import cpu_name
from duetgen.export.graphs import export_device, export_generator, quantised
from duetgen.export.parity import session
from duetgen.recommender import ModelConfig, Recommender

TURN = 0.05
"""Seconds of one way before the other has its turn."""


def medians(ways: list[Callable[[], object]], seconds: float) -> list[float]:
    """Median time of one call of each way, in ms."""
    spent: list[list[float]] = [[] for _ in ways]
    for way in ways:
        for _ in range(10):
            way()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for way, times in zip(ways, spent):
            turn = time.perf_counter() + TURN
            while time.perf_counter() < turn:
                begun = time.thread_time()
                way()
                times.append(time.thread_time() - begun)
    return [1e3 * float(np.median(times)) for times in spent]


def recommender(items: int, **settings: Any) -> Recommender:
    """An untrained model: its speed is that of a trained one."""
    torch.manual_seed(0)
    return Recommender(items + 2, msgspec.convert(settings, ModelConfig)).eval()


def show(what: str, runtime: float, reference: float, goal: float | None) -> None:
    """One line of the table."""
    reached = "" if goal is None else f"{goal:>9.2f}  {'reached' if runtime <= goal else 'missed'}"
    print(f"{what:<52}{runtime:>9.4f}{reference:>9.4f}{reference / runtime:>8.1f}x{reached}")


def generator(
    items: int, encoder: str, width: int, length: int, batch: int, goal: float | None, seconds: float
) -> None:
    """Theta of `batch` devices with full histories; H is 32 with a GRU, as the goals were set, and else the default."""
    history = {"encoder": encoder, "length": length, "width": width, "embedding_width": width}
    model = recommender(items, history=history, generator={"width": 32 if encoder == "gru" else 64})
    graph = session(export_generator(model))
    history_BL = np.random.default_rng(0).integers(2, items + 2, (batch, length))
    tensor_BL = torch.from_numpy(history_BL)
    ways = [lambda: graph.run(None, {"history": history_BL}), lambda: model.generate(tensor_BL)]
    what = f"generator, {encoder} width {width}, {length} events, {batch} device{'s' if batch > 1 else ''}"
    show(what, *medians(ways, seconds), goal)


def device(items: int, name: str, count: int, int8: bool, goal: float | None, seconds: float) -> None:
    """Scores of `count` candidates of one device with a theta of its own."""
    model = recommender(items, name=name)
    graph = session(export_device(quantised(model) if int8 else model))
    rng = np.random.default_rng(0)
    inputs = {
        "theta": rng.normal(0, 0.05, (1, model.backbone.layout.size)).astype(np.float32),
        "history": rng.integers(2, items + 2, (1, model.window)),
        "candidates": rng.integers(2, items + 2, (1, count)),
    }
    theta, history, candidates = (torch.from_numpy(array) for array in inputs.values())
    ways = [lambda: graph.run(None, inputs), lambda: model.score(history, candidates, theta)]
    what = f"device, {name}{' int8' if int8 else ''}, {count:,} candidates"
    show(what, *medians(ways, seconds), goal)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3400)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    parser.add_argument("--all", action="store_true", help="other encoders, backbones and sizes too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ("torch", "onnxruntime", "onnxscript")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"{cpu_name()}, {platform.system()}, {versions}, one thread, {options.items:,} items")
    print(f"{'':<52}{'ORT, ms':>9}{'torch':>9}{'ratio':>9}{'goal':>9}")
    items, seconds = options.items, options.seconds
    with torch.inference_mode():
        generator(items, "gru", 32, 50, 1, 0.06, seconds)
        generator(items, "gru", 64, 200, 1, 0.4, seconds)
        device(items, "sasrec", 1_000, False, 0.15, seconds)
        if not options.all:
            return
        generator(items, "average", 64, 200, 1, None, seconds)
        generator(items, "gru", 64, 200, 32, None, seconds)
        for name, count, int8 in (
            ("sasrec", 100, False),
            ("sasrec", 1_000, True),
            ("sasrec", 10_000, False),
            ("gru4rec", 1_000, False),
            ("din", 1_000, False),
        ):
            device(items, name, count, int8, None, seconds)


if __name__ == "__main__":
    main()
