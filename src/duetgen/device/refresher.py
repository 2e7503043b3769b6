"""Asking for theta: whether to, how, and what became of it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from duetgen.device.errors import CloudRefusedError, RefusedParametersError
from duetgen.device.log import EventLog
from duetgen.device.model import DeviceModel
from duetgen.device.patience import Patience, PatienceConfig
from duetgen.device.policy import Policy, Situation
from duetgen.device.profiles import ItemProfiles
from duetgen.device.store import Origin, ParameterStore
from duetgen.errors import DuetError, OutputUnwritableError
from duetgen.files import write_bytes
from duetgen.wire.messages import Encoding, ModelsAnswer, ParametersAnswer, ParametersRequest

DAY: Final = 86400.0
ANSWER_SLACK: Final = 2**14
"""Bytes of an answer beyond theta at its largest."""

Clock = Callable[[], float]


class Cloud(Protocol):
    """What a device asks: `client.HttpCloud`, or anything in its place."""

    def parameters(self, request: ParametersRequest, limit: int) -> ParametersAnswer:
        """Theta, in an answer of at most `limit` bytes."""

    def models(self, device: str) -> ModelsAnswer:
        """What is in service, and what a device shall run."""

    def file(self, model_id: str, name: str, limit: int, into: BinaryIO) -> None:
        """Write a file of a version, at most `limit` bytes of it."""

    def close(self) -> None:
        """No more will be asked."""


@dataclass(frozen=True)
class Runtime:
    """A version in use and the theta for it: what ranking takes in one read, so that the two always fit."""

    model: DeviceModel
    store: ParameterStore
    profiles: Callable[[], ItemProfiles]


class Day(msgspec.Struct):
    """`requests.json`: requests sent on one day, so that a budget outlives a restart."""

    day: int = 0
    requests: int = 0


class Refresher:
    """Asks the cloud for theta, one request at a time.

    Args:
        cloud: whom to ask.
        device: the device's id.
        policy: when to.
        encoding: of theta on the wire.
        log: what the device has seen.
        path: of `requests.json`, or None.
        clock: wall clock in seconds, which validity is measured by.
        event_clock: clock that policies count by.
        patience: waits after failures.
        seed: of their jitter.
    """

    def __init__(
        self,
        cloud: Cloud,
        device: str,
        policy: Policy,
        encoding: Encoding,
        log: EventLog,
        path: Path | None,
        clock: Clock,
        event_clock: Clock,
        patience: PatienceConfig,
        seed: int | None,
    ) -> None:
        self.cloud, self.device, self.policy, self.encoding, self.log = cloud, device, policy, encoding, log
        self.path, self.clock, self.event_clock = path, clock, event_clock
        self.patience = Patience(patience, random.Random(seed))
        self.asking = threading.Lock()
        self.requests = self.answered = self.disk_errors = 0
        self.refused: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.last_error = ""
        self.unknown_version = False
        """Whether the cloud does not serve this device's version: a reason to look for another at once."""
        self._day = Day()
        if path is not None:
            try:
                self._day = msgspec.json.decode(path.read_bytes(), type=Day)
            except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                self._day = Day()

    def requests_today(self) -> int:
        """Requests sent since midnight, UTC."""
        return self._day.requests if self._day.day == int(self.event_clock() // DAY) else 0

    def due(self, runtime: Runtime) -> bool:
        """Whether the policy wants theta now; never before the first event."""
        names, count = self.log.snapshot(runtime.model.history)
        if not names:
            return False
        theta = runtime.store.current
        history = runtime.model.indices(names)
        seconds = self.event_clock() - theta.origin.asked if theta is not None else -1.0
        situation = Situation(
            has_theta=runtime.store.fresh(self.clock()),
            events=count - theta.origin.events if theta is not None else count,
            seconds=seconds if seconds >= 0 else float("inf"),
            requests_today=self.requests_today(),
            history=history,
            made_from=theta.origin.history if theta is not None else [],
            profiles=lambda items: runtime.profiles()(items),
        )
        return self.policy.due(situation)

    @property
    def failing(self) -> bool:
        """Whether the last request failed, so that it is to be sent again without a new event."""
        return self.patience.failures > 0

    def wait(self, insisted: bool = False) -> float:
        """Seconds until the next request may be sent."""
        return self.patience.wait(time.monotonic(), insisted)

    def ask(self, runtime: Runtime) -> bool:
        """Send one request; whether it gave a theta to use. Failures are counted, never raised."""
        with self.asking:
            names, count = self.log.snapshot(runtime.model.history)
            if not names:
                return False
            history = runtime.model.indices(names)
            theta = runtime.store.current
            age = None if theta is None else max(0, int(self.clock() * 1000) - theta.answer.issued)
            request = ParametersRequest(runtime.model.model_id, self.device, history, self.encoding, age)
            self._count_request()
            try:
                answer = self.cloud.parameters(request, 4 * runtime.model.size + ANSWER_SLACK)
                if answer.dtype != self.encoding:
                    raise RefusedParametersError("malformed", f"theta is {answer.dtype}, unasked", "see the cloud")
                origin = Origin(count, self.event_clock(), self.clock(), history)
                runtime.store.accept(answer, origin, int(self.clock() * 1000))
            except RefusedParametersError as cause:
                self.refused[cause.reason] += 1
                self._failed(cause, None)
                return False
            except DuetError as cause:
                self.failures[cause.code] += 1
                self._failed(cause, cause.retry_after if isinstance(cause, CloudRefusedError) else None)
                self.unknown_version = isinstance(cause, CloudRefusedError) and cause.status in (404, 410)
                return False
            except Exception as cause:  # whatever else goes wrong must not end the thread that asks
                self.failures["internal"] += 1
                self._failed(cause, None)
                return False
            self.answered += 1
            self.last_error = ""
            self.patience.succeeded()
            return True

    def _failed(self, cause: Exception, retry_after: float | None) -> None:
        self.last_error = f"{cause} [{cause.code}]" if isinstance(cause, DuetError) else repr(cause)
        self.patience.failed(time.monotonic(), retry_after)

    def _count_request(self) -> None:
        self.requests += 1
        today = int(self.event_clock() // DAY)
        self._day = Day(today, self._day.requests + 1 if self._day.day == today else 1)
        if self.path is not None:
            try:
                write_bytes(self.path, msgspec.json.encode(self._day))
            except OutputUnwritableError:
                self.disk_errors += 1
