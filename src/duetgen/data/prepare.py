"""From a log to a dataset folder; read this from top to bottom for how the data flows.

1. **Read** (`sources`): the input becomes one event table, user, item, time and rating, in the order of the file.
2. **Filter** by rating and drop rows that stand twice, if asked.
3. **Order** (`sequences`): one user after the other, each by time; equal times stay as in the file.
4. **Divide** (`splits`) into training, validation and test.
5. **Index** (`filters`): k-core, vocabulary and counts, from the training part alone. Items that it does not know
   become the unknown item, index 1.
6. **Choose the policy of met items** (`repeats`), by how often events repeat.
7. **Draw candidates** (`candidates`) for each validation and test target.
8. **Write** the arrays (`store` describes them) aside,
9. **prove** (`leakage`) that nothing a model reads depends on what it is to predict,
10. and only then does the folder appear under its name.

Every step says in the manifest what went in, what came out, and why. A log that is appended to a dataset takes the same
way (`append`): behind the events that stand, with ids that begin with the known ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
import polars as pl

from duetgen.data import leakage
from duetgen.data.arrange import Arrangement, arrange
from duetgen.data.arrays import write_rows, write_tables
from duetgen.data.errors import BadSettingError, LeakageError, NoTimeError
from duetgen.data.filters import Indexed, keep_rated
from duetgen.data.kept import GROWING, Standing, table_of, write_kept
from duetgen.data.manifest import divide_steps, make_manifest, read_steps, step, write_manifest
from duetgen.data.memory import Memory
from duetgen.data.partitions import Run, in_threads
from duetgen.data.repeats import Met, exact_repeats
from duetgen.data.sequences import order
from duetgen.data.sources import read
from duetgen.data.sources.log import Columns, Log, Progress, Reading
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.spool import Spool
from duetgen.data.store import Check, Dataset, Int64, Manifest, own_files
from duetgen.files import folder_aside, new_folder

SAMPLED: Final = 200_000
"""Events that are arranged again with another future."""

SPLITS = ("temporal", "leave-one-out", "random", "given")


class PrepareConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a log is prepared.

    Attributes:
        source: name of the source, or `auto`: told from the file.
        split: `temporal`, `leave-one-out`, `random` or `given`; None: given if the data came divided, else temporal if
            it has time, else leave-one-out.
        columns: which columns of a table are what.
        reading: how the log is read: header, separator, unit of time, what is dropped, titles.
        min_rating: events rated less are left out; None: all stay.
        min_user_events: fewest training events (of known items) of a user; 1 keeps every user, new ones too.
        min_item_events: fewest training events of a known item; rarer items become the unknown item.
        valid_share: share of the events before the test boundary that validate (temporal split).
        test_share: share of the events that test (temporal split).
        met: whether items that a device has met are hidden from its rankings: `hide`, `show`, or `auto`: hidden where
            less than 1 % of the training events are repeats.
        drop_repeats: leave out rows that are exact repeats of another, see `repeats.exact_repeats`.
        seed: of the drawn candidates.
        name: of the dataset; None: from the input.
        synthetic: size and seed of the simulated log, for the source `synthetic`.
    """

    source: str = "auto"
    split: str | None = None
    columns: Columns = Columns()
    reading: Reading = Reading()
    min_rating: float | None = None
    min_user_events: int = 1
    min_item_events: int = 1
    valid_share: float = 0.1
    test_share: float = 0.1
    met: Met = "auto"
    drop_repeats: bool = False
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
    memory_limit: int | None = None,
    progress: Progress | None = None,
    run: Run = in_threads,
) -> Manifest:
    """Prepare a log: the folder `out` appears whole, with its manifest, or not at all.

    Args:
        input: the log; None for the source `synthetic`.
        out: the dataset folder to make.
        config: how.
        test_input: the file of test events, where the split is given.
        overwrite: replace a dataset folder at `out`.
        memory_limit: bytes that the process may use; None: what `memory.Memory` chooses.
        progress: called with one line at each step.
        run: works on the partitions of a large log, here or elsewhere.

    Returns:
        The manifest, as written.

    Raises:
        DuetError: any refusal of `duetgen.data.errors`, and of the output folder.
    """
    config = config or PrepareConfig()
    say: Progress = progress or (lambda line: None)
    validate(config)
    memory = Memory.within(memory_limit)
    with (
        new_folder(out, marker=Dataset.marker, own=own_files(out), overwrite=overwrite) as folder,
        folder_aside(out) as work,
    ):
        if input is not None and (need := memory.needed(input)):
            say(need)
        say(f"reading {input.name if input else 'synthetic'}")
        log = read(
            input,
            config.source,
            columns=config.columns,
            reading=config.reading,
            test_input=test_input,
            synthetic=config.synthetic,
            spool=Spool(work / "log", memory.most_ids),
        )
        return make_dataset(folder, work, input, log, config, memory, say, run=run)


