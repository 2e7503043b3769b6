"""Checks of what a device is given: each refuses at once what would fail at every request, far from its cause."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final, NoReturn, get_args

from duetgen.device.errors import InvalidDeviceConfigError
from duetgen.wire.limits import MAX_DEVICE_BYTES, MAX_TOKEN_BYTES
from duetgen.wire.messages import MetPolicy

DEVICE_ID: Final = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_DEVICE_BYTES}}}")
LARGEST: Final = sys.float_info.max
PUBLIC_KEY: Final = re.compile(r"[0-9a-f]{64}")


def refuse(name: str, why: str, hint: str) -> NoReturn:
    """Raise the refusal of an option."""
    raise InvalidDeviceConfigError(f"{name}: {why}", hint)


def check_token(token: object) -> None:
    """Refuse what no `Authorization` header can hold, in words that do not hold it.

    Raises:
        InvalidDeviceConfigError: it is no token.
    """
    if not isinstance(token, str):
        refuse("token", f"is {type(token).__name__}, not text", "give it as text")
    if len(token) > MAX_TOKEN_BYTES:
        refuse("token", f"has {len(token)} characters, at most {MAX_TOKEN_BYTES} are sent", "give the token alone")
    if token != token.strip():
        refuse("token", "begins or ends with a blank or a line end", "strip it: token.strip()")
    if not all("!" <= character <= "~" for character in token):
        refuse("token", "holds blanks, control characters or letters beyond ASCII", "give what `duet tokens` printed")


def check_device_id(device_id: object) -> None:
    """Refuse what the cloud takes for no device.

    Raises:
        InvalidDeviceConfigError: it is no device id.
    """
    if not isinstance(device_id, str):
        refuse("device_id", f"is {type(device_id).__name__}, not text", "give it as text, as in device_id='kiosk-7'")
    if not DEVICE_ID.fullmatch(device_id):
        refuse(
            "device_id",
            f"{device_id[:MAX_DEVICE_BYTES]!r} is none",
            f"use 1 to {MAX_DEVICE_BYTES} of the letters A-Z and a-z, digits and . _ : -",
        )


def check_path(name: str, path: object) -> None:
    """Refuse what is no path.

    Raises:
        InvalidDeviceConfigError: it is none.
    """
    if not isinstance(path, (str, Path)):
        refuse(name, f"is {type(path).__name__}, not a path", "give a text or a Path")
    text = str(path)
    try:
        known = bool(os.fsencode(text)) and text.strip() and "\0" not in text
    except UnicodeEncodeError:
        known = False
    if not known:
        refuse(name, f"{text!r} is no path", "give the folder's")


def check_keys(keys: object) -> None:
    """Refuse what are no public keys.

    Raises:
        InvalidDeviceConfigError: a key is none, or a lone text is given.
    """
    if isinstance(keys, str) or not isinstance(keys, Collection):
        refuse("trusted", f"is {type(keys).__name__}, not a collection of keys", "give {KEY}, with the key in it")
    for key in keys:
        if not isinstance(key, str) or not PUBLIC_KEY.fullmatch(key):
            refuse("trusted", "holds what is no public key", "give 64 hexadecimal digits, as `duet keys` prints them")


def check_seconds(name: str, seconds: object, *, above_zero: bool = False) -> None:
    """Refuse what is no time.

    Raises:
        InvalidDeviceConfigError: no number, not a number, or too small.
    """
    # Whole numbers beyond every float would fail where they are reckoned with.
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not (0 <= seconds <= LARGEST or seconds == math.inf) or (above_zero and not seconds):  # type: ignore[operator]
        refuse(name, f"{seconds!r} is no time", f"give seconds, {'above 0' if above_zero else '0 or more'}")


def need_methods(name: str, value: object, methods: Collection[str], hint: str) -> None:
    """Refuse what lacks a method, or is a class where one of its instances is meant.

    Raises:
        InvalidDeviceConfigError: it does.
    """
    if isinstance(value, type):
        refuse(name, f"is the class {value.__name__}", f"make one of it: {value.__name__}()")
    missing = [method for method in methods if not callable(getattr(value, method, None))]
    if missing:
        refuse(name, f"is {type(value).__name__}, without `{missing[0]}`", f"give {hint}")


def check_count(name: str, count: object, least: int = 0) -> None:
    """Refuse what is no whole number.

    Raises:
        InvalidDeviceConfigError: none, or too small.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < least:
        refuse(name, f"{count!r} is no whole number from {least} on", "give one")


def check_met(met: object) -> None:
    """Refuse a policy of met items that is none."""
    if not isinstance(met, str) or met not in get_args(MetPolicy):
        refuse("met", f"{met!r} is none", "give hide, show or None")
