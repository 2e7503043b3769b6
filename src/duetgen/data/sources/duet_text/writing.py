"""A dataset in the text format: `train.txt`, `test.txt`, and `items.csv`, which says what the numbers of items mean.

Items and users are numbers from 1, for 0 is padding. Items that training does not know are one item, the last number.
Training and validation events are the train file, shuffled; test events the test file, case by case. Reading both gives
the sequences back, see `chains`.

Shapes: E events, N positives, K negatives of each, L events of a window.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from duetgen.data.errors import BadSettingError
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset, Int32, Int64
from duetgen.files import new_folder

MARKER: Final = "train.txt"
BLOCK: Final = 2**16
"""Rows that are made at once."""


class TextConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the text format is written.

    Attributes:
        window: events of a sequence; the published sets have 10.
        negatives: drawn for each training row.
        test_negatives: drawn for each test case.
        seed: of the negatives and of the order of the rows.
    """

    window: int = 10
    negatives: int = 4
    test_negatives: int = 99
    seed: int = 0


def write_text(dataset: Dataset, out: Path, config: TextConfig | None = None, *, overwrite: bool = False) -> int:
    """Write a dataset as text; gives the number of rows.

    Raises:
        BadSettingError: a setting is out of its range, or there are too few items to draw from.
        OutputExistsError, OutputUnwritableError: see `new_folder`.
    """
    config = config or TextConfig()
    if not 1 <= config.window <= 1000 or config.negatives < 0 or config.test_negatives < 0 or config.seed < 0:
        raise BadSettingError("the window or the negatives are out of range", "a window of 1 to 1,000, no less than 0")
    rng = np.random.default_rng(config.seed)
    device_E = np.repeat(np.arange(dataset.devices), np.diff(dataset.offsets))
    within_E = np.arange(len(device_E)) - dataset.offsets[device_E]
    test_E = within_E >= dataset.bounds[device_E, 1]
    rows = 0
    with new_folder(out, marker=MARKER, own=("test.txt", "items.csv"), overwrite=overwrite) as folder:
        for name, chosen_E, negatives in (
            ("train.txt", ~test_E, config.negatives),
            ("test.txt", test_E, config.test_negatives),
        ):
            position_N = np.flatnonzero(chosen_E & (within_E > 0))
            with (folder / name).open("w", encoding="ascii") as file:
                train = name == MARKER
                for line in _rows(dataset, position_N, device_E, within_E, negatives, config.window, rng, train):
                    file.write(line)
                    rows += 1
        _write_items(dataset, folder / "items.csv")
    return rows


def _rows(
    dataset: Dataset,
    position_N: Int64,
    device_E: Int64,
    within_E: Int64,
    negatives: int,
    window: int,
    rng: np.random.Generator,
    shuffled: bool,
) -> Iterator[str]:
    """The rows of each position: the event that happened, and items that the device has not met before it."""
    known = dataset.vocabulary - FIRST_ITEM
    place_R = np.arange(len(position_N) * (1 + negatives))
    if shuffled:
        place_R = rng.permutation(place_R)
    for begin in range(0, len(place_R), BLOCK):
        for place in place_R[begin : begin + BLOCK].tolist():
            at, drawn = int(position_N[place // (1 + negatives)]), place % (1 + negatives)
            start = at - int(within_E[at])
            history = dataset.events[start:at]
            label, item = 1, int(dataset.events[at])
            if drawn:
                label, item = 0, _unmet(history, item, known, rng)
            seen = [_number(one, known) for one in history[-window - 1 :].tolist()]
            older, newer = _padded(seen[:-1], window), _padded(seen[-window:], window)
            yield f"{device_E[at] + 1};{_number(item, known)};{older};{newer};{label}\n"


def _number(index: int, known: int) -> int:
    return known + 1 if index == UNKNOWN else index - UNKNOWN


def _padded(items: list[int], window: int) -> str:
    return ",".join(map(str, items + [0] * (window - len(items))))


def _unmet(history: Int32, target: int, known: int, rng: np.random.Generator) -> int:
    for _ in range(1000):
        item = FIRST_ITEM + int(rng.integers(known))
        if item != target and item not in history:
            return item
    raise BadSettingError("there are too few items that a device has not met", "write with fewer negatives")


def _write_items(dataset: Dataset, path: Path) -> None:
    table = dataset.table("items")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("item", "id", "title"))
        for index, item, title in table.select("index", "item", "title").iter_rows():
            writer.writerow((index - UNKNOWN, item, title or ""))
