"""From targets to devices to one figure: each device counts once, however many targets it has.

Shapes: N targets, U devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from duetgen.data.store import Bool, Int64
from duetgen.evaluation.errors import NotComparableError
from duetgen.evaluation.metrics import Float64

BUCKETS: Final = (1, 5, 10, 20, 50, 100)
"""Least history length of each bucket, in events before the target."""
COLD: Final = 5
"""A device is cold while fewer events than this lie before the target."""
GROUPED: Final = ("ndcg@10", "hr@10", "user_auc")
"""Metrics that are kept for groups of each device's targets."""
GROUPS: Final = ("known", "new", "repeat", "cold", "warm")
"""Kinds of targets, see `DeviceMetrics`."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Targets of one kind, see `DeviceMetrics`; metrics are averaged by device, then over the devices that have any."""

    devices: int
    targets: int
    metrics: dict[str, float]


class HistoryBucket(msgspec.Struct, frozen=True, kw_only=True):
    """Targets with `shortest` to `longest` events before them; the last bucket has no longest.

    Metrics are averaged within a device, over its targets in the bucket, then over devices.
    """

    shortest: int
    longest: int | None
    devices: int
    targets: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class DeviceMetrics:
    """Metrics of each device, for paired comparisons; kept in memory and not in reports.

    Attributes:
        device_U: indices of the devices, increasing.
        values: by condition and metric, float64 [U].
        pooled: by condition, the devices' parts of the pooled AUC, float64 [U, 4]; empty where there is none.
        groups: by kind of target, condition and metric of `GROUPED`, the mean over the device's targets of the kind:
            float64 [U], NaN where it has none. A `known` target is an item that training knows; a `repeat` is one that
            the device had met, any other is `new`; `cold` targets have fewer than `COLD` events before them, `warm`
            ones at least as many. A kind that all targets or none are of is left out.
    """

    device_U: Int64
    values: dict[str, dict[str, Float64]] = field(default_factory=dict)
    pooled: dict[str, Float64] = field(default_factory=dict)
    groups: dict[str, dict[str, dict[str, Float64]]] = field(default_factory=dict)

    def of(self, condition: str, metric: str, group: str = "all") -> Float64:
        """One metric under one condition: float64 [U]; of a kind of targets NaN for a device that has none of it.

        Raises:
            NotComparableError: it was not measured.
        """
        try:
            return self.values[condition][metric] if group == "all" else self.groups[group][condition][metric]
        except KeyError:
            measured = ", ".join(self.values)
            of = "" if group == "all" else f" of {group} targets"
            raise NotComparableError(
                f"{metric}{of} was not measured under the condition {condition!r}", f"measured were: {measured}"
            ) from None


def device_means(value_N: Float64, slot_N: Int64, devices: int) -> Float64:
    """Mean of each device's targets, `slot_N` telling the device of each: float64 [U]."""
    return np.bincount(slot_N, value_N, devices) / np.bincount(slot_N, minlength=devices)


def group_means(value_N: Float64, slot_N: Int64, inside_N: Bool, devices: int) -> Float64:
    """Mean of each device's targets that are inside, NaN for a device that has none there: float64 [U]."""
    count_U = np.bincount(slot_N[inside_N], minlength=devices).astype(np.float64)
    count_U[count_U == 0] = np.nan
    return np.asarray(np.bincount(slot_N[inside_N], value_N[inside_N], devices) / count_U)


def by_history(
    values: dict[str, Float64], slot_N: Int64, length_N: Int64, edges: Sequence[int] = BUCKETS
) -> list[HistoryBucket]:
    """The metrics of each bucket of history length; empty buckets are left out."""
    buckets = []
    for i, shortest in enumerate(edges):
        longest = edges[i + 1] - 1 if i + 1 < len(edges) else None
        inside_N: Bool = (length_N >= shortest) & (length_N <= (longest or np.iinfo(np.int64).max))
        if not inside_N.any():
            continue
        device_U, inner_N = np.unique(slot_N[inside_N], return_inverse=True)
        buckets.append(
            HistoryBucket(
                shortest=shortest,
                longest=longest,
                devices=len(device_U),
                targets=int(inside_N.sum()),
                metrics={
                    name: float(device_means(value_N[inside_N], inner_N, len(device_U)).mean())
                    for name, value_N in values.items()
                },
            )
        )
    return buckets
