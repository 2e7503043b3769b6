"""Shared by all tests: small dataset folders, made here."""

from __future__ import annotations

import fcntl
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import settings
from torch.onnx._internal.exporter._registration import ONNXRegistry

from duetgen.data.manifest import write_manifest
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import (
    FIRST_ITEM,
    FORMAT_VERSION,
    UNKNOWN,
    Counts,
    Dataset,
    Manifest,
    Repeats,
    Source,
    Split,
)
from duetgen.documents import damaged, digest_of, read_sealed
from duetgen.export import graphs
from duetgen.wire.messages import MetPolicy
from tests import forked
from tests.bundles import BLEND, synthetic_dataset, tiny_bundle

MakeDataset = Callable[..., Dataset]

# What is drawn is drawn anew in every run, so a few examples each do; `--hypothesis-profile many` draws a thousand.
settings.register_profile("usual", max_examples=30, deadline=None)
settings.register_profile("many", max_examples=1000, deadline=None)
settings.load_profile("usual")

# Models here are tiny: one thread is faster than two, and far faster on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

# The clouds of these tests are on this machine: no proxy of the environment leads to them.
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]


FIRST = (
    "web/test_web.py",
    "e2e/test_duet.py",
    "export/test_graphs.py",
    "cli/test_cli.py",
    "comparison/test_cells.py",
    "training/test_processes.py",
    "training/test_loop.py",
    "cloud/test_live.py",
    "cloud/test_postgres_tokens.py",
    "device/test_faults.py",
    "test_notebooks.py",
    "test_examples.py",
    "test_tables.py",
)
"""The files that take longest: a worker that began one of them last would be alone with it at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put them first."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(FIRST)))


def write_dataset(
    root: Path,
    sequences: list[list[int]],
    *,
    vocabulary: int | None = None,
    bounds: list[tuple[int, int]] | None = None,
    met: MetPolicy = "show",
) -> Dataset:
    """A dataset folder of the given item indices, split leave-one-out unless bounds are given."""
    lengths = np.array([len(sequence) for sequence in sequences])
    events = np.concatenate([np.array(sequence, dtype=np.int32) for sequence in sequences])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ends = np.array(bounds, dtype=np.int64) if bounds else np.stack([lengths - 2, lengths - 1], axis=1).astype(np.int64)
    (root / "sequences").mkdir(parents=True)
    np.save(root / "sequences/events.npy", events)
    np.save(root / "sequences/offsets.npy", offsets)
    np.save(root / "sequences/bounds.npy", ends)
    items = (vocabulary or int(events.max()) + 1) - FIRST_ITEM
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=root.name,
        versions=[],
        source=Source(kind="test", files=[], sha256=[]),
        has_time=False,
        split=Split(kind="leave-one-out"),
        seed=0,
        settings={},
        steps=[],
        counts=Counts(
            devices=len(sequences),
            items=items,
            events=len(events),
            train_events=int(ends[:, 0].sum()),
            valid_events=int((ends[:, 1] - ends[:, 0]).sum()),
            test_events=int((lengths - ends[:, 1]).sum()),
            valid_targets=len(sequences),
            test_targets=len(sequences),
        ),
        tied_timestamps=None,
        unseen_item_share={},
        repeats=Repeats(share=0.0, events=len(events), exact_rows=0, dropped=False),
        met=met,
        leakage=[],
        content_sha256="0" * 64,
        files={path.relative_to(root).as_posix(): digest_of(path) for path in root.rglob("*.npy")},
        duetgen_version="0",
    )
    write_manifest(root, manifest)
    return Dataset(root)


def seal(root: Path) -> Dataset:
    """The dataset folder with the digests of what it now holds, so that something else than damage is found in it."""
    path = root / Dataset.marker
    manifest = read_sealed(path, Manifest, damaged(path, ""))
    files = {name: digest_of(root / name) for name in manifest.files if (root / name).exists()}
    write_manifest(root, msgspec.structs.replace(manifest, files=files))
    return Dataset(root)


def wandering_sequences(devices: int, vocabulary: int, seed: int, longest: int = 40) -> list[list[int]]:
    """Devices that walk up the catalogue in strides of their own: easy to predict for who knows the device."""
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(devices):
        stride, start = rng.integers(1, 4), rng.integers(vocabulary)
        steps = np.arange(rng.integers(5, longest)) * stride
        sequences.append(list(FIRST_ITEM + (start + steps) % (vocabulary - FIRST_ITEM)))
    sequences[0][1] = UNKNOWN
    return sequences


def write_people(root: Path, seed: int = 0) -> Dataset:
    """A dataset folder of twenty-four simulated people, split leave-one-out."""
    simulated = SyntheticConfig(people=24, items=40, shortest=8, longest=20, seed=seed)
    prepare(None, root, PrepareConfig(source="synthetic", split="leave-one-out", synthetic=simulated))
    return Dataset(root)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twenty-four simulated people, split leave-one-out."""
    return write_people(tmp_path_factory.mktemp("people") / "data")


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """`make_dataset(sequences, vocabulary=…)`: a dataset folder of its own."""
    count = 0

    def make(sequences: list[list[int]], **options: object) -> Dataset:
        nonlocal count
        count += 1
        return write_dataset(tmp_path / f"dataset-{count}", sequences, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def wandering(make_dataset: MakeDataset) -> Dataset:
    """Sixty devices of 5 to 40 events over 30 item indices."""
    return make_dataset(wandering_sequences(60, 30, seed=0), vocabulary=30)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of comparisons begin with torch imported."""
    monkeypatch.setattr("duetgen.comparison.cells.worker.CONTEXT", forked.CONTEXT)


@pytest.fixture
def real_data() -> Path:
    """The folder of real public data; the test is skipped where there is none."""
    folder = os.environ.get("DUETGEN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DUETGEN_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def bundle_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The synthetic dataset folder, of 60 people, that the bundles of the tests are made from."""
    return synthetic_dataset(tmp_path_factory.mktemp("bundles") / "dataset")


def untraced(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call without being followed by what measures coverage."""

    def quick(*arguments: Any, **options: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return call(*arguments, **options)
        finally:
            sys.settrace(tracer)

    return quick


def pytest_collection_finish() -> None:
    """What was imported stays, and is looked through for garbage no more; what tests make, less often."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def quick_exports() -> Iterator[None]:
    """An export is mostly torch's own code, and would take twice as long if each call in there were followed; its table
    of operators, a seventh of an export, is the same for all."""
    operators = functools.cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(operators))
        for module in (torch.export, torch.onnx):
            patch.setattr(module, "export", untraced(module.export))
        yield


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """`make_once(name, make)`: a folder that all workers of this run read; the first that wants it makes it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def once(name: str, make: Callable[[Path], object]) -> Path:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                make(shared / f"{name}.part")
                (shared / f"{name}.part").rename(shared / name)
        return shared / name

    return once


@pytest.fixture(scope="session")
def bundle_folder(make_once: MakeOnce, bundle_dataset: Dataset) -> Path:
    """A tiny bundle (SASRec, window 6, L_g 20), signed by `tests.signing.KEY`; copy it before changing it."""
    return make_once("bundle", lambda root: tiny_bundle(root, bundle_dataset))


@pytest.fixture(scope="session")
def advised_folder(make_once: MakeOnce, bundle_dataset: Dataset, bundle_folder: Path) -> Path:
    """The same with a cloud model: theta has both parts, with two opinions of 10 items."""

    def make(root: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(graphs, "export_device", lambda model: (bundle_folder / "device.onnx").read_bytes())
            tiny_bundle(root, bundle_dataset, cloud=BLEND)

    return make_once("advised", make)
