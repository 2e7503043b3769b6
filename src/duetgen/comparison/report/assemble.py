"""The folder of a comparison: taken up or refused, and its results put together from the cells that are in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from duetgen import jobfolder
from duetgen.comparison.cells.records import FORMAT_VERSION, Cell, CellRecord, Failure, Job, cell_folder
from duetgen.comparison.methods.table import METHODS, Method
from duetgen.comparison.report.results import BASE, METRICS, RESULTS_VERSION, DatasetFacts, Origin, Results, Table
from duetgen.comparison.report.tables import Finished, make_table
from duetgen.comparison.report.verdict import verdict
from duetgen.data.store import Dataset
from duetgen.documents import (
    damaged,
    decode_sealed,
    difference,
    encode_json,
    encode_sealed,
    format_version,
    read_document,
)
from duetgen.errors import OutputExistsError
from duetgen.files import write_bytes
from duetgen.training import TrainConfig, check_config
from duetgen.training.run import RunFolder

MARKER: Final = "comparison.json"
WHOLE: Final = ("results.json", "report.html")
"""What is written for readers, in the folder of a comparison and in that of comparisons on several datasets."""

T = TypeVar("T")


def make_job(
    dataset: Dataset,
    config: TrainConfig,
    protocols: Sequence[str],
    staleness: Sequence[int],
    limit_devices: int | None,
    policies: Sequence[str] = (),
) -> Job:
    """What all cells have in common. Backbone, method, global model and seed of the settings are each cell's own.

    Raises:
        InvalidConfigError: a setting is out of its range.
        NotARunError, DamagedError: the cloud model that the settings name is no run, or a damaged one.
        InvalidGraphError: the graph that they name cannot be a cloud model.
    """
    check_config(config)
    default = TrainConfig()
    # What is named by a path is told by its content, which may change.
    cloud, named = config.model.cloud, ""
    if config.cloud_model:
        named = RunFolder(Path(config.cloud_model)).read_environment().weights_sha256
    elif cloud.kind == "onnx":
        from duetgen.cloudmodel.graph_file import read_graph

        graph = read_graph(cloud.graph, cloud.ids, dataset, config.model.history.length)
        cloud = msgspec.structs.replace(cloud, graph_sha256=graph.sha256)
    model = msgspec.structs.replace(config.model, name=default.model.name, method=default.model.method, cloud=cloud)
    return Job(
        format_version=FORMAT_VERSION,
        dataset=dataset.manifest.name,
        dataset_sha256=dataset.manifest.content_sha256,
        protocols=list(dict.fromkeys(protocols)),
        staleness=sorted({0, *staleness}),
        limit_devices=limit_devices,
        config=msgspec.structs.replace(config, model=model, seed=default.seed, global_model="", start_from=""),
        policies=list(dict.fromkeys(policies)),
        cloud_model_sha256=named,
    )


def folder_job(root: Path, job: Job) -> jobfolder.Job:
    """A comparison as a job in its folder. A setting that has come since it was made counts with its default."""
    refuse = damaged(root / MARKER, "give --overwrite to compare anew")

    def differs() -> str:
        content = read_document(root / MARKER, refuse)
        if (version := format_version(content, refuse)) != FORMAT_VERSION:
            return f"its format is {version}, and this version's {FORMAT_VERSION}"
        found = decode_sealed(content, Job, refuse)
        if found.dataset_sha256 != job.dataset_sha256:
            return "the data are others"
        named = found.cloud_model_sha256 or job.cloud_model_sha256
        return difference(msgspec.structs.replace(found, cloud_model_sha256=named), job)

    return jobfolder.Job(
        name="a comparison's folder",
        other="another comparison",
        marker=MARKER,
        begin=lambda folder: write_bytes(folder / MARKER, encode_sealed(job)),
        differs=differs,
        own=frozenset({"cells", *WHOLE}),
    )


def check_whole(out: Path) -> None:
    """Refuse a folder that the results of several datasets together cannot be written into.

    Raises:
        OutputExistsError: it is a comparison on one dataset, or results lie there that no comparison wrote.
    """
    if (out / MARKER).is_file():
        raise OutputExistsError(f"{out} holds a comparison on one dataset", "choose another --out for several")
    found = next((name for name in WHOLE if os.path.lexists(out / name)), None)
    if found and not any((inside / MARKER).is_file() for inside in out.iterdir()):
        raise OutputExistsError(f"{out} holds a {found} that no comparison wrote", "choose another --out")


def unfinished(root: Path, cells: Sequence[Cell]) -> list[Cell]:
    """The cells that have no result yet."""
    return [cell for cell in cells if cell_folder(root, cell).read() is None]


def not_asked(root: Path, cells: Sequence[Cell]) -> list[str]:
    """Names of the cells that lie finished in the folder, and are none of these."""
    there = {path.parent.name for path in root.glob("cells/*/cell.json")}
    return sorted(there - {cell.name for cell in cells})


def assemble(
    root: Path,
    dataset: Dataset,
    job: Job,
    cells: Sequence[Cell],
    backbones: Sequence[str],
    methods: Sequence[Method],
    seeds: Sequence[int],
    failures: Sequence[Failure] = (),
    name: str | None = None,
) -> Results:
    """Tables, comparisons and verdict of the cells that are finished; the dataset by its own name, or by another."""
    finished: dict[Cell, Finished] = {}
    for cell in cells:
        folder = cell_folder(root, cell)
        record = folder.read()
        if record is not None:
            finished[cell] = Finished(record, folder.by_device(METRICS))
    failed = {failure.cell for failure in failures}
    missing = [cell.name for cell in cells if cell not in finished and cell.name not in failed]
    tables = make_tables(job.protocols, backbones, methods, finished)
    records = [one.record for one in finished.values()]
    manifest = dataset.manifest
    notes = [found.note for record in records for found in record.protocols if found.note]
    return Results(
        format_version=RESULTS_VERSION,
        verdict=verdict(name or manifest.name, tables, len(missing) + len(failed)),
        complete=len(finished) == len(cells),
        dataset=DatasetFacts(
            name=name or manifest.name,
            sha256=manifest.content_sha256,
            devices=manifest.counts.devices,
            items=manifest.counts.items,
            events=manifest.counts.events,
            split=manifest.split.kind,
            has_time=manifest.has_time,
            note=notes[0] if notes else None,
        ),
        backbones=list(backbones),
        methods=[method.name for method in methods],
        seeds=list(seeds),
        job=job,
        tables=tables,
        cells=records,
        missing=missing,
        failed=list(failures),
        origin=origin_of(records),
    )


def make_tables(
    protocols: Sequence[str], backbones: Sequence[str], methods: Sequence[Method], finished: dict[Cell, Finished]
) -> list[Table]:
    """One table for each protocol and backbone, rows in the order of `METHODS`, then the finished runs as they are."""
    uses = any(method.uses_backbone for method in methods)
    runs = [method for method in methods if method.run is not None]
    ordered = [method for name in METHODS for method in methods if method.name == name and method.run is None] + runs
    # Without a base model the first run is what the others are compared with, as in `duet evaluate`.
    reference = BASE if not runs or any(method.name == BASE for method in methods) else runs[0].name
    tables = []
    for protocol in protocols:
        for backbone in backbones if uses else [None]:
            rows: dict[str, list[Finished]] = {}
            for method in ordered:
                wanted = backbone if method.uses_backbone else None
                those = [one for cell, one in finished.items() if (cell.method, cell.backbone) == (method.name, wanted)]
                if those:
                    rows[method.name] = sorted(those, key=lambda one: one.record.seed)
            table = make_table(protocol, backbone, rows, reference)
            if table is not None:
                tables.append(table)
    return tables


def origin_of(records: Sequence[CellRecord]) -> Origin | None:
    """Where the cells come from; None where there are none."""
    if not records:
        return None
    found = [record.provenance for record in records]
    dates = sorted(one.date for one in found)
    return Origin(
        commits=sorted({one.commit or "not from a checkout" for one in found}),
        versions=distinct([one.versions for one in found]),
        machines=distinct([one.machine for one in found]),
        first=dates[0],
        last=dates[-1],
    )


def distinct(values: Sequence[T]) -> list[T]:
    """Each value once, in the order given."""
    kept: list[T] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


def write_results(root: Path, results: Results) -> tuple[Path, Path]:
    """Write `results.json` and `report.html`; returns their paths."""
    from duetgen.comparison.report.page import render

    paths = root / WHOLE[0], root / WHOLE[1]
    write_bytes(paths[0], results.to_json())
    write_bytes(paths[1], render(results).encode())
    return paths


def write_all(root: Path, comparisons: Sequence[Results]) -> tuple[Path, Path]:
    """Write the results of several datasets together: `results.json`, a list of them, and one `report.html`."""
    from duetgen.comparison.report.page import render_all

    paths = root / WHOLE[0], root / WHOLE[1]
    write_bytes(paths[0], encode_json(list(comparisons)))
    write_bytes(paths[1], render_all(comparisons).encode())
    return paths
