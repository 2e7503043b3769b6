"""Sealed documents: there and back, and refused whenever they say something else than was written."""

from __future__ import annotations

import contextlib
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.documents import DIGEST, DamagedError, decode_sealed, difference, encode_sealed
from duetgen.errors import DuetError


class Part(msgspec.Struct, frozen=True):
    name: str
    value: float


class Document(msgspec.Struct, frozen=True):
    count: int
    share: float
    note: str | None
    parts: list[Part]
    files: dict[str, str] = {}


def refuse(cause: str) -> DuetError:
    return DamagedError(cause, "")


def read(content: bytes) -> Document:
    return decode_sealed(content, Document, refuse)


floats = st.floats(allow_nan=False, allow_infinity=False)
documents = st.builds(
    Document,
    count=st.integers(-(2**53), 2**53),
    share=floats,
    note=st.none() | st.text(),
    parts=st.lists(st.builds(Part, name=st.text(), value=floats), max_size=3),
    files=st.dictionaries(st.text(), st.text(), max_size=3),
)


@given(documents)
def test_there_and_back(document: Document) -> None:
    assert read(encode_sealed(document)) == document


@given(documents, st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(document: Document, data: st.DataObject) -> None:
    content = bytearray(encode_sealed(document))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DamagedError):
        assert read(bytes(content)) == document


@pytest.mark.parametrize(
    ("written", "changed"),
    [
        (b'"count": 7', b'"count": 8'),
        (b'"share": 0.5', b'"share": 0.6'),
        (b'"note": null', b'"note": "x"'),
        (b'"value": 1.25', b'"value": 1.26'),
        (DIGEST.encode(), b"nothing"),
    ],
)
def test_a_changed_or_missing_field_is_refused(written: bytes, changed: bytes) -> None:
    content = encode_sealed(Document(7, 0.5, None, [Part("one", 1.25)]))
    assert written in content
    with pytest.raises(DamagedError, match="not what was written"):
        read(content.replace(written, changed))


def test_an_added_field_is_refused() -> None:
    content = encode_sealed(Document(7, 0.5, None, [])).replace(b"{", b'{"more": 1,', 1)
    with pytest.raises(DamagedError, match="not what was written"):
        read(content)


def test_a_value_that_is_no_number_is_written_as_null_and_refused_by_its_type() -> None:
    with pytest.raises(DamagedError, match="Expected `float`"):
        read(encode_sealed(Document(7, math.nan, None, [])))


def test_other_spaces_between_the_fields_change_nothing() -> None:
    document = Document(7, 0.5, "a b", [Part("one", 1.25)])
    assert read(msgspec.json.format(encode_sealed(document), indent=0)) == document


def test_in_what_two_differ_is_told_by_names() -> None:
    one = Document(1, 0.5, None, [Part("a", 1.0)], {"x_sha256": "12"})
    assert difference(one, one) == ""
    assert difference(one, msgspec.structs.replace(one, count=1.0)) == ""
    assert difference(one, msgspec.structs.replace(one, share=math.inf)).startswith("share is 0.5 there")
    assert difference(msgspec.structs.replace(one, share=math.inf), msgspec.structs.replace(one, share=None))
    assert difference(one, msgspec.structs.replace(one, note="a")) == 'note is null there and "a" here'
    assert difference(one, msgspec.structs.replace(one, files={"x_sha256": "13"})) == "files.x_sha256 differs"
    other = Document(2, 1.0, "b", [], {})
    assert difference(one, other) == (
        'count is 1 there and 2 here; share is 0.5 there and 1.0 here; note is null there and "b" here; and 2 more'
    )
