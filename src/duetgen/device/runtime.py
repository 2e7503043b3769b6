"""What ranking runs: a version and the theta for it, changed together."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from duetgen.device.config import Clock
from duetgen.device.loaded import LoadedModel
from duetgen.device.log import EventLog
from duetgen.device.model import DeviceModel
from duetgen.device.profiles import ItemProfiles
from duetgen.device.sample_log import SampleLog
from duetgen.device.state import StateFolder
from duetgen.device.store import ParameterStore


@dataclass(frozen=True)
class Runtime:
    """A version in use and the theta for it: what ranking takes in one read, so that the two always fit."""

    model: LoadedModel
    store: ParameterStore
    profiles: Callable[[], ItemProfiles]

    @property
    def ranking(self) -> DeviceModel:
        """The version of a device that ranks."""
        assert isinstance(self.model, DeviceModel)
        return self.model


def profiles_of(model: LoadedModel) -> ItemProfiles:
    """What a version thinks of its items; nothing asks that of one that has none."""
    assert isinstance(model, DeviceModel)
    return ItemProfiles(model)


class Runtimes:
    """The runtime in use, and whatever else was made for versions that came or went.

    Args:
        model: the version to begin with.
        state: folder that keeps theta, or None.
        log: what the device has seen.
        key: key of the answers' codes.
        device: the device's id.
        clock: wall clock in seconds.
        grace: seconds after its expiry for which a theta is still used.

    Attributes:
        current: the one in use; one atomic read.
    """

    def __init__(
        self,
        model: LoadedModel,
        state: StateFolder | None,
        log: EventLog | SampleLog,
        key: bytes,
        device: str,
        clock: Clock,
        grace: float,
    ) -> None:
        self.state, self.log, self.key, self.device, self.clock, self.grace = state, log, key, device, clock, grace
        self._lock = threading.Lock()
        self._stores: weakref.WeakSet[ParameterStore] = weakref.WeakSet()
        self._models: weakref.WeakSet[LoadedModel] = weakref.WeakSet()
        self.current = self.make(model)

    def make(self, model: LoadedModel) -> Runtime:
        """A runtime of a version, with the theta that was kept for it."""
        with self._lock:
            now_ms = int(self.clock() * 1000)
            store = ParameterStore(model, self.state, self.key, self.device, now_ms, self.grace)
            self._stores.add(store)
            self._models.add(model)
            if store.current is not None:
                self.log.at_least(store.current.origin.events)
            return Runtime(model, store, cache(lambda: profiles_of(model)))

    def use(self, runtime: Runtime) -> None:
        """Rank with another from now on."""
        if isinstance(self.log, SampleLog):
            self.log.hold(runtime.model.history)
        with self._lock:
            self.current = runtime

    def forget(self) -> list[Path]:
        """Forget theta of every version and all that was made of it; what is on its way is not taken. What the disk did
        not let go of."""
        with self._lock:
            for store in self._stores:
                store.clear()
            for model in self._models:
                model.forget()
            model, store = self.current.model, self.current.store
            # Profiles are kept of the items that were seen, and so tell which.
            self.current = Runtime(model, store, cache(lambda: profiles_of(model)))
            if self.state is None:
                return []
            return [path for path in (*self.state.thetas(), *self.state.asides()) if not self.state.erase(path)]
