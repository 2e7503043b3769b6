"""Objects, one a line, as JSON or as Python prints them: their fields are columns.

Fields of objects inside an object are `outer.inner`. A field that holds a list gives an event for each of its entries.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import polars as pl

from duetgen.data.errors import BadJsonLineError, BadSettingError, MissingColumnError
from duetgen.data.sources.header import Find, Found
from duetgen.data.sources.lines import SAMPLE_ROWS, blocks, sample, unequal_lists

MOST_FIELDS: Final = 100_000
"""Different fields of the objects of one file."""

DEEPEST: Final = 8
"""Objects inside objects whose fields are columns."""


ODD_NAME: Final = re.compile(r'["\\\x00-\x1f]')
NO_NUMBER: Final = re.compile(r"([:,\[]\s*)(?:NaN|-?Infinity)(?=\s*[,}\]])")
SURROGATE: Final = re.compile("[\ud800-\udfff]")

Form = Literal["json", "python"]


def read_objects(path: Path, find: Find, form: Form) -> Iterator[tuple[pl.DataFrame, Found]]:
    """The columns that `find` chooses, as text, and `line`, block by block.

    Raises:
        DuetError: any refusal of `find`, and of reading, naming the line.
    """
    found = _fields_of(path, find, form)
    names = {role: found.names[i] for role, i in found.roles.items()}
    if odd := next((name for name in names.values() if ODD_NAME.search(name)), None):
        raise BadSettingError(f"{path}: the field {odd!r} has a name that cannot be read", "give it a simple name")
    decode = _decoder_of(form, names)
    schema = dict.fromkeys(names, pl.String) | {"line": pl.Int64}
    for block in blocks(path):
        numbers: list[int] = []
        values: dict[str, list[Any]] = {role: [] for role in names}
        for number, line in enumerate(block.lines, block.line):
            if not line.strip():
                continue
            try:
                one = decode(line)
            except BadJsonLineError as cause:
                raise BadJsonLineError(
                    f"{path} line {number}: {cause.message}",
                    f"each line must be an object, with {', '.join(names.values())}",
                ) from cause
            numbers.append(number)
            for role, name in names.items():
                values[role].append(field_of(one, name))
        _unfold(values, numbers, names, path)
        columns = {
            role: [_scalar(value, role, names[role], path, number) for value, number in zip(column, numbers)]
            for role, column in values.items()
        }
        yield pl.DataFrame(columns | {"line": numbers}, schema=schema), found


def _unfold(values: dict[str, list[Any]], numbers: list[int], names: dict[str, str], path: Path) -> None:
    """Make an event of each entry of the lists of an event; one without a value where they are empty.

    Raises:
        RaggedRowError: lists of one event have different lengths.
    """
    held = {role: [isinstance(value, list) for value in values[role]] for role in values if role != "title"}
    lists = [role for role, some in held.items() if any(some)]
    if not lists:
        return
    lengths = []
    for number, *entries in zip(numbers, *(values[role] for role in lists)):
        found = {len(entry) for entry in entries if isinstance(entry, list)}
        if len(found) > 1:
            raise unequal_lists(path, "line", number, [names[role] for role in lists])
        lengths.append(max(1, *found) if found else 1)
    for role, column in values.items():
        column[:] = [
            entry
            for i, (value, length) in enumerate(zip(column, lengths))
            for entry in ((value or [None]) if role in held and held[role][i] else [value] * length)
        ]
    numbers[:] = [number for number, length in zip(numbers, lengths) for _ in range(length)]


def first_of_objects(path: Path, form: Form, names: Sequence[str]) -> list[list[str]]:
    """The first values of each field, as text."""
    decode, objects = _decoder_of(form), list[dict[str, Any]]()
    for line in sample(path)[:SAMPLE_ROWS]:
        with contextlib.suppress(BadJsonLineError):
            objects.append(decode(line))
    found = []
    for name in names:
        values = [field_of(one, name) for one in objects]
        entries = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
        found.append([str(entry) for entry in entries if entry is not None])
    return found


def _decoder_of(form: Form, names: dict[str, str] | None = None) -> Callable[[str], dict[str, Any]]:
    """What makes an object of a line.

    Args:
        form: of the line.
        names: fields that are wanted, by role; the others of JSON are then skipped, unread.
    """
    if form == "python":
        return _literal
    wanted: Any = dict[str, Any]
    fields: dict[str, str] = {}
    if names is not None:
        outer = dict.fromkeys(part for name in names.values() for part in (name, *(head for head, _ in _cuts(name))))
        fields = {f"field_{i}": name for i, name in enumerate(outer)}
        wanted = msgspec.defstruct("Event", [(field, Any, None) for field in fields], rename=fields)
    decoder = msgspec.json.Decoder(wanted)

    def decode(line: str) -> dict[str, Any]:
        try:
            found = _decoded(decoder, line)
        except (msgspec.DecodeError, RecursionError) as cause:
            raise BadJsonLineError(str(cause), "write one object a line") from cause
        return found if names is None else {name: getattr(found, field) for field, name in fields.items()}

    return decode


def _literal(line: str) -> dict[str, Any]:
    """A dictionary as Python prints it."""
    try:
        found = ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as cause:
        raise BadJsonLineError(f"it is no Python dictionary: {type(cause).__name__}", "write JSON lines") from cause
    if not isinstance(found, dict):
        raise BadJsonLineError(f"it is a Python {type(found).__name__}, and no dictionary", "write JSON lines")
    if any(SURROGATE.search(text) for text in (*found, *found.values()) if isinstance(text, str)):
        raise BadJsonLineError("it holds half a character, written as \\ud800 or the like", "write it as UTF-8")
    return {str(name): value for name, value in found.items()}


def names_of_object(line: str, form: Form) -> list[str]:
    """The fields of an object of one line; those of an object inside it as `outer.inner`.

    Raises:
        BadJsonLineError: it is none.
    """
    return list(_names_in(_decoder_of(form)(line)))


def _names_in(found: dict[str, Any], deep: int = 0) -> Iterator[str]:
    for name, value in found.items():
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict) and value and deep < DEEPEST:
            yield from (f"{name}.{inner}" for inner in _names_in(value, deep + 1))
        else:
            yield name


def field_of(found: dict[str, Any], name: str) -> Any:
    """What an object has under a name, or under `outer.inner` inside an object; None if it has nothing.

    Of a list of objects inside it, a list of what each of them has.
    """
    if (value := found.get(name)) is not None:
        return value
    for head, rest in _cuts(name):
        inner = found.get(head)
        if isinstance(inner, dict):
            return field_of(inner, rest)
        if isinstance(inner, list):
            return [field_of(one, rest) if isinstance(one, dict) else None for one in inner]
    return None


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """What may be the names of an object and of a field in it: before and behind each point."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        yield ".".join(parts[:i]), ".".join(parts[i:])


