"""Evaluation of a model on a dataset: `evaluate` for reports, `validate` for early stopping.

For each condition: targets in batches; each distinct history of a batch generates theta once, and all protocols use it.

Shapes: B targets of a batch, H distinct histories of a batch, L history length, N targets, M rows, U devices,
P values in theta, C candidates with the positive first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import numpy as np
import torch
from torch import nn

from duetgen.data.store import UNKNOWN, Bool, Dataset, Int64, Part, Targets
from duetgen.evaluation import bootstrap, calibration, protocols, provenance
from duetgen.evaluation.averages import (
    COLD,
    GROUPED,
    DeviceMetrics,
    Group,
    by_history,
    device_means,
    group_means,
)
from duetgen.evaluation.bootstrap import RESAMPLES, Interval
from duetgen.evaluation.calibration import Calibration
from duetgen.evaluation.conditions import OWN, ZERO, Condition, default_conditions
from duetgen.evaluation.errors import NothingToEvaluateError, VocabularyMismatchError
from duetgen.evaluation.inputs import HistoryReader, history_lengths, target_items, windows
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.metrics import CUTOFFS, LAST, Float64, pooled_auc_by_device, ranking_metrics
from duetgen.evaluation.protocols import Ranking, Recommender, Scored
from duetgen.evaluation.result import POOLED, ConditionResult, Evaluation

SCORE_BYTES: Final = 64 * 2**20
"""Most memory that the scores of one batch take."""
MAX_BATCH: Final = 1024
PAIRWISE_COST: Final = 256
"""How many values a model that reads the window anew for each candidate holds for each score, roughly."""
CALIBRATION_DEVICES: Final = 2_000
"""Devices of the validation part that the calibration of log loss is fitted on, at most."""
FEW_TARGETS: Final = 2_000
"""Targets of the validation part that settings are chosen on, about, where each measurement is dear."""


class Helpers(Protocol):
    """Processes that share the work: `total` adds up, over all of them, values that are 0 in all but one."""

    rank: int
    world: int

    def total(self, value_N: Float64) -> Float64:
        """The sum over all processes: [N]."""


@dataclass
class Alone:
    """No other process."""

    rank: int = 0
    world: int = 1

    def total(self, value_N: Float64) -> Float64:
        """The same."""
        return value_N


ALONE: Final = Alone()

Progress = Callable[[str, int, int], None]
"""What an evaluation tells while it goes on: under the condition named, so many of so many targets are scored."""


@dataclass(frozen=True)
class Selection:
    """The targets that are measured, out of all of a part."""

    everyone: Targets
    index_N: Int64
    targets: Targets
    device_U: Int64
    slot_N: Int64
    devices_in_part: int


def select(dataset: Dataset, part: Part, limit_devices: int | None, seed: int) -> Selection:
    """All targets of a part, or those of a seeded choice of devices.

    Raises:
        NothingToEvaluateError: there is none.
    """
    if limit_devices is not None and limit_devices < 1:
        raise NothingToEvaluateError(f"{limit_devices} devices were asked for", "ask for 1 or more, or for no limit")
    everyone = dataset.targets(part)
    device_U = np.unique(everyone.device_N)
    if not len(device_U):
        raise NothingToEvaluateError(
            f"the {part} part of {dataset.manifest.name} has no target to predict",
            "give a longer log, filter less, or split by leave-one-out",
        )
    index_N, found = np.arange(len(everyone)), len(device_U)
    if limit_devices is not None and limit_devices < found:
        device_U = np.sort(np.random.default_rng([seed, 0]).choice(device_U, limit_devices, replace=False))
        index_N = np.flatnonzero(np.isin(everyone.device_N, device_U))
    targets = everyone.take(index_N)
    slot_N = np.searchsorted(device_U, targets.device_N)
    return Selection(everyone, index_N, targets, device_U, slot_N, found)


@contextlib.contextmanager
def measuring(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients; afterwards every module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    tensor: torch.Tensor | None = next(model.parameters(), None)
    if tensor is None:
        tensor = next(model.buffers(), None)
    try:
        with torch.inference_mode():
            yield torch.device("cpu") if tensor is None else tensor.device
    finally:
        for module, training in modes:
            module.training = training


def batch_size(model: Recommender) -> int:
    """How many targets are scored at a time, so that scores of the catalogue take at most `SCORE_BYTES`."""
    backbone = getattr(model, "backbone", model)
    cost = PAIRWISE_COST if getattr(backbone, "pairwise", False) else 1
    return max(1, min(MAX_BATCH, SCORE_BYTES // (4 * model.vocabulary * cost)))


def score(
    model: Recommender,
    dataset: Dataset,
    selection: Selection,
    condition: Condition,
    rankings: Sequence[Ranking],
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
    helpers: Helpers = ALONE,
) -> list[Scored]:
    """Score the selected targets under one condition, for each protocol; of several processes each its own batches.

    What is not this process's is 0.
    """
    total, size = len(selection.targets), batch_size(model)
    reader = None
    if condition.kind != "zero":
        length = model.generator_history
        reader = HistoryReader(dataset, selection.everyone, selection.index_N, condition, length, seed)
    collectors = [protocols.Collector(total) for _ in rankings]
    for first in range(helpers.rank * size, total, helpers.world * size):
        rows = slice(first, min(first + size, total))
        window_BL = torch.from_numpy(windows(dataset, selection.targets.take(rows), model.window)).to(device)
        theta_BP = None
        if reader is not None:
            history_HL, which_B = reader.read(rows)
            theta_BP = model.generate(torch.from_numpy(history_HL).to(device))
            if not np.array_equal(which_B, np.arange(len(theta_BP))):
                theta_BP = theta_BP[torch.from_numpy(which_B).to(device)]
        scores = protocols.Scores(model, window_BL, theta_BP)
        for ranking, collector in zip(rankings, collectors):
            collector.add(rows, ranking.rank(scores, rows))
        if progress is not None:
            progress(condition.name, rows.stop, total)
    return [collector.result() for collector in collectors]


def calibrate(model: Recommender, dataset: Dataset, device: torch.device, seed: int) -> Calibration | None:
    """Fit what makes scores probabilities on the validation part's candidates; None where there are none."""
    if not len(dataset.targets("valid")) or not dataset.has("candidates/valid.npy"):
        return None
    selection = select(dataset, "valid", CALIBRATION_DEVICES, seed)
    ranking = protocols.make_ranking(
        "candidates", dataset, "valid", selection.index_N, met=MetItems.hidden(dataset, selection.targets)
    )
    condition = OWN if model.personal else ZERO
    scores_NC = score(model, dataset, selection, condition, [ranking], device, seed)[0].scores_NC
    assert scores_NC is not None
    positive_N, others = scores_NC[:, 0], scores_NC[:, 1:].ravel()
    return calibration.fit(positive_N[positive_N > LAST], others[others > LAST])


