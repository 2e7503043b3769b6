"""What lives on a device, whatever its model computes: a version with a theta, a log, and asking in the background."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar

from duetgen.device.checks import refuse
from duetgen.device.config import DeviceConfig, DeviceOptions
from duetgen.device.counts import Counts, survivable
from duetgen.device.errors import NotForgottenError
from duetgen.device.loaded import LoadedModel
from duetgen.device.log import EventLog
from duetgen.device.model import load_model
from duetgen.device.runtime import Runtime, Runtimes
from duetgen.device.sample_log import SampleLog
from duetgen.device.state import StateFolder
from duetgen.device.status import Status, describe
from duetgen.device.updates import Versions
from duetgen.device.upkeep import Upkeep
from duetgen.wire.authentication import answer_key

if TYPE_CHECKING:
    from types import TracebackType

Log = TypeVar("Log", EventLog, SampleLog)


class Resident(ABC, Generic[Log]):
    """Base of what runs on a device. Thread-safe; a context manager.

    Args:
        bundle: folder of the bundle that it starts with, or a loaded model that devices share.
        config: its options.
        options: fields of `DeviceConfig` that take the place of those of `config`.

    Attributes:
        config: the options that hold.
        device_id: its id.
    """

    _kind: ClassVar[type[LoadedModel]]
    _log: Log

    def __init__(
        self,
        bundle: Path | str | LoadedModel,
        config: DeviceConfig | None,
        options: DeviceOptions,
    ) -> None:
        if config is not None and not isinstance(config, DeviceConfig):
            refuse("config", f"is {type(config).__name__}", "give a DeviceConfig, or options by their names")
        self.config = config = (config or DeviceConfig()).changed(**options)
        shipped = self._load(bundle, config.trusted)
        self._counts = counts = Counts(config.token)
        self._closed = False
        self._cloud = config.connect()
        self._state = state = None if config.state is None else StateFolder(Path(config.state))
        try:
            self.device_id = config.device_id or (state.device_id() if state else f"device-{secrets.token_hex(8)}")
            self._versions = Versions(shipped, state, config.trusted, config.clock) if state else None
            model = self._versions.model if self._versions else shipped
            self._log = log = self._make_log(model)
            key = answer_key(config.token)
            self._runtimes = Runtimes(model, state, log, key, self.device_id, config.clock, config.grace)
            self._upkeep = Upkeep(
                self._cloud, self.device_id, config, self._runtimes, log, state, self._versions, counts
            )
            self._thread = self._upkeep.thread
        except BaseException:
            if state is not None:
                state.release()
            raise

    def _load(self, bundle: Path | str | LoadedModel, trusted: Collection[str] | None) -> LoadedModel:
        if isinstance(bundle, self._kind):
            return bundle
        return load_model(bundle, trusted, self._kind)  # type: ignore[arg-type] # what is no path is refused

    @abstractmethod
    def _make_log(self, model: LoadedModel) -> Log:
        """What the device has seen."""

    @abstractmethod
    def _forgotten(self) -> None:
        """Forget what else was made of what the device has seen."""

    def _start(self) -> None:
        """Let the asking begin."""
        try:
            self._upkeep.start()
        except BaseException:
            if self._state is not None:
                self._state.release()
            raise

    @property
    def _runtime(self) -> Runtime:
        return self._runtimes.current

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
        self._forgotten()
        if not log_gone:
            left.append(self._log.file_name)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
