"""Evaluation of a model on a dataset, for reports.

Shapes: N targets, M rows, U devices, C candidates with the positive first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from torch import nn

from duetgen.data.store import UNKNOWN, Bool, Dataset, Part
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
from duetgen.evaluation.errors import NothingToEvaluateError
from duetgen.evaluation.inputs import history_lengths, target_items
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.metrics import CUTOFFS, LAST, Float64, pooled_auc_by_device, ranking_metrics
from duetgen.evaluation.protocols import Recommender, Scored
from duetgen.evaluation.result import POOLED, ConditionResult, Evaluation
from duetgen.evaluation.scoring import Progress, Selection, check_vocabulary, measuring, score, select

CALIBRATION_DEVICES: Final = 2_000
"""Devices of the validation part that the calibration of log loss is fitted on, at most."""


def calibrate(model: Recommender, dataset: Dataset, device: torch.device, seed: int) -> Calibration | None:
    """Fit what makes scores probabilities on the validation part's candidates; None where there is no target."""
    if not len(dataset.targets("valid")):
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
        return list(default_conditions(lone=selection.devices_in_part < 2))
    if not conditions:
        raise NothingToEvaluateError("no condition was asked for", "name at least one, such as `own`")
    return list(dict.fromkeys(conditions))


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
