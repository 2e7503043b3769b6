"""Asking for theta: whether to, how, and what became of it. Whatever goes wrong is counted, never raised."""

from __future__ import annotations

import math
import random
import threading
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from duetgen.device.cloud import Cloud
from duetgen.device.config import DeviceConfig
from duetgen.device.counts import Counts, survivable
from duetgen.device.errors import CloudRefusedError, RefusedParametersError
from duetgen.device.log import EventLog
from duetgen.device.patience import Patience
from duetgen.device.policy import Situation
from duetgen.device.runtime import Runtime
from duetgen.device.sample_log import SampleLog
from duetgen.device.state import StateFolder
from duetgen.device.theta import Origin
from duetgen.errors import DuetError
from duetgen.wire.bias import PAIR_BYTES
from duetgen.wire.messages import ParametersRequest

DAY: Final = 86400.0
ANSWER_SLACK: Final = 2**14
"""Bytes of an answer beyond theta at its largest."""


class Day(msgspec.Struct):
    """`requests.json`: requests sent on one day, so that a budget outlives a restart."""

    day: int = 0
    requests: Annotated[int, Meta(ge=0)] = 0


class Refresher:
    """Asks the cloud for theta, one request at a time.

    Args:
        cloud: whom to ask.
        device: the device's id.
        config: the device's options.
        log: what the device has seen.
        state: folder that keeps `requests.json`, or None.
        counts: what the device counts.

    Attributes:
        asking: held while a request is under way.
        requests: sent, retries included.
        answered: thetas accepted.
        unknown_version: whether the cloud does not serve this device's version: a reason to look for another at once.
    """

    def __init__(
        self,
        cloud: Cloud,
        device: str,
        config: DeviceConfig,
        log: EventLog | SampleLog,
        state: StateFolder | None,
        counts: Counts,
    ) -> None:
        self.cloud, self.device, self.log, self.counts = cloud, device, log, counts
        self.policy, self.clock = config.policy, config.clock
        self.encoding, self.parts = config.encoding, config.parts
        self.event_clock = config.event_clock or config.clock
        self.patience = Patience(config.patience, random.Random(config.seed))
        self.asking = threading.Lock()
        self.requests = self.answered = 0
        self.unknown_version = False
        self._file = None if state is None else state.file("requests.json", lambda: msgspec.json.encode(self._day))
        self._day = (self._file.load(Day) if self._file is not None else None) or Day()

    def requests_today(self) -> int:
        """Requests sent since midnight, UTC."""
        return self._day.requests if self._day.day == int(self.event_clock() // DAY) else 0

    def due(self, runtime: Runtime) -> bool:
        """Whether the policy wants theta now; never before the first event, nor where the policy fails."""
        try:
            situation = self._situation(runtime)
            return situation is not None and bool(self.policy.due(situation))
        except BaseException as cause:
            if not survivable(cause):
                raise
            self.counts.fail("policy", cause)
            return False

    def _situation(self, runtime: Runtime) -> Situation | None:
        kept, count = self.log.snapshot(runtime.model.history)
        asked = runtime.model.asked(kept)
        if not asked:
            return None
        theta = runtime.store.current
        seconds = self.event_clock() - theta.origin.asked if theta is not None else -1.0
        return Situation(
            has_theta=runtime.store.fresh(self.clock()),
            events=count - theta.origin.events if theta is not None else count,
            seconds=seconds if seconds >= 0 else math.inf,
            requests_today=self.requests_today(),
            history=asked if isinstance(asked, list) else [],
            made_from=list(theta.origin.history) if theta is not None else [],
            profiles=lambda items: runtime.profiles()(items),
        )

    @property
    def failing(self) -> bool:
        """Whether the last request failed, so that it is to be sent again without a new event."""
        return self.patience.failures > 0

    def wait(self, insisted: bool = False) -> float:
        """Seconds until the next request may be sent."""
        return self.patience.wait(time.monotonic(), insisted)

    def ask(self, runtime: Runtime) -> bool:
        """Send one request; whether it gave a theta to use."""
        with self.asking:
            try:
                return self._ask(runtime)
            except RefusedParametersError as cause:
                self.counts.refuse(cause.reason, cause)
                if cause.reason != "forgotten":
                    self.patience.failed(time.monotonic())
            except CloudRefusedError as cause:
                self.unknown_version = cause.status in (404, 410)
                self._failed(cause.code, cause, cause.retry_after)
            except DuetError as cause:
                self._failed(cause.code, cause)
            except BaseException as cause:  # whatever else goes wrong must not end the thread that asks
                if not survivable(cause):
                    raise
                self._failed("internal", cause)
            return False

    def _ask(self, runtime: Runtime) -> bool:
        store = runtime.store
        # Before the log is read: what is forgotten after this is in no theta that is taken.
        cleared = store.cleared
        kept, count = self.log.snapshot(runtime.model.history)
        history = runtime.model.asked(kept)
        if not history:
            return False
        theta = store.current
        age = None if theta is None else max(0, int(self.clock() * 1000) - theta.answer.issued)
        model = runtime.model
        request = ParametersRequest(model.model_id, self.device, history, self.encoding, age, self.parts)
        self._count_request()
        limit = 4 * model.size + PAIR_BYTES * sum(model.bias_codec.most) + ANSWER_SLACK
        answer = self.cloud.parameters(request, limit)
        if answer.dtype != self.encoding:
            raise RefusedParametersError("malformed", f"theta is {answer.dtype}, unasked", "see the cloud")
        if (answer.bias and self.parts == "weights") or (answer.theta and self.parts == "bias"):
            raise RefusedParametersError("malformed", f"theta holds more than {self.parts}, unasked", "see the cloud")
        # Samples are not kept a second time: no policy looks at them.
        origin = Origin(count, self.event_clock(), self.clock(), history if isinstance(history, list) else [])
        store.accept(answer, origin, int(self.clock() * 1000), cleared)
        self.answered += 1
        self.counts.well()
        self.patience.succeeded()
        return True

    def _failed(self, code: str, cause: BaseException, retry_after: float | None = None) -> None:
        self.counts.fail(code, cause)
        self.patience.failed(time.monotonic(), retry_after)

    def _count_request(self) -> None:
        self.requests += 1
        today = int(self.event_clock() // DAY)
        self._day = Day(today, self._day.requests + 1 if self._day.day == today else 1)
        if self._file is not None:
            self._file.save()
