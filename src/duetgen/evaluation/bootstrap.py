"""Intervals over devices by the percentile bootstrap (Efron, 1979): draw with replacement, average, repeat.

Devices are drawn, not targets: the targets of one device resemble each other. A resample is a row of counts, the same
for all metrics of all conditions, so that they stay paired. Each column is averaged and resampled on its own: a product
of whole matrices rounds differently with their width, and a figure must not depend on what else was asked for.

Shapes: U devices, M columns of values, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from duetgen.evaluation.metrics import Float64

RESAMPLES: Final = 1_000
LEVEL: Final = 0.95
BLOCK_VALUES: Final = 2**18
"""Counts that are drawn at a time: 2 MB, which stay in the processor's cache for all columns."""


class Interval(msgspec.Struct, frozen=True):
    """A mean and its 95 % interval; the bounds are None where devices were not, or could not be, resampled."""

    mean: float
    low: float | None = None
    high: float | None = None


def resampled_counts(devices: int, rounds: int, seed: int) -> Iterator[Float64]:
    """How often each device is drawn, in blocks of resamples: float64 [r, U]."""
    random = np.random.default_rng([seed, 3])
    block = max(1, min(rounds, BLOCK_VALUES // max(1, devices)))
    for first in range(0, rounds, block):
        size = min(block, rounds - first)
        drawn = random.integers(devices, size=(size, devices)) + np.arange(size)[:, None] * devices
        yield np.bincount(drawn.ravel(), minlength=size * devices).reshape(size, devices).astype(np.float64)


def resampled_sums(values_UM: Float64, rounds: int, seed: int) -> Float64:
    """Sums of each column over the devices of each resample: [R, M]. The same seed draws the same devices."""
    values_MU = np.ascontiguousarray(values_UM.T)
    blocks = [by_column(counts, values_MU) for counts in resampled_counts(len(values_UM), rounds, seed)]
    return np.concatenate(blocks) if blocks else np.zeros((0, len(values_MU)))


def by_column(weights_RU: Float64, values_MU: Float64) -> Float64:
    """Weighted sums over devices, [R, M]: a product of matrix and vector for each column, however many."""
    return np.stack([weights_RU @ values_U for values_U in values_MU], axis=1)


def column_means(values_UM: Float64) -> Float64:
    """The mean of each column over devices, summed on its own: [M]."""
    return np.array([values_U.mean() for values_U in np.ascontiguousarray(values_UM.T)])


def resampled_means(values_UM: Float64, rounds: int, seed: int) -> Float64:
    """Means of each column over the devices of each resample: [R, M]."""
    return resampled_sums(values_UM, rounds, seed) / len(values_UM)


def pooled_auc_of(parts_4: Float64) -> float:
    """The pooled AUC from the sums over devices of `metrics.pooled_auc_by_device`."""
    return float(parts_4[0] / parts_4[1])


def resampled_pooled_auc(parts_U4: Float64, rounds: int, seed: int) -> Float64:
    """Pooled AUC of each resample, to first order: [R].

    The pooled AUC compares every positive row with every negative one. Its leading (Hoeffding) terms are the mean
    share of negatives below a positive and the mean share of positives above a negative; what is left out is of
    order 1/U. Exact resampling would sort all rows again for every resample.
    """
    sums_R4 = resampled_sums(parts_U4, rounds, seed)
    below_R = sums_R4[:, 0] / np.maximum(sums_R4[:, 1], 1)
    above_R = sums_R4[:, 2] / np.maximum(sums_R4[:, 3], 1)
    return np.asarray(below_R + above_R - pooled_auc_of(parts_U4.sum(0)))


def interval(mean: float, samples_R: Float64, devices: int) -> Interval:
    """The percentile interval; without bounds where there are no samples, or one device and so nothing to draw."""
    if len(samples_R) == 0 or devices < 2:
        return Interval(mean)
    low, high = np.quantile(samples_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high))


def intervals(values_UM: Float64, rounds: int = RESAMPLES, seed: int = 0) -> list[Interval]:
    """The mean of each column over devices, with its interval."""
    samples_RM = resampled_means(values_UM, rounds, seed)
    means_M = column_means(values_UM)
    return [interval(float(means_M[m]), samples_RM[:, m], len(values_UM)) for m in range(values_UM.shape[1])]
