"""The text format of the published DUET code: rows of a window and a target, in a train file and a test file.

```
user;target;trigger_sequence;click_sequence;label
7;19;11,5,8,0,0;11,5,8,2,0;1
```

`click_sequence` is the device's window: its last events before the target, newest last, zeros on the right where there
are fewer. `trigger_sequence` is what the generator reads, one event older. The train file is shuffled; each positive
row (label 1) comes with drawn negatives (label 0). The test file has, one after the other, the rows of each test case:
one positive and its negatives.

**Sequences.** Positive rows imply each user's sequence of events (`text_chains` says how); the test cases come last.

**Rows** as they stand are kept too, but only those that stand before the validation event of their user: whoever trains
on rows must not see it, nor rows that cannot be placed in the user's order.

Shapes: R rows, L events of a window, T events of a trigger sequence, N test cases, C candidates of a case.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from duetgen.data.errors import BadTextRowError, InputEmptyError
from duetgen.data.filters import Indexed
from duetgen.data.log import Log, Note
from duetgen.data.store import FIRST_ITEM, PADDING, UNKNOWN, Int32, Rows, find_targets
from duetgen.data.text_chains import Chain, Edge, chain
from duetgen.data.text_rows import TextRows, encode, files_of, read_rows


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
    return Log("duet-text", events, None, [train_path, test_path], notes, replace(rows, given=given))


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


def place_rows(rows: TextRows, indexed: Indexed) -> tuple[Rows, int]:
    """The training rows in the indices of the dataset, those that stand before the validation event of their device.

    Returns:
        The rows, and how many are left out: of users that were dropped, at or after the validation event, or such that
        their window is nowhere in the sequence.
    """
    item_index = _item_index(rows, indexed)
    device_of = {user: device for device, user in enumerate(indexed.users.to_list())}
    device_U = np.array([device_of.get(user, -1) for user in rows.users.to_list()], dtype=np.int32)
    device_R, window_RL = device_U[rows.user_R], item_index[rows.window_RL]
    width = window_RL.shape[1]
    user_E = np.repeat(np.arange(len(indexed.users)), np.diff(indexed.offsets))
    within_E = np.arange(len(user_E)) - indexed.offsets[user_E]
    training = within_E < indexed.bounds[user_E, 0]
    keys = [_keys(device_R, window_RL)]
    for chosen in (training, ~training):
        position = np.flatnonzero(chosen)
        have = np.minimum(within_E[chosen], width)
        at = (position - have)[:, None] + np.arange(width)
        real = np.arange(width) < have[:, None]
        window = np.where(real, indexed.events[np.where(real, at, 0)], PADDING)
        keys.append(_keys(user_E[chosen].astype(np.int32), window.astype(np.int32)))
    allowed = set(keys[1]) - set(keys[2])
    kept = np.array([key in allowed for key in keys[0]], dtype=bool)
    placed = Rows(
        device_R=device_R[kept],
        window_RL=window_RL[kept],
        trigger_RL=item_index[rows.trigger_RT[kept]],
        target_R=item_index[rows.target_R[kept]],
        label_R=rows.label_R[kept],
    )
    return placed, int((~kept).sum())


def _keys(device: Int32, window: Int32) -> list[bytes]:
    whole = np.ascontiguousarray(np.concatenate([device[:, None], window], axis=1), dtype=np.int32)
    return [row.tobytes() for row in whole]


def _item_index(rows: TextRows, indexed: Indexed) -> Int32:
    """Index of the dataset for each item code: int32 [codes], padding stays 0."""
    index_of = {item: i for i, item in enumerate(indexed.items.to_list(), FIRST_ITEM)}
    return np.array([PADDING, *(index_of.get(item, UNKNOWN) for item in rows.items.to_list())], dtype=np.int32)


def place_given(rows: TextRows, indexed: Indexed) -> Int32:
    """Candidates that came with each test target of the dataset: int32 [N, C], the positive first, 0-padded."""
    item_index = _item_index(rows, indexed)
    code_of = {user: code for code, user in enumerate(rows.users.to_list())}
    targets = find_targets(indexed.offsets, indexed.bounds, "test")
    first_N = indexed.offsets[targets.device_N] + indexed.bounds[targets.device_N, 1]
    users = indexed.users.to_list()
    found = [
        rows.given[code_of[users[device]]][number]
        for device, number in zip(targets.device_N.tolist(), (targets.position_N - first_N).tolist())
    ]
    out = np.zeros((len(found), max(map(len, found), default=1)), dtype=np.int32)
    for row, candidates in enumerate(found):
        out[row, : len(candidates)] = item_index[candidates]
    return out
