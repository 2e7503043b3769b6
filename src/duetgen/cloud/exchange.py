"""Bodies in and out: bounded reading, msgpack or JSON, strict decoding.

A request says with `content-type` what it sends and with `accept` what it wants (RFC 9110, section 12.5.1): of what it
takes equally, the format of its own body, and JSON where it has none. Compressed bodies are not read at all: a history
is too small for compression to be worth its risk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from starlette.types import Receive, Send

from duetgen.cloud.errors import (
    BodyTooLargeError,
    HeadersTooLargeError,
    InvalidHistoryError,
    InvalidRequestError,
    ServiceError,
    UnsupportedContentError,
)
from duetgen.errors import DuetError
from duetgen.wire.limits import MAX_BODY_BYTES, MAX_HEADER_BYTES
from duetgen.wire.messages import ErrorAnswer

Format = Literal["msgpack", "json"]
Header = tuple[bytes, bytes]
T = TypeVar("T")

MEDIA: Final[dict[Format, bytes]] = {"msgpack": b"application/msgpack", "json": b"application/json"}
FORMATS: Final[dict[bytes, Format]] = {
    b"application/msgpack": "msgpack",
    b"application/x-msgpack": "msgpack",
    b"application/vnd.msgpack": "msgpack",
    b"application/json": "json",
}
LISTS: Final = frozenset((b"accept", b"content-encoding", b"if-match", b"if-none-match"))
"""Headers that are read and may come in several lines, which are then one list."""
SINGLE: Final = frozenset(
    (b"authorization", b"content-length", b"content-type", b"host", b"if-range", b"range"),
)
"""Headers that are read and may come once."""
QUALITY: Final = re.compile(rb"[ \t]*q[ \t]*=[ \t]*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*", re.IGNORECASE)

encode_msgpack = msgspec.msgpack.Encoder().encode
encode_json = msgspec.json.Encoder().encode


class DisconnectedError(Exception):
    """The caller has gone; nobody reads an answer."""


class Answer(msgspec.Struct, frozen=True):
    """What an endpoint gives back.

    Attributes:
        status: of the answer.
        content: the body, still to be sent; None: the endpoint has sent its answer itself.
        form: of the body.
        device: the device that it is for, for the log.
    """

    status: int
    content: bytes | None = None
    form: Format = "json"
    device: str | None = None


class Headers:
    """The headers of a request that the service reads, found in one pass.

    Args:
        headers: all of them.
        version: of HTTP; one of 1.1 must name its host.

    Attributes:
        found: those that are read, by name.
        authorization: as sent, or None.
        content: format of the body; None where it is not said, or is another type.
        foreign: it is another type.
        encoding: of the content, if any.
        length: of the body, if said; -1 if it is no number.

    Raises:
        HeadersTooLargeError: one of those that are read is too long.
        InvalidRequestError: one that may come once is repeated, or the host is missing.
    """

    __slots__ = ("authorization", "content", "encoding", "foreign", "found", "length")

    def __init__(self, headers: Iterable[Header], version: str = "1.1") -> None:
        self.found: dict[bytes, bytes] = {}
        found = self.found
        for name, value in headers:
            if name not in SINGLE and name not in LISTS:
                continue
            if name in found:
                if name in SINGLE:
                    raise InvalidRequestError(f"the header {name.decode()} is repeated", "send it once")
                value = found[name] + b"," + value
            if len(value) > MAX_HEADER_BYTES:
                raise HeadersTooLargeError(
                    f"the header {name.decode()} is above {MAX_HEADER_BYTES} bytes", "send a shorter one"
                )
            found[name] = value
        # The server puts an empty one where there is none.
        if version == "1.1" and not found.get(b"host"):
            raise InvalidRequestError("the request names no host", "send the header `host`")
        self.authorization = found.get(b"authorization")
        self.encoding = found.get(b"content-encoding")
        content, length = found.get(b"content-type"), found.get(b"content-length")
        self.content: Format | None = None
        if content is not None:
            self.content = FORMATS.get(content) or FORMATS.get(content.partition(b";")[0].strip().lower())
        self.foreign = content is not None and self.content is None
        self.length: int | None = None
        if length is not None:
            self.length = int(length) if length.isdigit() and len(length) < 16 else -1

    def answer(self, sent: Format | None = None) -> Format:
        """The format of the answer to a body of the format `sent`, if there is one."""
        accept = self.found.get(b"accept")
        if accept is None:
            return sent or "json"
        return FORMATS.get(accept) or accepted(accept, sent or "json")


def accepted(accept: bytes, otherwise: Format) -> Format:
    """The format that an `accept` header rates highest; `otherwise` among equals; JSON where it takes neither."""
    ratings: dict[Format, tuple[int, float]] = {"msgpack": (0, 0.0), "json": (0, 0.0)}
    for part in accept.lower().split(b","):
        media, *parameters = part.split(b";")
        media, quality = media.strip(), 1.0
        for parameter in parameters:
            match = QUALITY.fullmatch(parameter)
            if match is not None:
                quality = float(match[1])
                break
        for form, rating in ratings.items():
            closeness = 3 if FORMATS.get(media) == form else {b"application/*": 2, b"*/*": 1}.get(media, 0)
            if closeness > rating[0] or (closeness == rating[0] == 3 and quality > rating[1]):
                ratings[form] = (closeness, quality)
    msgpack, json = ratings["msgpack"][1], ratings["json"][1]
    if msgpack == json:
        return otherwise if json else "json"
    return "msgpack" if msgpack > json else "json"


def format_of(body: bytes) -> Format:
    """The format of a body that does not say: a msgpack map begins with a byte that no JSON begins with."""
    return "msgpack" if body[:1] >= b"\x80" else "json"


async def read_body(headers: Headers, receive: Receive) -> bytes:
    """A whole body, never more than the limit.

    Raises:
        UnsupportedContentError: it is compressed, or neither msgpack nor JSON.
        BodyTooLargeError: it is above the limit, said or sent.
        InvalidRequestError: its length is no number, it breaks off, or its chunks are malformed.
    """
    if headers.foreign or (headers.encoding is not None and headers.encoding.lower() != b"identity"):
        raise UnsupportedContentError(
            "the body is compressed, or neither application/msgpack nor application/json",
            "send msgpack or JSON as it is, with its content-type",
        )
    if headers.length is not None and not 0 <= headers.length <= MAX_BODY_BYTES:
        raise too_large() if headers.length > 0 else InvalidRequestError("content-length is no number", "send a number")
    parts, size, more = [], 0, True
    while more and size <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            # Whether its chunks are malformed or the caller has gone, the server does not tell.
            raise InvalidRequestError("the body breaks off, or its chunks are malformed", "send it whole")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
    if size > MAX_BODY_BYTES:
        raise too_large()
    return b"".join(parts)


def too_large() -> BodyTooLargeError:
    """The refusal of a large body."""
    return BodyTooLargeError(f"the body is above {MAX_BODY_BYTES} bytes", "send fewer devices a call")


class Decoder(Generic[T]):
    """Decodes one kind of request, made once.

    Args:
        kind: the struct.
        inner: name of the field that holds a list of structs, if any; they are looked at for repeated fields too.
        inner_fields: how many fields such a struct has, all of them required.
    """

    def __init__(self, kind: type[T], inner: str | None = None, inner_fields: int = 0) -> None:
        self._msgpack = msgspec.msgpack.Decoder(kind)
        self._json = msgspec.json.Decoder(kind)
        self._raw = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
        self._raw_list = msgspec.msgpack.Decoder(list[msgspec.Raw])
        self._inner, self._inner_fields = inner, inner_fields

    def decode(self, body: bytes, form: Format) -> T:
        """The request.

        Raises:
            InvalidHistoryError: a history is empty, too long, or holds what is no index.
            InvalidRequestError: anything else about it is wrong.
        """
        try:
            if form == "json":
                request = self._json.decode(body)
                # The typed decoder keeps the last of repeated fields; which one is meant, nobody can know.
                json.loads(body, object_pairs_hook=refuse_repeated)
            else:
                request = self._msgpack.decode(body)
                self._check_msgpack(body)
        except msgspec.ValidationError as cause:
            place = str(cause)
            _, at, where = place.rpartition(" - at ")
            if at and "history" in where:
                hint = "send 1 to 4096 item indices, oldest first; or samples as bytes, where the version reads such"
                raise InvalidHistoryError(place, hint) from cause
            raise InvalidRequestError(place, "see /openapi.json for the fields and their types") from cause
        except (msgspec.DecodeError, ValueError, RecursionError) as cause:
            raise InvalidRequestError(f"the body cannot be read: {cause}"[:300], "see /openapi.json") from cause
        return request

    def _check_msgpack(self, body: bytes) -> None:
        fields = self._raw.decode(body)
        if len(fields) != map_length(body):
            raise ValueError("a field is repeated")
        if self._inner is None:
            return
        for part in self._raw_list.decode(fields[self._inner]):
            # All fields of such a struct are required and none unknown, so as many entries as fields are all different.
            if map_length(part) != self._inner_fields:
                raise ValueError("a field is repeated")


def map_length(packed: bytes | msgspec.Raw) -> int:
    """The number of entries that a msgpack map says to have."""
    content = memoryview(packed)
    first = content[0]
    if first & 0xF0 == 0x80:
        return first & 0x0F
    return int.from_bytes(content[1:3] if first == 0xDE else content[1:5], "big")


def refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, unless a key comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is repeated")
    return found


async def send_body(send: Send, status: int, body: bytes, media: bytes, extra: Iterable[Header] = ()) -> None:
    """One whole answer."""
    headers = [(b"content-type", media), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    headers.extend(extra)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_value(send: Send, status: int, value: object, form: Format, extra: Iterable[Header] = ()) -> None:
    """A struct as an answer."""
    body = encode_msgpack(value) if form == "msgpack" else encode_json(value)
    await send_body(send, status, body, MEDIA[form], extra)


async def send_error(send: Send, error: DuetError, form: Format) -> None:
    """A refusal as an answer."""
    answer = ErrorAnswer(error.code, error.message, error.hint)
    status, extra = 500, list[Header]()
    if isinstance(error, ServiceError):
        status = error.status
        extra += error.headers
        if error.retry_after is not None:
            extra.append((b"retry-after", b"%d" % error.retry_after))
    await send_value(send, status, answer, form, extra)
