"""A device: keeps what it sees, ranks with its own parameters, and asks for new ones in the background.

Ranking touches no network, no disk and no lock that a request holds. Whatever happens to the cloud, the network, the
disk or a new version, a device ranks with the last good theta, or with theta = 0.

Shapes: C candidates, V item indices, P values in theta.
"""

from __future__ import annotations

import contextlib
import math
import random
import secrets
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from duetgen.device.errors import NothingToRollBackError
from duetgen.device.log import EventLog
from duetgen.device.model import FIRST_ITEM, PADDING, DeviceModel, Float32, Int64, load_model
from duetgen.device.patience import PatienceConfig
from duetgen.device.policy import EveryEvents, Policy
from duetgen.device.profiles import ItemProfiles
from duetgen.device.refresher import Clock, Cloud, Refresher, Runtime
from duetgen.device.state import StateFolder
from duetgen.device.status import Status, describe
from duetgen.device.store import GRACE_SECONDS, ParameterStore
from duetgen.device.updater import Updater
from duetgen.device.updates import Versions
from duetgen.errors import DuetError
from duetgen.wire.authentication import answer_key
from duetgen.wire.messages import Encoding

if TYPE_CHECKING:
    from types import TracebackType

EVERY_TEN: Final = EveryEvents(10)
PATIENCE: Final = PatienceConfig()
UPDATE_SECONDS: Final = 3600.0
"""How often a device looks for a new version, by default."""


