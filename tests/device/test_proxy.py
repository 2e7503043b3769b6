"""Through a proxy: which one, what it is told, and what nobody else is told."""

from __future__ import annotations

import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.pretty import pretty_repr
from tests.certificates import make_certificate

from duetgen.device import CloudUnreachableError, Device, DeviceConfig, InvalidDeviceConfigError
from duetgen.device.address import find_proxy, parse_address, parse_proxy
from duetgen.device.client import HttpCloud
from duetgen.device.connection import connect
from duetgen.device.counts import told

from .cloud import FakeCloud, Server
from .conftest import Tiny
from .proxy import Proxy
from .test_device import expect, sent

PASSWORD = "pä:ss/w@rd"
QUOTED = "p%C3%A4%3Ass%2Fw%40rd"
CREDENTIALS = b64encode(f"kiosk:{PASSWORD}".encode()).decode()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.stop()


@pytest.fixture
def guarded() -> Iterator[Proxy]:
    proxy = Proxy("kiosk", PASSWORD)
    yield proxy
    proxy.stop()


@pytest.fixture
def secure(cloud: FakeCloud, tmp_path: Path) -> Iterator[tuple[Server, ssl.SSLContext]]:
    """The cloud over TLS, and the trust in its certificate."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    server = Server(cloud)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.url = server.url.replace("http:", "https:")
    yield server, ssl.create_default_context(cafile=str(certificate))
    server.stop()


def ask(tiny: Tiny, url: str, **options: Any) -> Device:
    """A device that has asked once."""
    device = Device(tiny.root, cloud=url, token="secret", device_id="d1", background=False, **options)
    device.observe("item-3")
    device.refresh(wait=True)
    return device


def test_an_open_cloud_is_asked_through_the_proxy_and_learns_nothing_of_it(
    tiny: Tiny, server: Server, guarded: Proxy
) -> None:
    named = f"http://kiosk:{QUOTED}@{guarded.name}"
    with ask(tiny, server.url, proxy=named) as device:
        expect(device, tiny, [3], sent(tiny, [3]))
        device.observe("item-5")
        assert device.refresh(wait=True)
        assert device.status().failures == {}
    assert len(guarded.heads) == 2
    assert guarded.heads[0].startswith(f"POST {server.url}/v1/parameters HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {CREDENTIALS}" in guarded.heads[0]
    assert server.cloud.tokens == ["Bearer secret"] * 2
    assert not any("proxy-authorization" in map(str.lower, heads) for heads in server.cloud.headers)


def test_a_cloud_over_tls_is_asked_through_a_tunnel_that_is_told_no_token(
    tiny: Tiny, secure: tuple[Server, ssl.SSLContext], guarded: Proxy
) -> None:
    server, trust = secure
    client = HttpCloud(server.url, "secret", tls=trust, proxy=f"http://kiosk:{QUOTED}@{guarded.name}")
    with Device(tiny.root, cloud=client, token="secret", background=False) as device:
        for item in (3, 5):
            device.observe(f"item-{item}")
            assert device.refresh(wait=True)
        expect(device, tiny, [3, 5], sent(tiny, [3, 5]))
        assert device.status().bytes_sent > 0
    (head,) = guarded.heads
    assert head.startswith(f"CONNECT {server.url[8:]} HTTP/1.1\r\nHost: {server.url[8:]}\n")
    assert f"Proxy-Authorization: Basic {CREDENTIALS}" in head
    assert "secret" not in head
    assert not any("proxy-authorization" in map(str.lower, heads) for heads in server.cloud.headers)


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("wrong", ["name", "trust"])
def test_a_cloud_must_prove_who_it_is_with_or_without_a_tunnel(
    secure: tuple[Server, ssl.SSLContext], proxy: Proxy, through: bool, wrong: str
) -> None:
    server, trust = secure
    url = server.url.replace("127.0.0.1", "localhost") if wrong == "name" else server.url
    tls = trust if wrong == "name" else ssl.create_default_context()
    client = HttpCloud(url, "secret", tls=tls, proxy=proxy.url if through else "")
    with pytest.raises(CloudUnreachableError, match="no TLS with"):
        client.models("d1")
    client.close()
    assert server.cloud.tokens == []
    assert len(proxy.heads) == through


@pytest.mark.parametrize("tunnel", [True, False])
def test_a_proxy_that_wants_a_password_is_named_and_the_password_is_not(
    tiny: Tiny, server: Server, guarded: Proxy, tunnel: bool
) -> None:
    url = server.url.replace("http:", "https:") if tunnel else server.url
    with ask(tiny, url, proxy=f"http://kiosk:wrong-{QUOTED}@{guarded.name}") as device:
        status = device.status()
        assert status.failures == {"cloud-unreachable": 1}
        assert f"the proxy {guarded.name} answers 407" in status.last_error
        assert not any(text in f"{status!r} {device.config!r}" for text in ("kiosk", PASSWORD, QUOTED))
        expect(device, tiny, [3], None)
    assert server.cloud.requests == []


def test_no_proxy_there(tiny: Tiny, server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{unused.getsockname()[1]}"
    with ask(tiny, server.url, proxy=name) as device:
        assert f"no connection to the proxy {name}" in device.status().last_error


def test_the_environment_names_it_when_the_device_is_made(
    tiny: Tiny, server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with ask(tiny, server.url) as device:
        assert device.status().source == "theta"
    assert len(proxy.heads) == 1
    with ask(tiny, server.url, proxy="") as device:
        assert device.status().source == "theta"
    monkeypatch.setenv("NO_PROXY", "example.org, 127.0.0.1")
    with ask(tiny, server.url) as device:
        assert device.status().source == "theta"
    assert len(proxy.heads) == 1


@pytest.mark.parametrize(
    ("environment", "url", "host"),
    [
        ({}, "http://h", None),
        ({"http_proxy": "http://a:1"}, "http://h", "a"),
        ({"HTTP_PROXY": "http://a:1"}, "http://h", "a"),
        ({"HTTP_PROXY": "http://a:1", "http_proxy": "http://b:1"}, "http://h", "b"),
        ({"HTTP_PROXY": "http://a:1", "http_proxy": ""}, "http://h", None),
        ({"http_proxy": "http://a:1"}, "https://h", None),
        ({"https_proxy": "http://a:1"}, "http://h", None),
        ({"HTTPS_PROXY": "a:1"}, "https://h", "a"),
        ({"ALL_PROXY": "http://a:1"}, "https://h", "a"),
        ({"all_proxy": "http://a:1"}, "http://h", "a"),
        ({"ALL_PROXY": "http://a:1", "http_proxy": "http://b:1"}, "http://h", "b"),
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, "http://h", None),
        ({"http_proxy": "http://a:1", "NO_PROXY": "*"}, "http://h", None),
        ({"http_proxy": "http://a:1", "no_proxy": "h"}, "http://h", None),
        ({"http_proxy": "http://a:1", "no_proxy": "example"}, "http://cloud.example", None),
        ({"http_proxy": "http://a:1", "no_proxy": ".example"}, "http://cloud.example:8000", None),
        ({"http_proxy": "http://a:1", "no_proxy": "example"}, "http://cloud-example", "a"),
        ({"http_proxy": "http://a:1", "no_proxy": "h:8000"}, "http://h:8000", None),
        ({"http_proxy": "http://a:1", "no_proxy": "h:8000"}, "http://h:8001", "a"),
        ({"http_proxy": "http://a:1", "no_proxy": "h:80"}, "http://h", None),
        ({"http_proxy": "http://a:1", "no_proxy": "::1"}, "http://[::1]:8000", None),
        ({"http_proxy": "http://a:1", "no_proxy": "[::1]"}, "http://[::1]:8000", None),
    ],
)
def test_which_proxy_the_environment_means(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, host: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = find_proxy(parse_address(url), None)
    assert (found.host if found else None) == host
    assert find_proxy(parse_address(url), "") is None
    named = find_proxy(parse_address(url), "http://named")
    assert named is not None
    assert (named.host, named.port) == ("named", 80)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://proxy.example:3128", ("proxy.example", 3128, "", "")),
        ("proxy.example:3128", ("proxy.example", 3128, "", "")),
        ("http://proxy.example/", ("proxy.example", 80, "", "")),
        ("HTTP://a:b@[::1]:8080", ("::1", 8080, "a", "b")),
        (f"kiosk:{QUOTED}@h", ("h", 80, "kiosk", PASSWORD)),
        ("http://kiosk@h", ("h", 80, "kiosk", "")),
    ],
)
def test_addresses_of_proxies(url: str, parts: tuple[str, int, str, str]) -> None:
    proxy = parse_proxy(url)
    assert (proxy.host, proxy.port, proxy.user, proxy.password) == parts
    shown = repr(proxy) + pretty_repr(proxy)
    assert not any(secret and secret in shown for secret in proxy.secrets)


@pytest.mark.parametrize(
    "url",
    [
        "socks5://s3cr3t@h:1080",
        "https://user:s3cr3t@h",
        "http://",
        "http://user:s3cr3t@",
        "http://h:0",
        "http://h:port",
        "http://h/s3cr3t",
        "http://h?s3cr3t",
        "http://user:s3cr3t#@h",
        "http://h\r\nX: s3cr3t",
        " ",
        "http://h" + "x" * 3000,
        3,
        b"http://h",
        True,
    ],
)
def test_addresses_that_are_no_proxys(url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def named() -> None:
        monkeypatch.setenv("HTTP_PROXY", url)
        HttpCloud("http://h")

    for make in (lambda: DeviceConfig(proxy=url), lambda: HttpCloud("http://h", proxy=url), named):
        if make is named and not (isinstance(url, str) and url.strip()):
            continue
        with pytest.raises(InvalidDeviceConfigError) as refused:
            make()
        assert "s3cr3t" not in f"{refused.value} {refused.value.hint}"


def test_every_secret_is_hidden_the_longest_first() -> None:
    assert told("ab abcd x", "ab", "abcd", "") == "… … x"


def test_the_addresses_of_a_name_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_server(("127.0.0.1", 0)) as good:
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*kind, full.getsockname())] * 3
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            connect("h", 1, begun + 0.3)
        assert time.monotonic() - begun < 2
        found = [*found, (*kind, good.getsockname())]
        connect("h", 1, time.monotonic() + 0.8).close()
        for sock in waiting:
            sock.close()


def test_a_url_of_another_alphabet_is_told_to_the_proxy_as_names_are() -> None:
    assert parse_address("https://bücher.example").authority == "xn--bcher-kva.example:443"
    assert parse_address("http://[::1]").authority == "[::1]:80"
    assert parse_address("https://h:8443/a").authority == "h:8443"
