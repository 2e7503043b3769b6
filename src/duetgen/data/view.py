"""A dataset as a model of an earlier version knows it: items that came after that version are the unknown item.

This is the one place where that is so: events, targets, candidates, rows and tables of a view show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from duetgen.data.candidates import Drawn
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset, Int32, Int64, Part, Rows, Version

if TYPE_CHECKING:
    import polars as pl

Items = TypeVar("Items", bound=npt.NDArray[Any])


def as_of(dataset: Dataset, content_sha256: str) -> Dataset | None:
    """A dataset as a model that was trained on some version of it knows it.

    Args:
        dataset: the dataset folder.
        content_sha256: of the version that the model was trained on.

    Returns:
        The dataset itself if that is its version, a view of it if it is an earlier one, None if it is neither.
    """
    if content_sha256 == dataset.manifest.content_sha256:
        return dataset
    version = dataset.earlier(content_sha256)
    return None if version is None else EarlierView(dataset, version)


def as_unknown(items: Items, vocabulary: int) -> Items:
    """The same items, those beyond a vocabulary as the unknown one."""
    beyond = np.asarray(items) >= vocabulary
    return np.where(beyond, items.dtype.type(UNKNOWN), items) if beyond.any() else items  # type: ignore[return-value]


class EarlierView(Dataset):
    """See `as_of`. Devices, parts and the policy of met items are those of the present version.

    Args:
        dataset: the dataset folder, opened.
        version: an earlier one of it.

    Attributes:
        number: of the earlier version, from 1.
    """

    def __init__(self, dataset: Dataset, version: Version) -> None:
        self.__dict__ |= dataset.__dict__
        self.whole, manifest = dataset, dataset.manifest
        self.number = 1 + [one.content_sha256 for one in manifest.versions].index(version.content_sha256)
        counts = msgspec.structs.replace(manifest.counts, items=version.counts.items)
        self.manifest = msgspec.structs.replace(manifest, counts=counts)
        self.events = as_unknown(dataset.events, self.vocabulary)

    @property
    def told(self) -> str:
        """What a person is told of it, in one line."""
        return (
            f"trained on version {self.number} of {self.version} of {self.manifest.name}: items that came later are "
            "unknown to it"
        )

    def table(self, name: Literal["items", "devices"]) -> pl.DataFrame:
        """Ids, titles and counts; of the items those that the earlier version had."""
        found = self.whole.table(name)
        return found.head(self.vocabulary - FIRST_ITEM) if name == "items" else found

    def candidates(self, part: Part) -> Drawn:
        """The negatives of the present version, so that versions compare."""
        return DrawnView(self.whole.candidates(part), self.vocabulary)

    def given(self) -> Int32:
        """See `Dataset.given`."""
        return as_unknown(self.whole.given(), self.vocabulary)

    def rows(self) -> Rows:
        """See `Dataset.rows`."""
        rows = self.whole.rows()
        items = (as_unknown(part, self.vocabulary) for part in (rows.window_RL, rows.trigger_RL, rows.target_R))
        window_RL, trigger_RL, target_R = items
        return Rows(rows.device_R, window_RL, trigger_RL, target_R, rows.label_R)


class DrawnView(Drawn):
    """Negatives of a dataset, those beyond a vocabulary as the unknown item."""

    def __init__(self, drawn: Drawn, known: int) -> None:
        self.__dict__ |= drawn.__dict__
        self.known = known

    def __getitem__(self, index: Int64 | int) -> Int32:
        """See `Drawn`."""
        return as_unknown(super().__getitem__(index), self.known)
