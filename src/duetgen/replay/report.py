"""What came of a replay."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from duetgen.wire.messages import MetPolicy


class Percentiles(msgspec.Struct, frozen=True):
    """Times, in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles | None:
        """Of times in seconds; None of none."""
        if not len(seconds):
            return None
        p50, p95, p99 = (1000 * float(value) for value in np.percentile(seconds, [50, 95, 99]))
        return cls(len(seconds), p50, p95, p99, 1000 * max(seconds))


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """A replay in figures.

    Attributes:
        dataset: its name.
        model_id: version that the devices ran.
        protocol: what targets were ranked among.
        policy: when devices asked.
        encoding: of the weights on the wire.
        devices: how many.
        targets: rankings that were measured.
        quality: metrics as the devices ranked, averaged by device and then over devices.
        quality_global: the same rankings with theta = 0.
        met: whether items that a device had met were hidden from its rankings or shown.
        repeat_targets: targets of such an item; where they are hidden, nobody can hit them.
        quality_new: as `quality`, of the targets that are new to their device; None where nothing repeats or
            repeats are hidden.
        quality_global_new: the same with theta = 0.
        with_theta: share of the rankings that were made with a theta.
        mean_age_events: mean age of theta in these, in events.
        requests: sent.
        answered: thetas accepted.
        requests_per_device: mean.
        failures: requests that failed, by code.
        refused: thetas refused, by reason.
        bytes_sent: over the network, headers included.
        bytes_received: over the network, headers included.
        bytes_weights: of weights and their scales alone, a theta: the mean of the devices' last ones.
        bytes_bias: of the item bias, likewise.
        request: time from asking to answer.
        ranking: time to score everything a target is ranked among, on the device.
        late: how far behind the schedule rankings were, in a paced replay.
        seconds: that the replay took.
        speed_up: of the log's time; None for as fast as it goes.
    """

    dataset: str
    model_id: str
    protocol: str
    policy: str
    encoding: str
    devices: int
    targets: int
    quality: dict[str, float]
    quality_global: dict[str, float]
    met: MetPolicy
    repeat_targets: int
    quality_new: dict[str, float] | None
    quality_global_new: dict[str, float] | None
    with_theta: float
    mean_age_events: float | None
    requests: int
    answered: int
    requests_per_device: float
    failures: dict[str, int]
    refused: dict[str, int]
    bytes_sent: int
    bytes_received: int
    bytes_weights: float
    bytes_bias: float
    request: Percentiles | None
    ranking: Percentiles | None
    late: Percentiles | None
    seconds: float
    speed_up: float | None

    @property
    def bytes_told(self) -> str:
        """What of an answer is theta, for people."""
        return f"{self.bytes_weights:,.0f} of them weights, {self.bytes_bias:,.0f} item bias"
