"""The identity card of a dataset folder: what each step left out and why, counts, and where the events came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

import duetgen
from duetgen.data.filters import Indexed
from duetgen.data.remarks import of_growth, remarks
from duetgen.data.repeats import choose_policy, count_repeats
from duetgen.data.sequences import pieces
from duetgen.data.sources.kinds import KINDS
from duetgen.data.sources.log import Log, Note
from duetgen.data.sources.packing import bare
from duetgen.data.sources.source import Reader
from duetgen.data.store import (
    FORMAT_VERSION,
    PARTS,
    UNKNOWN,
    Counts,
    Dataset,
    Manifest,
    Source,
    Step,
    Version,
    content_hash,
    find_targets,
)
from duetgen.documents import digest_of, encode_sealed

if TYPE_CHECKING:
    from duetgen.data.arrange import Arranged
    from duetgen.data.kept import Standing
    from duetgen.data.prepare import PrepareConfig


Sizes = tuple[int, int, int]
"""Events, users and items."""


def read_steps(log: Log, left: Sizes) -> list[Step]:
    """The steps of reading: what it left out is not in the events, so users and items are counted after it."""
    events = log.notes[0].events_in if log.notes else left[0]
    notes = [Note("read", f"events of the log ({log.kind})", events, events), *log.notes]
    return [step(one.name, one.reason, (one.events_in, *left[1:]), (one.events_out, *left[1:])) for one in notes]


def step(name: str, reason: str, before: Sizes, after: Sizes) -> Step:
    """A step from some sizes to others."""
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


def divide_steps(before: Sizes, made: Arranged, config: PrepareConfig) -> list[Step]:
    """The steps of split and filters, from what was made of the events."""
    steps = []
    if made.rule.reason:
        steps.append(step("split", made.rule.reason, before, made.divided_sizes))
    indexed = made.indexed
    cored = (len(indexed.events), len(indexed.users), int(indexed.met_I.sum()))
    if config.min_user_events > 1:
        reason = f"fewer than {config.min_user_events} training events of known items"
        steps.append(step("users", reason, made.divided_sizes, cored))
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
    made: Arranged,
    steps: list[Step],
    standing: Standing | None = None,
) -> Manifest:
    """The manifest of the arrays in `folder`; the leakage checks are still to come."""
    before = None if standing is None else standing.dataset.manifest
    indexed, split = made.indexed, made.rule.split
    lengths = np.diff(indexed.offsets)
    targets = {part: find_targets(indexed.offsets, indexed.bounds, part) for part in PARTS}
    train, valid = int(indexed.bounds[:, 0].sum()), int((indexed.bounds[:, 1] - indexed.bounds[:, 0]).sum())
    # What an earlier version has dropped is not among the events any more.
    dropped = before.repeats.exact_rows if before is not None and config.drop_repeats else 0
    repeats = count_repeats(indexed, dropped + made.exact_rows, config.drop_repeats)
    met = choose_policy(config.met, repeats)
    settings = msgspec.to_builtins(config) | {"source": log.kind, "split": split.kind}
    if log.kind != "synthetic":
        del settings["synthetic"]
    versions: list[Version] = []
    if before is not None:
        settings = before.settings
        last = Version(content_sha256=before.content_sha256, source=before.source, counts=before.counts)
        versions = [*before.versions, last]
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
    titled = int(pl.read_parquet(folder / "items.parquet", columns=["title"], glob=False)["title"].count())
    files = {path.relative_to(folder).as_posix(): digest_of(path) for path in sorted(folder.rglob("*.*"))}
    return Manifest(
        format_version=FORMAT_VERSION,
        name=config.name or text_of(name_of(input, log)),
        versions=versions,
        source=Source(kind=log.kind, files=[text_of(path.name) for path in log.files], sha256=log.digests),
        has_time=indexed.timestamps is not None,
        split=split,
        seed=config.seed,
        settings=settings,
        steps=steps,
        counts=counts,
        tied_timestamps=tied_share(indexed),
        unseen_item_share=unseen,
        repeats=repeats,
        met=met,
        leakage=[],
        remarks=log.remarks
        + ([] if standing is None else of_growth(made, log.spool, standing, met))
        + remarks(made, log.spool, counts, config, unseen["test"], titled),
        content_sha256=content_hash(folder, met, config.seed, files, versions),
        files=files,
        duetgen_version=duetgen.__version__,
    )


def tied_share(indexed: Indexed) -> float | None:
    """Share of events whose timestamp equals that of the device's event before; None without time."""
    if indexed.timestamps is None:
        return None
    tied = 0
    for devices, events in pieces(indexed.offsets, indexed.timestamps):
        time = indexed.timestamps[events]
        same = time[1:] == time[:-1]
        same[indexed.offsets[devices.start + 1 : devices.stop] - events.start - 1] = False
        tied += int(same.sum())
    return tied / len(indexed.events)


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


def text_of(name: str) -> str:
    """The name of a file, which may be any bytes, as text."""
    return os.fsencode(name).decode("utf-8", "replace")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`."""
    (folder / Dataset.marker).write_bytes(encode_sealed(manifest))
