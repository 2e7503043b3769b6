"""What a device does besides ranking: it asks for theta and looks for new versions, when that is due.

In a thread of its own, or in the caller's. Nothing that goes wrong ends the asking: it is counted, and the next event,
the end of a wait or the next look for a version finds the thread as it was.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from typing import Final

from duetgen.device.cloud import Cloud
from duetgen.device.config import DeviceConfig
from duetgen.device.counts import Counts, survivable
from duetgen.device.errors import NothingToRollBackError
from duetgen.device.log import EventLog
from duetgen.device.refresher import Refresher
from duetgen.device.runtime import Runtimes
from duetgen.device.sample_log import SampleLog
from duetgen.device.state import StateFolder
from duetgen.device.updater import Updater
from duetgen.device.updates import Versions

BREATH: Final = 1.0
"""Seconds of rest for the thread after what nobody foresaw, so that it does not meet that again without a pause."""


class Upkeep:
    """Asks and looks.

    Args:
        cloud: whom to ask, or None.
        device: the device's id.
        config: its options.
        runtimes: the one in use, to be changed with the version.
        log: what it has seen.
        state: its folder, or None.
        versions: on the device, or None where none are kept.
        counts: what it counts.

    Attributes:
        refresher: asks for theta; None offline.
        updater: looks for versions; None offline or without a folder.
        thread: that does so by itself; None where the caller does.
    """

    def __init__(
        self,
        cloud: Cloud | None,
        device: str,
        config: DeviceConfig,
        runtimes: Runtimes,
        log: EventLog | SampleLog,
        state: StateFolder | None,
        versions: Versions | None,
        counts: Counts,
    ) -> None:
        self.runtimes, self.log, self.versions, self.counts = runtimes, log, versions, counts
        self.refresher = self.updater = None
        if cloud is not None:
            self.refresher = Refresher(cloud, device, config, log, state, counts)
            if versions is not None:
                rng = random.Random(config.seed)
                self.updater = Updater(versions, cloud, device, config.update_seconds, config.patience, rng, counts)
        self._wake = threading.Condition()
        self._touched, self._insisted, self._busy, self._closed = True, False, False, False
        self._due = False
        """Whether the policy wanted theta when it was last consulted."""
        self.thread: threading.Thread | None = None
        if config.background and self.refresher is not None:
            self.thread = threading.Thread(target=self._live, name=f"duet-{device}", daemon=True)

    def start(self) -> None:
        """Let the thread begin."""
        if self.thread is not None:
            self.thread.start()

    def touch(self) -> None:
        """Something happened that the policy may want to know of."""
        with self._wake:
            self._touched = True
            self._wake.notify_all()

    def refresh(self, wait: bool) -> bool:
        """See `Device.refresh`."""
        refresher = self.refresher
        if refresher is None or self._closed or not len(self.log):
            return False
        if wait or self.thread is None or not self.thread.is_alive():
            return refresher.wait(insisted=True) == 0 and refresher.ask(self.runtimes.current)
        with self._wake:
            if self._closed:
                return False
            self._insisted = True
            self._wake.notify_all()
        return True

    def keep_up(self) -> bool:
        """See `Device.keep_up`."""
        refresher = self.refresher
        if refresher is None or self._closed:
            return False
        with self._wake:
            insisted, self._insisted = self._insisted, False
            touched, self._touched = self._touched or refresher.failing, False
        asked = False
        try:
            if touched:
                self._due = refresher.due(self.runtimes.current)
            if insisted or (touched and self._due):
                asked = refresher.wait(insisted) == 0
                if asked:
                    refresher.ask(self.runtimes.current)
        finally:
            if insisted and not asked:  # it was promised
                with self._wake:
                    self._insisted = True
        if time.monotonic() >= self._next_update() or refresher.unknown_version:
            refresher.unknown_version = False
            self.update()
        return asked

    def settle(self, seconds: float) -> bool:
        """See `Device.settle`."""
        if self.refresher is None or self.thread is None:
            self.keep_up()
            return True
        end = time.monotonic() + seconds
        with self._wake:
            while self._touched or self._insisted or self._busy:
                left = end - time.monotonic()
                if left <= 0 or not self.thread.is_alive():
                    return False
                self._wake.wait(left)
        return True

    def update(self) -> bool:
        """See `Device.update`."""
        updater, refresher = self.updater, self.refresher
        if updater is None or refresher is None or self._closed:
            return False
        try:
            with updater.lock:
                model = updater.look()
                if model is None:
                    return False
                runtime = self.runtimes.make(model)
                if runtime.store.current is None and refresher.wait() == 0:
                    # A theta for the new version first, if there is one to be had, so that the swap costs no quality.
                    refresher.ask(runtime)
                self.runtimes.use(runtime)
                updater.versions.adopt(model)
        except BaseException as cause:
            if not survivable(cause):
                raise
            self.counts.fail("update-internal", cause)
            return False
        self.touch()
        return True

    def rollback(self) -> str:
        """See `Device.rollback`."""
        if self.versions is None:
            raise NothingToRollBackError("this device keeps no versions", "give it a state folder")
        with self.updater.lock if self.updater is not None else contextlib.nullcontext():
            model = self.versions.before()
            self.runtimes.use(self.runtimes.make(model))
            self.versions.back(model)
        self.touch()
        return model.model_id

    def forget(self) -> None:
        """Insist on nothing that was asked for before."""
        with self._wake:
            self._insisted = False

    def close(self) -> None:
        """Begin nothing more."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def join(self) -> None:
        """Wait for the thread's end, for a while."""
        if self.thread is not None and self.thread.is_alive() and self.thread is not threading.current_thread():
            self.thread.join(timeout=10)

    def _next_update(self) -> float:
        return math.inf if self.updater is None else self.updater.next

    def _live(self) -> None:
        while not self._closed:
            try:
                with self._wake:
                    self._busy = True
                self.keep_up()
                self._rest()
            except BaseException as cause:
                self.counts.fail("internal", cause)
                with self._wake:
                    self._rest_for(BREATH)
                    self._touched = True

    def _rest(self) -> None:
        """Until something is to be done."""
        refresher = self.refresher
        assert refresher is not None
        with self._wake:
            if self._closed or self._touched:
                return
            waiting = self._insisted or (refresher.failing and self._due)
            until_try = refresher.wait(self._insisted) if waiting else math.inf
            self._rest_for(min(self._next_update() - time.monotonic(), until_try))

    def _rest_for(self, seconds: float) -> None:
        self._busy = False
        self._wake.notify_all()
        if not self._closed:
            self._wake.wait(None if math.isinf(seconds) else min(max(0.0, seconds), threading.TIMEOUT_MAX))
