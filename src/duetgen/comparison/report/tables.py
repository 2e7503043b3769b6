"""From cells to tables: averages over seeds, and every comparison with its interval and its corrected p-value.

Shapes: S seeds, U devices, M comparisons.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from duetgen.comparison.cells.costs import Cost
from duetgen.comparison.cells.oscillation import Oscillation
from duetgen.comparison.cells.policies import PolicyRecord
from duetgen.comparison.cells.records import CellRecord, ConditionRecord, DeviceTable, ProtocolRecord
from duetgen.comparison.methods.table import METHODS, Method, finished_run
from duetgen.comparison.report.results import BASE, DUET, METRICS, PARTS, Comparison, Estimate, Row, RowCondition, Table
from duetgen.evaluation import bootstrap, significance
from duetgen.evaluation.averages import Group, HistoryBucket
from duetgen.evaluation.metrics import Float64

GROUPS: Final = {"groups": ("cold", "warm"), "repeats": ("repeat", "new"), "vocabulary": ("known",)}
"""Question of a comparison to the groups of targets that it is asked of."""
CONTROLS: Final = ("zero", "another", "random")


@dataclass(frozen=True)
class Finished:
    """A finished cell with the metrics of its devices."""

    record: CellRecord
    devices: DeviceTable

    def protocol(self, name: str) -> ProtocolRecord | None:
        """The cell measured by a protocol."""
        return next((one for one in self.record.protocols if one.protocol == name), None)


class Pair(msgspec.Struct, frozen=True):
    """What is to be compared with what, and for which question; see `results.Comparison`."""

    question: str
    method: str
    condition: str
    reference: str
    reference_condition: str
    group: str = "all"


def make_table(
    protocol: str, backbone: str | None, cells: dict[str, list[Finished]], reference: str = BASE
) -> Table | None:
    """The table of a protocol and a backbone.

    Args:
        protocol: its name.
        backbone: its name.
        cells: by method, in the order of the rows; each method's cells in the order of seeds.
        reference: the method that the others are compared with.

    Returns:
        The table; None where no cell was measured by the protocol.
    """
    measured = {
        method: [(cell, found) for cell in those if (found := cell.protocol(protocol)) is not None]
        for method, those in cells.items()
    }
    measured = {method: those for method, those in measured.items() if those}
    if not measured:
        return None
    first = next(iter(measured.values()))[0][1]
    rows = [make_row(protocol, those) for those in measured.values()]
    finished = {method: [cell for cell, _ in those] for method, those in measured.items()}
    return Table(
        protocol=protocol,
        backbone=backbone,
        devices=first.devices,
        targets=first.targets,
        met=first.met,
        unknown_targets=first.unknown_targets,
        repeat_targets=first.repeat_targets,
        candidates=first.candidates,
        rows=rows,
        comparisons=[one for metric in METRICS for one in compare_all(protocol, metric, rows, finished, reference)],
        reference=reference,
    )


def make_row(protocol: str, cells: list[tuple[Finished, ProtocolRecord]]) -> Row:
    """A method's cells, averaged over seeds."""
    records = [cell.record for cell, _ in cells]
    first = records[0]
    method = method_of(first)
    names = [condition.name for condition in cells[0][1].conditions]
    conditions = []
    for name in names:
        those = [next(c for c in found.conditions if c.name == name) for _, found in cells]
        conditions.append(make_condition(protocol, name, those, [cell.devices for cell, _ in cells]))
    moves = [record.oscillation for record in records if record.oscillation is not None]
    validated = [record.validation for record in records if record.validation is not None]
    return Row(
        method=first.method,
        description=method.description if method is not None else "",
        family=first.family,
        personal=first.personal,
        seeds=[record.seed for record in records],
        headline=first.headline,
        conditions=conditions,
        cost=median_cost([record.cost for record in records]),
        oscillation=mean_oscillation(moves) if moves else None,
        fit_seconds=statistics.fmean(record.fit_seconds for record in records),
        validation=statistics.fmean(validated) if len(validated) == len(records) else None,
        run=first.run,
        policies=mean_policies(records) if first.protocols[0].protocol == protocol else [],
    )