class Device:
    """One device. Thread-safe; a context manager.

    Args:
        bundle: folder of the bundle that it starts with, or a loaded model that devices share.
        cloud: address of the cloud, a `Cloud`, or None to stay offline.
        token: the device's access token; empty for the open development mode.
        device_id: the id that the token was made for; without one, a random id, kept in the state folder.
        policy: when to ask for theta.
        state: folder for all that shall outlive the process; None keeps everything in memory.
        trusted: public keys that may sign bundles; None takes the given bundle's own, and updates by the same key.
        encoding: of theta on the wire.
        background: ask in a thread of the device's own; without, `keep_up` and `refresh` ask in the caller's.
        update_seconds: how often to look for new versions; infinite for never. Needs a state folder.
        grace: seconds after its expiry for which a theta is still used.
        patience: waits after failures.
        clock: wall clock in seconds since 1970.
        event_clock: clock that policies count by, where it is not the wall clock: a replay gives that of its log.
        seed: of the waits' jitter.

    Raises:
        InvalidBundleError: the given bundle is damaged, not to be trusted, or does not compute what it should.
        StateInUseError: another process runs a device on this state folder.
        OutputUnwritableError: the state folder cannot be made.
        ValueError: the cloud's address is none.
    """

    def __init__(
        self,
        bundle: Path | str | DeviceModel,
        *,
        cloud: str | Cloud | None = None,
        token: str = "",
        device_id: str | None = None,
        policy: Policy = EVERY_TEN,
        state: Path | str | None = None,
        trusted: Collection[str] | None = None,
        encoding: Encoding = "float16",
        background: bool = True,
        update_seconds: float = UPDATE_SECONDS,
        grace: float = GRACE_SECONDS,
        patience: PatienceConfig = PATIENCE,
        clock: Clock = time.time,
        event_clock: Clock | None = None,
        seed: int | None = None,
    ) -> None:
        shipped = bundle if isinstance(bundle, DeviceModel) else load_model(bundle, trusted)
        if isinstance(cloud, str):
            from duetgen.device.client import HttpCloud

            cloud = HttpCloud(cloud, token)
        self._clock, self._key, self._grace = clock, answer_key(token), grace
        self._cloud = cloud
        self._state = StateFolder(Path(state)) if state is not None else None
        try:
            self.device_id = device_id or (self._state.device_id() if self._state else f"device-{secrets.token_hex(8)}")
            self._versions = None
            model = shipped
            if self._state is not None:
                self._versions = Versions(shipped, self._state.root, trusted, clock)
                model = self._versions.model
            self._log = EventLog(self._path("events.log"), max(model.history, model.window))
            self._runtime = self._make_runtime(model)
            self._refresher = None
            if cloud is not None:
                path = self._path("requests.json")
                self._refresher = Refresher(
                    cloud,
                    self.device_id,
                    policy,
                    encoding,
                    self._log,
                    path,
                    clock,
                    event_clock or clock,
                    patience,
                    seed,
                )
        except BaseException:
            if self._state is not None:
                self._state.release()
            raise
        self._updater = None
        if self._versions is not None and cloud is not None:
            rng = random.Random(seed)
            self._updater = Updater(self._versions, cloud, self.device_id, update_seconds, patience, rng)
        self._non_finite = 0
        self._wake = threading.Condition()
        self._touched, self._insisted, self._closed = True, 0, False
        self._thread: threading.Thread | None = None
        if background and self._refresher is not None:
            self._thread = threading.Thread(target=self._live, name=f"duet-{self.device_id}", daemon=True)
            self._thread.start()

    def _path(self, name: str) -> Path | None:
        return None if self._state is None else self._state.root / name

    def _make_runtime(self, model: DeviceModel) -> Runtime:
        path = self._path(f"theta/{model.model_id}.theta")
        store = ParameterStore(model, path, self._key, self.device_id, int(self._clock() * 1000), self._grace)
        if store.current is not None:
            self._log.at_least(store.current.origin.events)
        return Runtime(model, store, cache(lambda: ItemProfiles(model)))

    # What an application calls

    def observe(self, *items: str) -> None:
        """Note what has just happened on the device, oldest first: original item ids; unknown ones count too."""
        self._log.append([str(item) for item in items])
        self._touch()

    def rank(self, candidates: Iterable[str]) -> list[tuple[str, float]]:
        """Candidates with their scores, best first; equal scores keep their order."""
        ids = list(candidates)
        runtime = self._runtime
        scores_C = self._score(runtime, runtime.model.indices(ids))
        order_C = np.argsort(-scores_C, kind="stable")
        return list(zip(map(ids.__getitem__, order_C.tolist()), scores_C[order_C].tolist()))

    def recommend(self, k: int, exclude_seen: bool = True) -> list[tuple[str, float]]:
        """The k best items of the catalogue with their scores, without those in the device's log."""
        runtime = self._runtime
        model = runtime.model
        scores_V = self._score(runtime, model.catalogue_V)
        scores_V[:FIRST_ITEM] = -np.inf
        if exclude_seen:
            scores_V[model.indices(self._log.last(self._log.capacity))] = -np.inf
        count = min(max(k, 0), int(np.isfinite(scores_V).sum()))
        best = np.argpartition(-scores_V, count - 1)[:count] if count else np.zeros(0, dtype=np.int64)
        best = best[np.argsort(-scores_V[best], kind="stable")]
        return [(model.ids[i], score) for i, score in zip(best.tolist(), scores_V[best].tolist())]

    def score(self, candidates_C: Sequence[int] | Int64 | None = None, *, personal: bool = True) -> Float32:
        """Scores of item indices of the version in use, unsorted: float32 [C]. For measurements; see `rank`.

        Args:
            candidates_C: item indices; None for all, [V], padding scoring -inf.
            personal: False scores with theta = 0.
        """
        runtime = self._runtime
        indices = runtime.model.catalogue_V if candidates_C is None else candidates_C
        scores_C = self._score(runtime, indices, personal)
        if candidates_C is None:
            scores_C[PADDING] = -np.inf
        return scores_C

    @property
    def theta_age(self) -> int | None:
        """Events since the theta in use was made; None without one."""
        theta = self._runtime.store.usable(int(self._clock() * 1000))
        return None if theta is None else self._log.count - theta.origin.events

    @property
    def failing(self) -> bool:
        """Whether the last request failed, so that one is waiting to be sent again."""
        return self._refresher is not None and self._refresher.failing

    def refresh(self, wait: bool = False) -> bool:
        """Ask for theta now, whatever the policy says; only what the cloud itself asked to wait is waited for.

        Args:
            wait: until there is an answer, or a failure.

        Returns:
            Whether a new theta came; without `wait`, whether the question is on its way.
        """
        refresher = self._refresher
        if refresher is None or self._closed:
            return False
        if wait or self._thread is None:
            return refresher.wait(insisted=True) == 0 and refresher.ask(self._runtime)
        with self._wake:
            self._insisted += 1
            self._wake.notify_all()
        return True

    def keep_up(self) -> bool:
        """Do now, in the caller's thread, what is due: ask for theta, look for a new version. Whether it asked."""
        asked = False
        refresher = self._refresher
        if refresher is not None and not self._closed:
            with self._wake:
                insisted, self._insisted = self._insisted, 0
                touched, self._touched = self._touched or refresher.failing, False
            if insisted or (touched and refresher.due(self._runtime)):
                if refresher.wait(insisted > 0) == 0:
                    asked = True
                    refresher.ask(self._runtime)
                else:
                    with self._wake:
                        self._insisted += insisted
            if time.monotonic() >= self._next_update() or refresher.unknown_version:
                refresher.unknown_version = False
                self.update()
        return asked

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is due or under way, or the time is over. Whether nothing is; for terminals and tests."""
        refresher, end = self._refresher, time.monotonic() + seconds
        if refresher is None or self._thread is None:
            self.keep_up()
            return True
        while True:
            with self._wake:
                quiet = not self._touched and not self._insisted
            if quiet and not refresher.asking.locked() and (refresher.failing or not refresher.due(self._runtime)):
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)

    def update(self) -> bool:
        """Look for a new version now, and adopt it if it is good. Whether the version changed."""
        updater, refresher = self._updater, self._refresher
        if updater is None or refresher is None or self._closed:
            return False
        with updater.lock:
            model = updater.look()
            if model is None:
                return False
            runtime = self._make_runtime(model)
            self._log.grow(max(model.history, model.window))
            if runtime.store.current is None and refresher.wait() == 0:
                # A theta for the new version first, if there is one to be had, so that the swap costs no quality.
                refresher.ask(runtime)
            self._runtime = runtime
            updater.adopt(model)
        self._touch()
        return True

    def rollback(self) -> str:
        """Use the version before again, from now on; the one left is not fetched again. Its model_id.

        Raises:
            NothingToRollBackError: there is none.
            InvalidBundleError: it is damaged; the version in use stays.
        """
        if self._versions is None:
            raise NothingToRollBackError("this device keeps no versions", "give it a state folder")
        with self._updater.lock if self._updater is not None else contextlib.nullcontext():
            model = self._versions.before()
            self._runtime = self._make_runtime(model)
            with contextlib.suppress(DuetError, OSError):
                self._versions.back(model)
        self._touch()
        return model.model_id

    def forget(self) -> None:
        """Erase what the device has seen, and theta, in memory and on disk."""
        self._log.clear()
        self._runtime.store.clear()

    def status(self) -> Status:
        """How the device is doing."""
        return describe(self)

    @property
    def model(self) -> DeviceModel:
        """The version in use."""
        return self._runtime.model

    def close(self) -> None:
        """Stop asking; ranking goes on working. A request under way breaks off."""
        with self._wake:
            if self._closed:
                return
            self._closed = True
            self._wake.notify_all()
        if self._cloud is not None:
            self._cloud.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)
        self._log.close()
        if self._state is not None:
            self._state.release()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What goes on inside

    def _score(self, runtime: Runtime, candidates_C: Sequence[int] | Int64, personal: bool = True) -> Float32:
        model = runtime.model
        window = model.indices(self._log.last(model.window))
        theta = runtime.store.usable(int(self._clock() * 1000)) if personal else None
        if theta is not None:
            scores_C = model.score(theta.values_P, window, candidates_C)
            if np.isfinite(scores_C).all():
                return scores_C
            self._non_finite += 1
            runtime.store.drop(theta)
        return model.score(model.zeros_P, window, candidates_C)

    def _touch(self) -> None:
        with self._wake:
            self._touched = True
            self._wake.notify_all()

    def _next_update(self) -> float:
        return math.inf if self._updater is None else self._updater.next

    def _live(self) -> None:
        refresher = self._refresher
        assert refresher is not None
        while not self._closed:
            self.keep_up()
            with self._wake:
                if self._closed or self._touched:
                    continue
                until_update = self._next_update() - time.monotonic()
                waiting = self._insisted or (refresher.failing and refresher.due(self._runtime))
                until_try = refresher.wait(self._insisted > 0) if waiting else math.inf
                timeout = max(0.0, min(until_update, until_try))
                self._wake.wait(None if math.isinf(timeout) else min(timeout, threading.TIMEOUT_MAX))
