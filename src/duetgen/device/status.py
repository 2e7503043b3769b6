"""What a device tells of itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from duetgen.device.patience import Circuit

if TYPE_CHECKING:
    from duetgen.device.resident import Resident


class ThetaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The theta in use: times in milliseconds since 1970.

    Attributes:
        sequence: of the answer.
        issued: when it was made.
        expires: when the device shall have asked again.
        age_seconds: since it was made.
        age_events: observed since it was asked for.
        weights_bytes: of its weights, as they came; 0 without any.
        weights_trust: how much they count at its age.
        bias_bytes: of its item bias, as it came; 0 without one.
        opinions_trust: how much each opinion of the version counts at its age.
    """

    sequence: int
    issued: int
    expires: int
    age_seconds: float
    age_events: int
    weights_bytes: int
    weights_trust: float
    bias_bytes: int
    opinions_trust: list[float]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A device, at one moment.

    Attributes:
        device: its id.
        model_id: version in use.
        previous: version to roll back to.
        source: `theta` where it ranks with its own parameters, `global` where with theta = 0.
        theta: the theta in use.
        events: events ever observed.
        unknown_events: of those since the device was opened, how many were of ids that the version did not know.
        unknown_candidates: ids given to `rank` since then that the version did not know.
        requests: sent since the device was opened, retries included.
        requests_today: sent since midnight, UTC.
        answered: thetas accepted since the device was opened.
        refused: thetas refused, by reason.
        failures: what failed, by code: requests, looks for versions (`update-…`), the policy (`policy`), what nobody
            foresaw (`internal`).
        last_error: of the last failure, in one line; empty after a request that went well.
        circuit: whether requests flow.
        next_try_seconds: wait until the next request may be sent.
        refused_versions: versions that are not used, and why.
        disk_errors: writes and removals that the disk did not take.
        bytes_sent: over the network.
        bytes_received: over the network.
    """

    device: str
    model_id: str
    previous: str | None
    source: Literal["theta", "global"]
    theta: ThetaStatus | None
    events: int
    unknown_events: int
    unknown_candidates: int
    requests: int
    requests_today: int
    answered: int
    refused: dict[str, int]
    failures: dict[str, int]
    last_error: str
    circuit: Circuit
    next_try_seconds: float
    refused_versions: dict[str, str]
    disk_errors: int
    bytes_sent: int
    bytes_received: int


def describe(device: Resident[Any]) -> Status:
    """How a device is doing."""
    upkeep, counts, log, versions = device._upkeep, device._counts, device._log, device._versions
    runtime, refresher, updater = device._runtime, upkeep.refresher, upkeep.updater
    now = device.config.clock()
    theta = runtime.store.usable(int(now * 1000))
    traffic = getattr(device._cloud, "traffic", None)
    found = None
    if theta is not None:
        answer, aged = theta.answer, theta.at(runtime.model, log.count)
        found = ThetaStatus(
            sequence=answer.sequence,
            issued=answer.issued,
            expires=answer.expires,
            age_seconds=max(0.0, now - answer.issued / 1000),
            age_events=aged.age,
            weights_bytes=len(answer.theta) + len(answer.scale),
            weights_trust=aged.weights_trust,
            bias_bytes=len(answer.bias),
            opinions_trust=aged.opinions_trust,
        )
    refusals = versions.state.refused if versions else {}
    return Status(
        device=device.device_id,
        model_id=runtime.model.model_id,
        previous=versions.state.previous if versions else None,
        source="global" if found is None else "theta",
        theta=found,
        events=log.count,
        unknown_events=counts.unknown_events,
        unknown_candidates=counts.unknown_candidates,
        requests=refresher.requests if refresher else 0,
        requests_today=refresher.requests_today() if refresher else 0,
        answered=refresher.answered if refresher else 0,
        refused=dict(counts.refused),
        failures=dict(counts.failures),
        last_error=counts.last_error,
        circuit=refresher.patience.circuit(time.monotonic()) if refresher else "closed",
        next_try_seconds=refresher.wait() if refresher else 0.0,
        refused_versions={name: counts.show(refusal.reason) for name, refusal in list(refusals.items())},
        disk_errors=(device._state.errors if device._state else 0) + (updater.disk_errors if updater else 0),
        bytes_sent=traffic.sent if traffic else 0,
        bytes_received=traffic.received if traffic else 0,
    )
