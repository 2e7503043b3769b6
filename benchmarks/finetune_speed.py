"""Fine-tuning: all devices at once against one after the other, and against generating parameters instead.

    python benchmarks/finetune_speed.py [--backbone sasrec] [--steps 15] [--devices 512] [--alone 40] [--threads 1]

Each device has its own labelled history; lengths are drawn like those of MovieLens 1M (a median of 96 events) and cut
at what a generator reads. Nothing is trained beforehand: weights do not change what a step costs. Measured:

- `together`: `FineTuned.generate` on all devices, the head of each trained;
- `alone`: `finetune_alone`, one device after the other: its own copy of the model, an ordinary optimiser, its windows
  as rows of a batch;
- `alone, cached`: the same where the device keeps the static part's output from step to step;
- `generated`: DUET's generator makes the same parameters, one device at a time, in torch.

Times are of the processor, medians over repeats, so other work on the machine counts little; ratios are of one run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from duetgen.machine import use_machine
from duetgen.recommender import ModelConfig, Recommender
from duetgen.training import FineTuneConfig
from duetgen.training.defaults import fill_in_finetune
from duetgen.training.finetune import FineTuned, finetune_alone


def seconds(work: Callable[[], object]) -> float:
    """How long it takes the processor."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def draw_histories(devices: int, items: int, length: int, seed: int = 0) -> Tensor:
    """Right-padded histories of random items: int64 [devices, length]."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.exp(rng.normal(np.log(96), 0.95, devices)).astype(int), 20, length)
    events = rng.integers(2, items, (devices, length))
    events[np.arange(length) >= lengths[:, None]] = 0
    return torch.from_numpy(events)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="sasrec", choices=["sasrec", "gru4rec", "din"])
    parser.add_argument("--scope", default="head", choices=["head", "whole"])
    parser.add_argument("--items", type=int, default=3416)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--devices", type=int, default=512)
    parser.add_argument("--alone", type=int, default=40, help="how many of them are trained one after the other")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    use_machine(options.threads)
    torch.manual_seed(0)
    vocabulary = options.items + 2
    base = Recommender(vocabulary, ModelConfig(name=options.backbone, method="base")).eval()
    duet = Recommender(vocabulary, ModelConfig(name=options.backbone)).eval()
    settings = FineTuneConfig(scope=options.scope, steps=options.steps, learning_rate=3e-3)
    settings = fill_in_finetune(settings, base.config)
    model = FineTuned(base, torch.ones(vocabulary), settings, length=options.length).eval()
    history = draw_histories(options.devices, vocabulary, options.length)
    few = [row[row > 0] for row in history[: options.alone]]

    def one_by_one(cached: bool) -> None:
        for own in few:
            finetune_alone(model, own, cached=cached)

    def generate() -> None:
        with torch.inference_mode():
            for own in few:
                duet.generate(own[None])

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "together": (lambda: model.generate(history), len(history)),
        "alone": (lambda: one_by_one(False), len(few)),
        "alone, cached": (lambda: one_by_one(True), len(few)),
        "generated": (generate, len(few)),
    }
    if options.scope == "whole":
        del ways["alone, cached"]
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for work, _ in ways.values():
        work()
    for _ in range(options.repeats):
        for name, (work, count) in ways.items():
            spent[name].append(1000 * seconds(work) / count)
    print(
        f"{options.backbone}, {options.scope}, {options.steps} steps, {model.config.negatives} drawn items, "
        f"{len(model.copies.start_P):,} parameters a device, {options.devices} devices, {options.threads} thread(s)"
    )
    print(f"{'':<16}{'ms a device':>14}{'against together':>18}{'against generated':>19}")
    middle = {name: statistics.median(values) for name, values in spent.items()}
    for name, value in middle.items():
        print(f"{name:<16}{value:>14.3f}{value / middle['together']:>17.1f}x{value / middle['generated']:>18.1f}x")


if __name__ == "__main__":
    main()
