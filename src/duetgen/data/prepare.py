"""From a log to a dataset folder; read this from top to bottom for how the data flows.

1. **Read** (`sources`): the input becomes one event table, user, item, time and rating, in the order of the file.
2. **Filter by rating**, if asked.
3. **Order** (`sequences`): one user after the other, each by time; equal times stay as in the file.
4. **Divide** (`splits`) into training, validation and test.
5. **Index** (`filters`): k-core, vocabulary and counts, from the training part alone. Items that it does not know
   become the unknown item, index 1.
6. **Draw candidates** (`candidates`) for each validation and test target.
7. **Write** the arrays (`store` describes them) aside,
8. **prove** (`leakage`) that nothing a model reads depends on what it is to predict,
9. and only then does the folder appear under its name.

Every step says in the manifest what went in, what came out, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

import duetgen
from duetgen.data import candidates, filters, leakage, sequences, splits, text_format
from duetgen.data.errors import BadSettingError, LeakageError, NoTargetsError, NoTimeError
from duetgen.data.filters import Indexed
from duetgen.data.sources import SOURCES, Columns, Log, Progress, read
from duetgen.data.sources.text import sha256
from duetgen.data.store import (
    FIRST_ITEM,
    FORMAT_VERSION,
    UNKNOWN,
    Counts,
    Dataset,
    Manifest,
    Part,
    Source,
    Step,
    content_hash,
    find_targets,
)
from duetgen.data.synthetic import SyntheticConfig
from duetgen.data.text_format import TextRows
from duetgen.files import new_folder

SPLITS = ("temporal", "leave-one-out", "given")
PARTS: tuple[Part, ...] = ("valid", "test")


class PrepareConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a log is prepared.

    Attributes:
        source: name of the source, or `auto`: told from the file.
        split: `temporal`, `leave-one-out` or `given`; None: given if the data came divided, else temporal if it has
            time, else leave-one-out.
        columns: names of a table's columns.
        min_rating: events rated less are left out; None: all stay.
        min_user_events: fewest training events (of known items) of a user; 1 keeps every user, new ones too.
        min_item_events: fewest training events of a known item; rarer items become the unknown item.
        valid_share: share of the events before the test boundary that validate (temporal split).
        test_share: share of the events that test (temporal split).
        seed: of the drawn candidates.
        name: of the dataset; None: from the input.
        synthetic: size and seed of the simulated log, for the source `synthetic`.
    """

    source: str = "auto"
    split: str | None = None
    columns: Columns = Columns()
    min_rating: float | None = None
    min_user_events: int = 1
    min_item_events: int = 1
    valid_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0
    name: str | None = None
    synthetic: SyntheticConfig = SyntheticConfig()


