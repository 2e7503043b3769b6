"""`results.json`: what a comparison found, as typed records. `docs/results-format.md` explains every field."""

from __future__ import annotations

from typing import Final

import msgspec

from duetgen.comparison.cells.costs import Cost
from duetgen.comparison.cells.oscillation import Oscillation
from duetgen.comparison.cells.policies import PolicyRecord
from duetgen.comparison.cells.records import CellRecord, Failure, Job
from duetgen.comparison.methods.runs import FinishedRun
from duetgen.comparison.methods.table import Family
from duetgen.documents import decode_json, encode_json, format_version
from duetgen.errors import DuetError
from duetgen.evaluation.averages import Group, HistoryBucket
from duetgen.evaluation.provenance import Machine
from duetgen.evaluation.significance import Outcome
from duetgen.wire.messages import MetPolicy

RESULTS_VERSION: Final = 5
HEADLINE: Final = "ndcg@10"
METRICS: Final = ("ndcg@10", "user_auc")
"""Metrics that are compared and tested; the more, the better."""
BASE: Final = "base"
DUET: Final = "duet"
JOINTLY: Final = "duet-joint"
ENSEMBLE: Final = "base-ensemble"
CLOUD: Final = "cloud"
CLOUD_LIST: Final = "cloud-list"
PARTS: Final = {"own-weights": "weights alone", "own-bias": "opinions alone"}
"""Conditions in which one part of theta counts alone, and how people call them."""


