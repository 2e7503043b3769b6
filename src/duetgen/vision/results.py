"""What a vision experiment found, as typed records: every method on the devices of every setting, all seeds together.

Shapes: S seeds, U devices.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from duetgen.comparison.report.results import Comparison, Estimate
from duetgen.documents import encode_json
from duetgen.evaluation import bootstrap, significance
from duetgen.evaluation.metrics import Float64
from duetgen.vision.experiment import MEASURED, Cell, Cost, Found

Measure = Callable[[Float64, Float64], Float64]
RESULTS_VERSION: Final = 1
BASE: Final = "base"
DUET: Final = "duet"
ACCURACY: Final = "accuracy"
WORST: Final = "worst tenth"
TENTH: Final = 0.1
COSTS_MUCH: Final = 0.02
"""A shift that costs base as much is one that counts."""
DESCRIPTIONS: Final = {
    BASE: "one model for every device",
    "base-wide": "the same, with more parameters than base and its theta",
    "finetune": "base, trained on labelled images of the device, which no other method has: meant as an upper line",
    "batch-norm": "base with the statistics of the device's images, mixed with those of training as validation has it",
    "tent": "that, and scales and shifts of the norms by the entropy of the predictions (TENT, ICLR 2021)",
    "arm": "base trained on with the pooled images appended to its input, in the manner of ARM (NeurIPS 2021)",
    DUET: "base, which is kept, with parameters that are generated from the device's images",
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A method with so many images of a device; 0 where it reads none."""

    method: str
    images: int
    accuracy: Estimate
    worst: Estimate
    another: float | None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, on test devices with shifts of the kinds that train (`seen`) or of other kinds (`unseen`).

    Attributes:
        shift_cost: accuracy of a model like base where there is no shift, less base's on these devices.
    """

    setting: str
    part: str
    devices: int
    seeds: list[int]
    shift_cost: float
    rows: list[Row]
    comparisons: list[Comparison]

    def row(self, method: str, images: int) -> Row | None:
        """A row by its name."""
        return next((row for row in self.rows if (row.method, row.images) == (method, images)), None)

    def against(self, method: str, reference: str, images: int, metric: str = ACCURACY) -> Comparison | None:
        """DUET against another with as many images, or against base."""
        wanted = (method, reference, str(images), metric)
        found = (one for one in self.comparisons if wanted == (one.method, one.reference, one.group, one.metric))
        return next(found, None)


class VisionResults(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the report shows.

    Attributes:
        costs: by method, medians over settings and seeds.
        seconds: of one core, all cells.
    """

    format_version: int
    verdict: list[str]
    tables: list[Table]
    costs: dict[str, Cost]
    seconds: float

    def to_json(self) -> bytes:
        """As `results.json` holds it."""
        return encode_json(self)


def assemble(cells: Sequence[Cell]) -> VisionResults:
    """All cells together."""
    tables = []
    for name in dict.fromkeys(cell.setting.name for cell in cells):
        those = [cell for cell in cells if cell.setting.name == name]
        tables += [make_table(those, part) for part in MEASURED]
    costs = {method: middle([cell.costs[method] for cell in cells]) for method in cells[0].costs}
    return VisionResults(
        format_version=RESULTS_VERSION,
        verdict=verdict(tables, costs),
        tables=tables,
        costs=costs,
        seconds=sum(cell.seconds for cell in cells),
    )


def middle(those: Sequence[Cost]) -> Cost:
    """The median of each cost."""

    def delay(field: str) -> float | None:
        found = [value for cost in those if (value := getattr(cost, field)) is not None]
        return statistics.median(found) if found else None

    return Cost(
        device_values=round(statistics.median(cost.device_values for cost in those)),
        theta_bytes=round(statistics.median(cost.theta_bytes for cost in those)),
        delay_ms=delay("delay_ms"),
        strange_ms=delay("strange_ms"),
        fit_seconds=statistics.median(cost.fit_seconds for cost in those),
    )


