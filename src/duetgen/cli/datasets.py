"""A dataset by its folder or by its name, for every verb that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from duetgen.cli import console
from duetgen.words import counted_all

if TYPE_CHECKING:
    from duetgen.data.store import Dataset

DatasetPath = Annotated[Path, Parameter(help="Dataset folder, or the name of a data set: `duet data list`.")]


def find_dataset(dataset: Path, quiet: bool) -> Path:
    """The dataset folder of a path or a name; a log that is here by that name is prepared first.

    Raises:
        DataAbsentError, DataUnknownError: see `catalogue.resolve`.
        NotADatasetError: it is an image folder.
        DuetError: any refusal of preparing.
    """
    from duetgen.data.catalogue import resolve

    def prepare(log: Path, folder: Path) -> None:
        from duetgen.data.prepare import PrepareConfig
        from duetgen.data.prepare import prepare as run_prepare

        with console.spinner(f"preparing {folder.name}", quiet) as say:
            manifest = run_prepare(log, folder, PrepareConfig(name=folder.name), progress=say)
        if not quiet:
            counts = manifest.counts
            sizes = counted_all({"device": counts.devices, "item": counts.items, "event": counts.events})
            console.notes.print(f"prepared {folder.name}: {sizes}; {manifest.split.kind} split; in {folder}")
            for line in terms_of(folder.name, manifest.source.kind):
                console.notes.print(line)

    root = resolve(dataset, prepare)
    refuse_images(root)
    return root


def refuse_images(root: Path) -> None:
    """Refuse an image folder where a dataset or a log is wanted.

    Raises:
        NotADatasetError: it is one.
    """
    from duetgen.data.store import NotADatasetError
    from duetgen.vision.images import MARKER

    if (root / MARKER).is_file():
        raise NotADatasetError(
            f"{root} is an image folder, which holds no log, and images cannot grow",
            f"`duet demo {root} --vision` reads it",
        )


def say_version(root: Path, seen: Dataset) -> None:
    """Tell on standard error that a run or a bundle was trained on an earlier version of the dataset, where it was.

    Args:
        root: its folder.
        seen: the dataset as it knows it.
    """
    from duetgen.data.view import EarlierView

    if isinstance(seen, EarlierView):
        console.notes.print(f"{root} was {seen.told}")


def find_named_log(input: Path) -> Path | None:
    """The log of a data set by its name; None of anything else.

    Raises:
        DataAbsentError: the data set is known and not here.
    """
    from duetgen.data.catalogue import entry_of, find_log
    from duetgen.data.catalogue.places import absent

    if input.exists() or len(input.parts) != 1:
        return None
    found, entry = find_log(input.name), entry_of(input.name)
    if found is None and entry is not None:
        raise absent(entry)
    return found


def terms_of(name: str, kind: str) -> list[str]:
    """Licence and citation of a data set, by its name or by the kind of its log; nothing for a log of one's own."""
    from duetgen.data.catalogue import entry_of
    from duetgen.data.sources.kinds import KINDS

    entry = entry_of(name)
    source = KINDS.get(kind if entry is None else entry.source)
    if source is None or not source.licence:
        return []
    return [f"licence: {source.licence}", f"cite: {source.citation}"]
