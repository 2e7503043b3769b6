"""A pipe in the place of a file of duetgen's own: it is refused, and not waited for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.training.test_loop import SMALL

from duetgen.data.store import Dataset
from duetgen.documents import DamagedError
from duetgen.training import load_run, recommender_of, train
from duetgen.training.run import RunFolder

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes pipes")


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    """What waits for a writer is ended."""

    def give_up(*_: object) -> None:
        raise TimeoutError("it waits for the pipe")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(path: Path, read: Callable[[], object]) -> None:
    whole = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedError, match=r"is damaged: .*it is no regular file"):
        read()
    path.unlink()
    path.write_bytes(whole)


def test_pipe_in_a_dataset_folder(wandering: Dataset) -> None:
    for name in ("sequences/events.npy", "sequences/bounds.npy", "sequences/offsets.npy"):
        refused(wandering.root / name, lambda: Dataset(wandering.root))


def test_pipe_in_a_run_folder(wandering: Dataset, tmp_path: Path) -> None:
    model = msgspec.structs.replace(SMALL.model, method="finetune")
    finetune = msgspec.structs.replace(SMALL.finetune, steps=1, learning_rate=0.01)
    config = msgspec.structs.replace(SMALL, model=model, finetune=finetune, joint=False)
    folder = RunFolder(train(wandering, config, tmp_path / "run").root)

    def load() -> None:
        recommender_of(load_run(folder.root), wandering)

    for path in (folder.config, folder.weights, folder.finetune):
        refused(path, load)
    load()
