"""Text logs as blocks of lines: decompressed as they are read, so memory and lengths stay bounded.

A log is read in blocks of a few MiB that end at a line's end. A gzip bomb of one endless line is refused after one
block, and every refusal can name the line.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

import polars as pl

from duetgen.data.errors import (
    BadQuotesError,
    InputCorruptError,
    InputEmptyError,
    InputIsFolderError,
    InputMissingError,
    InputTooLargeError,
    InputTruncatedError,
    InputUnreadableError,
    LineTooLongError,
    NotTextError,
    RaggedRowError,
    WrongEncodingError,
)
from duetgen.wire import limits

BLOCK_BYTES: Final = 16 * 2**20
SAMPLE_BYTES: Final = 256 * 2**10
WELL_KNOWN: Final = ("u.data", "ratings.dat", "ratings.csv", "train.txt", "train.txt.gz", "interactions.csv.gz")
GZIP_MAGIC: Final = b"\x1f\x8b"
BOM: Final = b"\xef\xbb\xbf"


def require_file(path: Path) -> None:
    """Refuse a path that is no readable, non-empty regular file of acceptable size.

    Raises:
        InputMissingError, InputIsFolderError, InputUnreadableError, InputEmptyError, InputTooLargeError
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise InputMissingError(f"there is no file {path}", "check the path") from cause
    except (OSError, ValueError) as cause:
        raise InputUnreadableError(f"cannot read {path}: {cause}", "check the path and its permissions") from cause
    if stat.S_ISDIR(status.st_mode):
        inside = [name for name in WELL_KNOWN if (path / name).is_file()]
        hint = f"did you mean {path / inside[0]}?" if inside else "name the log file inside it"
        raise InputIsFolderError(f"{path} is a folder, not a log file", hint)
    if not stat.S_ISREG(status.st_mode):
        raise InputUnreadableError(f"{path} is not a regular file", "save the log to a file first")
    if not os.access(path, os.R_OK):
        raise InputUnreadableError(f"cannot read {path}: permission denied", "make the file readable")
    if status.st_size == 0:
        raise InputEmptyError(f"{path} is empty", "check how the file was downloaded or exported")
    if status.st_size > limits.MAX_INPUT_BYTES:
        raise InputTooLargeError(
            f"{path} has {status.st_size:,} bytes; at most {limits.MAX_INPUT_BYTES:,} are read", "cut the log in parts"
        )


def sha256(path: Path) -> str:
    """SHA-256 of the file as it lies on disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip does, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The content of a file, decompressed if it is gzip.

    Raises:
        InputTruncatedError, InputCorruptError: gzip that ends early or is damaged, when it is met.
        InputUnreadableError: the operating system refuses.
    """
    require_file(path)
    try:
        if is_gzip(path):
            with gzip.open(path, "rb") as stream:
                yield stream
        else:
            with path.open("rb") as stream:
                yield stream
    except EOFError as cause:
        raise InputTruncatedError(
            f"{path} ends in the middle of its gzip stream", "download or copy it again"
        ) from cause
    except (zlib.error, gzip.BadGzipFile) as cause:
        raise InputCorruptError(f"{path} is damaged gzip: {cause}", "download or copy it again") from cause
    except OSError as cause:
        raise InputUnreadableError(f"cannot read {path}: {cause.strerror or cause}", "check the file") from cause


@dataclass(frozen=True)
class Block:
    """Consecutive whole lines of a file, without their ends; `line` numbers the first from 1."""

    path: Path
    line: int
    lines: list[str]
    quotes: bool

    def skip(self, count: int) -> Block:
        """The block without its first `count` lines."""
        return replace(self, line=self.line + count, lines=self.lines[count:])


