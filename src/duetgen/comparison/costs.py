"""What a method costs: values to hold and to send, operations, and time on one thread.

Shapes: B devices (one here), L history length, C candidates, P values in theta.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final, cast

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from duetgen.comparison.methods import Family
from duetgen.data.store import Dataset
from duetgen.evaluation.inputs import histories, target_items, windows
from duetgen.evaluation.protocols import Recommender
from duetgen.evaluation.scoring import measuring

CANDIDATES: Final = 100
"""Candidates that a device scores for one recommendation."""
SAMPLES: Final = 24
"""Histories of the test part that generation and scoring are timed on."""
TIMED_SECONDS: Final = 2.0
"""Timing goes round the samples until this much time has passed, but once at least."""
ROUNDS: Final = 10
"""Most rounds over the samples."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Costs of one model; times are medians in torch on one thread of the processor.

    Attributes:
        parameters: learnt values, the generator's included; of a method that learns none, the values of its tables.
        device_parameters: of these, what a device holds: all but what only the generator uses.
        device_bytes: of these, as a bundle with int8 items ships them: a byte for each value of an embedding and four
            for each of its rows, four for every other value.
        theta_parameters: P; 0 without theta.
        theta_bytes: theta as float16, as it travels; 0 without.
        recommendation_flops: operations of matrix products to score 100 candidates on the device.
        generation_flops: the same to generate one theta; None where nothing generates it.
        scoring_ms: to score 100 candidates on the device.
        generation_ms: to generate theta for one device; None where nothing generates it.
        finetuning_ms: to train theta on one device's own events; None where nothing does.
    """

    parameters: int
    device_parameters: int
    device_bytes: int
    theta_parameters: int
    theta_bytes: int
    recommendation_flops: int
    generation_flops: int | None
    scoring_ms: float
    generation_ms: float | None
    finetuning_ms: float | None


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Learnt values in all, and those that a device holds; what both parts share is counted for the device.

    A model that learns none is the tables that it has counted, so these are taken.
    """
    if next(model.parameters(), None) is None:
        tables = sum(buffer.numel() for buffer in model.buffers())
        return tables, tables
    everything = {id(parameter): parameter.numel() for parameter in model.parameters()}
    generator = getattr(model, "generator", None)
    own = {id(parameter) for parameter in generator.parameters()} if isinstance(generator, nn.Module) else set()
    for name, child in model.named_children():
        if name != "generator":
            own -= {id(parameter) for parameter in child.parameters()}
    total = sum(everything.values())
    return total, total - sum(everything[one] for one in own)


def count_bytes(model: nn.Module, on_device: int) -> int:
    """Bytes of what a device holds, its item table in int8; of a method that learns none, of its tables."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return 4 * on_device
    tables = [module.weight for module in backbone.modules() if isinstance(module, nn.Embedding)]
    items = sum(table.numel() for table in tables)
    return items + 4 * sum(len(table) for table in tables) + 4 * (on_device - items)


def median_ms(call: Callable[[int], object]) -> float:
    """Median of `call(sample)` over samples and rounds, in milliseconds; the first call warms up and is not counted.

    It is processor time of the calling thread, the only one at work here: cells beside this one are not counted.
    """
    begun = time.thread_time()
    call(0)
    first = time.thread_time() - begun
    if first > TIMED_SECONDS:
        return 1000 * first
    spent: list[float] = []
    deadline = time.perf_counter() + TIMED_SECONDS
    for _ in range(ROUNDS):
        for sample in range(SAMPLES):
            begun = time.thread_time()
            call(sample)
            spent.append(time.thread_time() - begun)
            if time.perf_counter() > deadline:
                return 1000 * statistics.median(spent)
    return 1000 * statistics.median(spent)


def count_flops(call: Callable[[], object]) -> int:
    """Operations of all matrix products of a call: two for each multiply-add."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return int(counter.get_total_flops())


def measure_cost(model: nn.Module, dataset: Dataset, family: Family) -> Cost:
    """Count and time a model on the processor, on histories of the test part, one device at a time."""
    recommender = cast(Recommender, model)
    everyone = dataset.targets("test")
    chosen = np.random.default_rng([0, 5]).choice(len(everyone), SAMPLES, replace=len(everyone) < SAMPLES)
    targets = everyone.take(np.sort(chosen))
    window_BL = torch.from_numpy(windows(dataset, targets, recommender.window))
    candidates = np.random.default_rng([0, 6]).integers(1, dataset.vocabulary, size=(SAMPLES, CANDIDATES))
    candidates[:, 0] = target_items(dataset, targets)
    candidates_BC = torch.from_numpy(candidates)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with measuring(model):
            theta_1P: Tensor | None = None
            generation_ms = finetuning_ms = generation_flops = None
            if recommender.personal:
                history_BL = torch.from_numpy(histories(dataset, targets, recommender.generator_history))
                theta_1P = recommender.generate(history_BL[:1])
                spent = median_ms(lambda i: recommender.generate(history_BL[i : i + 1]))
                if family == "finetuned":
                    finetuning_ms = spent
                else:
                    generation_ms = spent
                    generation_flops = count_flops(lambda: recommender.generate(history_BL[:1]))
            scoring_ms = median_ms(
                lambda i: recommender.score(window_BL[i : i + 1], candidates_BC[i : i + 1], theta_1P)
            )
            flops = count_flops(lambda: recommender.score(window_BL[:1], candidates_BC[:1], theta_1P))
    finally:
        torch.set_num_threads(threads)
    total, on_device = count_parameters(model)
    size = 0 if theta_1P is None else theta_1P.shape[-1]
    return Cost(
        parameters=total,
        device_parameters=on_device,
        device_bytes=count_bytes(model, on_device),
        theta_parameters=size,
        theta_bytes=2 * size,
        recommendation_flops=flops,
        generation_flops=generation_flops,
        scoring_ms=scoring_ms,
        generation_ms=generation_ms,
        finetuning_ms=finetuning_ms,
    )
