"""`duet prepare`: a log to a dataset folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from duetgen.cli import console
from duetgen.cli.datasets import find_dataset, find_named_log, refuse_images, terms_of
from duetgen.errors import DuetError
from duetgen.wire.messages import MetPolicy
from duetgen.words import counted, counted_all

if TYPE_CHECKING:
    from duetgen.data import Manifest
    from duetgen.vision.images import ImageManifest


TimeUnit = Literal["seconds", "milliseconds", "microseconds", "nanoseconds", "days", "spreadsheet-days"]


class UsageError(DuetError):
    """The command's words do not fit together."""

    code = "usage"


def prepare(
    source: Annotated[
        str, Parameter(help="Kind of log (see below), or the log itself, or a data set's name: `duet data list`.")
    ],
    input: Annotated[Path | None, Parameter(help="The log.")] = None,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Dataset folder to make [of a data set by name: kept under its name in the cache].")
    ] = None,
    append: Annotated[
        str | None,
        Parameter(
            help="Dataset to append the log to: it grows in place, or beside it with --out, as one by name must."
        ),
    ] = None,
    test_input: Annotated[Path | None, Parameter(help="A file of test events, where the log came divided.")] = None,
    split: Annotated[
        Literal["temporal", "leave-one-out", "random", "given"] | None,
        Parameter(
            help="How to divide [temporal where there is time, else leave-one-out; given where it came divided]."
        ),
    ] = None,
    min_rating: Annotated[float | None, Parameter(help="Leave out events rated less.")] = None,
    min_user_events: Annotated[int | None, Parameter(help="Fewest training events of a user [1].")] = None,
    min_item_events: Annotated[int | None, Parameter(help="Fewest training events of a known item [1].")] = None,
    test_share: Annotated[float | None, Parameter(help="Share of events in the test part (temporal) [0.1].")] = None,
    valid_share: Annotated[
        float | None, Parameter(help="Share of the rest in the validation part (temporal) [0.1].")
    ] = None,
    met: Annotated[
        Literal["auto", MetPolicy] | None,
        Parameter(
            help="Hide items that a device has met from its rankings, or show them [auto: hide where repeats are rare]."
        ),
    ] = None,
    drop_repeats: Annotated[
        bool | None,
        Parameter(negative="", help="Leave out rows that are exact repeats of another: user, item and time."),
    ] = None,
    user_column: Annotated[str | None, Parameter(help="A table's column of users: a name, or a number.")] = None,
    item_column: Annotated[str | None, Parameter(help="A table's column of items.")] = None,
    rating_column: Annotated[str | None, Parameter(help="A table's column of ratings.")] = None,
    timestamp_column: Annotated[
        str | None, Parameter(name=["--timestamp-column", "--time-column"], help="A table's column of times.")
    ] = None,
    behaviour_column: Annotated[
        str | None,
        Parameter(name=["--behaviour-column", "--behavior-column"], help="A table's column of kinds of events."),
    ] = None,
    title_column: Annotated[str | None, Parameter(help="A table's column of the items' titles.")] = None,
    ignore_columns: Annotated[str | None, Parameter(help="Columns to leave out, with commas between.")] = None,
    keep_behaviours: Annotated[
        str | None,
        Parameter(
            name=["--keep-behaviours", "--keep-behaviors"],
            help="Kinds of events that stay, with commas between: buy,cart [all].",
        ),
    ] = None,
    header: Annotated[
        bool | None,
        Parameter(negative="--no-header", help="Whether the first line of a table names the columns [it does]."),
    ] = None,
    separator: Annotated[
        str | None, Parameter(help="Between a table's fields: comma, tab, semicolon, bar, blanks, or the sign itself.")
    ] = None,
    time_unit: Annotated[TimeUnit | None, Parameter(help="What numbers of time count [told by their size].")] = None,
    drop_missing: Annotated[
        bool | None, Parameter(negative="", help="Leave out events without a user, an item or a time, and count them.")
    ] = None,
    titles: Annotated[Path | None, Parameter(help="A table of items and titles [items.csv beside the log].")] = None,
    people: Annotated[int | None, Parameter(help="People of the synthetic log [2000].")] = None,
    name: Annotated[str | None, Parameter(help="Name of the dataset [from the input].")] = None,
    seed: Annotated[int | None, Parameter(help="Seed of the drawn candidates, and of the synthetic log [0].")] = None,
    memory_limit: Annotated[
        str | None, Parameter(help="Memory that preparing may use, as 2GB or 800MB [3GB, or 70 % of what there is].")
    ] = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace a dataset folder.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the manifest as JSON.")] = False,
) -> None:
    """Make a dataset folder from a log.

    Kinds of logs: movielens-100k, movielens-1m (10M too), movielens-csv (20M and later), amazon-reviews,
    amazon-2014-csv (user first), amazon-2018-csv (item first), amazon-2023-reviews, amazon-2023-csv, douban,
    douban-reviews, douban-ratings, taobao, alipay, lastfm, yelp, steam, recbole (.inter), sequences (one user a
    line, then its items), table (CSV, TSV and the like, JSON lines, Parquet, or a folder of such parts; columns by
    name, or by number without a header), duet-text (train and test file of the published DUET code), synthetic (the
    embedded simulator, no input). Packed files, archives and folders as they are published are read as they are; a path
    may go on inside an archive.

    Kinds of images: idx (a folder of the four files of MNIST or Fashion-MNIST), usps (usps.h5), image-folder (pictures
    by class, or by domain and class, in folders or tar archives).

    A dataset grows by --append: what is known keeps its index, and the settings that it was prepared with hold.

    Examples: `duet prepare ml-1m`, `duet prepare ml-1m.zip --out data/ml-1m`, `duet prepare synthetic --out data/demo`,
    `duet prepare tuesday.csv --append data/shop`.
    """
    from msgspec.structs import replace

    from duetgen.data.append import append as run_append
    from duetgen.data.append import settings_of
    from duetgen.data.catalogue import canonical, entry_of, prepared_at
    from duetgen.data.memory import size_of
    from duetgen.data.prepare import PrepareConfig
    from duetgen.data.prepare import prepare as run_prepare
    from duetgen.data.sources import SOURCES
    from duetgen.data.sources.synthetic import SyntheticConfig
    from duetgen.data.store import Dataset
    from duetgen.vision.sources import KINDS, read_images

    unknown = source not in (*SOURCES, *KINDS)
    if input is None and source != "synthetic" and (unknown or entry_of(source) is not None):
        source, input = "auto", Path(source)
    if input is None and source != "synthetic":
        raise UsageError(f"`duet prepare {source}` needs a log", f"write `duet prepare {source} INPUT --out DIR`")
    if people is not None and source != "synthetic":
        raise UsageError("--people is of the synthetic log alone", "leave it out")
    silent = quiet or json
    if append is not None and (source in KINDS or input is None or test_input is not None):
        images = ", and images cannot grow" if source in KINDS else ""
        raise UsageError(f"--append takes one log of events{images}", "write `duet prepare LOG --append DATASET`")
    if input is not None and (log := find_named_log(input)) is not None:
        if append is None:
            name = name or canonical(input.name)
            out = out or prepared_at(name)
        input = log
    root = None if append is None else find_dataset(Path(append), silent)
    if append is not None and root != Path(append) and out is None:
        raise UsageError(f"{append} is found by its name, and does not grow in its place", "give --out DIR")
    out = out or root
    if out is None:
        raise UsageError("`duet prepare` needs a folder to make", "give --out DIR")
    if root is not None:
        base = settings_of(Dataset(root), None if source == "auto" else source, input)
    else:
        base = PrepareConfig(source=source, synthetic=SyntheticConfig(**given(seed=seed, people=people)))
    columns = given(
        user=user_column,
        item=item_column,
        rating=rating_column,
        timestamp=timestamp_column,
        behaviour=behaviour_column,
        title=title_column,
        ignore=words(ignore_columns),
    )
    reading = given(
        header=header,
        separator=separator,
        time_unit=time_unit,
        drop_missing=drop_missing,
        keep_behaviours=words(keep_behaviours),
        titles=None if titles is None else str(titles),
    )
    settings = given(
        split=split,
        min_rating=min_rating,
        min_user_events=min_user_events,
        min_item_events=min_item_events,
        valid_share=valid_share,
        test_share=test_share,
        met=met,
        drop_repeats=drop_repeats,
        seed=seed,
        name=name,
    )
    config = replace(
        base, columns=replace(base.columns, **columns), reading=replace(base.reading, **reading), **settings
    )
    if source in KINDS:
        plain = replace(base, **given(seed=seed, name=name))
        if config != plain or test_input is not None or input is None:
            raise UsageError(
                "images take --out, --name and --seed alone", f"write `duet prepare {source} INPUT --out DIR`"
            )
        with console.spinner("preparing", silent) as say:
            say(f"reading {input.name}")
            read = read_images(input, source, name, config.seed)
            made = read.write(out, overwrite)
        if json:
            console.print_json(made)
        else:
            print_images(made, out, read.others)
        return
    with console.spinner("preparing", silent) as say, images_told(input):
        limit = None if memory_limit is None else size_of(memory_limit)
        if root is not None and input is not None:
            manifest = run_append(input, root, config, out=out, overwrite=overwrite, memory_limit=limit, progress=say)
        else:
            manifest = run_prepare(
                input, out, config, test_input=test_input, overwrite=overwrite, memory_limit=limit, progress=say
            )
    if json:
        console.print_json(manifest)
    else:
        print_manifest(manifest, out)


