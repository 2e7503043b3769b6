"""Item tables of a grown catalogue: what a model knows of its items tells where the rows of new ones begin.

A new item begins as the mean of the known items that it stands beside in the training part, each as often as it does;
where there are none, of those whose titles share most words with its own; else of all.

Shapes: V items, K known ones among them with padding and unknown, N new ones, M pairs of a new and a known one, E
events, P events of new items, D width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from duetgen.cloudmodel import CloudModel
from duetgen.data.store import FIRST_ITEM, Dataset, Int64
from duetgen.training.cloud_run import count, take_graph
from duetgen.training.run import Run, make_model

REACH: Final = 5
"""How many events before and after an item count as beside it."""
COMMON: Final = 0.02
"""Share of the known titles from which on a word tells nothing, such as `the`; of few titles, see `LEAST_COMMON`."""
LEAST_COMMON: Final = 50


class Growth:
    """What the rows of new items are made of.

    Args:
        dataset: the grown dataset.
        known: K, item indices that a model has rows for.

    Attributes:
        share_NK: sparse, what each new item takes of each known one; a row adds up to 1.
        left_N: new items that nothing is known of, whose rows of `share_NK` are empty.
    """

    def __init__(self, dataset: Dataset, known: int) -> None:
        new = dataset.vocabulary - known
        left_N = np.ones(new, dtype=np.bool_)
        row_M, item_M, weight_M = (np.zeros(0, dtype=np.int64) for _ in range(3))
        for rule in (beside, alike):
            if left_N.any():
                found = np.stack(rule(dataset, known))
                found = found[:, left_N[found[0] - known]]
                left_N[found[0] - known] = False
                row_M, item_M, weight_M = np.concatenate([[row_M, item_M, weight_M], found], axis=1)
        row_M = row_M - known
        share_M = weight_M / np.bincount(row_M, weight_M, minlength=new)[row_M]
        self.share_NK = torch.sparse_coo_tensor(
            torch.from_numpy(np.stack([row_M, item_M])),
            torch.from_numpy(share_M).float(),
            (new, known),
            check_invariants=True,
        )
        self.left_N = torch.from_numpy(left_N)

    def rows(self, table_KD: Tensor) -> Tensor:
        """A table with rows for the new items: [K, D] to [V, D]."""
        new_ND = torch.sparse.mm(self.share_NK, table_KD.float())
        if table_KD.shape[0] > FIRST_ITEM:
            new_ND[self.left_N] = table_KD[FIRST_ITEM:].float().mean(0)
        return torch.cat([table_KD, new_ND.to(table_KD.dtype)])


def grown_weights(run: Run, dataset: Dataset) -> dict[str, Tensor]:
    """What a run has learnt, by name, its item tables with rows for the items that a later version of its dataset has.

    Raises:
        DatasetMismatchError: it is no such version.
    """
    run.view(dataset)
    growth, wanted = Growth(dataset, run.environment.vocabulary), make_model(dataset.vocabulary, run.config.model)
    shapes = {name: parameter.shape for name, parameter in wanted.named_parameters()}
    return {
        name: parameter.detach() if parameter.shape == shapes[name] else growth.rows(parameter.detach())
        for name, parameter in run.model.named_parameters()
    }


def grown(run: Run, dataset: Dataset) -> Run:
    """A run with its model for a later version of its dataset, in evaluation mode: nothing is trained, and what is
    counted is counted anew.

    Raises:
        DatasetMismatchError: it is no such version.
        InvalidGraphError: a cloud model is the user's own graph, and that is gone or no longer fits.
    """
    if run.environment.dataset_sha256 == dataset.manifest.content_sha256:
        return run
    weights, model = grown_weights(run, dataset), make_model(dataset.vocabulary, run.config.model)
    sizes = {name: buffer.shape for name, buffer in model.named_buffers()}
    kept = {name: buffer for name, buffer in run.model.named_buffers() if buffer.shape == sizes.get(name)}
    model.load_state_dict(kept | weights, strict=False)
    for part in model.modules():
        if isinstance(part, CloudModel):
            take_graph(part, dataset)
            count(part, dataset)
    return replace(run, model=model.eval())


def beside(dataset: Dataset, known: int) -> tuple[Int64, Int64, Int64]:
    """New items, known ones that stand within `REACH` events of them in the training part, and how often: [M] each."""
    events_E, found = dataset.events, [np.zeros(0, dtype=np.int64)]
    at_P = np.flatnonzero((events_E >= known) & dataset.training_mask())
    device_P = np.searchsorted(dataset.offsets, at_P, side="right") - 1
    first_P = dataset.offsets[device_P]
    end_P = first_P + dataset.bounds[device_P, 0]
    for step in (*range(-REACH, 0), *range(1, REACH + 1)):
        within_P = (at_P + step >= first_P) & (at_P + step < end_P)
        new_P = events_E[at_P[within_P]].astype(np.int64)
        other_P = events_E[at_P[within_P] + step].astype(np.int64)
        told_P = (other_P >= FIRST_ITEM) & (other_P < known)
        found.append(new_P[told_P] * known + other_P[told_P])
    key_M, count_M = np.unique(np.concatenate(found), return_counts=True)
    return key_M // known, key_M % known, count_M.astype(np.int64)


def alike(dataset: Dataset, known: int) -> tuple[Int64, Int64, Int64]:
    """New items and the known ones whose titles share most words with theirs, each once: [M] each; a word that many
    titles have is none.
    """
    import polars as pl

    titles = dataset.table("items").select(
        pl.int_range(pl.len(), dtype=pl.Int64).add(FIRST_ITEM).alias("item"), "title"
    )
    words = titles.select(
        "item", pl.col("title").cast(pl.String).str.to_lowercase().str.extract_all(r"\w+").alias("word")
    )
    words = words.explode("word").drop_nulls().unique()
    told, new = words.filter(pl.col("item") < known), words.filter(pl.col("item") >= known)
    most = max(LEAST_COMMON, COMMON * known)
    told = told.filter(pl.len().over("word") <= most).rename({"item": "known"})
    shared = new.join(told, on="word").group_by("item", "known").len("words")
    best = shared.filter(pl.col("words") == pl.col("words").max().over("item")).sort("item", "known")
    return best["item"].to_numpy(), best["known"].to_numpy(), np.ones(len(best), dtype=np.int64)