class ResultsFormatError(DuetError):
    """A file that is no `results.json` of this version."""

    code = "results-format"


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of one method under one condition.

    Attributes:
        mean: over seeds, of the means over devices.
        low, high: 95 % bootstrap interval over devices, seeds averaged first; None but for the metrics of `METRICS`.
        std: standard deviation over seeds; None for one seed.
        by_seed: the mean of each seed, in the order of the row's seeds.
    """

    mean: float
    low: float | None
    high: float | None
    std: float | None
    by_seed: list[float]


class RowCondition(msgspec.Struct, frozen=True, kw_only=True):
    """A method under one condition, averaged over seeds."""

    name: str
    metrics: dict[str, Estimate]
    by_history: list[HistoryBucket]
    groups: dict[str, Group]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A method in one table, all its finished seeds together.

    Attributes:
        headline: the condition that the method is judged by: `own`, or `zero` where it makes no theta.
        cost: medians over seeds.
        oscillation: means over seeds.
        fit_seconds: mean over seeds.
        validation: mean over seeds of what their cells have; None where one has none.
        run: the finished run that stands in this row, where it is one.
        policies: means over seeds of what came of each policy of requests, by the first protocol.
    """

    method: str
    description: str
    family: Family
    personal: bool
    seeds: list[int]
    headline: str
    conditions: list[RowCondition]
    cost: Cost
    oscillation: Oscillation | None
    fit_seconds: float
    validation: float | None = None
    run: FinishedRun | None = None
    policies: list[PolicyRecord] = []

    def condition(self, name: str | None = None) -> RowCondition | None:
        """A condition by its name, the headline by default; None where it was not measured."""
        wanted = name or self.headline
        return next((one for one in self.conditions if one.name == wanted), None)

    def value(self, metric: str = HEADLINE, condition: str | None = None) -> Estimate | None:
        """A metric under a condition; None where it was not measured."""
        found = self.condition(condition)
        return None if found is None else found.metrics.get(metric)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One method under one condition against another: `method - reference`, paired over devices and seeds.

    Attributes:
        question: what it is asked for: `methods` (fresh theta against base and against DUET, as in the main table),
            `groups` (against base, on cold and on warm targets), `repeats` (against base, on repeats and on new items),
            `vocabulary` (against base, on targets that training knows), `age` (old theta against base), `parts` (each
            part of theta alone against base, at each age), `fallback` (theta = 0 against base), `controls` (theta of
            none, of another device or of random items against one's own). What stands for base is told by
            `Table.reference`.
        group: `all` targets, or only those of a group, see `evaluation.averages.DeviceMetrics`.
        seeds: those that both have; they are averaged within a device first.
        relative: the mean over the reference's mean; None where that is 0.
        p: of the paired randomisation test.
        p_holm: corrected for all comparisons of the same question and metric in the table.
        effect_size: Cohen's d_z.
        std: of the difference over seeds; None for one seed.
        outcome: by the interval and p_holm, see `evaluation.significance.outcome`.
    """

    question: str
    metric: str
    group: str
    method: str
    condition: str
    reference: str
    reference_condition: str
    seeds: list[int]
    mean: float
    low: float | None
    high: float | None
    relative: float | None
    p: float
    p_holm: float
    effect_size: float | None
    std: float | None
    devices: int
    outcome: Outcome


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All methods with one backbone, by one protocol. Methods without a backbone stand in every table.

    Attributes:
        met: whether items that a device had met were hidden or shown.
        unknown_targets: targets of an item that training does not know.
        repeat_targets: targets of an item that the device had met.
        candidates: mean number of entries that a target was ranked among, itself included.
        reference: what the others are compared with: base; where only finished runs could be it, the first of them.
    """

    protocol: str
    met: MetPolicy
    backbone: str | None
    devices: int
    targets: int
    unknown_targets: int
    repeat_targets: int
    candidates: float
    rows: list[Row]
    comparisons: list[Comparison]
    reference: str = BASE

    def row(self, method: str) -> Row | None:
        """The row of a method."""
        return next((row for row in self.rows if row.method == method), None)

    def shown_age(self) -> int:
        """The age of theta in the tables: 20 events, or else the highest that was measured; 0 where there is none."""
        ages = [int(one.name[4:]) for row in self.rows for one in row.conditions if one.name.startswith("own+")]
        return 20 if 20 in ages else max(ages, default=0)

    def preferred(self) -> Row | None:
        """The way of training DUET, for the finished base model or jointly, that is ahead on the validation part; None
        where one of them was not measured there.
        """
        on_base, jointly = self.row(DUET), self.row(JOINTLY)
        if on_base is None or jointly is None or on_base.validation is None or jointly.validation is None:
            return None
        return jointly if jointly.validation > on_base.validation else on_base

    def against(self, method: str, reference: str, metric: str = HEADLINE, *, group: str = "all") -> Comparison | None:
        """The comparison of two methods under their headline conditions, whichever of them is the reference in it."""
        mine, theirs = self.row(method), self.row(reference)
        if mine is None or theirs is None:
            return None
        return self.find(method, mine.headline, reference, theirs.headline, metric, group)

    def find(
        self, method: str, condition: str, reference: str, reference_condition: str, metric: str, group: str = "all"
    ) -> Comparison | None:
        """One comparison."""
        wanted = (method, condition, reference, reference_condition, metric, group)
        for one in self.comparisons:
            if wanted == (one.method, one.condition, one.reference, one.reference_condition, one.metric, one.group):
                return one
        return None


class DatasetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared on."""

    name: str
    sha256: str
    devices: int
    items: int
    events: int
    split: str
    has_time: bool
    note: str | None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the cells come from, which need not all be of one day or one commit."""

    commits: list[str]
    versions: list[dict[str, str]]
    machines: list[Machine]
    first: str
    last: str


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `report.html` shows.

    Attributes:
        verdict: what came of it, in one sentence.
        complete: whether every cell that was asked for is there.
        missing: names of cells that were not run.
        failed: cells that were tried and failed.
    """

    format_version: int
    verdict: str
    complete: bool
    dataset: DatasetFacts
    backbones: list[str]
    methods: list[str]
    seeds: list[int]
    job: Job
    tables: list[Table]
    cells: list[CellRecord]
    missing: list[str]
    failed: list[Failure]
    origin: Origin | None

    def to_json(self) -> bytes:
        """As `results.json` holds it."""
        return encode_json(self)

    @classmethod
    def from_json(cls, content: bytes) -> Results:
        """What `to_json` wrote.

        Raises:
            ResultsFormatError: it is none, or of another version.
        """
        hint = "run the same `duet compare` again: finished cells are read, not trained"

        def refuse(cause: str) -> ResultsFormatError:
            return ResultsFormatError(f"these are no results of a comparison: {cause}", hint)

        if (version := format_version(content, refuse)) != RESULTS_VERSION:
            raise ResultsFormatError(f"results have format {version}; this version reads {RESULTS_VERSION}", hint)
        return decode_json(content, cls, refuse)
