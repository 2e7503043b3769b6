"""Addresses, of a cloud and of a proxy on the way to it, taken apart.

Refusals say what is wrong with an address and do not repeat it: people put passwords and tokens into addresses.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from duetgen.device.errors import InvalidDeviceConfigError
from duetgen.wire.limits import MAX_ADDRESS_BYTES

CLOUD: Final = "the cloud's address"
PROXY: Final = "the proxy's address"
HINTS: Final = {
    CLOUD: "give one like https://cloud.example:8443",
    PROXY: "give one like http://proxy.example:3128, as `proxy` or in the environment; proxy='' is none",
}


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

    @property
    def authority(self) -> str:
        """Host and port, as they stand in a request to a proxy."""
        return f"{bracketed(self.host.encode('idna').decode())}:{self.port or (443 if self.secure else 80)}"


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy.

    Attributes:
        host: name or number.
        port: where it listens.
        user: name that it wants, or an empty string.
        password: that it wants.
    """

    host: str
    port: int
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Proxy({self.name})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name)]

    @property
    def name(self) -> str:
        """What texts call it."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What it alone is told."""
        return {"Proxy-Authorization": f"Basic {self._credentials}"} if self.user or self.password else {}

    @property
    def _credentials(self) -> str:
        return b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, str]:
        """What no text shows."""
        return self.password, self._credentials


def bracketed(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def refuse(what: str, why: str) -> NoReturn:
    """Raise the refusal."""
    raise InvalidDeviceConfigError(f"{what} {why}", HINTS[what])


def take_apart(url: str, what: str, schemes: tuple[str, ...]) -> tuple[SplitResult, str, int | None]:
    """The parts of an address, its host and its port.

    Raises:
        InvalidDeviceConfigError: it is none.
    """
    if not isinstance(url, str):
        refuse(what, f"is {type(url).__name__}, not text")
    if len(url) > MAX_ADDRESS_BYTES:
        refuse(what, f"has {len(url)} characters, at most {MAX_ADDRESS_BYTES} are allowed")
    if any(character.isspace() or not character.isprintable() for character in url):
        refuse(what, "holds blanks, line ends or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host:
            host.encode("idna")
    except ValueError:  # a port that is no number, brackets that do not close, a label that no name has
        refuse(what, "has a host or port that is none")
    if parts.scheme not in schemes:
        refuse(what, f"does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not host:
        refuse(what, "names no host")
    if port == 0:
        refuse(what, "has the port 0")
    if "?" in url or "#" in url:
        refuse(what, "goes on after its path")
    return parts, host, port


def parse_address(url: str) -> Address:
    """An `http://` or `https://` address, with an optional port and path.

    Raises:
        InvalidDeviceConfigError: it is none, or holds what does not belong there.
    """
    parts, host, port = take_apart(url, CLOUD, ("http", "https"))
    if parts.username is not None or parts.password is not None:
        refuse(CLOUD, "holds a name or password, which would not be sent")
    if not parts.path.isascii():
        refuse(CLOUD, "has a path with letters beyond ASCII")
    return Address(url, parts.scheme == "https", host, port, parts.path.rstrip("/"))


def parse_proxy(url: str) -> Proxy:
    """The address of a proxy: `http://` if nothing is said, with an optional name and password, port 80 if none is.

    Raises:
        InvalidDeviceConfigError: it is none, or that of another kind of proxy.
    """
    with_scheme = f"http://{url}" if isinstance(url, str) and "://" not in url else url
    parts, host, port = take_apart(with_scheme, PROXY, ("http",))
    if parts.path not in ("", "/"):
        refuse(PROXY, "has a path")
    return Proxy(host, port or 80, unquote(parts.username or ""), unquote(parts.password or ""))


def find_proxy(address: Address, named: str | None) -> Proxy | None:
    """The proxy on the way to a cloud.

    Args:
        address: of the cloud.
        named: its address, or an empty string for none; None takes what the environment names, as curl and Python do.

    Raises:
        InvalidDeviceConfigError: it is none that can be used.
    """
    if named is not None:
        return parse_proxy(named) if named != "" else None
    # It imports what an HTTP client needs.
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    url = proxies.get("https" if address.secure else "http") or proxies.get("all")
    # `no_proxy` may name a host with its port or without, and an IPv6 address with its brackets or without.
    if not url or any(proxy_bypass(name) for name in (address.host, address.authority)):
        return None
    return parse_proxy(url)
