"""What a method costs: values to hold and to send, operations, and time on one thread.

Shapes: B devices, L history length, C candidates, P values of weights, K items of an opinion, V items.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from duetgen.cloudmodel import CloudModel
from duetgen.cloudmodel.table import TableModel
from duetgen.comparison.methods.table import Family
from duetgen.core import ItemBias, Theta, Trust
from duetgen.data.store import FIRST_ITEM, Dataset
from duetgen.evaluation.inputs import histories, target_items, windows
from duetgen.evaluation.protocols import Recommender
from duetgen.evaluation.scoring import measuring
from duetgen.wire import bias
from duetgen.wire.bias import BiasCodec

ON_CLOUD: Final = ("generator", "cloud", "trust")
"""Parts of a model that no device holds; of trust it has a few numbers, which are not counted."""
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
        parameters: learnt values, the generator's and the cloud model's included; of a method that learns none
            the values of its tables.
        device_parameters: of these, what a device holds: not what only the generator or the cloud model uses.
        device_bytes: of what a device holds, as a bundle with int8 items ships it: a byte for each value of an
            embedding and four for each of its rows, four for every other value; a table of each item's nearest ones
            takes three a pair, five where there are more than 65,536 items, and four a row.
        theta_parameters: values of theta that travel, the pairs of opinions included; 0 without theta, and where a
            device trains it itself.
        theta_bytes: theta as it travels: weights as float16 and opinions as they are coded, the mean over histories;
            a part that counts nothing at any age does not travel. 0 where nothing does.
        opinion_bytes: of these, the opinions.
        recommendation_flops: operations of matrix products to score 100 candidates on the device; 0 where only the
            cloud ranks.
        generation_flops: the same on the cloud, to generate one theta or to rank; None where it does neither.
        scoring_ms: to score 100 candidates on the device; 0 where only the cloud ranks.
        generation_ms: to generate theta for one device on the cloud, cloud model included, or to rank there; None where
            it does neither.
        finetuning_ms: to train theta on one device's own events; None where nothing does.
    """

    parameters: int
    device_parameters: int
    device_bytes: int
    theta_parameters: int
    theta_bytes: int
    opinion_bytes: int
    recommendation_flops: int
    generation_flops: int | None
    scoring_ms: float
    generation_ms: float | None
    finetuning_ms: float | None


def device_part(model: nn.Module) -> nn.ModuleList:
    """What a device holds of a model: all but what only generator or cloud model use."""
    if isinstance(model, CloudModel):
        return nn.ModuleList()
    kept = [child for name, child in model.named_children() if name not in ON_CLOUD]
    return nn.ModuleList(kept if len(kept) < len(list(model.children())) else [model])


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Learnt values in all, and those that a device holds; what both parts share is counted for the device.

    A model that learns none is the tables that it has counted, so these are taken.
    """
    learns = next(model.parameters(), None) is not None
    parts = (model, device_part(model))
    total, on_device = (sum(one.numel() for one in (part.parameters() if learns else part.buffers())) for part in parts)
    return total, on_device


def count_bytes(model: nn.Module) -> int:
    """Bytes of what a device holds, its item table in int8; of a method that learns none, of its tables."""
    _, on_device = count_parameters(model)
    held = list(device_part(model).modules())
    # What shares its values with another is held once.
    embeddings = {id(module.weight): module.weight for module in held if isinstance(module, nn.Embedding)}.values()
    items = sum(table.numel() for table in embeddings)
    near = [module.near_VK for module in held if isinstance(module, TableModel)]
    pairs = sum(near_VK.numel() * (3 if len(near_VK) <= 2**16 else 5) + 4 * len(near_VK) for near_VK in near)
    return items + 4 * sum(len(table) for table in embeddings) + 4 * (on_device - items) + pairs


def count_theta(theta: Theta | Tensor, vocabulary: int, trust: Trust | None) -> tuple[int, int, int]:
    """Values of theta that travel for a device, their bytes, and of these the opinions'; means over devices."""
    if isinstance(theta, Tensor):
        return theta.shape[1], 2 * theta.shape[1], 0
    weights_BP = theta.weights_BP if trust is None or bool(trust.weights_A.any()) else None
    values = 0 if weights_BP is None else weights_BP.shape[1]
    sent = [
        opinion
        for number, opinion in enumerate(theta.opinions)
        if trust is None or bool(trust.opinions_JA[number].any())
    ]
    pairs = sum(opinion.items_BK.shape[1] for opinion in sent)
    codec = BiasCodec(vocabulary, [opinion.items_BK.shape[1] for opinion in sent])
    coded = sum(len(codec.encode([on_wire(opinion, row) for opinion in sent])) for row in range(len(theta)))
    opinion_bytes = round(coded / len(theta))
    return values + pairs, 2 * values + opinion_bytes, opinion_bytes


def on_wire(opinion: ItemBias, row: int) -> bias.ItemBias:
    """One device's opinion as it is sent: ascending items, without those that get nothing."""
    items_K, values_K = (part[row].cpu().numpy() for part in opinion)
    kept_K = np.flatnonzero((values_K > 0) & (items_K >= FIRST_ITEM))
    order_K = kept_K[np.argsort(items_K[kept_K])]
    return bias.ItemBias(items_K[order_K], values_K[order_K])


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
            theta: Any = None
            values = theta_bytes = opinion_bytes = flops = 0
            scoring_ms = 0.0
            generation_ms = finetuning_ms = generation_flops = None

            def score(i: int) -> object:
                return recommender.score(window_BL[i : i + 1], candidates_BC[i : i + 1], theta)

            if recommender.personal:
                history_BL = torch.from_numpy(histories(dataset, targets, recommender.generator_history))
                theta = recommender.trusted(recommender.generate(history_BL[:1]), 0)
                spent = median_ms(lambda i: recommender.generate(history_BL[i : i + 1]))
                if family == "finetuned":
                    finetuning_ms = spent
                else:
                    trust = getattr(model, "trust", None)
                    values, theta_bytes, opinion_bytes = count_theta(
                        recommender.generate(history_BL), dataset.vocabulary, trust
                    )
                    generation_ms = spent
                    generation_flops = count_flops(lambda: recommender.generate(history_BL[:1]))
            if isinstance(model, CloudModel):
                generation_ms, generation_flops = median_ms(score), count_flops(lambda: score(0))
            else:
                scoring_ms, flops = median_ms(score), count_flops(lambda: score(0))
    finally:
        torch.set_num_threads(threads)
    total, on_device = count_parameters(model)
    return Cost(
        parameters=total,
        device_parameters=on_device,
        device_bytes=count_bytes(model),
        theta_parameters=values,
        theta_bytes=theta_bytes,
        opinion_bytes=opinion_bytes,
        recommendation_flops=flops,
        generation_flops=generation_flops,
        scoring_ms=scoring_ms,
        generation_ms=generation_ms,
        finetuning_ms=finetuning_ms,
    )
