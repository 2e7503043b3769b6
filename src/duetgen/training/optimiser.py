"""The optimiser of a run, and its learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from duetgen.adam import AdamW
from duetgen.recommender import Recommender
from duetgen.training.config import OptimiserConfig, TrainConfig


def make_optimiser(model: Recommender, config: TrainConfig) -> AdamW:
    """AdamW; weight decay on matrices of layers only, the generator at its own rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    rate_of_generator = config.optimiser.generator_rate
    if rate_of_generator == "auto":
        rate_of_generator = 1.0
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = parameter.dim() >= 2 and id(parameter) not in embeddings
        key = (
            rate_of_generator if name.startswith("generator.") else 1.0,
            config.optimiser.weight_decay if decayed else 0.0,
        )
        groups.setdefault(key, []).append(parameter)
    return AdamW(
        [{"params": part, "weight_decay": decay, "rate": rate} for (rate, decay), part in groups.items()],
        lr=config.optimiser.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Scale all gradients, sparse ones too, so that their common norm is at most `most`."""
    parts = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            parts.append(parameter.grad.values())
        elif parameter.grad is not None:
            parts.append(parameter.grad)
    torch._foreach_mul_(parts, (most / (nn.utils.get_total_norm(parts) + 1e-6)).clamp(max=1))


def rate_share(config: OptimiserConfig, step: int, steps_per_epoch: int) -> float:
    """The share of the learning rate at a step: linear warm-up to 1, then a cosine to 0.1 at the last step of the last
    epoch.
    """
    total = config.epochs * steps_per_epoch
    warmup = min(config.warmup_steps, total // 2)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))
