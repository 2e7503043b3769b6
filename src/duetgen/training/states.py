"""What a generator reads that is made of the cloud model's state: that state after every event of the training part.

The cloud model stays as it is, so it is run once, before the first step.

Shapes: E events of the dataset, B sequences of a batch, T events of a sequence, D width of the cloud's sequence model;
`*` any dimensions.
"""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor

from duetgen.cloudmodel import CloudModel
from duetgen.cloudmodel.model import SEQUENCE
from duetgen.cloudmodel.sequence import SequenceModel
from duetgen.data.store import Dataset
from duetgen.evaluation.scoring import measuring
from duetgen.training.batches import Batch, SequenceBatches

POSITIONS: Final = 4096
"""Of a batch that is read."""


class States:
    """The states of a cloud model's sequence model.

    Args:
        cloud: the finished cloud model, on the device that trains.
        dataset: the dataset folder.

    Attributes:
        cloud: the same without opinions, and frozen.
        state_ED: the state after each event, float16; zeros after the last one of a device, which is only predicted.
    """

    def __init__(self, cloud: CloudModel, dataset: Dataset) -> None:
        self.cloud = copy.deepcopy(cloud).requires_grad_(False)
        self.cloud.keep((), state=True)
        sequence = self.cloud.members[SEQUENCE]
        assert isinstance(sequence, SequenceModel)
        batches = SequenceBatches(
            dataset,
            # Every event of a later chunk has a whole history behind it.
            size=2 * cloud.window,
            context=cloud.window,
            batch_positions=POSITIONS,
            unknown_share=0.0,
            seed=0,
            with_met=True,
        )
        with measuring(self.cloud) as place:
            self.state_ED = torch.zeros((len(dataset.events), sequence.width), dtype=torch.float16, device=place)
            for batch in batches.epoch(0):
                self.read(sequence, batch.to(place))

    def read(self, sequence: SequenceModel, batch: Batch) -> None:
        """Keep the states after the events of a batch, but for those that are context of a later chunk."""
        assert batch.index_BT is not None
        assert batch.before_B is not None
        step_T = torch.arange(batch.events_BT.shape[1], device=batch.events_BT.device)
        context_B1 = torch.where(batch.before_B > 0, sequence.backbone.config.window, 0)[:, None]
        read_BT = (batch.events_BT != 0) & (step_T >= context_B1)
        self.state_ED[batch.index_BT[read_BT] - 1] = sequence.states(batch.events_BT)[read_BT].half()

    def before(self, index: Tensor) -> Tensor:
        """The states after which targets come that lie at some places among the events: [*] to [*, D]."""
        return self.state_ED[index - 1].float()