@dataclass(frozen=True)
class Measured:
    """One protocol under one condition: metrics of each target [N], and the devices' parts of the pooled AUC."""

    condition: Condition
    targets: dict[str, Float64]
    pooled_U4: Float64 | None
    candidates: float


def measure(
    condition: Condition, scored: Scored, selection: Selection, fitted: Calibration | None, cutoffs: Sequence[int]
) -> Measured:
    """Metrics from what a protocol kept."""
    values = ranking_metrics(scored.rank_N, scored.count_N, cutoffs)
    pooled_U4 = None
    if scored.loss_N is not None:
        values["log_loss"] = scored.loss_N
    if scored.scores_NC is not None:
        positive_N, others_NC = scored.scores_NC[:, 0], scored.scores_NC[:, 1:]
        if fitted is not None:
            losses = calibration.log_losses(fitted, others_NC, 0).sum(1) + calibration.log_losses(fitted, positive_N, 1)
            values["log_loss"] = losses / np.maximum((scored.scores_NC > LAST).sum(1), 1)
        present_NC = ~np.isneginf(others_NC)
        if present_NC.any():
            device_M = np.repeat(selection.slot_N, present_NC.sum(1))
            pooled_U4 = pooled_auc_by_device(
                positive_N, others_NC[present_NC], selection.slot_N, device_M, len(selection.device_U)
            )
    return Measured(condition, values, pooled_U4, float(scored.count_N.mean()))


def group_targets(selection: Selection, repeat_N: Bool, known_N: Bool) -> dict[str, Bool]:
    """Which targets are of each kind, see `DeviceMetrics`; a kind that holds all of them or none is left out."""
    length_N = history_lengths(selection.targets)
    groups = {
        "known": known_N,
        "new": ~repeat_N,
        "repeat": repeat_N,
        "cold": length_N < COLD,
        "warm": length_N >= COLD,
    }
    return {name: inside_N for name, inside_N in groups.items() if inside_N.any() and not inside_N.all()}


