"""Growing a dataset by a log: the way of `prepare`, behind the events that stand, without the logs before.

Indices never change: ids begin with the known ones, so items and devices keep theirs and new ones follow. The split is
made anew on all events, but no boundary goes back: what an earlier version trained on, every later one trains on. So
counts only grow, and who was known stays known.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec
import polars as pl

from duetgen.data.errors import BadSettingError, NotAppendableError, NothingNewError
from duetgen.data.kept import GROWING, Standing
from duetgen.data.memory import Memory
from duetgen.data.partitions import Run, in_threads
from duetgen.data.prepare import PrepareConfig, make_dataset
from duetgen.data.sources import read
from duetgen.data.sources.detect import LOGS
from duetgen.data.sources.files import parts_of
from duetgen.data.sources.ids import in_another_form, shown
from duetgen.data.sources.log import Columns, Log, Progress
from duetgen.data.sources.raw import form_of
from duetgen.data.sources.synthetic import Synthetic
from duetgen.data.sources.times import CLOCK_FROM
from duetgen.data.spool import Spool
from duetgen.data.store import Dataset, Manifest, own_files
from duetgen.files import folder_aside, new_folder, sweep, unwritable
from duetgen.jobfolder import alone_in

OF_LOG = ("source", "columns", "reading")
"""Settings that a log may have of its own."""


def append(
    input: Path,
    root: Path,
    config: PrepareConfig | None = None,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    memory_limit: int | None = None,
    progress: Progress | None = None,
    run: Run = in_threads,
) -> Manifest:
    """Append a log to a dataset folder: the later version takes its place whole, or nothing changes.

    Args:
        input: the log.
        root: the dataset folder.
        config: the settings of the dataset (`settings_of`), perhaps with other `source`, `columns` and `reading`; None:
            the log is read as the one before.
        out: where to make the later version, beside the earlier; None: in its place.
        overwrite: replace a dataset folder at `out`.
        memory_limit: bytes that the process may use; None: what `memory.Memory` chooses.
        progress: called with one line at each step.
        run: works on the partitions of a large log, here or elsewhere.

    Returns:
        The manifest of the later version, as written.

    Raises:
        NotADatasetError, DamagedError: there is no dataset at `root`.
        NotAppendableError: it cannot grow, or the log does not fit it.
        BadSettingError: a setting is not that of the dataset.
        NothingNewError: all events stand in it already.
        FolderBusyError: another process appends to it.
        DuetError: any other refusal of preparing.
    """
    say: Progress = progress or (lambda line: None)
    memory = Memory.within(memory_limit)
    root = Path(os.path.realpath(root))
    in_place = out is None or Path(os.path.realpath(out)) == root
    out = root if out is None or in_place else out
    sweep(root)
    with contextlib.ExitStack() as held:
        if in_place and root.is_dir():
            try:
                held.enter_context(alone_in(root))
            except OSError as cause:
                raise unwritable(root, cause) from cause
        dataset = Dataset(root)
        before = settings_of(dataset)
        config = config or settings_of(dataset, input=input)
        check_settings(dataset, config, before)
        standing = Standing.of(dataset)
        folder = held.enter_context(
            new_folder(out, marker=Dataset.marker, own=own_files(out), overwrite=overwrite or in_place)
        )
        work = held.enter_context(folder_aside(out))
        if need := memory.needed(input, standing.size):
            say(need)
        say(f"reading {input.name}")
        spool = Spool(work / "log", memory.most_ids)
        spool.begin(standing.users, standing.items)
        log = read(
            input,
            config.source,
            columns=config.columns,
            reading=config.reading,
            spool=spool,
            numbers=config.reading.time_unit != before.reading.time_unit,
        )
        check_log(log, config, standing)
        log.remarks.extend(known_of(log, standing))
        return make_dataset(folder, work, input, log, config, memory, say, standing, run)


def settings_of(dataset: Dataset, source: str | None = None, input: Path | None = None) -> PrepareConfig:
    """The settings of a dataset, for a log to append.

    Args:
        dataset: the dataset.
        source: kind of the log; None: as the one before. One of another kind has columns of its own.
        input: the log. One of fields with names has neither a header nor a separator, whatever the one before had.

    Raises:
        DuetError: any refusal of reading the beginning of the log.
    """
    manifest = dataset.manifest
    settings = msgspec.convert(manifest.settings, PrepareConfig)
    reading = msgspec.structs.replace(settings.reading, titles=None)
    before = "auto" if settings.source == Synthetic.name else settings.source
    if source not in (None, before):
        settings = msgspec.structs.replace(settings, columns=Columns())
        reading = msgspec.structs.replace(reading, header=True, separator=None, time_unit=None)
    elif input is not None and reading.of_table and form_of(parts_of(input, LOGS)[0]) != "text":
        settings = settings if reading.header else msgspec.structs.replace(settings, columns=Columns())
        reading = msgspec.structs.replace(reading, header=True, separator=None)
    return msgspec.structs.replace(
        settings, name=manifest.name, split=manifest.split.kind, source=source or before, reading=reading
    )


def check_settings(dataset: Dataset, config: PrepareConfig, held: PrepareConfig) -> None:
    """Refuse a dataset that cannot grow, and settings that are not its own.

    Raises:
        NotAppendableError: the split has no later part.
        BadSettingError: naming the setting.
    """
    split = dataset.manifest.split.kind
    if split not in GROWING:
        raise NotAppendableError(
            f"{dataset.root} has the split {split}, which has no later part that a log could be appended to",
            "prepare one plain log of all events, whose test events are not apart"
            if split == "given"
            else "prepare the whole log anew, or with --split leave-one-out",
        )
    pairs = [(name, getattr(config, name), getattr(held, name)) for name in PrepareConfig.__struct_fields__]
    pairs = [pair for pair in pairs if pair[0] not in OF_LOG]
    pairs.append(("keep_behaviours", config.reading.keep_behaviours, held.reading.keep_behaviours))
    for name, given, holds in pairs:
        if given != holds:
            raise BadSettingError(
                f"{name} is {given!r}, and the dataset was prepared with {holds!r}",
                "leave it out: what a dataset was prepared with holds as it grows; or prepare the whole log anew",
            )


def check_log(log: Log, config: PrepareConfig, standing: Standing) -> None:
    """Refuse a log that does not fit the dataset.

    Raises:
        NotAppendableError: it came divided, or one of the two has what the other lacks.
        NothingNewError: its files were appended before.
    """
    manifest, columns = standing.dataset.manifest, log.spool.columns
    timed = "timestamp" in columns
    if log.rows is not None or "part" in columns:
        raise NotAppendableError(
            "the log came divided, and the dataset is divided anew", "append a log of plain events"
        )
    if timed != manifest.has_time:
        raise NotAppendableError(
            f"the log has {'' if timed else 'no '}times, and the dataset has {'none' if timed else 'them'}",
            "leave the column out with --ignore-columns" if timed else "say which column has the times: --time-column",
        )
    if config.min_rating is not None and "rating" not in columns:
        raise NotAppendableError(
            f"the log has no ratings, and the dataset keeps events rated {config.min_rating:g} or more",
            "say which column has the ratings: --rating-column",
        )
    if standing.last is not None:
        last = log.spool.events.select(pl.col("timestamp").max()).collect(engine="streaming").item()
        if (last < CLOCK_FROM) != (standing.last < CLOCK_FROM):
            raise NotAppendableError(
                f"the last time of the log is {last}, that of the dataset {standing.last}: only one is of a clock",
                "say what the numbers are with --time-unit",
            )
    read = set(log.digests)
    for version, source in enumerate([*(one.source for one in manifest.versions), manifest.source], 1):
        if read <= set(source.sha256):
            raise NothingNewError(
                f"{log.files[0].name} stands in the dataset already, since version {version}",
                "append a log of events that are new",
            )


def known_of(log: Log, standing: Standing) -> list[str]:
    """How many users and items of the log the dataset knows, for a person, and how many it has in another form.

    Raises:
        NotAppendableError: none; or most of the others, and more than it knows, have another form there.
    """
    counts, remarks = [], []
    for name, stand in (("user", standing.users), ("item", standing.items)):
        there = log.spool.tally[name] > 0
        known, of_log = int(there[: len(stand)].sum()), int(there.sum())
        counts.append((known, of_log))
        new = log.spool.ids(name)[len(stand) :].filter(pl.Series(there[len(stand) :]))
        other = in_another_form(new, stand)
        if not len(other):
            continue
        here, before = map(shown, other.row(0))
        form = f"{name} ids of the log stand in the dataset in another form, as {before} for {here}"
        if len(other) > max(known, len(new) // 2):
            raise NotAppendableError(
                f"{len(other):,} of {of_log:,} {form}",
                "write the ids as the dataset has them, with the same zeros and capitals",
            )
        remarks.append(f"{len(other):,} of {of_log:,} {form}: they stay apart")
    (users, all_users), (items, all_items) = counts
    if not (users or items):
        raise NotAppendableError(
            "no user and no item of the log stands in the dataset",
            "are its ids of another form, or its columns others? a log of its own is prepared by itself, with --out",
        )
    return [f"{users:,} of {all_users:,} users and {items:,} of {all_items:,} items of the log are known", *remarks]
