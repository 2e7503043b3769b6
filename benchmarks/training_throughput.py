"""Training throughput in positions a second: base and DUET, every position of a sequence at once, against the same
model fed one row a (prefix, target), and one row a (prefix, target, label) as the published way does.

    python benchmarks/training_throughput.py [--threads 1] [--backbone sasrec] [--encoder average]
        [--batch-positions 2048] [--repeats 5]

A position is one event to predict from what came before it. All ways are measured in turn, several times over, in one
run on the same synthetic devices, and the medians' ratios are printed: ratios hold on a noisy machine, absolute figures
are a guide.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from duetgen.backbones import BACKBONES, BackboneConfig
from duetgen.core import joint_loss
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import Dataset
from duetgen.machine import use_machine
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training import TrainConfig
from duetgen.training.batches import Batch
from duetgen.training.config import ObjectiveConfig, OptimiserConfig
from duetgen.training.defaults import fill_in
from duetgen.training.loop import make_batches
from duetgen.training.objectives import binary_cross_entropy
from duetgen.training.optimiser import make_optimiser
from duetgen.training.step import TrainingStep

SECONDS = 4.0


def rate(step: Callable[[], int], seconds: float = SECONDS) -> float:
    """Positions a second of a step that gives the positions it trained, over about so many seconds."""
    begun, positions = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        positions += step()
    return positions / spent


class Way:
    """One way to train one model."""

    joint = True
    """Whether a global model is trained together with its generator."""

    def __init__(
        self, name: str, dataset: Dataset, options: argparse.Namespace, method: str, kind: str, *, long: bool = False
    ) -> None:
        history, backbone = HistoryConfig(encoder=options.encoder), BackboneConfig()
        if long:
            backbone = msgspec.structs.replace(backbone, window=history.length)
        model = ModelConfig(name=options.backbone, method=method, backbone=backbone, history=history)  # type: ignore[arg-type]
        config = TrainConfig(
            model=model,
            objective=ObjectiveConfig(kind=kind),  # type: ignore[arg-type]
            optimiser=OptimiserConfig(batch_positions=options.batch_positions),
            joint=self.joint and method == "duet",
        )
        self.name, self.config = name, fill_in(config, dataset)
        torch.manual_seed(0)
        self.model = Recommender(dataset.vocabulary, self.config.model).train()
        self.step = TrainingStep(self.model, self.config.objective, torch.from_numpy(dataset.training_counts()))
        self.optimiser = make_optimiser(self.model, self.config)
        self.batches = make_batches(dataset, self.config)
        self.count = 0
        self.stream = self.endless()

    def endless(self) -> Iterator[Batch]:
        """Epoch after epoch."""
        epoch = 0
        while True:
            yield from self.batches.epoch(epoch)  # type: ignore[misc]
            epoch += 1

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The loss of a batch and the positions it trains: all positions of whole sequences."""
        return self.step(batch, seed=self.count)[0], batch.trained

    def __call__(self) -> int:
        """One optimiser step."""
        self.count += 1
        loss, positions = self.loss(next(self.stream))
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return positions


class Kept(Way):
    """A generator for a finished global model: the backbone stands still, and nothing but the generator is trained.

    Which values the backbone has changes no time, so it keeps those that it begins with.
    """

    joint = False

    def __init__(self, *arguments: str | Dataset | argparse.Namespace) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.model.backbone.requires_grad_(False).eval()
        self.optimiser = make_optimiser(self.model, self.config)


