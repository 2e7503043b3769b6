"""What a device is given is checked when it is made, in words that hold no token."""

from __future__ import annotations

import math
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duetgen.device import (
    AfterSeconds,
    Always,
    DailyBudget,
    Device,
    DeviceConfig,
    Drift,
    EveryEvents,
    InvalidDeviceConfigError,
    PatienceConfig,
)
from duetgen.device.client import HttpCloud
from duetgen.device.config import DeviceOptions

from .cloud import FakeCloud
from .conftest import Tiny

SECRET = "s3cr3t-t0ken"

REFUSED: list[dict[str, Any]] = [
    {"token": SECRET + "\n"},
    {"token": " " + SECRET},
    {"token": SECRET + "\r\n"},
    {"token": f"Bearer {SECRET}"},
    {"token": SECRET + "\0"},
    {"token": "töken€" + SECRET},
    {"token": SECRET * 100},
    {"token": SECRET.encode()},
    {"token": None},
    {"device_id": "my kiosk"},
    {"device_id": "someone@example.org"},
    {"device_id": "kiosk-7\n"},
    {"device_id": "x" * 129},
    {"device_id": ""},
    {"device_id": 17},
    {"device_id": b"d1"},
    {"encoding": "fp16"},
    {"encoding": "FLOAT16"},
    {"encoding": None},
    {"encoding": 16},
    {"encoding": np.array(["float16", "int8"])},
    {"encoding": ["int8"]},
    {"parts": "theta"},
    {"parts": None},
    {"parts": ["both"]},
    {"met": "auto"},
    {"met": False},
    {"policy": "always"},
    {"policy": Always},
    {"policy": EveryEvents},
    {"policy": None},
    {"policy": 10},
    {"policy": lambda situation: True},
    {"cloud": "localhost:8000"},
    {"cloud": b"http://localhost"},
    {"cloud": Path("http://localhost")},
    {"cloud": object()},
    {"cloud": FakeCloud},
    {"state": ""},
    {"state": " "},
    {"state": "a\0b"},
    {"state": 3},
    {"state": b"state"},
    {"trusted": "0" * 64},
    {"trusted": {"0" * 63}},
    {"trusted": ["g" * 64]},
    {"trusted": [b"0" * 64]},
    {"trusted": 3},
    {"background": "yes"},
    {"background": 1},
    {"update_seconds": 0},
    {"update_seconds": -1.0},
    {"update_seconds": math.nan},
    {"update_seconds": "hourly"},
    {"update_seconds": True},
    {"update_seconds": 10**400},
    {"grace": 10**400},
    {"grace": -1},
    {"grace": math.nan},
    {"grace": None},
    {"patience": None},
    {"patience": 3.0},
    {"clock": 1.0},
    {"event_clock": "now"},
    {"seed": 1.5},
    {"seed": "x"},
    {"token": "ok", "polcy": Always()},
    {"exclude_seen": True},
]


@pytest.mark.parametrize("options", REFUSED)
def test_refused_at_construction(tiny: Tiny, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDeviceConfigError) as refused:
        Device(tiny.root, **{"state": tmp_path / "state", "cloud": "http://127.0.0.1:9", **options})
    assert SECRET not in f"{refused.value} {refused.value.hint}"
    assert "\n" not in refused.value.message + refused.value.hint
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("bundle", ["", "a\0b", 3, None, b"bundle"])
def test_a_bundle_that_is_no_path(bundle: Any) -> None:
    with pytest.raises(InvalidDeviceConfigError):
        Device(bundle)


def test_a_config_that_is_none(tiny: Tiny) -> None:
    with pytest.raises(InvalidDeviceConfigError):
        Device(tiny.root, {"token": SECRET})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "cloud.example",
        "ftp://x",
        "http://",
        "http:///v1",
        "http://h:port",
        "http://h:0",
        "http://h:70000",
        "http://h/?a=b",
        "http://h?",
        "http://h/#x",
        f"http://user:{SECRET}@h",
        f"https://{SECRET}@h",
        f"http://h/?token={SECRET}",
        "http://h h",
        " http://h",
        "http://h\n",
        "http://h/\x1b[31m",
        "http://[::1",
        "http://a..b",
        f"http://{'a' * 64}.example",
        "http://h/ä",
        "http://h/" + "x" * 3000,
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    for make in (HttpCloud, lambda url: DeviceConfig(cloud=url)):
        with pytest.raises(InvalidDeviceConfigError) as refused:
            make(url)
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://h:8443/",
        "http://127.0.0.1:80/a/b",
        "http://[::1]:8000",
        "https://bücher.example",
        "HTTP://h",
    ],
)
def test_addresses(url: str) -> None:
    assert DeviceConfig(cloud=url).cloud == url


def test_the_client_checks_its_token_too() -> None:
    with pytest.raises(InvalidDeviceConfigError):
        HttpCloud("http://h", "abc\n")


@pytest.mark.parametrize(
    "make",
    [
        lambda: EveryEvents("3"),  # type: ignore[arg-type]
        lambda: EveryEvents(-1),
        lambda: EveryEvents(2.5),  # type: ignore[arg-type]
        lambda: EveryEvents(True),
        lambda: AfterSeconds("1h"),  # type: ignore[arg-type]
        lambda: AfterSeconds(math.nan),
        lambda: AfterSeconds(-1),
        lambda: AfterSeconds(10**400),
        lambda: Drift(math.nan),
        lambda: Drift(-0.1),
        lambda: Drift(0.2, 0.0),
        lambda: Drift(0.2, 1.5),
        lambda: DailyBudget("always", 3),  # type: ignore[arg-type]
        lambda: DailyBudget(Always, 3),  # type: ignore[arg-type]
        lambda: DailyBudget(Always(), "3"),  # type: ignore[arg-type]
        lambda: DailyBudget(Always(), -1),
        lambda: PatienceConfig(first=math.nan),
        lambda: PatienceConfig(longest=-1),
        lambda: PatienceConfig(failures=0),
        lambda: PatienceConfig(cooldown="60"),  # type: ignore[arg-type]
    ],
)
def test_policies_and_waits_check_theirs(make: Any) -> None:
    with pytest.raises(InvalidDeviceConfigError):
        make()


def test_options_by_name_take_the_place_of_those_of_a_config(tiny: Tiny) -> None:
    config = DeviceConfig(device_id="d1", encoding="int8", background=False)
    with Device(tiny.root, config, device_id="d2") as device:
        assert (device.device_id, device.config.encoding) == ("d2", "int8")
    assert config.device_id == "d1"


def test_every_option_can_be_given_by_name() -> None:
    by_name = typing.get_type_hints(DeviceOptions)
    assert by_name == typing.get_type_hints(DeviceConfig)


def test_a_config_does_not_show_its_token() -> None:
    config = DeviceConfig(token=SECRET, device_id="d1")
    assert SECRET not in repr(config) + str(config) + str(config.__rich_repr__())
    assert "device_id='d1'" in repr(config)


def test_the_home_folder_may_be_written_short(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Device(tiny.root, state="~/duet").close()
    assert [path.name for path in tmp_path.iterdir()] == ["duet"]
