"""Text logs as blocks of lines: decoded as they are read, so memory and lengths stay bounded.

A log is read in blocks of a few MiB that end at a line's end. A bomb of one endless line is refused after one block,
and every refusal can name the line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

import polars as pl

from duetgen.data.errors import (
    BadQuotesError,
    InputEmptyError,
    InputTooLargeError,
    LineTooLongError,
    NotTextError,
    RaggedRowError,
    WrongEncodingError,
)
from duetgen.data.sources.files import on_disk, open_input
from duetgen.data.sources.packing import most_unpacked
from duetgen.wire import limits

BLOCK_BYTES: Final = 16 * 2**20
SAMPLE_BYTES: Final = 256 * 2**10
SAMPLE_ROWS: Final = 100
"""Rows or objects that are looked at to tell which columns there are, and what they hold."""
BOM: Final = codecs.BOM_UTF8
WIDE_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SEPARATOR_LINE: Final = re.compile(rb'\A"?sep=[^\r\n]"?\r?(?=\n)')
"""A first line by which a spreadsheet is told the separator; it is no header."""
BLANKS: Final = "blanks"
"""As a separator: one blank or tab, or a run of them."""


@dataclass(frozen=True)
class Block:
    """Consecutive whole lines of a file, without their ends, as text; `line` numbers the first from 1."""

    path: Path
    line: int
    lines: pl.Series
    quotes: bool

    def skip(self, count: int) -> Block:
        """The block without its first `count` lines."""
        return replace(self, line=self.line + count, lines=self.lines[count:])


def sample(path: Path) -> list[str]:
    """The first lines of a file, read leniently, to tell its format: without blank ones and a cut last one."""
    with open_input(path) as stream:
        data = next(_chunks(path, stream, SAMPLE_BYTES), b"")
    if b"\0" in data:
        raise _not_text(path, 1, data)
    lines = _begun(data).decode(errors="replace").split("\n")
    if "\r" in lines[0].rstrip("\r"):
        raise NotTextError(
            f"{path} line 1 holds carriage returns: its lines end with them alone, as on an old Mac",
            "convert the file, for example `tr '\\r' '\\n'`",
        )
    if len(data) >= SAMPLE_BYTES // 4 and len(lines) > 1:
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines if line.strip()]
    if not lines:
        raise InputEmptyError(f"{path} holds nothing but blank lines", "check how the file was exported")
    return lines


def blocks(path: Path, *, encoding: str = "utf-8", quoted: bool = False) -> Iterator[Block]:
    """The lines of a file, a block at a time.

    Args:
        path: a text file, plain or gzip.
        encoding: of the format; a leading byte order mark of UTF-8 is dropped, one of UTF-16 or UTF-32 is heeded.
        quoted: double quotes may hold line ends, so a block ends outside of quotes.

    Raises:
        DuetError: any refusal of `open_input`, and `NotTextError`, `WrongEncodingError`, `LineTooLongError`,
            `InputTooLargeError`.
    """
    carry, line, total = b"", 1, 0
    with open_input(path) as stream:
        most = most_unpacked(on_disk(path)[0])
        for chunk in _chunks(path, stream, BLOCK_BYTES):
            total += len(chunk)
            if total > most:
                raise InputTooLargeError(
                    f"{path} unpacks to more than {most:,} bytes", "cut the log in parts, or unpack it if you trust it"
                )
            data = carry + chunk
            if line == 1 and not carry:
                data = _begun(data)
            end = _end_of_lines(data, quoted)
            if len(data) - end > limits.MAX_LINE_BYTES:
                at = line + data.count(b"\n", 0, end)
                raise _too_long(path, at)
            carry = data[end:]
            if end:
                block = _decode(path, line, data[:end], encoding)
                line += len(block.lines)
                yield block
    if carry:
        yield _decode(path, line, carry, encoding)


def _begun(data: bytes) -> bytes:
    """The beginning of a file without a byte order mark, and blank where it tells a spreadsheet its separator."""
    return SEPARATOR_LINE.sub(b"", data.removeprefix(BOM), count=1)


def _chunks(path: Path, stream: IO[bytes], size: int) -> Iterator[bytes]:
    """The stream in pieces, as it is, or as UTF-8 if it begins with the mark of a wider encoding."""
    chunk = stream.read(size)
    encoding = next((name for mark, name in WIDE_MARKS.items() if chunk.startswith(mark)), None)
    if encoding is None:
        while chunk:
            yield chunk
            chunk = stream.read(size)
        return
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    while True:
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as cause:
            raise WrongEncodingError(
                f"{path}, which begins as {encoding.upper()} does, is not valid {encoding.upper()} near line {line}",
                "save it as UTF-8",
            ) from cause
        if text:
            line += text.count("\n")
            yield text.encode("utf-8", "surrogatepass")
        if not chunk:
            return
        chunk = stream.read(size)


def _too_long(path: Path, line: int) -> LineTooLongError:
    return LineTooLongError(
        f"{path} line {line} is longer than {limits.MAX_LINE_BYTES:,} bytes, or opens a quote that never closes",
        "check that the file is the log you mean, and its quotes",
    )


def _not_text(path: Path, line: int, data: bytes) -> NotTextError:
    at = line + data.count(b"\n", 0, data.index(b"\0"))
    # Text of 16 bits has its NUL bytes at even places or at odd ones, text of 32 bits three in the first four.
    start = data[:64]
    wide = len({i % 2 for i, byte in enumerate(start) if not byte}) == 1 and start.count(0) >= len(start) // 3
    what = "it looks like UTF-16 without its mark" if wide else "it is no UTF-8 text"
    if start[:4].count(0) == 3:
        what = "it looks like UTF-32 without its mark"
    return NotTextError(f"{path} line {at} holds NUL bytes: {what}", "save the log as UTF-8 text")


def _end_of_lines(data: bytes, quoted: bool) -> int:
    end = data.rfind(b"\n") + 1
    if quoted:
        inside = data.count(b'"', 0, end) % 2
        while end and inside:
            before = data.rfind(b"\n", 0, end - 1) + 1
            inside ^= data.count(b'"', before, end) % 2
            end = before
            if len(data) - end > limits.MAX_LINE_BYTES:
                break
    return end


def _decode(path: Path, line: int, data: bytes, encoding: str) -> Block:
    if b"\0" in data:
        raise _not_text(path, line, data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as cause:
        at = line + data.count(b"\n", 0, cause.start)
        raise WrongEncodingError(
            f"{path} line {at} is not valid {encoding.upper()} (byte 0x{data[cause.start]:02x})",
            "convert the file, for example `iconv -f latin1 -t utf-8`",
        ) from cause
    lines = pl.Series("text", [text.removesuffix("\n")]).str.split("\n").explode()
    if "\r" in text:
        lines = lines.str.strip_suffix("\r")
    length = lines.str.len_bytes()
    if int(length.max() or 0) > limits.MAX_LINE_BYTES:  # type: ignore[arg-type]
        raise _too_long(path, line + int(length.arg_max() or 0))
    return Block(path, line, lines, '"' in text)


def fields(block: Block, separator: str, width: int, *, quoted: bool = False) -> pl.DataFrame:
    """The fields of a block's lines as text: columns `0`, `1`, … and `line`; blank lines are left out.

    Raises:
        RaggedRowError: a line has not `width` fields.
        BadQuotesError: quotes do not pair up.
    """
    if quoted and block.quotes:
        return _quoted_fields(block, separator, width)
    frame = block.lines.to_frame().with_columns(line=pl.int_range(pl.len(), dtype=pl.Int64) + block.line)
    frame = frame.filter(pl.col("text").str.strip_chars() != "")
    if separator == BLANKS:
        frame = frame.with_columns(pl.col("text").str.strip_chars().str.replace_all(r"[ \t]+", "\t"))
        separator = "\t"
    found = pl.col("text").str.count_matches(separator, literal=True).cast(pl.Int64) + 1
    ragged = frame.select("line", found=found).filter(pl.col("found") != width)
    if len(ragged):
        line, count = ragged.row(0)
        raise ragged_row(block.path, line, count, width)
    if width == 1:
        return frame.select(pl.col("text").alias("0"), "line")
    parts = pl.col("text").str.split_exact(separator, width - 1).struct.rename_fields([str(i) for i in range(width)])
    return frame.select(parts.alias("parts"), "line").unnest("parts")


def stray_quotes(path: Path, line: int) -> BadQuotesError:
    """The refusal of quotes that swallow line ends where no field can have one."""
    return BadQuotesError(
        f"{path} line {line}: quotes open on this line and close on a later one",
        "mend the quotes: a quote inside a field is doubled",
    )


def ragged_row(path: Path, line: int, found: int, width: int) -> RaggedRowError:
    """The refusal of a line with another number of fields."""
    return RaggedRowError(
        f"{path} line {line} has {found} field{'s' * (found != 1)} where {width} are expected",
        "mend the line, or check that the file is complete and in the format named",
    )


def unequal_lists(path: Path, where: str, line: int, names: Sequence[str]) -> RaggedRowError:
    """The refusal of an event of lists that do not belong together."""
    return RaggedRowError(
        f"{path} {where} {line}: the lists {', '.join(names)} have different lengths",
        "mend them: what stands at one place of each is one event",
    )


def _quoted_fields(block: Block, separator: str, width: int) -> pl.DataFrame:
    csv.field_size_limit(limits.MAX_LINE_BYTES)  # Else a long review in a column that nobody needs ends the reading.
    reader = csv.reader((f"{line}\n" for line in block.lines), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    numbers: list[int] = []
    before = 0
    try:
        for row in reader:
            line, before = block.line + before, reader.line_num
            if not any(field.strip() for field in row) and len(row) <= 1:
                continue
            if len(row) != width:
                raise ragged_row(block.path, line, len(row), width)
            rows.append(row)
            numbers.append(line)
    except csv.Error as cause:
        raise BadQuotesError(
            f"{block.path} line {block.line + before}: {cause}", "mend the quotes: a quote inside a field is doubled"
        ) from cause
    columns = {str(i): [row[i] for row in rows] for i in range(width)}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).with_columns(
        pl.Series("line", numbers, dtype=pl.Int64)
    )


def with_point(text: pl.Expr) -> pl.Expr:
    """Numbers with a decimal comma, as spreadsheets write them in much of Europe, with a point.

    `1,234` may be a thousand and stays.
    """
    return text.str.replace(r"^\s*([+-]?[0-9]+),([0-9]{1,2}|[0-9]{4,})\s*$", "${1}.${2}").str.replace(
        r"^\s*([+-]?[0-9]{4,}),([0-9]{3})\s*$", "${1}.${2}"
    )
