"""Looking for new versions: when, and what became of it."""

from __future__ import annotations

import math
import random
import threading
import time

from duetgen.device.cloud import Cloud
from duetgen.device.counts import Counts, survivable
from duetgen.device.loaded import LoadedModel
from duetgen.device.patience import Patience, PatienceConfig
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
        counts: what the device counts: a look that failed by `update-` and its code.

    Attributes:
        lock: held while the version may change.
        next: when to look again, in seconds of the monotonic clock.
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
        counts: Counts,
    ) -> None:
        self.versions, self.cloud, self.device, self.seconds, self.rng = versions, cloud, device, seconds, rng
        self.counts = counts
        self.patience = Patience(patience, rng)
        self.lock = threading.RLock()
        self.disk_errors = 0
        # Devices that were switched on together shall not look for versions together.
        self.next = time.monotonic() + self._spread(min(seconds, 60.0) if math.isfinite(seconds) else seconds)

    def _spread(self, seconds: float) -> float:
        return seconds * self.rng.uniform(0.5, 1.0) if math.isfinite(seconds) else seconds

    def look(self) -> LoadedModel | None:
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
            self.counts.fail(f"update-{cause.code}", cause)
            return None
        except BaseException as cause:  # whatever goes wrong must not end the thread that looks
            if not survivable(cause):
                raise
            disk = isinstance(cause, OSError)
            self.disk_errors += disk
            code = cause.code if isinstance(cause, DuetError) else "disk" if disk else "internal"
            self.counts.fail(f"update-{code}", cause)
            self.patience.failed(time.monotonic(), getattr(cause, "retry_after", None))
            self.next = time.monotonic() + self.patience.wait(time.monotonic())
            return None
        self.patience.succeeded()
        return found
