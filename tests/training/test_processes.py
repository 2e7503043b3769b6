"""Several processes train what one trains: on one machine and by torchrun on two, killed, stopped and taken up."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import forked
from tests.conftest import wandering_sequences, write_dataset
from tests.training import together
from torch.distributed.run import main as torchrun

from duetgen.data.store import Dataset
from duetgen.training import load_run, train
from duetgen.training.processes import Processes, TrainingFailedError

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="processes speak gloo here")

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
HOWS = ("two", "nodes")
RUNS = [*(("two", name) for name in together.CONFIGS), *(("nodes", name) for name in together.SOME)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def two(dataset: Dataset, out: Path, *jobs: str) -> list[ForkServerProcess]:
    """Two processes on one machine, as torchrun starts them; it would end the other when one ends."""
    shared = ENVIRONMENT | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "test"}
    return [
        forked.start(
            together.work,
            str(dataset.root),
            out,
            *jobs,
            told=out / f"told-{rank}",
            **shared,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
        )
        for rank in range(2)
    ]


def nodes(dataset: Dataset, out: Path, *jobs: str) -> list[ForkServerProcess]:
    """A torchrun on each of two machines, which starts a process."""
    shared = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    here = ["--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--local-addr", "127.0.0.1"]
    words = [*shared, *here, str(together.__file__), str(dataset.root), str(out), *jobs]
    return [forked.start(torchrun, words, told=out / f"told-{node}", **ENVIRONMENT) for node in range(2)]


def ended(process: ForkServerProcess, told: Path, seconds: float = 300) -> None:
    """Wait for a process to end well."""
    process.join(seconds)
    assert process.exitcode == 0, told.read_text()


@contextlib.contextmanager
def running(started: list[ForkServerProcess]) -> Iterator[list[ForkServerProcess]]:
    """Kill afterwards what has not ended."""
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.join()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dataset(
        tmp_path_factory.mktemp("processes") / "data", wandering_sequences(41, 30, seed=0), vocabulary=30
    )


@pytest.fixture(scope="module")
def one(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the configurations."""
    out = tmp_path_factory.mktemp("one")
    steps = {}
    for name, config in together.CONFIGS.items():
        counted = together.Steps()
        train(dataset, config, out / name, progress=counted)
        steps[name] = counted.count
    (out / "found-0.json").write_text(json.dumps(steps))
    return out


