"""The two files of the text format, found, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from duetgen.data.errors import BadTextRowError, InputEmptyError, InputMissingError, TestInputMissingError
from duetgen.data.sources.events import EventTable
from duetgen.data.sources.ids import is_missing
from duetgen.data.sources.lines import blocks, fields

FIELDS: Final = 5
MAX_WINDOW: Final = 4096


def files_of(path: Path, test_input: Path | None) -> tuple[Path, Path]:
    """The train and the test file of an input: a folder with both, or the train file.

    Raises:
        TestInputMissingError: no test file is beside the train file.
        InputMissingError: the folder has no train file.
    """
    if path.is_dir():
        train = next((p for end in ("", ".gz") if (p := path / f"train.txt{end}").is_file()), None)
        if train is None:
            raise InputMissingError(f"{path} has no train.txt or train.txt.gz", "name the train file")
        path = train
    if test_input is not None:
        return path, test_input
    name = path.name.replace("train", "test")
    stem = name.removesuffix(".gz")
    for candidate in (name, stem, f"{stem}.gz"):
        if candidate != path.name and (path.parent / candidate).is_file():
            return path, path.parent / candidate
    raise TestInputMissingError(f"there is no test file beside {path}", "name it with --test-input")


def read_rows(path: Path) -> pl.DataFrame:
    """Rows of one file: `user`, `item` (the target), `trigger`, `window` (lists of ids as text), `label`, `line`.

    Raises:
        BadTextRowError: a label is neither 0 nor 1, a target is padding, or a window is not padded as it must be.
        DuetError: any refusal of reading a text file.
    """
    frames = []
    for block in blocks(path):
        frame = fields(block, ";", FIELDS).rename({"0": "user", "1": "item", "2": "trigger", "3": "window"})
        EventTable().add(frame.select("user", "item", "line"), path)
        strip = pl.col("user", "item", "trigger", "window").str.replace_all(r"\s", "")
        label = pl.col("4").str.strip_chars().cast(pl.Float64, strict=False)
        frames.append(frame.with_columns(strip, label=label).drop("4"))
    rows = pl.concat(frames)
    if not len(rows):
        raise InputEmptyError(f"{path} holds no rows", "check how the file was exported")
    _refuse(rows, ~pl.col("label").is_in([0.0, 1.0]).fill_null(False), path, "the label is neither 0 nor 1")
    _refuse(rows, pl.col("item") == "0", path, "the target is 0, which is padding")
    for name in ("trigger", "window"):
        split = rows.select("line", pl.col(name).str.split(","))
        length = split[name].list.len()
        if int(length.to_numpy().max()) > MAX_WINDOW:
            raise BadTextRowError(
                f"{path}: a {name} of {int(length.to_numpy().max()):,} events", f"at most {MAX_WINDOW:,} are read"
            )
        _refuse(
            rows, pl.Series(length != length[0]), path, f"the {name} sequence has not {length[0]} items as the first"
        )
        bad = pl.col(name).str.contains(r"(^|,)(,|$)|(^|,)0,+[^0,]|(^|,)0,0*[^0,]")
        _refuse(rows, bad, path, f"the {name} sequence has an empty item, or padding before an item")
        _refuse(
            rows, split[name].list.eval(is_missing(pl.element())).list.any(), path, f"the {name} sequence has no id"
        )
        rows = rows.with_columns(split[name])
    return rows.with_columns(pl.col("label").cast(pl.Int8))


def _refuse(rows: pl.DataFrame, wrong: pl.Expr | pl.Series, path: Path, message: str) -> None:
    hit = rows.filter(wrong).head(1)
    if len(hit):
        raise BadTextRowError(
            f"{path} line {hit['line'][0]}: {message}", "a row is user;target;trigger_sequence;click_sequence;label"
        )