def mean_policies(records: Sequence[CellRecord]) -> list[PolicyRecord]:
    """Each policy over seeds."""
    means = []
    for those in zip(*(record.policies for record in records), strict=True):
        ages = [one.age for one in those if one.age is not None]
        means.append(
            PolicyRecord(
                policy=those[0].policy,
                requests=statistics.fmean(one.requests for one in those),
                age=statistics.fmean(ages) if ages else None,
                metrics=mean_metrics([one.metrics for one in those]),
                zero=mean_metrics([one.zero for one in those]),
            )
        )
    return means


def mean_metrics(those: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each metric over seeds."""
    return {name: statistics.fmean(one[name] for one in those) for name in those[0]}


def method_of(record: CellRecord) -> Method | None:
    """The method of a cell; None for one that this version does not know."""
    return METHODS.get(record.method) if record.run is None else finished_run(record.method, record.run)


def make_condition(
    protocol: str, name: str, those: Sequence[ConditionRecord], devices: Sequence[DeviceTable]
) -> RowCondition:
    """One condition, averaged over seeds; the metrics of `METRICS` with their intervals over devices."""
    metrics = {}
    for metric in those[0].metrics:
        values = [one.metrics[metric] for one in those]
        low = high = None
        kept_SU = [table.of(protocol, name, "all", metric) for table in devices] if metric in METRICS else []
        whole_SU = [value_U for value_U in kept_SU if value_U is not None]
        if whole_SU:
            found = bootstrap.intervals(np.mean(whole_SU, axis=0)[:, None])[0]
            low, high = found.low, found.high
        metrics[metric] = Estimate(
            mean=statistics.fmean(values), low=low, high=high, std=significance.spread(np.array(values)), by_seed=values
        )
    history = [
        HistoryBucket(
            shortest=bucket.shortest,
            longest=bucket.longest,
            devices=bucket.devices,
            targets=bucket.targets,
            metrics={
                metric: statistics.fmean(one.by_history[index].metrics[metric] for one in those)
                for metric in bucket.metrics
            },
        )
        for index, bucket in enumerate(those[0].by_history)
    ]
    groups = {
        group: Group(
            devices=kept.devices,
            targets=kept.targets,
            metrics={m: statistics.fmean(one.groups[group].metrics[m] for one in those) for m in kept.metrics},
        )
        for group, kept in those[0].groups.items()
        if all(group in one.groups for one in those)
    }
    return RowCondition(name=name, metrics=metrics, by_history=history, groups=groups)


def median_cost(costs: Sequence[Cost]) -> Cost:
    """Each cost's median over seeds; None where no seed has it."""
    found = {}
    for field in Cost.__struct_fields__:
        values = [getattr(cost, field) for cost in costs if getattr(cost, field) is not None]
        middle = statistics.median(values) if values else None
        found[field] = int(middle) if values and isinstance(values[0], int) and middle is not None else middle
    return msgspec.convert(found, Cost)


def mean_oscillation(moves: Sequence[Oscillation]) -> Oscillation:
    """Means over seeds."""
    return Oscillation(
        theta=statistics.fmean(one.theta for one in moves),
        log_loss=statistics.fmean(one.log_loss for one in moves),
        ndcg=statistics.fmean(one.ndcg for one in moves),
        targets=moves[0].targets,
    )


def plan_pairs(rows: Sequence[Row], reference: str = BASE) -> list[Pair]:
    """What a table compares: all with base, or what stands for it, on all targets and on those of each group; old
    theta, its parts and theta = 0 with base; the controls with fresh theta of one's own; all with DUET."""
    by_name = {row.method: row for row in rows}
    base, duet = by_name.get(reference), by_name.get(DUET)
    pairs = []
    for row in rows:
        if base is not None and row is not base:
            pairs.append(Pair("methods", row.method, row.headline, reference, base.headline))
            pairs += [
                Pair(question, row.method, row.headline, reference, base.headline, group)
                for question, groups in GROUPS.items()
                for group in groups
            ]
            aged = [one.name for one in row.conditions if one.name.startswith("own+")]
            alone = [one.name for one in row.conditions if one.name.startswith(tuple(PARTS))]
            pairs += [Pair("age", row.method, name, reference, base.headline) for name in aged]
            pairs += [Pair("parts", row.method, name, reference, base.headline) for name in alone]
            if row.personal:
                pairs.append(Pair("fallback", row.method, "zero", reference, base.headline))
        if duet is not None and duet is not base and row is not duet and row is not base:
            pairs.append(Pair("methods", row.method, row.headline, DUET, duet.headline))
        if row.personal:
            controls = [name for name in CONTROLS if row.condition(name) is not None]
            pairs += [Pair("controls", row.method, name, row.method, row.headline) for name in controls]
    return pairs


def paired_seeds(one: Sequence[Finished], other: Sequence[Finished]) -> list[tuple[int, Finished, Finished]]:
    """The seeds that both have; a method that no seed changes goes with every seed of the other."""
    mine, theirs = ({cell.record.seed: cell for cell in those} for those in (one, other))
    if not seeded(one):
        return [(seed, one[0], cell) for seed, cell in theirs.items()]
    if not seeded(other):
        return [(seed, cell, other[0]) for seed, cell in mine.items()]
    return [(seed, cell, theirs[seed]) for seed, cell in mine.items() if seed in theirs]


def seeded(cells: Sequence[Finished]) -> bool:
    """Whether a seed changes anything."""
    method = method_of(cells[0].record)
    return method is None or method.seeded


def compare_all(
    protocol: str, metric: str, rows: Sequence[Row], cells: dict[str, list[Finished]], reference: str
) -> list[Comparison]:
    """Every comparison of a table by one metric; those of one question are one family for Holm's correction."""
    pairs, found, differences = [], [], []
    for pair in plan_pairs(rows, reference):
        difference_SU, seeds, level = differ(protocol, metric, pair, cells)
        if len(difference_SU):
            pairs.append((pair, seeds, level, difference_SU.mean(1)))
            differences.append(difference_SU.mean(0))
    # The smallest p-value, corrected, has to stay well below the level, however many comparisons there are.
    rounds = max(significance.ROUNDS, 100 * len(pairs))
    tested: dict[int, significance.Paired] = {}
    for size in {len(difference_U) for difference_U in differences}:
        which = [m for m, difference_U in enumerate(differences) if len(difference_U) == size]
        together = significance.paired(np.stack([differences[m] for m in which], axis=1), rounds=rounds)
        tested.update(zip(which, together))
    p_M, corrected_M = np.array([tested[m].p for m in range(len(pairs))]), np.ones(len(pairs))
    for question in {pair.question for pair, *_ in pairs}:
        family = np.array([m for m, (pair, *_) in enumerate(pairs) if pair.question == question])
        corrected_M[family] = significance.holm(p_M[family])
    for m, (pair, seeds, level, mean_S) in enumerate(pairs):
        one, p_holm = tested[m], corrected_M[m]
        found.append(
            Comparison(
                question=pair.question,
                metric=metric,
                group=pair.group,
                method=pair.method,
                condition=pair.condition,
                reference=pair.reference,
                reference_condition=pair.reference_condition,
                seeds=seeds,
                mean=one.mean,
                low=one.low,
                high=one.high,
                relative=one.mean / level if level else None,
                p=one.p,
                p_holm=float(p_holm),
                effect_size=one.effect_size,
                std=significance.spread(mean_S),
                devices=one.devices,
                outcome=significance.outcome(one.low, one.high, float(p_holm)),
            )
        )
    return found


def differ(
    protocol: str, metric: str, pair: Pair, cells: dict[str, list[Finished]]
) -> tuple[Float64, list[int], float]:
    """Differences of each seed and device [S, U], the seeds, and the reference's mean; S = 0 where there is nothing."""
    differences, seeds, references = [], [], []
    for seed, mine, theirs in paired_seeds(cells[pair.method], cells[pair.reference]):
        one_U = mine.devices.of(protocol, pair.condition, pair.group, metric)
        other_U = theirs.devices.of(protocol, pair.reference_condition, pair.group, metric)
        if one_U is None or other_U is None or not np.array_equal(mine.devices.device_U, theirs.devices.device_U):
            continue
        # Which devices have targets in a group is a matter of the data: the same for every method and seed.
        inside_U = ~np.isnan(one_U)
        if inside_U.any():
            differences.append((one_U - other_U)[inside_U])
            references.append(float(other_U[inside_U].mean()))
            seeds.append(seed)
    if not differences:
        return np.zeros((0, 0)), [], 0.0
    return np.stack(differences), seeds, statistics.fmean(references)