def _decoded(decoder: msgspec.json.Decoder[Any], line: str) -> Any:
    """An object; the words that Python and others write for no number are null, though they are no JSON."""
    try:
        return decoder.decode(line)
    except msgspec.DecodeError:
        mended = NO_NUMBER.sub(r"\1null", line)
        if mended == line:
            raise
        return decoder.decode(mended)


def _fields_of(path: Path, find: Find, form: Form) -> Found:
    """The columns among the fields of the first objects; of all, where these lack one that is wanted, or the time.

    A time that only some objects have must not be passed over in silence.

    Raises:
        BadJsonLineError: the first line is no object.
        DuetError: any refusal of `find`.
    """
    names: dict[str, None] = {}

    def take(lines: Iterable[str]) -> None:
        for line in lines:
            if line.strip():
                with contextlib.suppress(BadJsonLineError):
                    names.update(dict.fromkeys(names_of_object(line, form)))
        if len(names) > MOST_FIELDS:
            raise BadJsonLineError(
                f"{path}: its objects have more than {MOST_FIELDS:,} different fields", "give all objects the same ones"
            )

    first = sample(path)[:SAMPLE_ROWS]
    try:
        names_of_object(first[0], form)
    except BadJsonLineError as cause:
        raise BadJsonLineError(
            f"{path} line 1: {cause.message}", "write one JSON object a line, for example `jq -c '.[]'`"
        ) from cause
    take(first)
    with contextlib.suppress(MissingColumnError):
        if "timestamp" in (found := find(list(names))).roles:
            return found
    for block in blocks(path):
        take(block.lines)
    return find(list(names))


def _scalar(value: object, role: str, name: str, path: Path, line: int) -> str | None:
    """A field as text; numbers as they are written."""
    if value is None or isinstance(value, str):
        return value
    if role == "title":  # A list, say: no title, and no reason to stop.
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadJsonLineError(f"{path} line {line}: the field {name} holds no text or number", "name another column")
    if role == "timestamp" and isinstance(value, float):  # Python has scientific notation for nanoseconds.
        return f"{value:f}"
    return str(value)