def make_table(cells: Sequence[Cell], part: str) -> Table:
    """A setting's devices of one part."""
    first = [one for one in cells[0].found if one.part == part and one.method in DESCRIPTIONS]
    order = list(DESCRIPTIONS)
    first.sort(key=lambda one: (order.index(one.method), one.images))
    accuracy_of = {(one.method, one.images): stacked(cells, one, "accuracy") for one in first}
    another_of = {(one.method, one.images): stacked(cells, one, "another") for one in first if one.another is not None}
    base_SU = accuracy_of[BASE, 0]
    rows = [
        Row(
            method=method,
            images=images,
            accuracy=estimate(accuracy_SU, mean_over_devices),
            worst=estimate(accuracy_SU, worst_tenth),
            another=float(another_of[method, images].mean()) if (method, images) in another_of else None,
        )
        for (method, images), accuracy_SU in accuracy_of.items()
    ]
    return Table(
        setting=cells[0].setting.name,
        part=part,
        devices=base_SU.shape[1],
        seeds=[cell.seed for cell in cells],
        shift_cost=statistics.fmean(cell.plain for cell in cells) - float(base_SU.mean()),
        rows=rows,
        comparisons=compare_all(accuracy_of, another_of),
    )


def stacked(cells: Sequence[Cell], wanted: Found, field: str) -> Float64:
    """A method's accuracy of each seed on each device: [S, U]."""
    key = (wanted.method, wanted.part, wanted.images)
    found = [next(one for one in cell.found if (one.method, one.part, one.images) == key) for cell in cells]
    return np.array([getattr(one, field) for one in found], dtype=np.float64)


def mean_over_devices(value_U: Float64, count_RU: Float64) -> Float64:
    """Of each resample, whose counts say how often a device is in it: [R]."""
    mean_R: Float64 = (count_RU @ value_U) / count_RU.sum(1)
    return mean_R


def worst_tenth(value_U: Float64, count_RU: Float64) -> Float64:
    """Mean over the tenth of the devices with the lowest values, in each resample: [R]."""
    order_U = np.argsort(value_U, kind="stable")
    size = count_RU[0].sum() * TENTH
    before_RU = np.cumsum(count_RU[:, order_U], axis=1) - count_RU[:, order_U]
    taken_RU = np.clip(size - before_RU, 0, count_RU[:, order_U])
    mean_R: Float64 = (taken_RU @ value_U[order_U]) / size
    return mean_R


def resamples(devices: int) -> Float64:
    """How often each device is drawn, the same for everything that is measured on these devices: [R, U]."""
    return np.concatenate(list(bootstrap.resampled_counts(devices, bootstrap.RESAMPLES, 0)))


def estimate(value_SU: Float64, measure: Measure) -> Estimate:
    """A measure over devices, with its interval; seeds are averaged first."""
    once = np.ones((1, value_SU.shape[1]))
    by_seed = [float(measure(value_U, once)[0]) for value_U in value_SU]
    mean_U = value_SU.mean(0)
    found = bootstrap.interval(float(measure(mean_U, once)[0]), measure(mean_U, resamples(len(mean_U))), len(mean_U))
    return Estimate(
        mean=found.mean,
        low=found.low,
        high=found.high,
        std=significance.spread(np.array(by_seed)),
        by_seed=by_seed,
    )


