"""Distillation: what a finished cloud model thinks of the next item, as a second aim at every trained position.

The cloud model stays as it is, so it is run once, before the first step. Of its distribution over the catalogue each
position keeps the K best items; all others count as one. A batch then costs no forward pass of the cloud model, and a
device model is free in how it ranks what the cloud holds for unlikely.

Shapes: E events of the dataset, B sequences of a batch, T events of a sequence, N positions, K items, V items.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from duetgen.cloudmodel import CloudModel
from duetgen.data.store import FIRST_ITEM, Dataset
from duetgen.evaluation.scoring import measuring
from duetgen.training.batches import Batch, SequenceBatches
from duetgen.training.config import ObjectiveConfig
from duetgen.training.met import MetItems
from duetgen.training.objectives import Advice
from duetgen.training.softmax import leave_out

READ_BYTES: Final = 16 * 2**20
"""Most memory that scores take at a time: more is slower, since it does not stay in the processor's cache."""


class Teacher:
    """The advice of a cloud model for every position of the training part.

    Args:
        cloud: the finished cloud model, on the device that trains.
        dataset: the dataset folder.
        objective: of the training, filled in; where it leaves out what was met, that has no share.

    Attributes:
        items_EK: its best items before each event, int32.
        share_EK: their probabilities, float16.
    """

    def __init__(self, cloud: CloudModel, dataset: Dataset, objective: ObjectiveConfig) -> None:
        self.weight, self.temperature = objective.distillation, objective.temperature
        batches = SequenceBatches(
            dataset,
            # Every position of a later chunk has a whole history behind it.
            size=2 * cloud.window,
            context=cloud.window,
            batch_positions=READ_BYTES // (4 * dataset.vocabulary),
            unknown_share=0.0,
            seed=0,
            with_met=objective.met == "hide",
        )
        shape = (len(dataset.events), cloud.items)
        with measuring(cloud) as place:
            self.items_EK = torch.zeros(shape, dtype=torch.int32, device=place)
            self.share_EK = torch.zeros(shape, dtype=torch.float16, device=place)
            for batch in batches.epoch(0):
                self.read(cloud, batch.to(place))

    def read(self, cloud: CloudModel, batch: Batch) -> None:
        """Keep the advice for the positions of a batch that are trained."""
        if batch.index_BT is None or not batch.trained:
            return
        scores_NV = cloud.along(batch.events_BT, batch.trained_BT)
        scores_NV[:, :FIRST_ITEM] = -torch.inf
        if batch.met_BM is not None:
            met = MetItems(batch.met_BM, *batch.place_BT2[batch.trained_BT].unbind(-1))
            leave_out(scores_NV, met.items(slice(None)), batch.target_BT[batch.trained_BT][:, None])
        share_NK, items_NK = torch.softmax(scores_NV / self.temperature, 1).topk(self.items_EK.shape[1], dim=1)
        index_N = batch.index_BT[batch.trained_BT]
        self.items_EK[index_N] = items_NK.int()
        self.share_EK[index_N] = share_NK.half()

    def at(self, index_N: Tensor) -> Advice:
        """The advice for the targets that lie at some places among the events."""
        return Advice(self.items_EK[index_N].long(), self.share_EK[index_N].float(), self.weight, self.temperature)
