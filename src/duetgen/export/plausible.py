"""Which theta is plausible: the largest values that the generator was seen to give, and a margin.

A device refuses what lies beyond: parameters of a broken cloud, or made up by somebody.

Shapes: U devices, L history length, P weights in theta, J opinions, K items of one, B rows of a batch, V items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from duetgen.core import ParameterLayout
from duetgen.data.gather import gather
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset, Int64
from duetgen.evaluation.scoring import SCORE_BYTES

DEVICES: Final = 5_000
PREFIXES: Final = (1, 3, 10, 30)
"""Lengths of history at which a device's theta is looked at, besides the longest that the generator reads."""
RANDOM_HISTORIES: Final = 512
MARGIN: Final = 2.0
"""How far beyond the largest value seen the bound lies. A device's own theta must never be refused: of test histories
of MovieLens and Amazon, one in a thousand passed what training histories gave, by a fifth at most. Twice leaves room,
and somebody who makes parameters up gains little by it."""
SMALLEST: Final = 1e-6
"""Of any bound: an entry that is always zero must still accept the rounding of an encoding."""
BATCH: Final = 128
SCORES: Final = 2**29
"""Devices times items of the catalogue, at most: of more than 107,374 items fewer devices are looked at."""
FEWEST: Final = 500


def histories(dataset: Dataset, length: int, seed: int = 0) -> Iterator[Int64]:
    """Batches of histories [B, L]: training histories at several lengths, random items, and unknown items alone."""
    end_U = dataset.offsets[:-1] + dataset.bounds[:, 0]
    start_U = dataset.offsets[:-1]
    device_U = np.flatnonzero(end_U > start_U)
    rng = np.random.default_rng(seed)
    most = min(DEVICES, max(FEWEST, SCORES // dataset.vocabulary))
    if len(device_U) > most:
        device_U = np.sort(rng.choice(device_U, most, replace=False))
    size = max(1, SCORE_BYTES // (4 * dataset.vocabulary))
    start_U, end_U = start_U[device_U], end_U[device_U]
    for prefix in (*(p for p in PREFIXES if p < length), length):
        # Shorter histories were read whole at a shorter prefix; the longest is read at the end of training.
        enough_U = end_U - start_U >= prefix if prefix < length else np.ones(len(end_U), dtype=np.bool_)
        until_U = np.minimum(start_U + prefix, end_U) if prefix < length else end_U
        batch = min(BATCH, size)
        for first in range(0, int(enough_U.sum()), batch):
            rows = np.flatnonzero(enough_U)[first : first + batch]
            yield gather(dataset.events, start_U[rows], until_U[rows], prefix)
    random_BL = rng.integers(FIRST_ITEM, dataset.vocabulary, (RANDOM_HISTORIES, length))
    yield from (random_BL[first : first + size] for first in range(0, RANDOM_HISTORIES, size))
    yield np.full((1, length), UNKNOWN, dtype=np.int64)


def learn_bounds(
    generate: nn.Module, layout: ParameterLayout, dataset: Dataset, length: int
) -> tuple[list[float], list[float]]:
    """The bound of each entry of the layout and of each opinion, in order.

    Args:
        generate: histories [B, L] to weights [B, P], and to items and values [B, J, K] where there are opinions.
        layout: of the weights.
        dataset: whose training histories are looked at.
        length: L_g.
    """
    largest_P, largest_J = torch.zeros(layout.size), torch.zeros(0)
    with torch.inference_mode():
        for history_BL in histories(dataset, length):
            theta_BP, *opinions = generate(torch.from_numpy(history_BL))
            largest_P = torch.maximum(largest_P, theta_BP.abs().amax(0))
            for value_BJK in opinions[1:]:
                value_J = value_BJK.amax((0, 2))
                largest_J = torch.maximum(largest_J, value_J) if len(largest_J) else value_J
    weights = [largest_P[entry.offset : entry.offset + entry.size].max() for entry in layout.entries]
    return [bound(value) for value in weights], [bound(value) for value in largest_J]


def bound(largest: Tensor) -> float:
    """The bound that follows from the largest value seen."""
    return max(SMALLEST, MARGIN * float(largest))
