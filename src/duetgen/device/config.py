"""How a device is set up: one struct, checked when it is made, read by `Device` and by the command `duet device`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack, get_args

import msgspec

from duetgen.device.address import parse_address, parse_proxy
from duetgen.device.checks import (
    check_device_id,
    check_keys,
    check_met,
    check_path,
    check_seconds,
    check_token,
    need_methods,
    refuse,
)
from duetgen.device.cloud import Cloud
from duetgen.device.counts import HIDDEN
from duetgen.device.patience import PatienceConfig
from duetgen.device.policy import EveryEvents, Policy
from duetgen.device.store import GRACE_SECONDS
from duetgen.wire.messages import Encoding, MetPolicy, Parts

Clock = Callable[[], float]

UPDATE_SECONDS: Final = 3600.0
"""How often a device looks for a new version, by default."""


class DeviceOptions(TypedDict, total=False):
    """The fields of `DeviceConfig` as keywords."""

    cloud: str | Cloud | None
    token: str
    proxy: str | None
    device_id: str | None
    policy: Policy
    state: Path | str | None
    trusted: Collection[str] | None
    encoding: Encoding
    parts: Parts
    met: MetPolicy | None
    background: bool
    update_seconds: float
    grace: float
    patience: PatienceConfig
    clock: Clock
    event_clock: Clock | None
    seed: int | None


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a device.

    Attributes:
        cloud: address of the cloud, a `Cloud`, or None to stay offline.
        token: the device's access token; empty for the open development mode. No text of a device shows it.
        proxy: address of an HTTP proxy on the way to the cloud, as `http://NAME:PASSWORD@proxy.example:3128`; an empty
            text for none; None: what the environment names when the device is made. No text shows name or password.
        device_id: the id that the token was made for; without one, a random id, kept in the state folder.
        policy: when to ask for theta.
        state: folder for all that shall outlive the process; None keeps everything in memory.
        trusted: public keys that may sign bundles; None takes the given bundle's own, and updates by the same key.
        encoding: of the weights of theta on the wire.
        parts: of theta to ask for: `weights` of the device's graph, item `bias`, or `both`; what a version does not
            have is left out.
        met: whether rankings `hide` or `show` items that the device has met; None: as the version in use has it.
        background: ask in a thread of the device's own; without, `keep_up` and `refresh` ask in the caller's.
        update_seconds: how often to look for new versions; infinite for never. Needs a state folder.
        grace: seconds after its expiry for which a theta is still used.
        patience: waits after failures.
        clock: wall clock in seconds since 1970.
        event_clock: clock that policies count by, where it is not the wall clock: a replay gives that of its log.
        seed: of the waits' jitter.

    Raises:
        InvalidDeviceConfigError: when it is made with what cannot work.
    """

    cloud: str | Cloud | None = None
    token: str = ""
    proxy: str | None = None
    device_id: str | None = None
    policy: Policy = EveryEvents(10)
    state: Path | str | None = None
    trusted: Collection[str] | None = None
    encoding: Encoding = "float16"
    parts: Parts = "both"
    met: MetPolicy | None = None
    background: bool = True
    update_seconds: float = UPDATE_SECONDS
    grace: float = GRACE_SECONDS
    patience: PatienceConfig = PatienceConfig()
    clock: Clock = time.time
    event_clock: Clock | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.cloud, str):
            parse_address(self.cloud)
        elif self.cloud is not None:
            need_methods("cloud", self.cloud, ("parameters", "models", "file", "close"), "an address, or a Cloud")
        check_token(self.token)
        if self.proxy is not None and self.proxy != "":
            parse_proxy(self.proxy)
        if self.device_id is not None:
            check_device_id(self.device_id)
        need_methods("policy", self.policy, ("due",), "one, as in policy=EveryEvents(10)")
        if self.state is not None:
            check_path("state", self.state)
        if self.trusted is not None:
            check_keys(self.trusted)
        for name, value, kind in (("encoding", self.encoding, Encoding), ("parts", self.parts, Parts)):
            if not isinstance(value, str) or value not in get_args(kind):
                refuse(name, f"{value!r} is none", f"give one of {', '.join(get_args(kind))}")
        if self.met is not None:
            check_met(self.met)
        if not isinstance(self.background, bool):
            refuse("background", f"{self.background!r} is neither True nor False", "give one of these")
        check_seconds("update_seconds", self.update_seconds, above_zero=True)
        check_seconds("grace", self.grace)
        if not isinstance(self.patience, PatienceConfig):
            refuse("patience", f"is {type(self.patience).__name__}", "give a PatienceConfig")
        for name, clock in (("clock", self.clock), ("event_clock", self.event_clock or self.clock)):
            if not callable(clock):
                refuse(name, f"is {type(clock).__name__}", "give a function that tells the seconds, as time.time does")
        if self.seed is not None and (not isinstance(self.seed, int) or isinstance(self.seed, bool)):
            refuse("seed", f"{self.seed!r} is no whole number", "give one, or None")

    def __repr__(self) -> str:
        return f"DeviceConfig({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What is shown of it: all but the token and the proxy's password."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown["token"] = HIDDEN if self.token else ""
        shown["proxy"] = f"http://{parse_proxy(self.proxy).name}" if self.proxy else self.proxy
        return list(shown.items())

    def changed(self, **options: Unpack[DeviceOptions]) -> DeviceConfig:
        """The same with other options.

        Raises:
            InvalidDeviceConfigError: an option is unknown, or cannot work.
        """
        unknown = sorted(set(options) - set(self.__struct_fields__))
        if unknown:
            refuse(unknown[0], "is no option of a device", f"the options are {', '.join(self.__struct_fields__)}")
        return msgspec.structs.replace(self, **options)

    def connect(self) -> Cloud | None:
        """The cloud that is meant."""
        if not isinstance(self.cloud, str):
            return self.cloud
        from duetgen.device.client import HttpCloud

        return HttpCloud(self.cloud, self.token, proxy=self.proxy)