def sample(path: Path) -> list[str]:
    """The first lines of a file, read leniently, to tell its format: without blank ones and a cut last one."""
    with open_input(path) as stream:
        data = stream.read(SAMPLE_BYTES)
    text = data.removeprefix(BOM).decode("latin-1")
    lines = text.split("\n")
    if len(data) == SAMPLE_BYTES and len(lines) > 1:
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines if line.strip()]
    if not lines:
        raise InputEmptyError(f"{path} holds nothing but blank lines", "check how the file was exported")
    return lines


def blocks(path: Path, *, encoding: str = "utf-8", quoted: bool = False) -> Iterator[Block]:
    """The lines of a file, a block at a time.

    Args:
        path: a text file, plain or gzip.
        encoding: of the format; a leading UTF-8 byte order mark is dropped.
        quoted: double quotes may hold line ends, so a block ends outside of quotes.

    Raises:
        DuetError: any refusal of `open_input`, and `NotTextError`, `WrongEncodingError`, `LineTooLongError`,
            `InputTooLargeError`.
    """
    carry, line, total = b"", 1, 0
    with open_input(path) as stream:
        while chunk := stream.read(BLOCK_BYTES):
            total += len(chunk)
            if total > limits.MAX_DECOMPRESSED_BYTES:
                raise InputTooLargeError(
                    f"{path} decompresses to more than {limits.MAX_DECOMPRESSED_BYTES:,} bytes", "cut the log in parts"
                )
            data = carry + chunk
            if line == 1 and not carry:
                data = data.removeprefix(BOM)
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


def _too_long(path: Path, line: int) -> LineTooLongError:
    return LineTooLongError(
        f"{path} line {line} is longer than {limits.MAX_LINE_BYTES:,} bytes, or opens a quote that never closes",
        "check that the file is the log you mean, and its quotes",
    )


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
        at = line + data.count(b"\n", 0, data.index(b"\0"))
        raise NotTextError(f"{path} line {at} holds NUL bytes: it is no UTF-8 text", "save the log as UTF-8 text")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as cause:
        at = line + data.count(b"\n", 0, cause.start)
        raise WrongEncodingError(
            f"{path} line {at} is not valid {encoding.upper()} (byte 0x{data[cause.start]:02x})",
            "convert the file, for example `iconv -f latin1 -t utf-8`",
        ) from cause
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    if lines and len(max(lines, key=len)) > limits.MAX_LINE_BYTES:
        raise _too_long(path, line + max(range(len(lines)), key=lambda i: len(lines[i])))
    return Block(path, line, lines, '"' in text)


def fields(block: Block, separator: str, width: int, *, quoted: bool = False) -> pl.DataFrame:
    """The fields of a block's lines as text: columns `0`, `1`, … and `line`; blank lines are left out.

    Raises:
        RaggedRowError: a line has not `width` fields.
        BadQuotesError: quotes do not pair up.
    """
    if quoted and block.quotes:
        return _quoted_fields(block, separator, width)
    frame = pl.DataFrame(
        {"text": block.lines, "line": range(block.line, block.line + len(block.lines))},
        schema={"text": pl.String, "line": pl.Int64},
    )
    frame = frame.filter(pl.col("text").str.strip_chars() != "")
    found = pl.col("text").str.count_matches(separator, literal=True).cast(pl.Int64) + 1
    ragged = frame.select("line", found=found).filter(pl.col("found") != width)
    if len(ragged):
        line, count = ragged.row(0)
        raise ragged_row(block.path, line, count, width)
    if width == 1:
        return frame.select(pl.col("text").alias("0"), "line")
    parts = pl.col("text").str.split_exact(separator, width - 1).struct.rename_fields([str(i) for i in range(width)])
    return frame.select(parts.alias("parts"), "line").unnest("parts")


def ragged_row(path: Path, line: int, found: int, width: int) -> RaggedRowError:
    """The refusal of a line with another number of fields."""
    return RaggedRowError(
        f"{path} line {line} has {found} field{'s' * (found != 1)} where {width} are expected",
        "mend the line, or check that the file is complete and in the format named",
    )


def _quoted_fields(block: Block, separator: str, width: int) -> pl.DataFrame:
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
