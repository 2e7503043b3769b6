"""What duetgen wrote itself, read back: JSON, TOML and digests. What is not as it was written is refused as damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from duetgen.errors import DuetError
from duetgen.files import open_regular, read_regular
from duetgen.wire.limits import MAX_DOCUMENT_BYTES

T = TypeVar("T")
Refuse = Callable[[str], DuetError]
"""Makes the refusal of its cause."""

MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
DIGEST: Final = "document_sha256"
"""The field in which a sealed document has the digest of its other fields."""
TOLD: Final = 3
"""Differences that are named, at most."""
ABSENT: Final = object()
"""The value of a field that only the other one has."""


class DamagedError(DuetError):
    """A file of duetgen's own that is not as it was written: cut, changed, or gone from its folder."""

    code = "damaged"


def damaged(path: Path, hint: str) -> Refuse:
    """The refusal of a file of duetgen's own."""
    return lambda cause: DamagedError(f"{path} is damaged: {cause}", hint)


def encode_json(value: object) -> bytes:
    """A value as JSON that people read too."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def encode_sealed(value: object) -> bytes:
    """A struct as JSON with the digest of its fields, by which a change to any of them is told."""
    fields = msgspec.json.decode(msgspec.json.encode(value))
    return encode_json(fields | {DIGEST: _digest_of_fields(fields)})


def decode_sealed(content: bytes, kind: type[T], refuse: Refuse) -> T:
    """What `encode_sealed` wrote; anything else, or one that says something else now, is refused as told."""
    fields = decode_json(content, dict[str, Any], refuse)
    check_digest(fields.pop(DIGEST, None), _digest_of_fields(fields), refuse)
    return decode_json(content, kind, refuse)


def _digest_of_fields(fields: dict[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(fields)).hexdigest()


def decode_json(content: bytes, kind: type[T], refuse: Refuse) -> T:
    """A value of a type from JSON; whatever else it is, is refused as told."""
    try:
        return msgspec.json.decode(content, type=kind)
    except MALFORMED as cause:
        raise refuse(str(cause)) from cause


def decode_toml(content: bytes, kind: type[T], refuse: Refuse) -> T:
    """As `decode_json`, from TOML."""
    try:
        return msgspec.toml.decode(content, type=kind)
    except (*MALFORMED, ValueError) as cause:
        raise refuse(str(cause)) from cause


def format_version(content: bytes, refuse: Refuse) -> object:
    """What a JSON object says of its format; None where it says nothing."""
    return decode_json(content, dict[str, Any], refuse).get("format_version")


def read_document(path: Path, refuse: Refuse) -> bytes:
    """The content of a file that is no larger than such files are."""
    try:
        content = read_regular(path, MAX_DOCUMENT_BYTES + 1)
    except OSError as cause:
        raise refuse(cause.strerror or str(cause)) from cause
    if len(content) > MAX_DOCUMENT_BYTES:
        raise refuse(f"it has more than {MAX_DOCUMENT_BYTES:,} bytes")
    return content


def read_sealed(path: Path, kind: type[T], refuse: Refuse) -> T:
    """A sealed document from its file."""
    return decode_sealed(read_document(path, refuse), kind, refuse)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(found: object, expected: str, refuse: Refuse) -> None:
    """Refuse content whose digest is another, or that has none."""
    if found != expected:
        raise refuse("its content is not what was written")


def difference(there: msgspec.Struct, here: msgspec.Struct) -> str:
    """In what two of one kind differ, by the names of their fields, for people; empty where they are alike."""
    old, new = (dict(_fields(msgspec.to_builtins(one))) for one in (there, here))
    # A setting that was given as 60 is read back as 60.0, and is the same.
    names = [name for name in {**old, **new} if old.get(name, ABSENT) != new.get(name, ABSENT)]

    def told_of(name: str) -> str:
        if name.endswith("sha256"):
            return f"{name} differs"
        before, now = (msgspec.json.encode(values.get(name)).decode() for values in (old, new))
        return f"{name} is {before} there and {now} here"

    told = [told_of(name) for name in names[:TOLD]]
    return "; ".join(told) + (f"; and {len(names) - TOLD} more" if len(names) > TOLD else "")


def _fields(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """What a structure holds, with dotted names."""
    if isinstance(value, dict):
        for own, part in value.items():
            yield from _fields(part, f"{name}.{own}" if name else own)
    else:
        yield name, value