def summarise(
    measured: Sequence[Measured], selection: Selection, groups: dict[str, Bool], rounds: int, seed: int
) -> tuple[list[ConditionResult], DeviceMetrics]:
    """Average over targets, devices and histories, and resample the devices."""
    devices = len(selection.device_U)
    kept = DeviceMetrics(selection.device_U)
    length_N = history_lengths(selection.targets)
    for one in measured:
        kept.values[one.condition.name] = {
            name: device_means(value_N, selection.slot_N, devices) for name, value_N in one.targets.items()
        }
        for group, inside_N in groups.items():
            kept.groups.setdefault(group, {})[one.condition.name] = {
                name: group_means(one.targets[name], selection.slot_N, inside_N, devices)
                for name in GROUPED
                if name in one.targets
            }
    columns = [value_U for values in kept.values.values() for value_U in values.values()]
    found = iter(bootstrap.intervals(np.stack(columns, axis=1), rounds, seed))
    results = []
    for one in measured:
        name = one.condition.name
        metrics: dict[str, Interval] = {metric: next(found) for metric in one.targets}
        if one.pooled_U4 is not None:
            kept.pooled[name] = one.pooled_U4
            samples = bootstrap.resampled_pooled_auc(one.pooled_U4, rounds, seed)
            metrics[POOLED] = bootstrap.interval(bootstrap.pooled_auc_of(one.pooled_U4.sum(0)), samples, devices)
        results.append(
            ConditionResult(
                condition=one.condition,
                name=name,
                metrics=metrics,
                by_history=by_history(one.targets, selection.slot_N, length_N),
                groups={
                    group: summarise_group(kept.groups[group][name], int(inside_N.sum()))
                    for group, inside_N in groups.items()
                },
            )
        )
    return results, kept


def summarise_group(metrics: dict[str, Float64], targets: int) -> Group:
    """One group's metrics over the devices that have targets in it."""
    inside_U = ~np.isnan(next(iter(metrics.values())))
    means = {name: float(value_U[inside_U].mean()) for name, value_U in metrics.items()}
    return Group(devices=int(inside_U.sum()), targets=targets, metrics=means)


def settle_conditions(
    model: Recommender, conditions: Sequence[Condition] | None, selection: Selection
) -> list[Condition]:
    """What is measured: a base model has the global parameters alone; a lone device has no other to borrow from."""
    if not model.personal:
        return [ZERO]
    if conditions is None:
        alone = selection.devices_in_part < 2
        return [condition for condition in default_conditions() if not (alone and condition.kind == "another")]
    if not conditions:
        raise NothingToEvaluateError("no condition was asked for", "name at least one, such as `own`")
    return list(dict.fromkeys(conditions))