def prepare(
    input: Path | None,
    out: Path,
    config: PrepareConfig | None = None,
    *,
    test_input: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Prepare a log: the folder `out` appears whole, with its manifest, or not at all.

    Args:
        input: the log; None for the source `synthetic`.
        out: the dataset folder to make.
        config: how.
        test_input: the file of test events, where the split is given.
        overwrite: replace a dataset folder at `out`.
        progress: called with one line at each step.

    Returns:
        The manifest, as written.

    Raises:
        DuetError: any refusal of `duetgen.data.errors`, and of the output folder.
    """
    config = config or PrepareConfig()
    say: Progress = progress or (lambda line: None)
    validate(config)
    with new_folder(out, marker=Dataset.marker, overwrite=overwrite) as folder:
        say(f"reading {input.name if input else 'synthetic'}")
        log = read(input, config.source, columns=config.columns, test_input=test_input, synthetic=config.synthetic)
        steps = [_read_step(log, note.name, note.reason, note.events_in, note.events_out) for note in log.notes]
        steps.insert(0, _read_step(log, "read", f"events of the log ({log.kind})", log.size, log.size))
        events = log.events
        if config.min_rating is not None:
            events = keep_rated(events, config.min_rating, steps)
        kind = choose_split(log, config.split)
        say(f"dividing {len(events):,} events ({kind})")

        def stage(table: pl.DataFrame) -> tuple[splits.Division, Indexed]:
            """Order, divide and index; run again by the leakage check on tables with other futures."""
            division = splits.divide(sequences.order(table), kind, config.valid_share, config.test_share)
            return division, filters.index(division, config.min_user_events, config.min_item_events)

        division, indexed = stage(events)
        steps += _divide_steps(events, division, indexed, config)
        say(f"writing {len(indexed.users):,} devices, {len(indexed.items):,} items, {len(indexed.events):,} events")
        write_arrays(folder, indexed, log, config.seed)
        if log.rows is not None:
            steps.append(write_rows(folder, indexed, log.rows))
        manifest = _manifest(folder, input, log, config, kind, division, indexed, steps)
        _write_manifest(folder, manifest)
        say("checking for leakage")
        checks = leakage.check(Dataset(folder)) + leakage.check_stage(events, stage, division, indexed)
        failed = [check for check in checks if not check.passed]
        if failed:
            raise LeakageError(
                f"{failed[0].name}: {failed[0].evidence}",
                "the data as divided let a model see what it is to predict; use another --split",
            )
        manifest = msgspec.structs.replace(manifest, leakage=checks)
        _write_manifest(folder, manifest)
    return manifest


def validate(config: PrepareConfig) -> None:
    """Refuse settings out of their ranges.

    Raises:
        BadSettingError: saying which and what range it has.
    """
    for name in ("valid_share", "test_share"):
        share = getattr(config, name)
        if not 0 < share < 1:
            raise BadSettingError(f"{name} is {share}", "a share is above 0 and below 1, for example 0.1")
    for name in ("min_user_events", "min_item_events"):
        if getattr(config, name) < 1:
            raise BadSettingError(f"{name} is {getattr(config, name)}", "1 means no filter; 5 is usual")
    if config.split is not None and config.split not in SPLITS:
        raise BadSettingError(f"there is no split {config.split!r}", f"choose one of {', '.join(SPLITS)}")
    if config.seed < 0:
        raise BadSettingError(f"seed is {config.seed}", "choose 0 or more")
    if config.min_rating is not None and not np.isfinite(config.min_rating):
        raise BadSettingError(f"min_rating is {config.min_rating}", "choose a finite number")


def choose_split(log: Log, split: str | None) -> str:
    """The split asked for, or the best that the log allows.

    Raises:
        BadSettingError: the data came divided and another split is asked for.
        NoTimeError: temporal asked of a log without time.
    """
    divided, timed = "part" in log.events.columns, "timestamp" in log.events.columns
    if split is None:
        return "given" if divided else "temporal" if timed else "leave-one-out"
    if divided and split != "given":
        raise BadSettingError(
            f"the data came with its test events, and the split {split} would not use them", "use --split given"
        )
    if split == "temporal" and not timed:
        raise NoTimeError("the log has no timestamps, so no point in time divides it", "use --split leave-one-out")
    return split


def _sizes(events: pl.DataFrame) -> tuple[int, int, int]:
    return len(events), events["user"].n_unique(), events["item"].n_unique()


def _read_step(log: Log, name: str, reason: str, events_in: int, events_out: int) -> Step:
    _, users, items = _sizes(log.events)
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


def _step(name: str, reason: str, before: tuple[int, int, int], after: tuple[int, int, int]) -> Step:
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


def keep_rated(events: pl.DataFrame, min_rating: float, steps: list[Step]) -> pl.DataFrame:
    """The events rated well enough; the step is recorded.

    Raises:
        BadSettingError: the log has no ratings.
        NoEventsLeftError: no event is left.
    """
    if "rating" not in events.columns:
        raise BadSettingError("min_rating is set, but the log has no ratings", "leave --min-rating out")
    kept = filters.keep_rated(events, min_rating)
    steps.append(_step("rating", f"rated less than {min_rating:g}", _sizes(events), _sizes(kept)))
    return kept


def _divide_steps(
    events: pl.DataFrame, division: splits.Division, indexed: Indexed, config: PrepareConfig
) -> list[Step]:
    steps = []
    before = _sizes(events)
    sequence = division.sequences
    after = (len(sequence.item_E), len(sequence.users), len(np.unique(sequence.item_E)))
    if division.reason:
        steps.append(_step("split", division.reason, before, after))
    raw_left = sequence.item_E[np.isin(sequence.row_E, indexed.row_E)]
    cored = (len(indexed.events), len(indexed.users), len(np.unique(raw_left)))
    if config.min_user_events > 1:
        reason = f"fewer than {config.min_user_events} training events of known items"
        steps.append(_step("users", reason, after, cored))
    least = config.min_item_events
    rare = f"with fewer than {least} training events" if least > 1 else "that the training part does not have"
    reason = f"items {rare} become the unknown item; their events stay in place"
    steps.append(_step("items", reason, cored, (cored[0], cored[1], len(indexed.items))))
    return steps


def write_arrays(folder: Path, indexed: Indexed, log: Log, seed: int) -> None:
    """Write all but the manifest.

    Raises:
        NoTargetsError: a part has nothing to learn or to predict.
    """

    if not (indexed.bounds[:, 0] >= 2).any():
        raise NoTargetsError(
            "the training part has no device with two events, so nothing can be learnt",
            "use more data or a lower filter",
        )
    _save(folder, "sequences/events", indexed.events)
    _save(folder, "sequences/offsets", indexed.offsets)
    _save(folder, "sequences/bounds", indexed.bounds)
    if indexed.timestamps is not None:
        _save(folder, "sequences/timestamps", indexed.timestamps)
    vocabulary = FIRST_ITEM + len(indexed.items)
    for number, part in enumerate(PARTS):
        targets = find_targets(indexed.offsets, indexed.bounds, part)
        if not len(targets):
            raise NoTargetsError(
                f"the {'validation' if part == 'valid' else part} part has no event with another before it",
                "use more data, other shares, or --split leave-one-out",
            )
        rng = np.random.default_rng([seed, number])
        _save(folder, f"candidates/{part}", candidates.draw(indexed.events, indexed.offsets, targets, vocabulary, rng))
    items = pl.DataFrame(
        {"index": np.arange(FIRST_ITEM, vocabulary, dtype=np.int32), "item": indexed.items, "count": indexed.counts}
    )
    titles = log.titles if log.titles is not None else pl.DataFrame(schema={"item": pl.String, "title": pl.String})
    items = items.join(titles, on="item", how="left", maintain_order="left").select("index", "item", "title", "count")
    items.write_parquet(folder / "items.parquet")
    devices = pl.DataFrame({"index": np.arange(len(indexed.users), dtype=np.int32), "user": indexed.users})
    devices.write_parquet(folder / "devices.parquet")


def _save(folder: Path, name: str, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    path = folder / f"{name}.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)


def write_rows(folder: Path, indexed: Indexed, rows: TextRows) -> Step:
    """Write the rows of the text format and the candidates that came with the test events."""
    _save(folder, "given/test", text_format.place_given(rows, indexed))
    placed, dropped = text_format.place_rows(rows, indexed)
    for name in ("device", "window", "trigger", "target", "label"):
        array = next(getattr(placed, f"{name}_{end}") for end in ("R", "RL") if hasattr(placed, f"{name}_{end}"))
        _save(folder, f"rows/{name}", array)
    return Step(
        name="training rows",
        reason="rows (not events) at or after the validation event of their user, or with a window that is nowhere in "
        "its sequence, are no training rows",
        events_in=len(rows.label_R),
        events_out=len(rows.label_R) - dropped,
        users_in=len(np.unique(rows.user_R)),
        users_out=len(np.unique(placed.device_R)),
        items_in=len(np.unique(rows.target_R)),
        items_out=len(np.unique(placed.target_R)),
    )


def _manifest(
    folder: Path,
    input: Path | None,
    log: Log,
    config: PrepareConfig,
    kind: str,
    division: splits.Division,
    indexed: Indexed,
    steps: list[Step],
) -> Manifest:
    lengths = np.diff(indexed.offsets)
    targets = {part: find_targets(indexed.offsets, indexed.bounds, part) for part in PARTS}
    train, valid = int(indexed.bounds[:, 0].sum()), int((indexed.bounds[:, 1] - indexed.bounds[:, 0]).sum())
    time, tied = indexed.timestamps, None
    if time is not None:
        same = time[1:] == time[:-1]
        same[indexed.offsets[1:-1] - 1] = False
        tied = float(same.sum()) / len(time)
    settings = msgspec.to_builtins(config) | {"source": log.kind, "split": kind}
    if log.kind != "synthetic":
        del settings["synthetic"]
    return Manifest(
        format_version=FORMAT_VERSION,
        name=config.name or _name(input, log),
        source=Source(
            kind=log.kind, files=[path.name for path in log.files], sha256=[sha256(path) for path in log.files]
        ),
        has_time=time is not None,
        split=division.split,
        seed=config.seed,
        settings=settings,
        steps=steps,
        counts=Counts(
            devices=len(lengths),
            items=len(indexed.items),
            events=len(indexed.events),
            train_events=train,
            valid_events=valid,
            test_events=len(indexed.events) - train - valid,
            valid_targets=len(targets["valid"]),
            test_targets=len(targets["test"]),
        ),
        tied_timestamps=tied,
        unseen_item_share={part: float((indexed.events[targets[part].position_N] == UNKNOWN).mean()) for part in PARTS},
        leakage=[],
        content_sha256=content_hash(folder),
        duetgen_version=duetgen.__version__,
    )


def _name(input: Path | None, log: Log) -> str:
    if input is None:
        return log.kind
    if log.kind.startswith("movielens") or input.name.startswith(("interactions.", "ratings.", "train.")):
        folder = input.absolute().parent
        return folder.parent.name if folder.name == "raw" else folder.name or log.kind
    return input.name.removesuffix(".gz").rsplit(".", 1)[0]


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / Dataset.marker).write_bytes(text + b"\n")


Stage = Callable[[pl.DataFrame], tuple[splits.Division, Indexed]]
__all__ = ["SOURCES", "Columns", "PrepareConfig", "Stage", "SyntheticConfig", "prepare"]
