"""The identity card of a dataset folder: what each step left out and why, counts, and where the events came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

import duetgen
from duetgen.data import splits
from duetgen.data.arrays import PARTS
from duetgen.data.filters import Indexed
from duetgen.data.remarks import remarks
from duetgen.data.repeats import choose_policy
from duetgen.data.sources.kinds import KINDS
from duetgen.data.sources.log import Log
from duetgen.data.sources.packing import bare
from duetgen.data.sources.source import Reader
from duetgen.data.store import (
    FORMAT_VERSION,
    UNKNOWN,
    Counts,
    Dataset,
    Manifest,
    Repeats,
    Source,
    Step,
    content_hash,
    find_targets,
)
from duetgen.documents import digest_of, encode_sealed

if TYPE_CHECKING:
    from duetgen.data.prepare import PrepareConfig


def sizes(events: pl.DataFrame) -> tuple[int, int, int]:
    """Events, users and items of an event table."""
    return len(events), events["user"].n_unique(), events["item"].n_unique()


def read_step(log: Log, name: str, reason: str, events_in: int, events_out: int) -> Step:
    """A step of reading: what it left out is not in the table, so users and items are counted after it."""
    _, users, items = sizes(log.events)
    return Step(
        name=name,
        reason=reason,
        events_in=events_in,
        events_out=events_out,
        users_in=users,
        users_out=users,
        items_in=items,
        items_out=items,
    )


def step(name: str, reason: str, before: tuple[int, int, int], after: tuple[int, int, int]) -> Step:
    """A step from `sizes` to `sizes`."""
    return Step(
        name=name,
        reason=reason,
        events_in=before[0],
        events_out=after[0],
        users_in=before[1],
        users_out=after[1],
        items_in=before[2],
        items_out=after[2],
    )


def divide_steps(
    events: pl.DataFrame, division: splits.Division, indexed: Indexed, config: PrepareConfig
) -> list[Step]:
    """The steps of split and filters, from the division and what was made of it."""
    steps = []
    before = sizes(events)
    sequence = division.sequences
    after = (len(sequence.item_E), len(sequence.users), len(np.unique(sequence.item_E)))
    if division.reason:
        steps.append(step("split", division.reason, before, after))
    raw_left = sequence.item_E[np.isin(sequence.row_E, indexed.row_E)]
    cored = (len(indexed.events), len(indexed.users), len(np.unique(raw_left)))
    if config.min_user_events > 1:
        reason = f"fewer than {config.min_user_events} training events of known items"
        steps.append(step("users", reason, after, cored))
    least = config.min_item_events
    rare = f"with fewer than {least} training events" if least > 1 else "that the training part does not have"
    reason = f"items {rare} become the unknown item; their events stay in place"
    steps.append(step("items", reason, cored, (cored[0], cored[1], len(indexed.items))))
    return steps


def make_manifest(
    folder: Path,
    input: Path | None,
    log: Log,
    config: PrepareConfig,
    kind: str,
    division: splits.Division,
    indexed: Indexed,
    steps: list[Step],
    repeats: Repeats,
) -> Manifest:
    """The manifest of the arrays in `folder`; the leakage checks are still to come."""
    lengths = np.diff(indexed.offsets)
    targets = {part: find_targets(indexed.offsets, indexed.bounds, part) for part in PARTS}
    train, valid = int(indexed.bounds[:, 0].sum()), int((indexed.bounds[:, 1] - indexed.bounds[:, 0]).sum())
    time, tied = indexed.timestamps, None
    if time is not None:
        same = time[1:] == time[:-1]
        same[indexed.offsets[1:-1] - 1] = False
        tied = float(same.sum()) / len(time)
    met = choose_policy(config.met, repeats)
    settings = msgspec.to_builtins(config) | {"source": log.kind, "split": kind}
    if log.kind != "synthetic":
        del settings["synthetic"]
    counts = Counts(
        devices=len(lengths),
        items=len(indexed.items),
        events=len(indexed.events),
        train_events=train,
        valid_events=valid,
        test_events=len(indexed.events) - train - valid,
        valid_targets=len(targets["valid"]),
        test_targets=len(targets["test"]),
    )
    unseen: dict[str, float] = {
        part: float((indexed.events[targets[part].position_N] == UNKNOWN).mean()) for part in PARTS
    }
    titled = int(pl.read_parquet(folder / "items.parquet", columns=["title"])["title"].count())
    return Manifest(
        format_version=FORMAT_VERSION,
        name=config.name or name_of(input, log),
        source=Source(
            kind=log.kind, files=[path.name for path in log.files], sha256=[digest_of(path) for path in log.files]
        ),
        has_time=time is not None,
        split=division.split,
        seed=config.seed,
        settings=settings,
        steps=steps,
        counts=counts,
        tied_timestamps=tied,
        unseen_item_share=unseen,
        repeats=repeats,
        met=met,
        leakage=[],
        remarks=log.remarks + remarks(division, counts, config, unseen["test"], titled, indexed.users),
        content_sha256=content_hash(folder, met),
        files={path.relative_to(folder).as_posix(): digest_of(path) for path in sorted(folder.rglob("*.*"))},
        duetgen_version=duetgen.__version__,
    )


USUAL = ("interactions.", "ratings.", "train.")
"""How names of logs begin that say nothing of what is in them."""


def name_of(input: Path | None, log: Log) -> str:
    """A name for the dataset: of the input, or of its folder where every such file has the same name."""
    if input is None:
        return log.kind
    name, source = bare(input.name), KINDS[log.kind]
    usual = name.startswith(USUAL) or (isinstance(source, Reader) and name in source.logs)
    if usual or input.is_dir():
        folder = input.absolute() if input.is_dir() else input.absolute().parent
        return folder.parent.name if folder.name == "raw" else folder.name or log.kind
    return name.rsplit(".", 1)[0] or name


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`."""
    (folder / Dataset.marker).write_bytes(encode_sealed(manifest))
