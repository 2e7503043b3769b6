"""A device: keeps what it sees, ranks with its own parameters, and asks for new ones in the background.

Ranking touches no network, no disk and no lock that a request holds. Whatever happens to the cloud, the network, the
disk or a new version, a device ranks with the last good theta, or with theta = 0.

Shapes: C candidates, V item indices.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from duetgen.device.checks import check_met, check_path, refuse
from duetgen.device.config import DeviceConfig, DeviceOptions
from duetgen.device.counts import Counts, survivable
from duetgen.device.errors import NotForgottenError
from duetgen.device.items import UNKNOWN, item_id
from duetgen.device.log import EventLog
from duetgen.device.met import Bool
from duetgen.device.model import DeviceModel, Float32, Int64, load_model
from duetgen.device.ranker import Ranker
from duetgen.device.ranking import Ranking
from duetgen.device.runtime import Runtime, Runtimes
from duetgen.device.state import StateFolder
from duetgen.device.status import Status, describe
from duetgen.device.updates import Versions
from duetgen.device.upkeep import Upkeep
from duetgen.wire.authentication import answer_key
from duetgen.wire.messages import MetPolicy

if TYPE_CHECKING:
    from types import TracebackType


class Device:
    """One device. Thread-safe; a context manager.

    Args:
        bundle: folder of the bundle that it starts with, or a loaded model that devices share.
        config: its options.
        options: fields of `DeviceConfig` that take the place of those of `config`.

    Attributes:
        config: the options that hold.
        device_id: its id.

    Raises:
        InvalidDeviceConfigError: an option cannot work.
        InvalidBundleError: the given bundle is damaged, not to be trusted, or does not compute what it should.
        StateInUseError: another process runs a device on this state folder.
        OutputUnwritableError: the state folder cannot be made.
    """

    def __init__(
        self,
        bundle: Path | str | DeviceModel,
        config: DeviceConfig | None = None,
        **options: Unpack[DeviceOptions],
    ) -> None:
        if config is not None and not isinstance(config, DeviceConfig):
            refuse("config", f"is {type(config).__name__}", "give a DeviceConfig, or options by their names")
        self.config = config = (config or DeviceConfig()).changed(**options)
        if not isinstance(bundle, DeviceModel):
            check_path("bundle", bundle)
            bundle = load_model(bundle, config.trusted)
        self._counts = counts = Counts(config.token)
        self._closed = False
        self._cloud = config.connect()
        self._state = state = None if config.state is None else StateFolder(Path(config.state).expanduser())
        try:
            self.device_id = config.device_id or (state.device_id() if state else f"device-{secrets.token_hex(8)}")
            self._versions = Versions(bundle, state, config.trusted, config.clock) if state else None
            model = self._versions.model if self._versions else bundle
            self._log = log = EventLog(state)
            key = answer_key(config.token)
            self._runtimes = Runtimes(model, state, log, key, self.device_id, config.clock, config.grace)
            self._ranker = Ranker(log, counts, config.clock)
            self._upkeep = Upkeep(
                self._cloud, self.device_id, config, self._runtimes, log, state, self._versions, counts
            )
            self._thread = self._upkeep.thread
            self._upkeep.start()
        except BaseException:
            if state is not None:
                state.release()
            raise

    @property
    def _runtime(self) -> Runtime:
        return self._runtimes.current

    @property
    def model(self) -> DeviceModel:
        """The version in use."""
        return self._runtime.model

    def observe(self, *items: str | int) -> None:
        """Note what has just happened on the device, oldest first: original item ids; unknown ones count too.

        Raises:
            InvalidItemsError: one of them is no id; then none is noted.
        """
        ids = [item_id(item) for item in items]
        index_N = self.model.indices(ids)
        self._counts.unknown(events=int(np.count_nonzero(index_N == UNKNOWN)))
        self._log.append(ids)
        self._upkeep.touch()

    def rank(self, candidates: Iterable[str | int], *, met: MetPolicy | None = None) -> Ranking:
        """Candidates with their scores, best first; equal scores keep their order.

        Those that the version does not know come last, as evaluation ranks them, with the lowest number of float32.

        Args:
            candidates: original item ids.
            met: `hide` leaves out those that the device has met, `show` does not; None: as `DeviceConfig.met` has it.

        Returns:
            A sequence of (id, score); `list(…)` makes a list of it.

        Raises:
            InvalidItemsError: they are no list, or one of them is no id.
            InvalidDeviceConfigError: `met` is neither.
        """
        runtime = self._runtime
        return self._ranker.rank(runtime, candidates, self._hides(runtime, met))

    def recommend(self, k: int, *, met: MetPolicy | None = None) -> Ranking:
        """The k best items of the catalogue with their scores; of equal scores the lowest item index comes first.

        Args:
            k: how many, at most.
            met: `hide` leaves out those that the device has met, `show` does not; None: as `DeviceConfig.met` has it.

        Raises:
            InvalidItemsError: `k` is no whole number.
            InvalidDeviceConfigError: `met` is neither.
        """
        runtime = self._runtime
        return self._ranker.recommend(runtime, k, self._hides(runtime, met))

    def met(self) -> Bool:
        """Which items of the version in use the device has met, as far as its log remembers: bool [V]."""
        return self._ranker.met.of(self._runtime.model)

    @property
    def met_policy(self) -> MetPolicy:
        """Whether rankings hide or show items that the device has met, where a call does not say."""
        return self.config.met or self.model.manifest.met

    def _hides(self, runtime: Runtime, met: MetPolicy | None) -> bool:
        if met is not None:
            check_met(met)
        return (met or self.config.met or runtime.model.manifest.met) == "hide"

    def score(self, candidates_C: Sequence[int] | Int64 | None = None, *, personal: bool = True) -> Float32:
        """Scores of item indices of the version in use, unsorted: float32 [C]. For measurements; see `rank`.

        Args:
            candidates_C: item indices, 0 to V - 1; None for all, [V]. Padding, index 0, scores -inf.
            personal: False scores with theta = 0.

        Raises:
            InvalidItemsError: an index is out of range, or they are no whole numbers.
        """
        return self._ranker.score(self._runtime, candidates_C, personal)

    @property
    def theta_age(self) -> int | None:
        """Events since the theta in use was made; None without one."""
        theta = self._runtime.store.usable(int(self.config.clock() * 1000))
        return None if theta is None else theta.age(self._log.count)

    @property
    def failing(self) -> bool:
        """Whether the last request failed, so that one is waiting to be sent again."""
        refresher = self._upkeep.refresher
        return refresher is not None and refresher.failing

    def refresh(self, wait: bool = False) -> bool:
        """Ask for theta now, whatever the policy says; only what the cloud itself asked to wait is waited for.

        Args:
            wait: until there is an answer, or a failure.

        Returns:
            Whether a new theta came; without `wait`, whether the question is on its way. A device that has seen
            nothing, is offline or closed, asks nothing.
        """
        return self._upkeep.refresh(wait)

    def keep_up(self) -> bool:
        """Do now, in the caller's thread, what is due: ask for theta, look for a new version. Whether it asked."""
        return self._upkeep.keep_up()

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is due or under way, or the time is over. Whether nothing is; for terminals and tests."""
        return self._upkeep.settle(seconds)

    def update(self) -> bool:
        """Look for a new version now, and adopt it if it is good. Whether the version changed."""
        return self._upkeep.update()

    def rollback(self) -> str:
        """Use the version before again, from now on; the one left is not fetched again. Its model_id.

        Raises:
            NothingToRollBackError: there is none.
            InvalidBundleError: it is damaged; the version in use stays.
        """
        return self._upkeep.rollback()

    def forget(self) -> None:
        """Erase what the device has seen and theta of every version, in memory and on disk. An answer that is on its
        way is not taken.

        Raises:
            NotForgottenError: the disk did not let go of a file; everything else is erased.
        """
        self._upkeep.forget()
        log_gone = self._log.clear()
        left = [path.name for path in self._runtimes.forget()]
        self._ranker.forget()
        if not log_gone:
            left.append("events.log")
        if left:
            raise NotForgottenError(
                f"all is forgotten but what is in files that cannot be removed: {', '.join(left)}",
                "forget again, on the device that has the state folder now; or remove them by hand",
            )

    def status(self) -> Status:
        """How the device is doing."""
        return describe(self)

    def close(self) -> None:
        """Stop asking and writing; ranking goes on working. A request under way breaks off."""
        if self._closed:
            return
        self._closed = True
        self._upkeep.close()
        try:
            if self._cloud is not None:
                self._cloud.close()
        except BaseException as cause:  # a cloud of the application's own
            if not survivable(cause):
                raise
            self._counts.fail("internal", cause)
        finally:
            self._upkeep.join()
            if self._state is not None:
                self._state.release()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
