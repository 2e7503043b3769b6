"""The text format as a log: the sequences that its rows imply, and the rows."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from duetgen.data.errors import BadTextRowError, InputEmptyError
from duetgen.data.sources.duet_text.chains import Chain, Edge, chain
from duetgen.data.sources.duet_text.files import files_of, read_rows
from duetgen.data.sources.duet_text.rows import TextRows, encode
from duetgen.data.sources.log import Log, Note
from duetgen.data.sources.source import Head, Source
from duetgen.data.spool import Spool

TEXT_ROW: Final = re.compile(r"[^;]+;[^;,]+;[^;]*;[^;]*;\s*[01](\.0*)?\s*\Z")


class DuetText(Source):
    """Train and test file of the published DUET code, or the folder that holds both."""

    name = "duet-text"
    about = "train and test file of the published DUET code, or their folder"
    licence = "that of the data set which was converted"
    citation = (
        "Z. Lv et al., DUET: A Tuning-Free Device-Cloud Collaborative Parameters Generation Framework for Efficient "
        "Device Model Generalization, WWW 2023; and the data set which was converted"
    )

    def fits(self, head: Head) -> bool:
        """A row: five fields, the last of them a label."""
        return head.form == "text" and TEXT_ROW.match(head.first) is not None


def read_text_format(path: Path, test_input: Path | None = None) -> Log:
    """Read both files: the sequences that they imply as the log, and the rows.

    Raises:
        BadTextRowError: see `read_rows`; or a test case has not one positive, or is not the end of its user's rows.
        DuetError: any refusal of reading a text file.
    """
    train_path, test_path = files_of(path, test_input)
    train, test = read_rows(train_path), read_rows(test_path)
    for name in ("trigger", "window"):
        widths = [len(rows[name][0]) for rows in (train, test)]
        if widths[0] != widths[1]:
            raise BadTextRowError(
                f"{name} sequences have {widths[0]} items in {train_path.name} and {widths[1]} in {test_path.name}",
                "the two files must be of one set",
            )
    both = encode(pl.concat([train, test]))
    rows, asked = both.take(slice(None, len(train))), both.take(slice(len(train), None))
    edges, cases = rows.edges(), _cases(asked, test_path)
    chains: list[Chain] = []
    for user in range(len(both.users)):
        found = chain(edges.get(user, []), [case.edge for case in cases.get(user, [])])
        if found is None:
            raise BadTextRowError(
                f"{test_path}: the test rows of user {both.users[user]} do not follow its other rows",
                "the test rows of a user must be the end of its sequence",
            )
        chains.append(found)
    given = {
        user: [case.candidates for window in found.tests for case in cases[user] if case.edge.window == window]
        for user, found in enumerate(chains)
        if found.tests
    }
    events = _table(chains, both.users, both.items)
    if not len(events):
        raise InputEmptyError(f"{train_path} holds no row with label 1", "check how the file was exported")
    notes = _notes(chains, len(both.label_R), len(events))
    return Log("duet-text", Spool.of(events), None, [train_path, test_path], notes, replace(rows, given=given))


def _notes(chains: list[Chain], rows: int, events: int) -> list[Note]:
    bridged, lost = sum(found.bridged for found in chains), sum(found.lost for found in chains)
    notes = [Note("rows", f"{rows:,} rows of both files, read as the sequences that they imply", events, events)]
    if bridged:
        reason = f"{bridged:,} missing rows whose events the windows after them hold"
        notes.append(Note("bridged", reason, events, events))
    if lost:
        reason = "events of rows that nothing joins to the last rows of their user"
        notes.append(Note("unjoined", reason, events + lost, events))
    return notes


def _table(chains: list[Chain], users: pl.Series, items: pl.Series) -> pl.DataFrame:
    """The event table: users in the order of their codes, the test events last."""
    lengths = np.array([len(found.events) for found in chains], dtype=np.int64)
    tests = np.array([len(found.tests) for found in chains], dtype=np.int64)
    code = np.concatenate([np.asarray(found.events, dtype=np.int64) for found in chains])
    user = np.repeat(np.arange(len(chains)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(code))
    part = np.where(left <= tests[user], 2, 0).astype(np.uint8)
    return pl.DataFrame({"user": users.gather(user), "item": items.gather(code - 1), "part": part})


@dataclass(frozen=True)
class Case:
    """A test case: its positive row, and its candidates, the positive first."""

    edge: Edge
    candidates: list[int]


def _cases(rows: TextRows, path: Path) -> dict[int, list[Case]]:
    groups: dict[tuple[int, tuple[int, ...]], tuple[list[int], list[int]]] = {}
    for user, item, window, label in zip(
        rows.user_R.tolist(), rows.target_R.tolist(), rows.window_RL.tolist(), rows.label_R.tolist()
    ):
        groups.setdefault((user, tuple(window)), ([], []))[label].append(item)
    cases: dict[int, list[Case]] = defaultdict(list)
    width = rows.window_RL.shape[1]
    for (user, window), (negatives, positives) in groups.items():
        if len(positives) != 1:
            raise BadTextRowError(
                f"{path}: a test case of user {rows.users[user]} has {len(positives)} rows with label 1",
                "each window in the test file needs one row with label 1",
            )
        edge = Edge(tuple(item for item in window if item), positives[0], width)
        cases[user].append(Case(edge, positives + negatives))
    return cases