@contextlib.contextmanager
def images_told(log: Path | None) -> Iterator[None]:
    """While a log is read: images that are given as one are told what they are.

    Raises:
        NotADatasetError: it is an image folder.
        NotTextError, ArchiveMembersError, InputIsFolderError: those of the block; of images with a hint.
    """
    from duetgen.data.errors import ArchiveMembersError, InputIsFolderError, NotTextError
    from duetgen.vision.sources import kind_of

    try:
        yield
    except (NotTextError, ArchiveMembersError, InputIsFolderError) as cause:
        if log is None:
            raise
        refuse_images(log)
        kind = kind_of(log)
        if kind is None:
            raise
        raise type(cause)(cause.message, f"it holds images: write `duet prepare {kind} {log} --out DIR`") from cause


def words(text: str | None) -> tuple[str, ...]:
    """The words of an option that takes several, with commas between."""
    return tuple(word for part in (text or "").split(",") if (word := part.strip()))


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def print_manifest(manifest: Manifest, out: Path) -> None:
    """The counts of a dataset folder, what each step dropped, and the checks."""
    counts, results = manifest.counts, console.results
    sizes = f": {counted_all({'device': counts.devices, 'item': counts.items, 'event': counts.events})}"
    results.print(console.styled(manifest.name, "bold", sizes))
    if manifest.versions:
        before = manifest.versions[-1].counts
        results.print(
            f"  version {len(manifest.versions) + 1}: {counts.events - before.events:+,} events, "
            f"{counts.devices - before.devices:+,} devices, {counts.items - before.items:+,} items"
        )
    for step in manifest.steps:
        lost = [
            counted(before - after, what)
            for what, before, after in (
                ("event", step.events_in, step.events_out),
                ("user", step.users_in, step.users_out),
                ("item", step.items_in, step.items_out),
            )
            if before > after
        ]
        if lost:
            results.print(f"  {step.name}: {', '.join(lost)} out ({step.reason})")
    unseen = manifest.unseen_item_share.get("test", 0.0)
    results.print(
        f"  {manifest.split.kind} split: {counted(counts.train_events, 'training event')}, "
        f"{counts.valid_targets:,} validation and {counted(counts.test_targets, 'test target')}; "
        f"{unseen:.2%} of the test targets are new items"
    )
    print_repeats(manifest)
    if manifest.tied_timestamps:
        results.print(f"  {manifest.tied_timestamps:.0%} of events share their time with the event before")
    for remark in manifest.remarks:
        results.print(f"  {remark}", soft_wrap=True)
    for line in terms_of(manifest.name, manifest.source.kind):
        results.print(f"  {line}", soft_wrap=True)
    results.print(f"  leakage: {sum(check.passed for check in manifest.leakage)} checks passed")
    results.print(f"  dataset folder: {out}")