def check_vocabulary(model: Recommender, dataset: Dataset) -> None:
    """Refuse a model that numbers other items.

    Raises:
        VocabularyMismatchError: the sizes differ.
    """
    if model.vocabulary != dataset.vocabulary:
        raise VocabularyMismatchError(
            f"the model knows {model.vocabulary} item indices, {dataset.manifest.name} has {dataset.vocabulary}",
            "evaluate a model on the dataset folder that it was trained on",
        )


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    part: Part = "test",
    protocols: Sequence[str] = ("full",),
    conditions: Sequence[Condition] | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
    limit_devices: int | None = None,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
    config: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Measure a model, one `Evaluation` for each protocol.

    Args:
        model: a recommender, see `protocols.Recommender`; its mode and place stay as they are.
        dataset: the dataset folder that it was trained on.
        part: `test`, or `valid`.
        protocols: any of `full`, `candidates`, `given`.
        conditions: where theta comes from; by default own theta aged 0, 1, 5 and 20 events, theta = 0, another
            device's, and one of random items. A base model is measured under `zero` whatever is asked.
        cutoffs: k of NDCG@k and HR@k.
        limit_devices: measure a seeded choice of so many devices.
        bootstrap: resamples for the intervals; 0 for none.
        seed: of resamples, choice of devices and control conditions.
        config: settings of the model, for the provenance.
        progress: hears how it goes.

    Raises:
        NothingToEvaluateError: no target, or too few devices.
        ProtocolUnavailableError: a protocol that does not exist or that the dataset cannot serve.
        NonFiniteScoresError: scores that cannot be ranked.
        VocabularyMismatchError: the model is of another dataset.
    """
    return _evaluate(
        model, dataset, part, protocols, conditions, cutoffs, limit_devices, bootstrap, seed, config, progress
    )


def _evaluate(
    model: nn.Module,
    dataset: Dataset,
    part: Part,
    names: Sequence[str],
    conditions: Sequence[Condition] | None,
    cutoffs: Sequence[int],
    limit_devices: int | None,
    rounds: int,
    seed: int,
    config: dict[str, Any] | None,
    progress: Progress | None,
) -> list[Evaluation]:
    recommender = cast(Recommender, model)
    check_vocabulary(recommender, dataset)
    selection = select(dataset, part, limit_devices, seed)
    wanted = settle_conditions(recommender, conditions, selection)
    hidden = MetItems.hidden(dataset, selection.targets)
    met = hidden or MetItems(dataset, selection.targets)
    rankings = [protocols.make_ranking(name, dataset, part, selection.index_N, met=hidden) for name in names]
    measured: list[list[Measured]] = [[] for _ in rankings]
    fitted = None
    with measuring(model) as device:
        if any(ranking.name != "full" for ranking in rankings):
            fitted = calibrate(recommender, dataset, device, seed)
        for condition in wanted:
            scored = score(recommender, dataset, selection, condition, rankings, device, seed, progress)
            for ranking, one, kept in zip(rankings, scored, measured):
                used = None if ranking.name == "full" else fitted
                kept.append(measure(condition, one, selection, used, cutoffs))
    came_from = provenance.collect(dataset, device, config)
    known_N = target_items(dataset, selection.targets) != UNKNOWN
    groups = group_targets(selection, met.repeat_N, known_N)
    evaluations = []
    for ranking, kept in zip(rankings, measured):
        results, by_device = summarise(kept, selection, groups, rounds, seed)
        evaluation = Evaluation(
            protocol=ranking.name,
            part=part,
            split=dataset.manifest.split.kind,
            has_time=dataset.manifest.has_time,
            note=None if dataset.manifest.has_time else "The log has no time: the order of the file stands for it.",
            devices=len(selection.device_U),
            devices_in_part=selection.devices_in_part,
            targets=len(selection.targets),
            unknown_targets=int((~known_N).sum()),
            met=dataset.manifest.met,
            repeat_targets=int(met.repeat_N.sum()),
            candidates=kept[0].candidates,
            personal=recommender.personal,
            calibration=None if ranking.name == "full" else fitted,
            bootstrap=rounds,
            seed=seed,
            conditions=results,
            provenance=came_from,
        )
        evaluations.append(evaluation.keep(by_device))
    return evaluations


def few_devices(dataset: Dataset, most: int) -> int:
    """How many devices of the validation part have about `FEW_TARGETS` targets together; `most` of them at most.

    Enough to choose among many settings of a model that is dear to measure.
    """
    targets = dataset.targets("valid")
    per_device = len(targets) / max(1, len(np.unique(targets.device_N)))
    return max(1, min(most, int(FEW_TARGETS / max(1.0, per_device))))


def validate(
    model: nn.Module,
    dataset: Dataset,
    *,
    limit_devices: int | None = None,
    seed: int = 0,
    staleness: Sequence[int] = (0,),
    helpers: Helpers = ALONE,
) -> float:
    """`ndcg@10` of the `full` protocol on the validation part, the mean over ages of theta: what stops training early.

    Args:
        model: a recommender.
        dataset: the dataset folder.
        limit_devices: measure a seeded choice of so many devices.
        seed: of that choice.
        staleness: ages of theta, in events; a base model has one global model whatever they are.
        helpers: processes that share the work, all of which make this call; the result is that of one.

    Raises:
        NothingToEvaluateError: no target.
        NonFiniteScoresError: scores that cannot be ranked.
    """
    recommender = cast(Recommender, model)
    selection = select(dataset, "valid", limit_devices, seed)
    ranking = protocols.make_ranking(
        "full", dataset, "valid", selection.index_N, with_loss=False, met=MetItems.hidden(dataset, selection.targets)
    )
    conditions = [Condition("own", age) for age in staleness] if recommender.personal else [ZERO]
    values = []
    with measuring(model) as device:
        for condition in conditions:
            (scored,) = score(recommender, dataset, selection, condition, [ranking], device, seed, helpers=helpers)
            rank_N, count_N = (helpers.total(value_N) for value_N in (scored.rank_N, scored.count_N.astype(float)))
            metrics = ranking_metrics(rank_N, count_N.astype(np.int64), (10,))
            values.append(device_means(metrics["ndcg@10"], selection.slot_N, len(selection.device_U)).mean())
    return float(np.mean(values))
