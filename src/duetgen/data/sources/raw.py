"""Any table as raw columns, block by block: CSV and its kin, with a header or without, JSON lines, or Parquet.

Logs and files of titles are both read so: who reads says which columns it wants, by their names.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import polars as pl

from duetgen.data.errors import (
    BadJsonLineError,
    BadSettingError,
    InputCorruptError,
    InputTooLargeError,
    MissingColumnError,
    NotTextError,
    WrongEncodingError,
)
from duetgen.data.sources.files import on_disk, open_input
from duetgen.data.sources.header import Found, header_of, is_number, separator_of, split_line
from duetgen.data.sources.lines import BLANKS, Block, blocks, fields, sample, stray_quotes
from duetgen.data.sources.packing import most_rows
from duetgen.data.sources.times import parse_date

# A zone that is an offset, as `+05:30`, has no name, and ends the process else. Moments are in UTC whatever the zone.
os.environ.setdefault("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", "1")

PARQUET_MAGIC: Final = b"PAR1"
SEPARATOR_NAMES: Final = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "blanks": BLANKS, "\\t": "\t"}
"""Names for separators that are hard to type."""

BATCH_ROWS: Final = 2**19
"""Rows of Parquet that are read at once."""

SAMPLE_ROWS: Final = 100
"""Rows that are looked at to tell what a column holds."""

MOST_FIELDS: Final = 100_000
"""Different fields of the objects of one file."""

DEEPEST: Final = 8
"""Objects inside objects whose fields are columns, as `outer.inner`."""

ODD_NAME: Final = re.compile(r'["\\\x00-\x1f]')
NO_NUMBER: Final = re.compile(r"([:,\[]\s*)(?:NaN|-?Infinity)(?=\s*[,}\]])")

SURROGATE: Final = re.compile("[\ud800-\udfff]")

Find = Callable[[list[str]], Found]
Form = Literal["parquet", "json", "python", "text"]
"""What a file is made of: Parquet, an object a line as JSON or as Python prints it, or lines of fields."""

PYTHON: Final = re.compile(r"\{\s*u?'|\{\s*u\"")
"""How a dictionary begins that Python printed."""


@dataclass(frozen=True)
class Raw:
    """Columns as they stand: one for each role that was found, and `line`.

    Attributes:
        frame: the columns.
        where: what `line` counts: lines of text, or rows.
        found: the columns of the whole table.
        broken: events that have a line break inside quotes, in a column that is not used.
    """

    frame: pl.DataFrame
    where: str
    found: Found
    broken: int = 0


def form_of(path: Path) -> Form:
    """The form of a file, by how it begins."""
    with open_input(path) as stream:
        if stream.read(4) == PARQUET_MAGIC:
            return "parquet"
    first = sample(path)[0].lstrip()
    if PYTHON.match(first):
        return "python"
    return "json" if first.startswith("{") else "text"


def read_raw(path: Path, find: Find, *, header: bool = True, separator: str | None = None) -> Iterator[Raw]:
    """The columns that `find` chooses among the table's names (without a header: among numbers from 1).

    Raises:
        DuetError: any refusal of `find`, and of reading, naming the line.
    """
    form = form_of(path)
    if form != "text" and not (header and separator is None):
        raise BadSettingError(
            f"{path} has fields with names, and neither a header nor a separator",
            "leave --no-header and --separator out",
        )
    if form == "parquet":
        yield from _read_parquet(path, find)
    elif form != "text":
        yield from _read_objects(path, find, form)
    else:
        yield from _read_text(path, find, header, separator)


def first_values(path: Path, found: Found, *, header: bool = True, separator: str | None = None) -> list[list[str]]:
    """The first values of each column of a table, as text; of the form of `read_raw`, which has read it."""
    form = form_of(path)
    if form == "parquet":
        table = scan(path).head(SAMPLE_ROWS).select(**columns_of(scan(path).collect_schema())).collect()
        plain = [name for name, kind in table.schema.items() if not kind.is_nested()]
        return [[str(value) for value in table[name].drop_nulls()] if name in plain else [] for name in found.names]
    lines = sample(path)[: SAMPLE_ROWS + 1]
    if form != "text":
        decode, objects = _decoder_of(form), list[dict[str, Any]]()
        for line in lines:
            with contextlib.suppress(BadJsonLineError):
                objects.append(decode(line))
        values = [[field_of(one, name) for one in objects] for name in found.names]
        return [[str(value) for value in some if value is not None] for some in values]
    between = separator_named(separator) or separator_of(lines[0])
    rows = [[field.strip() for field in split_line(line, between)] for line in lines[int(header) :]]
    rows = [row for row in rows if len(row) == len(found.names)]
    return [[row[i] for row in rows if row[i]] for i in range(len(found.names))]


def separator_named(text: str | None) -> str | None:
    """The separator that a name or the characters themselves stand for.

    Raises:
        BadSettingError: it is none.
    """
    if text is None:
        return None
    separator = SEPARATOR_NAMES.get(text.strip().lower() or text, text)
    if separator in (" ", BLANKS):
        return BLANKS
    if not separator or len(separator) > 4 or any(char.isalnum() or char in '"\r\n' for char in separator):
        raise BadSettingError(f"{text!r} is no separator", f"one to four signs, or {', '.join(SEPARATOR_NAMES)}")
    return separator


def _read_text(path: Path, find: Find, header: bool, separator: str | None) -> Iterator[Raw]:
    told = separator_named(separator)
    separator = told or separator_of(sample(path)[0])
    quoted = separator != BLANKS and len(separator) == 1
    found: Found | None = None
    for block in blocks(path, quoted=quoted):
        if found is None:
            first = next((i for i, line in enumerate(block.lines) if line.strip()), None)
            if first is None:
                continue
            line = block.lines[first]
            names = header_of(line, separator)[1]
            try:
                found = find(names if header else [str(i + 1) for i in range(len(names))])
            except MissingColumnError as cause:
                if told is None or len(names) > 1 or len(header_of(line)[1]) == 1:
                    raise
                other = next(name for name, sign in SEPARATOR_NAMES.items() if sign == separator_of(line))
                hint = f"its first line has another separator: --separator {other}"
                raise MissingColumnError(cause.message, hint) from cause
            block = block.skip(first + 1) if header else block
        frame = fields(block, separator, len(found.names), quoted=quoted)
        broken = _broken(frame, block, found, path, separator)
        yield Raw(_chosen(frame, found), "line", found, broken)


def _chosen(frame: pl.DataFrame, found: Found) -> pl.DataFrame:
    return frame.select("line", **{role: pl.col(str(i)) for role, i in found.roles.items()})


def _broken(frame: pl.DataFrame, block: Block, found: Found, path: Path, separator: str) -> int:
    """How many events have a line break inside quotes.

    Raises:
        BadQuotesError: it is in a column that is used, or what the quotes hold are events: a stray quote has swallowed
            the lines between.
    """
    if not block.quotes:
        return 0
    held = {str(i) for role, i in found.roles.items() if role != "title"}
    breaks = [pl.col(name).str.contains("\n", literal=True).alias(name) for name in frame.columns if name != "line"]
    table = frame.select("line", *breaks).filter(pl.any_horizontal(pl.exclude("line")))
    for row in table.iter_rows(named=True):
        if any(row[name] for name in held) or _holds_events(block, row["line"], found, separator):
            raise stray_quotes(path, row["line"])
    return len(table)


def _holds_events(block: Block, line: int, found: Found, separator: str) -> bool:
    """Whether the line on which quotes open and the one after it are events each, with a number or date as time."""
    role = found.roles.get("timestamp", found.roles.get("rating"))
    if role is None:
        return False
    at = line - block.line
    for text in block.lines[at : at + 2]:
        parts = text.split(separator)
        value = parts[role].strip(' "') if len(parts) == len(found.names) else ""
        if not is_number(value) and parse_date(value) is None:
            return False
    return True


def _read_objects(path: Path, find: Find, form: Form) -> Iterator[Raw]:
    """One object a line; its fields are the columns."""
    found = _fields_of(path, find, form)
    roles = list(found.roles)
    names = {role: found.names[i] for role, i in found.roles.items()}
    if odd := next((name for name in names.values() if ODD_NAME.search(name)), None):
        raise BadSettingError(f"{path}: the field {odd!r} has a name that cannot be read", "give it a simple name")
    decode = _decoder_of(form, names)
    for block in blocks(path):
        rows: list[dict[str, Any]] = []
        numbers: list[int] = []
        for number, line in enumerate(block.lines, block.line):
            if not line.strip():
                continue
            try:
                rows.append(decode(line))
            except BadJsonLineError as cause:
                raise BadJsonLineError(
                    f"{path} line {number}: {cause.message}",
                    f"each line must be an object, with {', '.join(names.values())}",
                ) from cause
            numbers.append(number)
        columns = {
            role: [_scalar(field_of(row, names[role]), role, names[role], path, n) for row, n in zip(rows, numbers)]
            for role in roles
        }
        schema = dict.fromkeys(columns, pl.String) | {"line": pl.Int64}
        yield Raw(pl.DataFrame(columns | {"line": numbers}, schema=schema), "line", found)


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
        if isinstance(value, dict) and value and deep < DEEPEST:
            yield from (f"{name}.{inner}" for inner in _names_in(value, deep + 1))
        else:
            yield name


def field_of(found: dict[str, Any], name: str) -> Any:
    """What an object has under a name, or under `outer.inner` inside an object; None if it has nothing."""
    if (value := found.get(name)) is not None:
        return value
    for head, rest in _cuts(name):
        if isinstance(inner := found.get(head), dict):
            return field_of(inner, rest)
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


def scan(path: Path) -> pl.LazyFrame:
    """A Parquet file as it stands: its name is no pattern, and its folder names no columns."""
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


def columns_of(schema: pl.Schema) -> dict[str, pl.Expr]:
    """The columns of Parquet by name; the fields of a structure as `outer.inner`."""
    found: dict[str, pl.Expr] = {}

    def take(name: str, kind: object, column: pl.Expr) -> None:
        if isinstance(kind, pl.Struct):
            for field in kind.fields:
                take(f"{name}.{field.name}", field.dtype, column.struct.field(field.name))
        else:
            found.setdefault(name, column)

    for name, kind in sorted(schema.items(), key=lambda one: isinstance(one[1], pl.Struct)):
        take(name, kind, pl.col(name))
    return found


def _read_parquet(path: Path, find: Find) -> Iterator[Raw]:
    with on_disk(path)[0].open("rb") as file:
        if file.read(4) != PARQUET_MAGIC:
            raise NotTextError(f"{path} is Parquet inside an archive", "unpack it: Parquet compresses by itself")
    try:
        columns = columns_of(scan(path).collect_schema())
        found = find(list(columns))
        rows = scan(path).select(pl.len()).collect().item()
        if rows > (most := most_rows(path)):
            raise InputTooLargeError(f"{path} has {rows:,} rows; at most {most:,} are read", "cut the log in parts")
        chosen = {role: columns[found.names[i]] for role, i in found.roles.items()}
        table = scan(path).select(**chosen).with_row_index("line", offset=1)
        table = table.with_columns(pl.col("line").cast(pl.Int64))
        yield Raw(_with_text(table.head(0).collect(), path, found), "row", found)
        for frame in table.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            yield Raw(_with_text(frame, path, found), "row", found)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as cause:
        raise InputCorruptError(f"{path} is damaged Parquet: {cause}", "write or copy it again") from cause


def _with_text(frame: pl.DataFrame, path: Path, found: Found) -> pl.DataFrame:
    """Bytes as text: many writers of Parquet do not say that a column is UTF-8.

    Raises:
        WrongEncodingError: they are none, in another column than that of titles.
    """
    for role in (role for role, kind in frame.schema.items() if kind == pl.Binary):
        try:
            text = frame[role].cast(pl.String)
        except pl.exceptions.ComputeError:
            text = pl.Series(role, list(map(_decoded_bytes, frame[role])), dtype=pl.String)
            if role != "title":
                wrong = frame.filter(text.is_null() & pl.col(role).is_not_null())
                raise WrongEncodingError(
                    f"{path} row {wrong['line'][0]}: the column {found.labels[role]} holds bytes that are not UTF-8",
                    "write the column as text or integers",
                ) from None
        frame = frame.with_columns(text)
    return frame


def _decoded_bytes(value: bytes | None) -> str | None:
    """The text that bytes are; None where they are none."""
    with contextlib.suppress(UnicodeDecodeError):
        return None if value is None else value.decode()
    return None
