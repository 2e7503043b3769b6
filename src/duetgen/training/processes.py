"""The processes of a training: one, or those that torchrun started, on one machine or several.

Whatever their number, the batches, the steps and the rate are those of one process: each batch is shared out by
sequences, gradients are added up weighed by positions, and every process has the same weights after each step. The
first process alone writes.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn

from duetgen.errors import DuetError
from duetgen.training.batches import Batch
from duetgen.training.rows import RowBatch

T = TypeVar("T")

WAIT_SECONDS: Final = 600.0
"""How long a process waits for the others before it gives them up."""


class TrainingFailedError(DuetError):
    """Training cannot go on: a loss that is not finite, nothing to train on, or a process that is gone."""

    code = "training-failed"


class Processes:
    """This process among those of its training.

    Attributes:
        rank: its number; 0 is the first.
        world: how many there are.
        device: where it computes.

    Raises:
        TrainingFailedError: they do not find each other, or are more than the machine has GPUs.
    """

    def __init__(self) -> None:
        world, local = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        if world % local:
            raise TrainingFailedError(
                f"{world} processes are not {local} on each machine", "give the same --nproc-per-node on all"
            )
        self.rank, self.world, self.device = 0, 1, torch.device("cpu")
        if world > 1 or torch.accelerator.is_available():
            self._join(world, local)

    def _join(self, world: int, local: int) -> None:
        """Find the other processes, and the accelerator of this one."""
        # Imported here: it takes as long as torch, and one process on processors has no use for it.
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
        from lightning_fabric.utilities.exceptions import MisconfigurationException

        limit = DDPStrategy(timeout=datetime.timedelta(seconds=WAIT_SECONDS))
        with self._together(MisconfigurationException):
            fabric = Fabric(
                accelerator="auto",
                devices=local,
                num_nodes=world // local,
                strategy=limit if world > 1 else "auto",
            )
            fabric.launch()
        self.rank, self.world, self.device = fabric.global_rank, fabric.world_size, fabric.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @contextlib.contextmanager
    def _together(self, *others: type[Exception]) -> Iterator[None]:
        failures: tuple[type[Exception], ...] = (RuntimeError, ValueError, *others)
        try:
            yield
        except failures as cause:
            raise TrainingFailedError(
                f"the processes of the training do not work together: {str(cause).splitlines()[0]}",
                "see what ended the others; the same command goes on from the last checkpoint",
            ) from cause

    def of_first(self, call: Callable[[], T]) -> T:
        """What a call gives in the first process; what it refuses there ends all.

        Raises:
            DuetError: the first process's refusal.
            TrainingFailedError: the same in the other processes.
        """
        if self.world == 1:
            return call()
        found: T | None = None
        refusal: DuetError | None = None
        if self.first:
            try:
                found = call()
            except DuetError as error:
                refusal = error
        told = None if refusal is None else (refusal.message, refusal.hint)
        both = [(found, told)]
        with self._together():
            distributed.broadcast_object_list(both, src=0, device=self.device)
        ((found, told),) = both
        if refusal is not None:
            raise refusal
        if told is not None:
            raise TrainingFailedError(f"the first process has ended the training: {told[0]}", told[1])
        return found  # type: ignore[return-value]

    def check_alike(self, *values: bytes) -> None:
        """Refuse processes that were started with other settings or other data.

        Raises:
            TrainingFailedError: in all of them.
        """
        digest = hashlib.sha256(b"\0".join(values)).digest()[:6]
        own = torch.tensor(int.from_bytes(digest, "big"), dtype=torch.int64, device=self.device)
        ends = torch.stack([own, -own])
        if self.world > 1:
            with self._together():
                distributed.all_reduce(ends, op=distributed.ReduceOp.MAX)
        if int(ends[0]) != -int(ends[1]):
            raise TrainingFailedError(
                "the processes have other settings or data", "start all with the same command, on copies of one dataset"
            )

    def share_weights(self, model: nn.Module) -> None:
        """Give all processes the first one's weights."""
        if self.world > 1:
            with self._together():
                for tensor in model.state_dict().values():
                    distributed.broadcast(tensor, src=0)

    def part(self, batch: Batch | RowBatch) -> tuple[Batch | RowBatch, int]:
        """This process's part of a batch, and how many positions count in it.

        Where there are fewer sequences than processes, the others get one that does not count.
        """
        if self.world == 1:
            return batch, batch.trained
        rows = torch.arange(self.rank, len(batch), self.world)
        if not len(rows):
            return batch.take(torch.zeros(1, dtype=torch.int64)), 0
        part = batch.take(rows)
        return part, part.trained

    def backward(
        self,
        parameters: Sequence[nn.Parameter],
        losses: Sequence[Tensor],
        positions: int,
        tables: Sequence[Tensor] = (),
    ) -> Tensor:
        """Give the parameters the gradient of the whole batch's first loss.

        Args:
            parameters: all that is trained, in the same order in all processes.
            losses: means over the positions of this process's part; the first is minimised.
            positions: how many these are.
            tables: those of the parameters whose gradients are sparse.

        Returns:
            The means over the whole batch: [losses]. To read them is to wait for a GPU.

        Raises:
            TrainingFailedError: another process is gone.
        """
        if self.world == 1:
            losses[0].backward()
            return torch.stack([loss.detach() for loss in losses])
        (losses[0] * positions).backward()
        grads = [parameter.grad for parameter in parameters]
        told = [loss.detach().reshape(1) * positions for loss in losses]
        count = losses[0].new_tensor([positions, *(grad is not None for grad in grads)])
        own = [torch.zeros_like(p) if grad is None else grad.to_dense() for p, grad in zip(parameters, grads)]
        read = [table.new_zeros(len(table)) for table in tables]
        for table, read_V in zip(tables, read):
            if table.grad is not None:
                read_V[table.grad.coalesce().indices()[0]] = 1
        whole = torch.cat([*read, *(grad.flatten() for grad in own), *told, count])
        with self._together():
            distributed.all_reduce(whole)
        sizes = [parameter.numel() for parameter in parameters]
        rows, *parts = whole.split([sum(map(len, read)), *sizes, len(told), len(count)])
        *summed, means, count = parts
        total = count[0].clamp(min=1)
        for parameter, grad, has in zip(parameters, summed, count[1:].tolist()):
            # What no process used has no gradient, as with one process: the optimiser leaves it as it is.
            parameter.grad = (grad / total).view_as(parameter) if has else None
        for table, read_V in zip(tables, rows.split([len(table) for table in tables])):
            if table.grad is not None:
                row_N = read_V.nonzero()[:, 0]
                table.grad = torch.sparse_coo_tensor(
                    row_N[None], table.grad[row_N], table.shape, check_invariants=True, is_coalesced=True
                )
        mean: Tensor = means / total
        return mean

    def total(self, value_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum over all processes, of values that are 0 in all but one: [N]."""
        if self.world == 1:
            return value_N
        whole_N = torch.from_numpy(value_N).to(self.device)
        with self._together():
            distributed.all_reduce(whole_N)
        return whole_N.cpu().numpy()