def make_dataset(
    folder: Path,
    work: Path,
    input: Path | None,
    log: Log,
    config: PrepareConfig,
    memory: Memory,
    say: Progress,
    standing: Standing | None = None,
    run: Run = in_threads,
) -> Manifest:
    """Make the dataset of a log that is read.

    Args:
        folder: of the dataset.
        work: a folder for what lies on disk meanwhile.
        input: the log.
        log: as read.
        config: how.
        memory: how much there is.
        say: called with one line at each step.
        standing: the dataset that the log is appended to.
        run: works on the partitions of a large log, here or elsewhere.

    Raises:
        DuetError: any refusal of `duetgen.data.errors`.
    """
    spool = log.spool
    left = spool.sizes
    steps = read_steps(log, left)
    if config.min_rating is not None:
        spool.hold(keep_rated(spool.events, config.min_rating))
        rated = spool.sizes
        steps.append(step("rating", f"rated less than {config.min_rating:g}, or not rated", left, rated))
        left = rated
    split, earlier = choose_split(log, config.split), None
    if standing is None:
        check_shares(config, split)
    else:
        earlier, whole = standing.earlier(work / "standing"), standing.sizes_with(spool)
        steps.append(
            step("append", f"onto the {standing.size:,} events of version {standing.dataset.version}", left, whole)
        )
        left = whole
    how = Arrangement(
        split=split,
        valid_share=config.valid_share,
        test_share=config.test_share,
        min_user_events=config.min_user_events,
        min_item_events=config.min_item_events,
        drop_repeats=config.drop_repeats,
        seed=config.seed,
        most=memory.most_events(spool),
        run=run,
        earlier=earlier,
    )
    say(f"dividing {left[0]:,} events ({how.split})")
    users, items = spool.ids("user"), spool.ids("item")
    made = arrange(spool.events, users, items, how, folder, work)
    if config.drop_repeats and made.exact_rows:
        once = (left[0] - made.exact_rows, *left[1:])
        steps.append(step("repeats", "rows that are exact repeats of another", left, once))
        left = once
    steps += divide_steps(left, made, config)
    indexed = made.indexed
    say(f"writing {len(indexed.users):,} devices, {len(indexed.items):,} items, {len(indexed.events):,} events")
    titles = titles_of(log, standing)
    write_tables(folder, indexed, titles)
    if how.split in GROWING:
        write_kept(folder, work, made, users, items, titles)
    if log.rows is not None:
        steps.append(write_rows(folder, indexed, log.rows))
    manifest = make_manifest(folder, input, log, config, made, steps, standing)
    write_manifest(folder, manifest)
    say("checking for leakage")
    checks = leakage.check(Dataset(folder, manifest.files)) + check_some(spool, how, work)
    failed = [check for check in checks if not check.passed]
    if failed:
        raise LeakageError(
            f"{failed[0].name}: {failed[0].evidence}",
            "the data as divided let a model see what it is to predict; use another --split",
        )
    manifest = msgspec.structs.replace(manifest, leakage=checks)
    write_manifest(folder, manifest)
    return manifest


def titles_of(log: Log, standing: Standing | None) -> pl.DataFrame:
    """Titles by item: `item`, `title`; those of the log take the place of those that stand."""
    found = [pl.DataFrame(schema={"item": pl.String, "title": pl.String})]
    found += [] if log.titles is None else [log.titles]
    found += [] if standing is None else [standing.titles]
    return pl.concat(found).unique("item", keep="first", maintain_order=True)


def check_some(log: Spool, how: Arrangement, work: Path) -> list[Check]:
    """Arrange all events of some users with another future.

    Of a large log every n-th user is looked at, and the core, which such a part may not have, is left out.
    """
    earlier = how.earlier
    every = -(-(log.size + (earlier.events if earlier else 0)) // SAMPLED)
    if every > 1:
        how = replace(how, min_user_events=1, min_item_events=1)
    how = replace(how, earlier=None)
    table = log.events.filter(pl.col("user") % every == 0).collect(engine="streaming")
    sequences = order(table.with_row_index("row"))
    if earlier is not None:
        sequences = earlier.runs.take(np.arange(0, len(earlier.runs.lengths), every)).join(sequences)
        table = table_of(sequences)
        sequences = replace(sequences, row_E=np.arange(len(table), dtype=np.int32))
    if how.drop_repeats:
        table = table[np.sort(sequences.row_E[~exact_repeats(sequences)])]
        how = replace(how, drop_repeats=False)
    table = table.with_columns(log.ids(name).gather(table[name]).alias(name) for name in ("user", "item"))

    def stage(table: pl.DataFrame) -> tuple[Int64, Indexed]:
        with TemporaryDirectory(dir=work) as name:
            folder, spool = Path(name), Spool.of(table)
            (folder / "work").mkdir()
            made = arrange(spool.events, spool.ids("user"), spool.ids("item"), how, folder, folder / "work")
            return made.part_of_row(len(table)), made.indexed

    return leakage.check_stage(table, stage)


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


def check_shares(config: PrepareConfig, split: str) -> None:
    """Refuse shares that a split has no use for.

    Raises:
        BadSettingError: saying which.
    """
    plain = PrepareConfig()
    for name in ("valid_share", "test_share"):
        if split != "temporal" and getattr(config, name) != getattr(plain, name):
            raise BadSettingError(
                f"{name} is {getattr(config, name)}, and the split is {split}, which takes no share",
                "leave it out, or use --split temporal",
            )


def choose_split(log: Log, split: str | None) -> str:
    """The split asked for, or the best that the log allows.

    Raises:
        BadSettingError: the data came divided and another split is asked for.
        NoTimeError: temporal asked of a log without time.
    """
    divided, timed = "part" in log.spool.columns, "timestamp" in log.spool.columns
    if split is None:
        return "given" if divided else "temporal" if timed else "leave-one-out"
    if divided and split != "given":
        raise BadSettingError(
            f"the data came with its test events, and the split {split} would not use them", "use --split given"
        )
    if split == "random" and timed:
        raise BadSettingError("the log has time, and a random split would show the future", "use --split temporal")
    if split == "temporal" and not timed:
        raise NoTimeError("the log has no timestamps, so no point in time divides it", "use --split leave-one-out")
    return split
