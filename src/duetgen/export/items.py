"""`items.json`: ids and titles by item index, for devices in any language."""

from __future__ import annotations

import polars as pl

from duetgen.data.store import FIRST_ITEM, Dataset
from duetgen.wire.bundle import Items


def read_items(dataset: Dataset) -> Items:
    """The items of a dataset folder; `titles` is empty where no item has one.

    Raises:
        DamagedError: `items.parquet` is missing, damaged, or not of this dataset.
    """
    table = dataset.table("items")
    ids = table["item"].cast(pl.String).fill_null("").to_list()
    titles = table["title"].cast(pl.String)
    none = [""] * FIRST_ITEM
    has_titles = titles.null_count() < table.height
    return Items(ids=none + ids, titles=none + titles.fill_null("").to_list() if has_titles else [])
