"""What an evaluation says, as typed records that go to JSON and back, and the difference of two of them.

Shapes: U devices.
"""

from __future__ import annotations

import msgspec
import numpy as np

from duetgen.data.store import Part
from duetgen.evaluation import bootstrap
from duetgen.evaluation.averages import DeviceMetrics, Group, HistoryBucket
from duetgen.evaluation.bootstrap import RESAMPLES, Interval
from duetgen.evaluation.calibration import Calibration
from duetgen.evaluation.conditions import OWN, Condition
from duetgen.evaluation.errors import NotComparableError
from duetgen.evaluation.protocols import ProtocolName
from duetgen.evaluation.provenance import Provenance
from duetgen.wire.messages import MetPolicy

POOLED = "auc"
"""Name of the pooled AUC, the one metric that is not a mean over devices."""


class ConditionResult(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics under one condition.

    Attributes:
        condition: where theta came from.
        name: the condition's name, as it is looked up.
        metrics: `ndcg@k`, `hr@k`, `mrr`, `user_auc`, `log_loss` averaged by device and then over devices; `auc` pooled
            over all rows of all devices, where there are drawn or given candidates.
        by_history: the same, but for `auc`, by the number of events before the target.
        groups: some of them by kind of target, see `averages.DeviceMetrics`.
    """

    condition: Condition
    name: str
    metrics: dict[str, Interval]
    by_history: list[HistoryBucket]
    groups: dict[str, Group]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One protocol on one part of one dataset, under several conditions.

    Attributes:
        protocol: `full`, `candidates` or `given`.
        part: `test` or `valid`.
        split: how the dataset was divided: `temporal`, `leave-one-out` or `given`.
        note: what a reader must know, such as that file order stood for time; None if nothing.
        devices: how many devices were measured.
        devices_in_part: how many could have been.
        targets: how many events were predicted.
        unknown_targets: of these, how many are of an item that training does not know.
        met: whether items that a device had met before the target were hidden or shown.
        repeat_targets: how many targets are of such an item; where these are hidden, nobody can hit them.
        candidates: mean number of entries that a target was ranked among, itself included.
        personal: whether the model has a generator.
        calibration: what makes scores probabilities for `log_loss`; None where it needs none or has no validation rows.
        bootstrap: resamples behind each interval.
        seed: of the bootstrap, the choice of devices and the control conditions.
    """

    protocol: ProtocolName
    part: Part
    split: str
    has_time: bool
    note: str | None
    devices: int
    devices_in_part: int
    targets: int
    unknown_targets: int
    met: MetPolicy
    repeat_targets: int
    candidates: float
    personal: bool
    calibration: Calibration | None
    bootstrap: int
    seed: int
    conditions: list[ConditionResult]
    provenance: Provenance

    def __getitem__(self, condition: str | Condition) -> ConditionResult:
        """The result under a condition, by its name.

        Raises:
            KeyError: it was not measured.
        """
        name = condition if isinstance(condition, str) else condition.name
        for result in self.conditions:
            if result.name == name:
                return result
        raise KeyError(name)

    @property
    def by_device(self) -> DeviceMetrics:
        """Metrics of each device.

        Raises:
            NotComparableError: this evaluation was read from JSON, which does not keep them.
        """
        kept = self.__dict__.get("by_device_metrics")
        if not isinstance(kept, DeviceMetrics):
            raise NotComparableError(
                "an evaluation read from JSON has no metrics of single devices", "evaluate both models in one process"
            )
        return kept

    def keep(self, by_device: DeviceMetrics) -> Evaluation:
        """Attach the metrics of each device; they stay out of JSON."""
        self.__dict__["by_device_metrics"] = by_device
        return self

    def to_json(self) -> bytes:
        """The evaluation as JSON, one line."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, content: bytes | str) -> Evaluation:
        """An evaluation that `to_json` wrote.

        Raises:
            msgspec.DecodeError: it is not one.
        """
        return msgspec.json.decode(content, type=cls)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How much better the first is than the second, device by device, with the 95 % interval of the mean."""

    metric: str
    mean: float
    low: float | None
    high: float | None
    devices: int


def compare(
    one: Evaluation,
    other: Evaluation,
    metric: str = "ndcg@10",
    *,
    condition_one: str | Condition = OWN,
    condition_other: str | Condition | None = None,
    group: str = "all",
    rounds: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The paired difference `one - other` of a metric over the same devices.

    Args:
        one: an evaluation made in this process.
        other: another of the same protocol, part and data; may be the same object, to compare two conditions.
        metric: a metric of both.
        condition_one: the condition of `one`.
        condition_other: the condition of `other`; by default the same, or `zero` where `other` has no generator.
        group: kind of targets, see `averages.DeviceMetrics`; devices that have none of it do not count.
        rounds: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        NotComparableError: they differ in protocol, part, data or devices, or lack the metric.
    """
    named_one = condition_one if isinstance(condition_one, str) else condition_one.name
    if condition_other is None:
        condition_other = condition_one if other.personal else "zero"
    named_other = condition_other if isinstance(condition_other, str) else condition_other.name
    mine, theirs = one.by_device, other.by_device
    for what, a, b in (
        ("protocol", one.protocol, other.protocol),
        ("part", one.part, other.part),
        ("policy of met items", one.met, other.met),
        ("data", one.provenance.dataset_sha256, other.provenance.dataset_sha256),
    ):
        if a != b:
            raise NotComparableError(f"the two evaluations differ in their {what}: {a} and {b}", "evaluate both alike")
    if not np.array_equal(mine.device_U, theirs.device_U):
        raise NotComparableError("the two evaluations are of different devices", "evaluate both with the same seed")
    devices = one.devices
    if metric == POOLED and group == "all" and named_one in mine.pooled and named_other in theirs.pooled:
        parts, others = mine.pooled[named_one], theirs.pooled[named_other]
        mean = bootstrap.pooled_auc_of(parts.sum(0)) - bootstrap.pooled_auc_of(others.sum(0))
        samples = bootstrap.resampled_pooled_auc(parts, rounds, seed)
        samples = samples - bootstrap.resampled_pooled_auc(others, rounds, seed)
        found = bootstrap.interval(mean, samples, one.devices)
    else:
        difference_U = mine.of(named_one, metric, group) - theirs.of(named_other, metric, group)
        difference_U = difference_U[~np.isnan(difference_U)]
        devices = len(difference_U)
        found = bootstrap.intervals(difference_U[:, None], rounds, seed)[0]
    return Difference(metric=metric, mean=found.mean, low=found.low, high=found.high, devices=devices)
