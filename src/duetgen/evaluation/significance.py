"""Whether a difference is more than chance between devices: paired tests, and a correction for how many were made.

Every device is measured under both of two models, so what is tested is its difference. Seeds are averaged within a
device first: devices are the population that a claim is about, seeds are noise of the training.

Shapes: S seeds, U devices, M comparisons, R rounds.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np

from duetgen.evaluation import bootstrap
from duetgen.evaluation.bootstrap import RESAMPLES
from duetgen.evaluation.metrics import Float64

ROUNDS: Final = 9_999
"""Random assignments of signs; the smallest p-value is 1 / (ROUNDS + 1)."""
BLOCK_VALUES: Final = 2**18
"""Signs that are drawn at a time: 2 MB, which stay in the processor's cache for all comparisons."""
ROUNDING: Final = 1e-9
"""Sums that differ by less than this share of the sum of sizes are ties: their terms were added in another order."""
ALPHA: Final = 0.05

Outcome = Literal["ahead", "behind", "not after correction", "not told apart", "no interval"]
"""What a difference comes to; also the words that stand beside its interval."""


def outcome(low: float | None, high: float | None, p_corrected: float | None = None) -> Outcome:
    """The one rule by which a difference is judged, wherever its interval is shown.

    The interval decides: above zero is ahead, below is behind, and one that holds zero is not told apart. Where many
    comparisons were made, the corrected p-value has to agree, else it is not after correction.

    Args:
        low, high: bounds of the 95 % interval; None where there are none.
        p_corrected: by Holm's method; None where nothing is corrected.
    """
    if low is None or high is None:
        return "no interval"
    if low <= 0 <= high:
        return "not told apart"
    if p_corrected is not None and p_corrected >= ALPHA:
        return "not after correction"
    return "ahead" if low > 0 else "behind"


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """A paired difference over devices.

    Attributes:
        mean: of the differences.
        low, high: bounds of the 95 % bootstrap interval over devices; None with one device.
        p: two-sided, by random flips of the differences' signs.
        effect_size: Cohen's d_z, the mean in standard deviations of the differences; None where they do not vary.
        devices: how many.
    """

    mean: float
    low: float | None
    high: float | None
    p: float
    effect_size: float | None
    devices: int


def sign_flip_p(difference_UM: Float64, rounds: int = ROUNDS, seed: int = 0) -> Float64:
    """Two-sided p-values of the paired randomisation test (Fisher, 1935): [M].

    If the two models were alike, each device's difference could as well have the other sign. p = (1 + #)/(1 + R), #
    counting the rounds of random signs in which the sum is at least as far from 0 as the one that was found. All
    comparisons share the same signs.
    """
    devices, comparisons = difference_UM.shape
    difference_MU = np.ascontiguousarray(difference_UM.T)
    total_M = np.array([values_U.sum() for values_U in difference_MU])
    slack_M = ROUNDING * np.array([np.abs(values_U).sum() for values_U in difference_MU])
    random = np.random.default_rng([seed, 4])
    extreme_M = np.zeros(comparisons, dtype=np.int64)
    block = max(1, min(rounds, BLOCK_VALUES // max(1, devices)))
    for first in range(0, rounds, block):
        size = min(block, rounds - first)
        drawn = random.integers(0, 256, size=(size, -(-devices // 8)), dtype=np.uint8)
        kept_RU = np.unpackbits(drawn, axis=1, count=devices).astype(np.float64)
        # With the sign + where kept and - elsewhere, the sum is twice the kept part less the total.
        flipped_RM = 2 * bootstrap.by_column(kept_RU, difference_MU) - total_M
        extreme_M += (np.abs(flipped_RM) >= np.abs(total_M) - slack_M).sum(0)
    return (1 + extreme_M) / (1 + rounds)


def holm(p_M: Float64) -> Float64:
    """P-values corrected for the number of comparisons by Holm's (1979) step-down method, in the order given: [M].

    The k-th smallest of M is multiplied by M - k + 1; none may fall below one before it, or exceed 1.
    """
    order_M = np.argsort(p_M, kind="stable")
    factor_M = np.arange(len(p_M), 0, -1)
    corrected_M = np.empty(len(p_M))
    corrected_M[order_M] = np.minimum(1, np.maximum.accumulate(factor_M * p_M[order_M]))
    return corrected_M


def effect_sizes(difference_UM: Float64) -> list[float | None]:
    """Cohen's d_z of each comparison: the mean of the differences over their standard deviation (n - 1)."""
    if len(difference_UM) < 2:
        return [None] * difference_UM.shape[1]
    moments = [(values_U.mean(), values_U.std(ddof=1)) for values_U in np.ascontiguousarray(difference_UM.T)]
    return [float(mean / deviation) if deviation > 0 else None for mean, deviation in moments]


def paired(difference_UM: Float64, *, resamples: int = RESAMPLES, rounds: int = ROUNDS, seed: int = 0) -> list[Paired]:
    """Mean, interval, p-value and effect size of each column of differences, device by device."""
    intervals = bootstrap.intervals(difference_UM, resamples, seed)
    p_M, effects = sign_flip_p(difference_UM, rounds, seed), effect_sizes(difference_UM)
    return [
        Paired(
            mean=found.mean,
            low=found.low,
            high=found.high,
            p=float(p),
            effect_size=effect,
            devices=len(difference_UM),
        )
        for found, p, effect in zip(intervals, p_M, effects)
    ]


def spread(value_S: Float64) -> float | None:
    """Standard deviation (n - 1) over seeds; None for a single one."""
    return float(np.std(value_S, ddof=1)) if len(value_S) > 1 else None
