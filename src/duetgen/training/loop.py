"""The training loop: epochs over the training part, `ndcg@10` on validation after each, the best weights kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator

import msgspec
import torch
from torch import Tensor, nn

from duetgen.data.store import Dataset
from duetgen.documents import damaged
from duetgen.files import write_bytes
from duetgen.recommender import Recommender
from duetgen.training import checkpoint
from duetgen.training.batches import Batch, SequenceBatches, chunk_size
from duetgen.training.checkpoint import Counters
from duetgen.training.config import TrainConfig
from duetgen.training.distillation import Teacher
from duetgen.training.frozen_base import freeze_global_model
from duetgen.training.optimiser import clip_gradients, make_optimiser, rate_share
from duetgen.training.processes import Processes, TrainingFailedError
from duetgen.training.progress import Losses, Progress
from duetgen.training.rows import RowBatch, RowBatches
from duetgen.training.run import AGAIN, EpochRecord, RunFolder
from duetgen.training.states import States
from duetgen.training.step import TrainingStep
from duetgen.training.tables import large_tables

Validate = Callable[[nn.Module, Dataset], float]


def make_batches(dataset: Dataset, config: TrainConfig) -> SequenceBatches | RowBatches:
    """The batches of a run, by its `feed`.

    Raises:
        TrainingFailedError: there is nothing to train on.
    """
    batches: SequenceBatches | RowBatches
    if config.feed == "rows":
        if not dataset.has_rows:
            raise TrainingFailedError(
                f"{dataset.root} holds no training rows", "only the duet-text source gives rows; use --feed sequences"
            )
        batches = RowBatches(dataset, batch_rows=config.optimiser.batch_positions, seed=config.seed)
    else:
        size, context = chunk_size(config.model)
        batches = SequenceBatches(
            dataset,
            size=size,
            context=context,
            batch_positions=config.optimiser.batch_positions,
            unknown_share=config.optimiser.unknown_share,
            seed=config.seed,
            with_met=config.objective.met == "hide",
        )
    if batches.positions == 0:
        raise TrainingFailedError(
            f"{dataset.root} has no device with two events in its training part", "give a longer log, or filter less"
        )
    return batches


class Trainer:
    """The loop's state: model, its running average (what is measured and kept), optimiser, counters, best weights.

    Args:
        dataset: the dataset folder.
        config: filled in.
        folder: the run folder.
        validate: gives `ndcg@10` on the validation part.
        processes: those that train together.
        base: the global model that is kept; None where it is trained.
        teacher: what is distilled; None where nothing is.
        states: what the generator reads in place of histories; None where it reads these.
        known: weights to go on from, by name, among others; None where it begins anew.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: TrainConfig,
        folder: RunFolder,
        validate: Validate,
        processes: Processes,
        *,
        base: Recommender | None = None,
        teacher: Teacher | None = None,
        states: States | None = None,
        known: dict[str, Tensor] | None = None,
    ) -> None:
        self.dataset, self.config, self.folder, self.validate = dataset, config, folder, validate
        self.processes = processes
        torch.manual_seed(config.seed)
        self.model = Recommender(dataset.vocabulary, config.model)
        self.goes_on = known is not None
        if known is not None:
            self.model.load_state_dict(known, strict=False)
        if base is not None:
            freeze_global_model(self.model, base, config)
        if states is not None:
            self.model.attach(states.cloud)
        # A cloud model that is read is no part of what is averaged.
        self.average = copy.deepcopy(self.model, {id(self.model.cloud): self.model.cloud}).requires_grad_(False).eval()
        counts_V = torch.from_numpy(dataset.training_counts())
        self.step = TrainingStep(self.model, config.objective, counts_V, teacher, states).to(processes.device)
        self.average.to(processes.device)
        self.optimiser = make_optimiser(self.model, config)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        # A softmax over the catalogue has a gradient for all of the device model's table.
        whole = self.model.backbone.item_embedding if config.objective.kind == "softmax" else None
        self.tables = large_tables(self.model, self.average, self.optimiser, whole)
        self.apart = [table.weight_VD for table in self.tables]
        kept = {id(parameter) for parameter in self.trained} - {id(table) for table in self.apart}
        pairs = zip(self.average.parameters(), self.model.parameters())
        self.averaged: list[tuple[Tensor, Tensor]] = [pair for pair in pairs if id(pair[1]) in kept]
        self.batches = make_batches(dataset, config)
        self.counters = Counters()
        self.best: dict[str, Tensor] = {}
        self.steps_per_epoch = len(self.batches.plan(0))

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            DamagedError: the checkpoint, or what `metrics.jsonl` holds of it, is damaged.
        """
        state = self.processes.of_first(self.read_checkpoint)
        if state is not None:
            self.counters, self.best = state.put(self.model, self.average, self.optimiser)
        for model in (self.model, self.average):
            self.processes.share_weights(model)

    def read_checkpoint(self) -> checkpoint.State | None:
        """The checkpoint, if there is one and it fits the model.

        Raises:
            DamagedError: it is damaged, or `metrics.jsonl` is shorter than it was.
        """
        path = self.folder.checkpoint
        if not path.is_file():
            return None
        refuse = damaged(path, AGAIN)
        state = checkpoint.load(path, refuse)
        try:
            state.check(self.model)
        except ValueError as cause:
            raise refuse(str(cause)) from cause
        if state.counters.epoch and len(self.folder.read_metrics()) < state.counters.epoch:
            raise damaged(self.folder.metrics, AGAIN)(f"it has fewer lines than {state.counters.epoch}")
        return state

    def save(self) -> None:
        """Write the checkpoint."""
        if self.processes.first:
            self.folder.checkpoint.parent.mkdir(exist_ok=True)
            checkpoint.save(self.folder.checkpoint, self.model, self.average, self.best, self.optimiser, self.counters)

    def run(self, progress: Progress) -> None:
        """Train until the epochs or the patience end."""
        counters, optimiser = self.counters, self.config.optimiser
        progress.started(optimiser.epochs, self.steps_per_epoch, counters.epoch)
        if self.goes_on and not self.best:
            # What it goes on from may be the best that it ever is.
            begun = time.monotonic()
            self.keep(self.validate(self.average, self.dataset))
            counters.seconds += time.monotonic() - begun
        while counters.epoch < optimiser.epochs and counters.epoch - max(counters.best_epoch, 0) < optimiser.patience:
            self.run_epoch(progress)
            self.measure(progress)

    def run_epoch(self, progress: Progress) -> None:
        """One pass, or the rest of one, over the training part."""
        counters, processes = self.counters, self.processes
        self.step.train()
        # A global model that is kept runs as on a device, without dropout.
        self.model.backbone.train(not self.config.keeps_base)
        saved = begun = time.monotonic()
        before, pass_before, positions_before = counters.seconds, counters.pass_seconds, counters.positions
        batches: Iterator[Batch | RowBatch] = self.batches.epoch(counters.epoch, skip=counters.step)
        for batch in batches:
            # What each process draws for itself, dropout above all, is its own; the rest is drawn alike in all.
            seed, own_seed = (step_seed(self.config.seed, counters.total_steps, rank) for rank in (0, processes.rank))
            seed_all(own_seed)
            scale = rate_share(self.config.optimiser, counters.total_steps, self.steps_per_epoch)
            for group in self.optimiser.param_groups:
                group["lr"] = self.config.optimiser.learning_rate * group["rate"] * scale
            part, positions = processes.part(batch)
            loss, own, zero = self.step(part.to(processes.device), seed, own_seed if processes.rank else None)
            losses = [loss] if zero is None else [loss, own, zero]
            self.optimiser.zero_grad()
            means = processes.backward(self.trained, losses, positions, self.apart)
            if self.config.optimiser.clip > 0:
                clip_gradients(self.trained, self.config.optimiser.clip)
            self.update()
            value, *apart = means.tolist()
            if not math.isfinite(value):
                raise TrainingFailedError(
                    f"the loss is {value} after {counters.total_steps} steps", "lower --learning-rate"
                )
            counters.step += 1
            counters.total_steps += 1
            counters.loss_sum += value
            if apart:
                counters.own_sum += apart[0]
                counters.zero_sum += apart[1]
            counters.positions += batch.trained
            now = time.monotonic()
            counters.seconds, counters.pass_seconds = before + now - begun, pass_before + now - begun
            rate = (counters.positions - positions_before) / (now - begun)
            progress.stepped(counters.step, self.losses, rate)
            if now - saved > self.config.checkpoint_seconds and all(table.settled for table in self.tables):
                self.save()
                saved = now
        for table in self.tables:
            table.settle()
        spent = time.monotonic() - begun
        counters.seconds, counters.pass_seconds = before + spent, pass_before + spent

    @property
    def losses(self) -> Losses:
        """The means of the pass under way."""
        counters, steps = self.counters, max(1, self.counters.step)
        total = counters.loss_sum / steps
        if self.model.generator is None or self.config.objective.fallback_weight == 0:
            return Losses(total=total)
        return Losses(total=total, own=counters.own_sum / steps, zero=counters.zero_sum / steps)

    def update(self) -> None:
        """Step, and move the average towards the weights; quickly at first, so that it does not remember the initial
        ones.
        """
        share = 1 / (1 + min(self.config.optimiser.averaging, self.counters.total_steps / 4))
        for table in self.tables:
            table.step(share)
        self.optimiser.step()
        average, own = zip(*self.averaged)
        with torch.no_grad():
            torch._foreach_lerp_(average, own, share)

    def keep(self, ndcg: float) -> None:
        """Keep the weights if they are the best so far."""
        if ndcg > self.counters.best:
            self.counters.best, self.counters.best_epoch = ndcg, self.counters.epoch
            self.best = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.average.state_dict().items()
                if not name.startswith("cloud.")
            }

    def measure(self, progress: Progress) -> None:
        """Measure on validation, keep the best weights, write the epoch's line and the checkpoint."""
        counters = self.counters
        begun = time.monotonic()
        ndcg = self.validate(self.average, self.dataset)
        losses = self.losses
        counters.epoch += 1
        self.keep(ndcg)
        seconds = counters.seconds + time.monotonic() - begun
        record = EpochRecord(
            epoch=counters.epoch,
            loss=losses.total,
            own_loss=losses.own,
            zero_loss=losses.zero,
            validation_ndcg10=ndcg,
            learning_rate=float(self.optimiser.param_groups[0]["lr"]),
            positions_per_second=counters.positions / max(counters.pass_seconds, 1e-9),
            seconds=seconds,
        )
        counters.seconds = seconds
        counters.step, counters.positions, counters.pass_seconds = 0, 0, 0.0
        counters.loss_sum = counters.own_sum = counters.zero_sum = 0.0
        if self.processes.first:
            # A run killed after writing this line and before its checkpoint writes it once more.
            before = self.folder.metrics.read_bytes()[: counters.metrics_bytes] if counters.metrics_bytes else b""
            content = before + msgspec.json.encode(record) + b"\n"
            write_bytes(self.folder.metrics, content)
            counters.metrics_bytes = len(content)
        self.save()
        progress.measured(counters.epoch, losses, ndcg, counters.best)


def step_seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for every step of every run."""
    return (seed * 0x9E3779B1 + step * 0x85EBCA77 + rank * 0xC2B2AE3D) % (2**63 - 1)


def seed_all(seed: int) -> None:
    """What `torch.manual_seed` does, without its note, for accelerators that are not in use, of where it was called."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
