"""What a device tells of itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from duetgen.device.patience import Circuit


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
