"""Where data sets lie on this machine.

```
CACHE/raw/NAME/…       files as the publisher has them: downloaded by `duet data get`, or placed by hand
CACHE/datasets/NAME/   dataset folders that were prepared by name
```

`CACHE` is `$DUETGEN_CACHE`, else `duetgen` in `$XDG_CACHE_HOME`, else `~/.cache/duetgen`. Folders below `$DUETGEN_DATA`
are found too, by their names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from duetgen.data.catalogue.entries import CATALOGUE, SHORT, Entry, canonical, entry_of
from duetgen.data.catalogue.errors import DataAbsentError, DataUnknownError
from duetgen.data.store import Dataset
from duetgen.errors import OutputExistsError, did_you_mean

CACHE: Final = "DUETGEN_CACHE"
DATA: Final = "DUETGEN_DATA"
SEVERAL: Final = "`duet data list` shows the names"


def cache() -> Path:
    """The folder of what is downloaded and prepared by name."""
    if named := os.environ.get(CACHE):
        return Path(named)
    below = os.environ.get("XDG_CACHE_HOME")
    return (Path(below) if below else Path.home() / ".cache") / "duetgen"


def raw_folder(entry: Entry) -> Path:
    """Where the files of a data set are kept."""
    return cache() / "raw" / (entry.store or entry.name)


def prepared_at(name: str) -> Path:
    """Where the dataset folder of a name is, or would be."""
    return cache() / "datasets" / canonical(name)


def find_log(name: str) -> Path | None:
    """The log of a data set on this machine: a file, a folder, or a path into an archive; None where it is not here.

    Raises:
        DuetError: an archive that should hold it cannot be read.
    """
    entry = entry_of(name)
    for place in _places(name, entry):
        if entry is not None and entry.log is not None and place.exists():
            found = _inside(place, entry.log)
            if found is not None:
                return found
        elif place.is_file() or (place.is_dir() and any(one.name[0] != "." for one in place.iterdir())):
            return place  # What is hidden is on its way here.
    return None


def _places(name: str, entry: Entry | None) -> Iterator[Path]:
    plain = canonical(name)
    if entry is not None:
        yield raw_folder(entry) / entry.files[0].name
        yield raw_folder(entry)
    if root := os.environ.get(DATA):
        names = [plain, name] if entry is None else [entry.name, *entry.folders]
        yield from (Path(root) / one for one in names if one not in ("", ".", "..") and "/" not in one)
        if entry is not None:
            yield Path(root) / entry.files[0].name


def _inside(place: Path, log: str) -> Path | None:
    """The file of that name in a folder, in an archive, or in an archive in a folder."""
    from duetgen.data.sources.files import names_inside
    from duetgen.data.sources.packing import bare

    files = (
        sorted(one for one in place.rglob("*") if one.is_file() and one.name[0] != ".") if place.is_dir() else [place]
    )
    for file in files:
        if fnmatchcase(bare(file.name), log):
            return file
        if inside := next((one for one in names_inside(file) or () if fnmatchcase(bare(Path(one).name), log)), None):
            return file / inside
    return None


def absent(entry: Entry) -> DataAbsentError:
    """The refusal of a data set that is known and not here."""
    return DataAbsentError(f"{entry.name} ({entry.title}) is not on this machine", how_to_get(entry))


def how_to_get(entry: Entry) -> str:
    """How a data set comes here."""
    if all(file.url for file in entry.files):
        return f"`duet data get {entry.name}` downloads it; it is kept in {raw_folder(entry)}"
    names = " and ".join(file.name for file in entry.files)
    return f"sign in at {entry.page}, download {names} and put it in {raw_folder(entry)}"


def unknown(name: str) -> DataUnknownError:
    """The refusal of a name that says nothing."""
    hint = did_you_mean(canonical(name), [*CATALOGUE, *SHORT], SEVERAL)
    return DataUnknownError(f"there is no dataset folder {name}, and no data set of that name", hint)


def resolve(dataset: Path, prepare: Callable[[Path, Path], object]) -> Path:
    """The dataset folder that a path or a name means; a log that is here by that name is prepared first.

    Args:
        dataset: a folder, or the name of a data set.
        prepare: makes a dataset folder of a log: called with the log and the folder.

    Raises:
        DataAbsentError: the data set is known and not here.
        DataUnknownError: nothing is there, and nothing has that name.
        DuetError: any refusal of preparing it.
    """
    if dataset.exists() or len(dataset.parts) != 1:
        return dataset
    name = dataset.name
    folder = prepared_at(name)
    if (folder / Dataset.marker).is_file():
        return folder
    log = find_log(name)
    if log is not None and (log / Dataset.marker).is_file():
        return log
    if log is None:
        entry = entry_of(name)
        raise unknown(name) if entry is None else absent(entry)
    try:
        prepare(log, folder)
    except OutputExistsError:  # Another process was faster.
        if not (folder / Dataset.marker).is_file():
            raise
    return folder
