"""The address of a cloud, taken apart.

Refusals say what is wrong with an address and do not repeat it: people put passwords and tokens into addresses.
"""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import urlsplit

import msgspec

from duetgen.device.errors import InvalidDeviceConfigError
from duetgen.wire.limits import MAX_ADDRESS_BYTES


class Address(msgspec.Struct, frozen=True):
    """Where a cloud answers.

    Attributes:
        url: as it was given.
        secure: over TLS.
        host: name or number.
        port: None for the usual one.
        prefix: path before `/v1`.
    """

    url: str
    secure: bool
    host: str
    port: int | None
    prefix: str


def refuse(why: str) -> NoReturn:
    """Raise the refusal."""
    raise InvalidDeviceConfigError(f"the cloud's address {why}", "give one like https://cloud.example:8443")


def parse_address(url: str) -> Address:
    """An `http://` or `https://` address, with an optional port and path.

    Raises:
        InvalidDeviceConfigError: it is none, or holds what does not belong there.
    """
    if not isinstance(url, str):
        refuse(f"is {type(url).__name__}, not text")
    if len(url) > MAX_ADDRESS_BYTES:
        refuse(f"has {len(url)} characters, at most {MAX_ADDRESS_BYTES} are allowed")
    if any(character.isspace() or not character.isprintable() for character in url):
        refuse("holds blanks, line ends or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host:
            host.encode("idna")
    except ValueError:  # a port that is no number, brackets that do not close, a label that no name has
        refuse("has a host or port that is none")
    if parts.scheme not in ("http", "https"):
        refuse("does not begin with http:// or https://")
    if not host:
        refuse("names no host")
    if port == 0:
        refuse("has the port 0")
    if parts.username is not None or parts.password is not None:
        refuse("holds a name or password, which would not be sent")
    if "?" in url or "#" in url:
        refuse("goes on after its path")
    if not parts.path.isascii():
        refuse("has a path with letters beyond ASCII")
    return Address(url, parts.scheme == "https", host, port, parts.path.rstrip("/"))
