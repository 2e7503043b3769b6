"""Rows of the text format, read and checked; `text_format` says what they are.

Shapes: R rows, L events of a window, T events of a trigger sequence.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from duetgen.data.errors import BadTextRowError, InputEmptyError, InputMissingError, TestInputMissingError
from duetgen.data.sequences import codes
from duetgen.data.sources.events import EventTable
from duetgen.data.sources.ids import is_missing
from duetgen.data.sources.text import blocks, fields, sample
from duetgen.data.store import PADDING, Int64
from duetgen.data.text_chains import Edge

FIELDS: Final = 5
MAX_WINDOW: Final = 4096


@dataclass(frozen=True)
class TextRows:
    """Rows of the train file, and the candidates of the test file, in codes of `users` and `items`.

    Item code 0 is padding; `items` holds the ids of the codes from 1 on.

    Attributes:
        users: text, by code.
        items: text, by code - 1.
        user_R: user of each training row.
        target_R: item of each training row.
        trigger_RT: what the generator reads, 0-padded on the right.
        window_RL: what the device has seen, 0-padded on the right.
        label_R: 1: chosen, 0: drawn.
        given: per user code, the candidates of its test cases in order, the positive first.
    """

    users: pl.Series
    items: pl.Series
    user_R: Int64
    target_R: Int64
    trigger_RT: Int64
    window_RL: Int64
    label_R: npt.NDArray[np.int8]
    given: dict[int, list[list[int]]]

    def take(self, some: slice) -> TextRows:
        """Some of the rows."""
        return replace(
            self,
            user_R=self.user_R[some],
            target_R=self.target_R[some],
            trigger_RT=self.trigger_RT[some],
            window_RL=self.window_RL[some],
            label_R=self.label_R[some],
        )

    def edges(self) -> dict[int, list[Edge]]:
        """The positive rows of each user, in the order of the file."""
        chosen, width = self.label_R == 1, self.window_RL.shape[1]
        edges: dict[int, list[Edge]] = defaultdict(list)
        for user, item, window in zip(
            self.user_R[chosen].tolist(), self.target_R[chosen].tolist(), self.window_RL[chosen].tolist()
        ):
            edges[user].append(Edge(tuple(item for item in window if item), item, width))
        return edges


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
        WrongSourceError: the first line is no such row.
        BadTextRowError: a label is neither 0 nor 1, a target is padding, or a window is not padded as it must be.
        DuetError: any refusal of reading a text file.
    """
    from duetgen.data.sources.detect import why_not

    if sample(path)[0].count(";") != FIELDS - 1:
        raise why_not(path, "duet-text")
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


def encode(rows: pl.DataFrame) -> TextRows:
    """Ids as codes; item codes from 1 by first appearance (targets first), 0 is padding."""
    user_R, users = codes(rows["user"])
    flat = pl.concat([rows["item"], *(rows[name].explode().rename("item") for name in ("window", "trigger"))])
    code, distinct = codes(flat)
    # Padding moves to 0, and the codes that came before it move up by one.
    shift = np.arange(1, len(distinct) + 1, dtype=np.int64)
    padding = np.flatnonzero((distinct == "0").to_numpy())
    if len(padding):
        shift[padding[0] :] -= 1
        shift[padding[0]] = PADDING
    code = shift[code]
    count, width = len(rows), len(rows["window"][0])
    return TextRows(
        users=users,
        items=distinct.filter(distinct != "0"),
        user_R=user_R,
        target_R=code[:count],
        trigger_RT=code[count + count * width :].reshape(count, -1),
        window_RL=code[count : count + count * width].reshape(count, width),
        label_R=rows["label"].to_numpy(),
        given={},
    )