class RowFed(Way):
    """The same model and the same number of rows a step as positions, each row with a window and a history of its own.

    `labels` is the number of rows a position: 1 trains a row against the objective of the whole-sequence way, 5 is one
    row for the target and one for each of four negatives, with binary cross-entropy.
    """

    labels = 1

    def __init__(self, *arguments: str | Dataset | argparse.Namespace, labels: int) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.labels = labels

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Some positions of the batch, cut out into rows."""
        rows, positions = self.cut(batch, 256)
        window, history, target = (torch.repeat_interleave(part, self.labels, dim=0) for part in rows)
        model, objective = self.model, self.config.objective
        label = torch.ones(len(target))
        if self.labels > 1:
            label = (torch.arange(len(target)) % self.labels == 0).float()
            drawn = self.step.sampler.draw((len(target),), torch.Generator().manual_seed(self.count))
            target = torch.where(label.bool(), target, drawn)
        context = model.backbone.context(window)

        def loss_of(theta: Tensor | None) -> Tensor:
            if objective.kind == "bce":
                return binary_cross_entropy(model.backbone.score(context, target[:, None], theta)[:, 0], label)
            items = torch.arange(1, model.vocabulary)
            return torch.nn.functional.cross_entropy(model.backbone.score_shared(context, items, theta), target - 1)

        if not model.personal:
            return loss_of(None), positions
        return joint_loss(loss_of, model.generate(history).weights_BP, objective.fallback_weight)[0], positions

    def cut(self, batch: Batch, most: int) -> tuple[tuple[Tensor, Tensor, Tensor], int]:
        """Windows, histories and targets of at most `most` trained positions."""
        where = batch.trained_BT.nonzero()
        where = where[torch.randperm(len(where))[:most]].numpy()
        longest = max(self.model.generator_history, self.model.window)
        events = batch.events_BT.numpy()
        history = np.zeros((len(where), longest), dtype=np.int64)
        for row, (b, t) in enumerate(where):
            past = events[b, max(0, t + 1 - longest) : t + 1]
            history[row, : len(past)] = past
        length = (history != 0).sum(1)
        start = np.maximum(0, length - self.model.window)
        index = start[:, None] + np.arange(self.model.window)
        window = np.where(index < length[:, None], np.take_along_axis(history, np.minimum(index, longest - 1), 1), 0)
        target = batch.target_BT[torch.from_numpy(where[:, 0]), torch.from_numpy(where[:, 1])]
        return (torch.from_numpy(window), torch.from_numpy(history), target), len(where)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default="sasrec", choices=["sasrec", "gru4rec", "din"])
    parser.add_argument("--encoder", default="average", choices=["average", "gru"])
    parser.add_argument("--batch-positions", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    use_machine(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        prepare(None, Path(folder) / "data", PrepareConfig(source="synthetic"))
        dataset = Dataset(Path(folder) / "data")
        pairwise = BACKBONES[options.backbone].pairwise
        # DIN would read a window for each item of the catalogue.
        first = "sampled" if pairwise else "softmax"
        ways = [
            Way(f"base, whole sequences, {first}", dataset, options, "base", first),
            Way(f"DUET, whole sequences, {first}", dataset, options, "duet", first),
            Kept(f"DUET on a finished base, {first}", dataset, options, "duet", first),
            Way(f"base that reads L_g, {first}", dataset, options, "base", first, long=True),
            Way("base, whole sequences, 4 negatives", dataset, options, "base", "bce"),
            Way("DUET, whole sequences, 4 negatives", dataset, options, "duet", "bce"),
            Way("base that reads L_g, 4 negatives", dataset, options, "base", "bce", long=True),
            RowFed("base, a row a (prefix, target, label)", dataset, options, "base", "bce", labels=5),
            RowFed("DUET, a row a (prefix, target, label)", dataset, options, "duet", "bce", labels=5),
        ]
        if not pairwise:
            ways += [
                RowFed("base, a row a (prefix, target), softmax", dataset, options, "base", "softmax", labels=1),
                RowFed("DUET, a row a (prefix, target), softmax", dataset, options, "duet", "softmax", labels=1),
            ]
        for way in ways:
            way()
        rates: dict[str, list[float]] = {way.name: [] for way in ways}
        for _ in range(options.repeats):
            for way in ways:
                rates[way.name].append(rate(way))
    median = {way: statistics.median(values) for way, values in rates.items()}
    config = msgspec.to_builtins(ways[1].config.model)
    backbone = config["backbone"]
    print(
        f"{options.backbone}, {options.encoder} encoder, width {backbone['width']}, L_d {backbone['window']}, ", end=""
    )
    print(f"L_g {config['history']['length']}, {dataset.vocabulary} items, ", end="")
    print(f"batches of {options.batch_positions} positions, {options.threads} thread(s), median of {options.repeats}")
    print(f"{'way':<42}{'positions/s':>12}")
    for way, value in median.items():
        print(f"{way:<42}{value:>12,.0f}")
    for method in ("base", "DUET"):
        four, labels = f"{method}, whole sequences, 4 negatives", f"{method}, a row a (prefix, target, label)"
        gains = [f"4 negatives {median[four] / median[labels]:.1f}x"]
        if not pairwise:
            whole, row = f"{method}, whole sequences, softmax", f"{method}, a row a (prefix, target), softmax"
            gains.insert(0, f"softmax {median[whole] / median[row]:.1f}x")
        print(f"{method}: whole sequences over rows: {', '.join(gains)}")
    for kind in (first, "4 negatives"):
        duet = median[f"DUET, whole sequences, {kind}"]
        for base, name in ((f"base, whole sequences, {kind}", "base"), (f"base that reads L_g, {kind}", "base at L_g")):
            print(f"cost of DUET over {name}, {kind}: {median[base] / duet:.2f}x")
    kept = median[f"DUET on a finished base, {first}"]
    print(f"cost of DUET on a finished base over base, {first}: {median[ways[0].name] / kept:.2f}x")


if __name__ == "__main__":
    main()
