"""The best items for many devices, as each device would show them now: after all of its events, met items as the
dataset has it.

Shapes: U devices, B devices of a batch, K items of a list, V items, L history length (L_d device, L_g generator).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import nn

from duetgen.data.gather import gather
from duetgen.data.store import FIRST_ITEM, Dataset, Int64
from duetgen.evaluation.metrics import Float32
from duetgen.evaluation.protocols import Recommender
from duetgen.evaluation.scoring import batch_size, check_vocabulary, measuring
from duetgen.wire.limits import MAX_LOG_EVENTS
from duetgen.wire.messages import MetPolicy


def best_items(
    model: nn.Module,
    dataset: Dataset,
    device_U: Int64,
    k: int,
    *,
    met: MetPolicy | None = None,
    personal: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Int64, Float32]:
    """The k best items of each device and their scores, best first: int64 and float32 [U, K].

    Args:
        model: a recommender, see `protocols.Recommender`.
        dataset: the dataset folder that it was trained on; every event of a device counts as seen.
        device_U: indices of devices.
        k: items of a list; where fewer can be shown, it ends with index 0 and -inf.
        met: whether items that a device has met are hidden; None: as the dataset has it.
        personal: False gives the lists of the global model.
        progress: hears how it goes.

    Raises:
        VocabularyMismatchError: the model is of another dataset.
    """
    recommender = cast(Recommender, model)
    check_vocabulary(recommender, dataset)
    size, k = batch_size(recommender), min(k, recommender.vocabulary - FIRST_ITEM)
    hide, own = (met or dataset.manifest.met) == "hide", personal and recommender.personal
    item_UK, score_UK = np.zeros((len(device_U), k), dtype=np.int64), np.zeros((len(device_U), k), dtype=np.float32)
    with measuring(model) as place:
        for first in range(0, len(device_U), size):
            rows = slice(first, first + size)
            start_B, end_B = dataset.offsets[device_U[rows]], dataset.offsets[device_U[rows] + 1]

            def last(length: int, start_B: Int64 = start_B, end_B: Int64 = end_B) -> torch.Tensor:
                return torch.from_numpy(gather(dataset.events, start_B, end_B, length)).to(place)

            theta = None
            if own:
                theta = recommender.trusted(recommender.generate(last(recommender.generator_history)), 0)
            scores_BV = recommender.score_catalogue(last(recommender.window), theta).float()
            if hide:
                count = int(min(MAX_LOG_EVENTS, (end_B - start_B).max(initial=1)))
                scores_BV.scatter_(1, last(count), -torch.inf)
            scores_BV[:, :FIRST_ITEM] = -torch.inf
            best = scores_BV.topk(k, dim=1)
            shown = torch.isfinite(best.values)
            item_UK[rows] = torch.where(shown, best.indices, 0).cpu().numpy()
            score_UK[rows] = best.values.cpu().numpy()
            if progress is not None:
                progress("listing", min(rows.stop, len(device_U)), len(device_U))
    return item_UK, score_UK
