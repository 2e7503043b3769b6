"""A later version of a dataset as a model of an earlier one knows it."""

from __future__ import annotations

import numpy as np
from tests.conftest import MakeDataset
from tests.lineage import versions_of, with_titles

from duetgen.data.store import Dataset
from duetgen.data.view import EarlierView, as_of, as_unknown


def lineage(make_dataset: MakeDataset) -> tuple[Dataset, Dataset]:
    """Items 2 to 4, then 5 and 6 more."""
    later = make_dataset([[2, 3, 4, 5, 2], [6, 3, 2, 6]], vocabulary=7)
    return versions_of(
        make_dataset([[2, 3, 4], [3, 2, 4]], vocabulary=5), with_titles(later, ["two", "three", "four", "five", "six"])
    )


def test_items_that_came_later_are_the_unknown_item(make_dataset: MakeDataset) -> None:
    earlier, later = lineage(make_dataset)
    seen = as_of(later, earlier.manifest.content_sha256)
    assert isinstance(seen, EarlierView)
    assert (seen.number, seen.version, seen.vocabulary, seen.devices) == (1, 2, 5, 2)
    assert seen.events.tolist() == [2, 3, 4, 1, 2, 1, 3, 2, 1]
    # Of the training part, three and two events: items 2, 3, 4 and the unknown one, 3.
    assert seen.training_counts().tolist() == [0, 1, 1, 2, 1]
    assert seen.table("items")["title"].to_list() == ["two", "three", "four"]
    assert seen.manifest.content_sha256 == later.manifest.content_sha256
    np.testing.assert_array_equal(seen.targets("test").position_N, later.targets("test").position_N)
    assert "version 1 of 2" in seen.told


def test_candidates_are_those_of_the_present_version(make_dataset: MakeDataset) -> None:
    earlier, later = lineage(make_dataset)
    seen = as_of(later, earlier.manifest.content_sha256)
    assert seen is not None
    whole, found = later.candidates("valid"), seen.candidates("valid")
    assert len(found) == len(whole)
    everyone = np.arange(len(whole))
    np.testing.assert_array_equal(found[everyone], as_unknown(whole[everyone], 5))
    assert (found[everyone] == 1).any()


def test_the_present_version_is_itself_and_no_other_is_known(make_dataset: MakeDataset) -> None:
    earlier, later = lineage(make_dataset)
    assert as_of(later, later.manifest.content_sha256) is later
    assert as_of(later, "f" * 64) is None
    assert as_of(earlier, later.manifest.content_sha256) is None
