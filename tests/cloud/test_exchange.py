"""Which format an answer has, by what the request says; worked out from RFC 9110, sections 12.4.2 and 12.5.1."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from duetgen.cloud.errors import InvalidRequestError
from duetgen.cloud.exchange import Headers, accepted, format_of

from .test_parameters import GOOD, JSON, MSGPACK, post, refused

ACCEPTS = {
    "": ("json", "json"),
    "*/*": ("json", "msgpack"),
    "application/*": ("json", "msgpack"),
    "text/html": ("json", "json"),
    "text/html, */*;q=0.1": ("json", "msgpack"),
    MSGPACK: ("msgpack", "msgpack"),
    "application/x-msgpack": ("msgpack", "msgpack"),
    "application/vnd.msgpack;q=0.2": ("msgpack", "msgpack"),
    JSON: ("json", "json"),
    f"{MSGPACK};q=0, {JSON}": ("json", "json"),
    f"{MSGPACK};q=0": ("json", "json"),
    f"{MSGPACK};q=0, */*": ("json", "json"),
    f"{JSON};q=0, */*": ("msgpack", "msgpack"),
    f"{JSON};q=0.5, {MSGPACK}": ("msgpack", "msgpack"),
    f"{JSON}, {MSGPACK};q=0.999": ("json", "json"),
    f"{JSON}, {MSGPACK}": ("json", "msgpack"),
    f"*/*;q=0.9, {MSGPACK};q=0.1": ("json", "json"),
    f"application/*;q=0.2, {MSGPACK};q=0.3": ("msgpack", "msgpack"),
    f"*/*, application/*;q=0, {MSGPACK};q=0.1": ("msgpack", "msgpack"),
    "Application/MsgPack; Q=1.000": ("msgpack", "msgpack"),
    f"{JSON};charset=utf-8;q=0.1, {MSGPACK};q=0.2": ("msgpack", "msgpack"),
    ",,;;, ,": ("json", "json"),
}


@pytest.mark.parametrize("accept", ACCEPTS)
def test_format_by_accept(accept: str) -> None:
    without, with_msgpack = ACCEPTS[accept]
    assert accepted(accept.encode(), "json") == without
    assert accepted(accept.encode(), "msgpack") == with_msgpack


def test_accept_in_several_lines_is_one_list() -> None:
    lines = [(b"host", b"x"), (b"accept", b"application/json;q=0.1"), (b"accept", b"application/msgpack")]
    assert Headers(lines).answer() == "msgpack"


def test_get_and_errors_are_json_unless_msgpack_is_asked_for(client: Any) -> None:
    for headers, media in (({}, JSON), ({"accept": "*/*"}, JSON), ({"accept": MSGPACK}, MSGPACK)):
        if not headers:
            client.headers.pop("accept", None)
        for path, status in (
            ("/v1/models", 200),
            ("/v1/models?device=", 400),
            ("/nothing", 404),
            ("/v1/parameters", 405),
        ):
            response = client.get(path, headers={**headers, "content-type": MSGPACK})
            assert (response.status_code, response.headers["content-type"]) == (status, media)


def test_post_is_answered_as_asked_else_as_it_is_itself(client: Any) -> None:
    for media in (JSON, MSGPACK):
        for value, status in ((GOOD, 200), ({**GOOD, "history": []}, 400)):
            response = post(client, value, media=media, accept="*/*")
            assert (response.status_code, response.headers["content-type"]) == (status, media)


def test_body_without_a_type_is_told_by_its_first_byte(client: Any) -> None:
    for encode, media in ((msgspec.json.encode, JSON), (msgspec.msgpack.encode, MSGPACK)):
        response = client.post("/v1/parameters", content=encode(GOOD))
        assert (response.status_code, response.headers["content-type"]) == (200, media)
    assert [format_of(body) for body in (b"", b" {", b"{", b"\x81", b"\xde\x00")] == [*["json"] * 3, *["msgpack"] * 2]
    refused(client.post("/v1/parameters", content=b"\x81"), 400, "invalid-request")


def test_host_is_needed_since_http_1_1() -> None:
    assert Headers([], "1.0").answer() == "json"
    for headers in ([], [(b"host", b"")]):
        with pytest.raises(InvalidRequestError):
            Headers(headers, "1.1")
