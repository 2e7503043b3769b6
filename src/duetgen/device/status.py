"""What a device tells of itself."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Literal

import msgspec

from duetgen.device.patience import Circuit

if TYPE_CHECKING:
    from duetgen.device.device import Device


class ThetaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The theta in use: times in milliseconds since 1970."""

    sequence: int
    issued: int
    expires: int
    age_seconds: float
    age_events: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A device, at one moment.

    Attributes:
        device: its id.
        model_id: version in use.
        previous: version to roll back to.
        source: `theta` where it ranks with its own parameters, `global` where with theta = 0.
        theta: the theta in use.
        events: events ever observed.
        requests: sent since the device was opened, retries included.
        requests_today: sent since midnight, UTC.
        answered: thetas accepted since the device was opened.
        refused: thetas refused, by reason.
        failures: requests that failed, by code.
        last_error: of the last request that failed, in one line; empty after one that went well.
        circuit: whether requests flow.
        next_try_seconds: wait until the next request may be sent.
        refused_versions: versions that are not used, and why.
        disk_errors: writes that the disk did not take.
        bytes_sent: over the network.
        bytes_received: over the network.
    """

    device: str
    model_id: str
    previous: str | None
    source: Literal["theta", "global"]
    theta: ThetaStatus | None
    events: int
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


def describe(device: Device) -> Status:
    """How a device is doing."""
    runtime, refresher, updater, versions = device._runtime, device._refresher, device._updater, device._versions
    now = device._clock()
    theta = runtime.store.usable(int(now * 1000))
    traffic = getattr(device._cloud, "traffic", None)
    refused, failures = Counter[str](), Counter[str]()
    disk_errors = device._log.disk_errors + runtime.store.disk_errors
    if refresher is not None:
        refused.update(refresher.refused)
        failures.update(refresher.failures)
        disk_errors += refresher.disk_errors
    if updater is not None:
        failures.update(updater.failures)
        disk_errors += updater.disk_errors
    if device._non_finite:
        refused["non-finite-scores"] = device._non_finite
    found = None
    if theta is not None:
        found = ThetaStatus(
            sequence=theta.answer.sequence,
            issued=theta.answer.issued,
            expires=theta.answer.expires,
            age_seconds=max(0.0, now - theta.answer.issued / 1000),
            age_events=device._log.count - theta.origin.events,
        )
    return Status(
        device=device.device_id,
        model_id=runtime.model.model_id,
        previous=versions.state.previous if versions else None,
        source="global" if found is None else "theta",
        theta=found,
        events=device._log.count,
        requests=refresher.requests if refresher else 0,
        requests_today=refresher.requests_today() if refresher else 0,
        answered=refresher.answered if refresher else 0,
        refused=dict(refused),
        failures=dict(failures),
        last_error=refresher.last_error if refresher else "",
        circuit=refresher.patience.circuit(time.monotonic()) if refresher else "closed",
        next_try_seconds=refresher.wait() if refresher else 0.0,
        refused_versions={name: refusal.reason for name, refusal in versions.state.refused.items()} if versions else {},
        disk_errors=disk_errors,
        bytes_sent=traffic.sent if traffic else 0,
        bytes_received=traffic.received if traffic else 0,
    )
