"""Dataset folders of one lineage, made by hand: a later version whose indices go on from those of the earlier one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import polars as pl

from duetgen.data.manifest import write_manifest
from duetgen.data.store import FIRST_ITEM, Dataset, Version
from duetgen.documents import digest_of


def versions_of(*datasets: Dataset) -> tuple[Dataset, ...]:
    """The same folders as versions of one dataset, the oldest first."""
    found: list[Dataset] = []
    for dataset in datasets:
        before = [one.manifest for one in found]
        versions = [Version(content_sha256=one.content_sha256, source=one.source, counts=one.counts) for one in before]
        content = hashlib.sha256(str(dataset.root).encode()).hexdigest()
        manifest = msgspec.structs.replace(dataset.manifest, versions=versions, content_sha256=content)
        write_manifest(dataset.root, manifest)
        found.append(Dataset(dataset.root))
    return tuple(found)


def with_titles(dataset: Dataset, titles: list[str | None]) -> Dataset:
    """The same folder with ids `item-2`, `item-3`, … and titles."""
    path: Path = dataset.root / "items.parquet"
    ids = [f"item-{FIRST_ITEM + place}" for place in range(len(titles))]
    table = {"item": ids, "title": titles, "count": [0] * len(titles)}
    pl.DataFrame(table, schema_overrides={"title": pl.String}).write_parquet(path)
    files = dataset.manifest.files | {path.name: digest_of(path)}
    write_manifest(dataset.root, msgspec.structs.replace(dataset.manifest, files=files))
    return Dataset(dataset.root)