def print_images(manifest: ImageManifest, out: Path, others: Mapping[str, int]) -> None:
    """The counts of an image folder, and of the files beside the pictures."""
    train, test = manifest.images
    domains = f", {len(manifest.domains)} domains" if len(manifest.domains) > 1 else ""
    colours = "grey" if manifest.colours == 1 else "colour"
    sizes = f": {train:,} {colours} images to train, {test:,} to test, {len(manifest.classes)} classes{domains}"
    console.results.print(console.styled(manifest.name, "bold", sizes))
    if others:
        listed = ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in sorted(others.items()))
        console.results.print(f"  left out, being no pictures: {listed}", soft_wrap=True)
    console.results.print(f"  image folder: {out}")


def print_repeats(manifest: Manifest) -> None:
    """How often events repeat, the policy of met items, and a warning where rows stand twice."""
    repeats, results = manifest.repeats, console.results
    why = f"{'less than' if manifest.met == 'hide' else 'at least'} 1 %"
    if manifest.settings["met"] != "auto":
        why = "as asked"
    does = "hidden from its rankings" if manifest.met == "hide" else "ranked like any other"
    results.print(f"  {repeats.share:.2%} of the training events repeat an item")
    results.print(f"  met: {manifest.met} ({why}): what a device has met is {does}")
    if not repeats.exact_rows:
        return
    rows = counted(repeats.exact_rows, "row")
    same = "equal another in user, item and time"
    if not manifest.has_time:
        same = "have the item of their user's row before"
    if repeats.dropped:
        results.print(f"  {rows} that {same} are left out")
    elif manifest.has_time:
        flatters = "a model that repeats what has just been seen will look better than it is"
        rest = f": {rows} {same}: {flatters}; --drop-repeats leaves them out"
        results.print(console.styled("  warning", "yellow", rest))
    else:
        results.print(f"  {rows} {same}; if the log was written twice, --drop-repeats leaves them out")