@pytest.fixture(scope="module")
def several(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What two make of them, on one machine and on two; those on one stop in another run, and the second is killed."""
    found = {how: tmp_path_factory.mktemp(how) for how in HOWS}
    with running(nodes(dataset, found["nodes"], "some")) as started:
        for node, process in enumerate(started):
            ended(process, found["nodes"] / f"told-{node}")
    with running(two(dataset, found["two"], "whole", "cut", "killed")) as (first, _):
        ended(first, found["two"] / "told-0")
    return found


def metrics(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]


def found_by(out: Path) -> list[dict[str, Any]]:
    return [json.loads((out / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(("how", "name"), RUNS)
def test_they_train_what_one_trains(one: Path, several: dict[str, Path], how: str, name: str) -> None:
    steps = json.loads((one / "found-0.json").read_text())[name]
    assert [found[name] for found in found_by(several[how])] == [steps, steps]
    mine, theirs = metrics(one / name), metrics(several[how] / name)
    assert len(mine) == len(theirs) == together.CONFIGS[name].optimiser.epochs
    for line, other in zip(mine, theirs):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-4)
        assert other["validation_ndcg10"] == pytest.approx(line["validation_ndcg10"], abs=1e-3)
        assert other["learning_rate"] == line["learning_rate"]
    # Scores and not weights: a bias that changes no score has a gradient of rounding alone, which Adam makes steps of.
    windows = torch.tensor([[3, 4, 5, 6], [7, 9, 11, 0]])
    scores, others = (load_run(root / name).model.score_catalogue(windows) for root in (one, several[how]))
    torch.testing.assert_close(others, scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", together.SOME)
def test_validation_is_that_of_one_on_the_same_weights(
    several: dict[str, Path], dataset: Dataset, how: str, name: str
) -> None:
    from duetgen.evaluation import validate

    run = load_run(several[how] / name)
    assert validate(run.model, dataset, limit_devices=5000, seed=0) == pytest.approx(run.environment.best, abs=1e-9)


@pytest.mark.parametrize(("how", "name"), RUNS)
def test_all_are_told_the_end_that_the_folder_keeps(several: dict[str, Path], how: str, name: str) -> None:
    kept = load_run(several[how] / name).environment
    epochs = together.CONFIGS[name].optimiser.epochs
    assert [found[f"end of {name}"] for found in found_by(several[how])] == [[kept.best, kept.best_epoch, epochs]] * 2


@pytest.mark.parametrize("how", HOWS)
def test_all_have_the_cloud_model_of_the_folder_within(several: dict[str, Path], how: str) -> None:
    root = several[how] / "advised"
    its, cloud = load_run(root).device_model.cloud, load_run(root / "cloud").cloud_model
    assert its is not None
    assert list(cloud.members) == ["sequence", "ease"]
    for name, tensor in cloud.state_dict().items():
        assert torch.equal(its.state_dict()[name], tensor), name


@pytest.mark.parametrize("how", HOWS)
def test_all_end_alike(several: dict[str, Path], how: str) -> None:
    first, second = found_by(several[how])
    assert first["again"] is second["again"] is True
    assert first["occupied"][0] == "output-exists"
    assert second["occupied"][0] == "training-failed"
    assert first["occupied"][1] in second["occupied"][1]
    assert first["other"] == second["other"] == ["training-failed", "the processes have other settings or data"]
    assert first["nan"] == second["nan"] == ["training-failed", "the loss is nan after 0 steps"]


@pytest.mark.parametrize("how", HOWS)
def test_gradients_are_weighed_by_positions(several: dict[str, Path], how: str) -> None:
    # One position in the first process, three in the second: (1 * 7 + 3 * 7) / 4, and (1 * 11 + 3 * 0) / 4.
    for found in found_by(several[how]):
        assert found["gradients"] == [7.0, 11 / 4, None]
        # 7 * 2 = 14 in both, and 11 * 3 = 33 more in the first; the rank is the other value.
        assert found["mean"] == [(1 * 47 + 3 * 14) / 4, (1 * 0 + 3 * 1) / 4]
        # Rows 0 and 1 of a table are read by the first process, 1 and 3 by the second.
        assert found["rows"] == [[0, 1, 3], [1 / 4, (1 + 3) / 4, 3 / 4]]


def test_another_number_takes_up_at_the_same_positions(one: Path, several: dict[str, Path], dataset: Dataset) -> None:
    cut = several["two"] / "cut"
    rest = together.Steps()
    train(dataset, together.OFTEN, cut, progress=rest)
    steps = json.loads((one / "found-0.json").read_text())["duet"]
    # The step at which the power went was not saved any more.
    assert rest.count == steps - 6
    for line, other in zip(metrics(one / "duet"), metrics(cut), strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-4)


def lost(found: Path) -> None:
    """The first process ended with a word about the other."""
    code, message = json.loads(found.read_text())
    assert code == "training-failed"
    assert message.startswith("the processes of the training do not work together: ")


def test_a_process_that_is_killed_ends_the_others_with_a_word(several: dict[str, Path]) -> None:
    lost(several["two"] / "killed-0.json")


def test_a_process_that_stands_still_ends_the_others_with_a_word(dataset: Dataset, tmp_path: Path) -> None:
    with running(two(dataset, tmp_path, "stopped")) as (first, _):
        ended(first, tmp_path / "told-0")
    lost(tmp_path / "stopped-0.json")


def test_an_uneven_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(TrainingFailedError, match="3 processes are not 2 on each machine"):
        Processes()
