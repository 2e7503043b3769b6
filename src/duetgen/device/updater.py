"""Looking for new versions: when, and what became of it."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections import Counter

from duetgen.device.model import DeviceModel
from duetgen.device.patience import Patience, PatienceConfig
from duetgen.device.refresher import Cloud
from duetgen.device.updates import Versions
from duetgen.errors import DuetError
from duetgen.wire.errors import InvalidBundleError


class Updater:
    """Asks the cloud which version a device shall run, and fetches it.

    Args:
        versions: those on the device.
        cloud: whom to ask.
        device: the device's id.
        seconds: how often.
        patience: waits after failures.
        rng: where jitter comes from.

    Attributes:
        lock: held while the version may change.
        next: when to look again, in seconds of the monotonic clock.
        failures: looks that failed, by code.
        disk_errors: downloads that the disk did not take.
    """

    def __init__(
        self,
        versions: Versions,
        cloud: Cloud,
        device: str,
        seconds: float,
        patience: PatienceConfig,
        rng: random.Random,
    ) -> None:
        self.versions, self.cloud, self.device, self.seconds, self.rng = versions, cloud, device, seconds, rng
        self.patience = Patience(patience, rng)
        self.lock = threading.RLock()
        self.failures: Counter[str] = Counter()
        self.disk_errors = 0
        # Devices that were switched on together shall not look for versions together.
        self.next = time.monotonic() + self._spread(min(seconds, 60.0))

    def _spread(self, seconds: float) -> float:
        return seconds * self.rng.uniform(0.5, 1.0) if math.isfinite(seconds) else seconds

    def look(self) -> DeviceModel | None:
        """A version to use from now on, fetched and verified; None if there is none, or it could not be had."""
        now = time.monotonic()
        wait = self.patience.wait(now)
        if wait:
            self.next = now + wait
            return None
        self.next = now + self._spread(self.seconds)
        try:
            latest = self.cloud.models(self.device).latest
            found = self.versions.fetch(self.cloud, latest) if self.versions.wants(latest) else None
        except InvalidBundleError as cause:
            self.failures[f"update-{cause.code}"] += 1
            return None
        except (DuetError, OSError) as cause:
            self.failures[f"update-{getattr(cause, 'code', 'disk')}"] += 1
            self.disk_errors += isinstance(cause, OSError)
            self.patience.failed(time.monotonic(), getattr(cause, "retry_after", None))
            self.next = time.monotonic() + self.patience.wait(time.monotonic())
            return None
        self.patience.succeeded()
        return found

    def adopt(self, model: DeviceModel) -> None:
        """Begin with a version at the next start, too; a disk that does not take that costs only that."""
        with contextlib.suppress(DuetError, OSError):
            self.versions.adopt(model)