def compare_all(
    accuracy_of: dict[tuple[str, int], Float64], another_of: dict[tuple[str, int], Float64]
) -> list[Comparison]:
    """Every method against base, and DUET against those that read as many images and against another's theta.

    Differences of means are tested by signs, those of the worst tenths by resamples; Holm's method corrects for all
    comparisons of one question and measure.
    """
    pairs: list[tuple[str, str, int, str, Float64, Float64]] = []
    for (method, images), mine_SU in accuracy_of.items():
        if method != BASE:
            pairs.append((method, BASE, images, "base", mine_SU, accuracy_of[BASE, 0]))
        if method == DUET:
            pairs += [
                (DUET, other, images, "rivals", mine_SU, theirs_SU)
                for (other, count), theirs_SU in accuracy_of.items()
                if other not in (DUET, BASE) and count in (0, images)
            ]
            pairs.append((DUET, DUET, images, "another", mine_SU, another_of[DUET, images]))
    found = []
    for metric, measure in ((ACCURACY, mean_over_devices), (WORST, worst_tenth)):
        made = [(pair, *differ(pair[4].mean(0), pair[5].mean(0), measure)) for pair in pairs]
        p_M, corrected_M = np.array([p for _, _, p in made]), np.ones(len(made))
        for question in {pair[3] for pair in pairs}:
            family = np.array([m for m, pair in enumerate(pairs) if pair[3] == question])
            corrected_M[family] = significance.holm(p_M[family])
        for (pair, interval, p), p_holm in zip(made, corrected_M):
            method, reference, images, question, mine_SU, theirs_SU = pair
            found.append(
                Comparison(
                    question=question,
                    metric=metric,
                    group=str(images),
                    method=method,
                    condition="own",
                    reference=reference,
                    reference_condition="another" if question == "another" else "own",
                    seeds=list(range(len(mine_SU))),
                    mean=interval.mean,
                    low=interval.low,
                    high=interval.high,
                    relative=None,
                    p=p,
                    p_holm=float(p_holm),
                    effect_size=None,
                    std=significance.spread((mine_SU - theirs_SU).mean(1)),
                    devices=mine_SU.shape[1],
                    outcome=significance.outcome(interval.low, interval.high, float(p_holm)),
                )
            )
    return found


def differ(one_U: Float64, other_U: Float64, measure: Measure) -> tuple[bootstrap.Interval, float]:
    """The difference of a measure with its interval, paired over devices, and its p-value."""
    once, drawn_RU = np.ones((1, len(one_U))), resamples(len(one_U))
    samples_R = measure(one_U, drawn_RU) - measure(other_U, drawn_RU)
    mean = float((measure(one_U, once) - measure(other_U, once))[0])
    interval = bootstrap.interval(mean, samples_R, len(one_U))
    if measure is mean_over_devices:
        return interval, float(significance.sign_flip_p((one_U - other_U)[:, None])[0])
    sides = (int((samples_R <= 0).sum()), int((samples_R >= 0).sum()))
    return interval, min(1.0, float(2 * (1 + min(sides)) / (1 + len(samples_R))))


def verdict(tables: Sequence[Table], costs: dict[str, Cost], images: int = 16) -> list[str]:
    """What came of it, wins and losses alike."""
    costly = [table for table in tables if table.shift_cost >= COSTS_MUCH]
    lines = []
    for reference in (BASE, "base-wide", "batch-norm", "tent", "arm", DUET):
        for metric in (ACCURACY, WORST):
            counted: dict[str, list[str]] = {}
            for table in costly:
                one = table.against(DUET, reference, images, metric)
                if one is not None:
                    counted.setdefault(one.outcome, []).append(f"{table.setting} ({table.part})")
            if counted:
                won = len(counted.pop("ahead", []))
                rest = "; ".join(f"{outcome}: {', '.join(names)}" for outcome, names in counted.items())
                whom = "another device's theta" if reference == DUET else reference
                lines.append(
                    f"Against {whom} in {metric}, DUET with {images} images is ahead in {won} of {len(costly)} places "
                    f"where the shift costs base two points or more{f'; {rest}' if rest else ''}."
                )
    tuned, own = costs.get("finetune"), costs.get(DUET)
    if tuned is not None and own is not None and tuned.delay_ms and own.delay_ms:
        lines.append(
            f"To a device's own model DUET takes {own.delay_ms:.2g} ms, {own.strange_ms or own.delay_ms:.2g} ms where "
            f"it is of an unseen kind, and fine-tuning {tuned.delay_ms:.3g} ms, {tuned.delay_ms / own.delay_ms:.0f} "
            f"and {tuned.delay_ms / (own.strange_ms or own.delay_ms):.0f} times as long."
        )
    return lines
