"""Whole runs on a small dataset folder: the folder, resuming after SIGKILL, sameness by seed, refusals."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import torch
from tests import forked
from tests.conftest import MakeDataset, wandering_sequences, write_dataset

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel import CloudConfig
from duetgen.core import GeneratorConfig
from duetgen.data.manifest import write_manifest
from duetgen.data.store import Dataset
from duetgen.documents import DamagedError
from duetgen.errors import OutputExistsError, OutputUnwritableError
from duetgen.jobfolder import LOCK, FolderBusyError, alone_in
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training import Losses, ObjectiveConfig, OptimiserConfig, TrainConfig, load_run, train
from duetgen.training.defaults import fill_in
from duetgen.training.loop import Trainer, TrainingFailedError, make_batches
from duetgen.training.processes import Processes
from duetgen.training.progress import Silent
from duetgen.training.run import DatasetMismatchError, NotARunError, RunFolder

SMALL = TrainConfig(
    model=ModelConfig(
        backbone=BackboneConfig(width=8, window=4),
        history=HistoryConfig(length=12, width=8, embedding_width=8),
        generator=GeneratorConfig(width=8),
        cloud=CloudConfig(kind="none"),
    ),
    objective=ObjectiveConfig(staleness=3),
    joint=True,
    optimiser=OptimiserConfig(epochs=3, batch_positions=128, learning_rate=0.01, warmup_steps=5, patience=100),
)


def with_model(config: TrainConfig, **changes: object) -> TrainConfig:
    joint = changes.get("method", "duet") == "duet"
    return msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, **changes), joint=joint)


def weights_of(root: Path) -> bytes:
    return (root / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `SMALL` on `wandering`, from its beginning to its end; not to be changed."""
    root = tmp_path_factory.mktemp("whole")
    dataset = write_dataset(root / "data", wandering_sequences(60, 30, seed=0), vocabulary=30)
    return train(dataset, SMALL, root / "run").root


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> RunFolder:
    """A copy of it, to be changed."""
    shutil.copytree(whole, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_a_lock_that_a_killed_process_left_in_a_finished_run_goes(wandering: Dataset, finished: RunFolder) -> None:
    (finished.root / LOCK).touch()
    assert train(wandering, SMALL, finished.root).already_finished
    assert not (finished.root / LOCK).exists()


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "din"])
@pytest.mark.parametrize("method", ["base", "duet"])
def test_training_learns_and_writes_a_run_folder(wandering: Dataset, tmp_path: Path, name: str, method: str) -> None:
    config = with_model(SMALL, name=name, method=method)
    config = msgspec.structs.replace(config, optimiser=msgspec.structs.replace(config.optimiser, epochs=8))
    result = train(wandering, config, tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"config.toml", "environment.json", "metrics.jsonl", "weights.safetensors"}
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"]
    if method == "base":
        assert result.best == max(line["validation_ndcg10"] for line in lines)
    # Chance is about 0.16: ten of 28 items, a discount of 0.45 on average.
    assert result.best > 0.25
    run = load_run(tmp_path / "run")
    assert run.config == fill_in(config, wandering)
    assert run.model.personal == (method == "duet")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    wandering: Dataset, whole: Path, tmp_path: Path
) -> None:
    train(wandering, SMALL, tmp_path / "same")
    train(wandering, msgspec.structs.replace(SMALL, seed=1), tmp_path / "other")
    assert weights_of(tmp_path / "same") == weights_of(whole)
    assert weights_of(tmp_path / "other") != weights_of(whole)


class Hearing(Silent):
    """Keeps what it is told of each pass, and of the last step before."""

    def __init__(self) -> None:
        self.last, self.passes = Losses(total=0.0), list[tuple[Losses, Losses]]()

    def stepped(self, step: int, losses: Losses, positions_per_second: float) -> None:
        self.last = losses

    def measured(self, epoch: int, losses: Losses, ndcg: float, best: float) -> None:
        self.passes.append((self.last, losses))


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_two_losses_of_duet_are_told_apart_and_make_up_the_joint_one(
    wandering: Dataset, tmp_path: Path, weight: float
) -> None:
    config = msgspec.structs.replace(SMALL, objective=ObjectiveConfig(staleness=3, fallback_weight=weight))
    heard = Hearing()
    train(wandering, config, tmp_path / "run", progress=heard)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == len(heard.passes) == 3
    for line, (last, told) in zip(lines, heard.passes):
        assert line["loss"] == pytest.approx(line["own_loss"] + weight * line["zero_loss"], rel=1e-5)
        assert line["own_loss"] != line["zero_loss"]
        assert last == told == Losses(total=line["loss"], own=line["own_loss"], zero=line["zero_loss"])


@pytest.mark.parametrize(
    "config",
    [
        with_model(SMALL, method="base"),
        msgspec.structs.replace(SMALL, objective=ObjectiveConfig(staleness=3, fallback_weight=0.0)),
    ],
    ids=["base", "duet-without-the-second"],
)
def test_where_there_is_one_loss_one_is_told(wandering: Dataset, tmp_path: Path, config: TrainConfig) -> None:
    heard = Hearing()
    train(wandering, config, tmp_path / "run", progress=heard)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert not any({"own_loss", "zero_loss"} & set(line) for line in lines)
    assert [told for _, told in heard.passes] == [Losses(total=line["loss"]) for line in lines]


class PowerCutError(Exception):
    """Stands in for a power cut between two steps."""


class StopAt:
    """Stops a run at a step of an epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self.epoch, self.at, self.now = epoch, step, 0

    def started(self, epochs: int, steps: int, resumed_epoch: int) -> None:
        self.now = resumed_epoch

    def stepped(self, step: int, losses: Losses, positions_per_second: float) -> None:
        if (self.now, step) == (self.epoch, self.at):
            raise PowerCutError

    def measured(self, epoch: int, losses: Losses, ndcg: float, best: float) -> None:
        self.now = epoch


@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["checkpoint-each-step", "checkpoint-each-epoch"])
@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 2), pytest.param(2, 4, marks=pytest.mark.slow)])
def test_stopped_anywhere_it_ends_with_the_same_weights(
    wandering: Dataset, whole: Path, tmp_path: Path, epoch: int, step: int, seconds: float
) -> None:
    config = msgspec.structs.replace(SMALL, checkpoint_seconds=seconds)
    with pytest.raises(PowerCutError):
        train(wandering, config, tmp_path / "cut", progress=StopAt(epoch, step))
    assert not (tmp_path / "cut/weights.safetensors").exists()
    with pytest.raises(NotARunError, match="has not finished"):
        load_run(tmp_path / "cut")
    train(wandering, config, tmp_path / "cut")
    assert weights_of(tmp_path / "cut") == weights_of(whole)
    one, two = ((root / "metrics.jsonl").read_text().splitlines() for root in (whole, tmp_path / "cut"))
    keys = ("epoch", "loss", "own_loss", "zero_loss", "validation_ndcg10", "learning_rate")
    assert [[json.loads(line)[key] for key in keys] for line in one] == [
        [json.loads(line)[key] for key in keys] for line in two
    ]


def train_in(data: Path, config: TrainConfig, out: Path) -> None:
    """A training in a process of its own."""
    torch.set_num_threads(1)
    train(Dataset(data), config, out)


def test_killed_with_sigkill_again_and_again_it_ends_with_the_same_weights(wandering: Dataset, tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        SMALL, checkpoint_seconds=0.0, optimiser=msgspec.structs.replace(SMALL.optimiser, epochs=5)
    )
    checkpoint = RunFolder(tmp_path / "cut").checkpoint
    for _ in range(2):
        process = forked.start(train_in, wandering.root, config, tmp_path / "cut", told=tmp_path / "told")
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.is_alive() and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns != before):
            time.sleep(0.001)
        time.sleep(0.02)
        process.kill()
        process.join()
        assert not (tmp_path / "cut/weights.safetensors").exists()
    train(wandering, config, tmp_path / "cut")
    train(wandering, msgspec.structs.replace(config, checkpoint_seconds=60.0), tmp_path / "whole")
    assert weights_of(tmp_path / "cut") == weights_of(tmp_path / "whole")


def test_a_finished_run_is_not_trained_again(wandering: Dataset, finished: RunFolder) -> None:
    before = weights_of(finished.root)
    result = train(wandering, SMALL, finished.root, progress=StopAt(0, 1))
    assert result.already_finished
    assert result.epochs == 3
    assert weights_of(finished.root) == before


def test_the_throughput_of_a_pass_is_its_own(wandering: Dataset, tmp_path: Path) -> None:
    def slow(model: Recommender, dataset: Dataset) -> float:
        time.sleep(0.3)
        return 0.5

    train(wandering, SMALL, tmp_path / "run", validate=slow)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    batches = make_batches(wandering, fill_in(SMALL, wandering))
    positions = [sum(batch.trained for batch in batches.epoch(epoch)) for epoch in range(3)]
    passes = [count / line["positions_per_second"] for count, line in zip(positions, lines, strict=True)]
    assert sum(passes) + 3 * 0.3 < lines[-1]["seconds"] + 1e-6


def test_patience_ends_a_run(wandering: Dataset, tmp_path: Path) -> None:
    measured = iter([0.3, 0.2, 0.1, 0.25, 0.9])
    config = with_model(SMALL, method="base")
    config = msgspec.structs.replace(config, optimiser=msgspec.structs.replace(SMALL.optimiser, epochs=50, patience=3))
    result = train(wandering, config, tmp_path / "run", validate=lambda model, dataset: next(measured))
    assert (result.best, result.best_epoch, result.epochs) == (0.3, 1, 4)


def test_the_best_weights_are_kept_not_the_last(wandering: Dataset, tmp_path: Path) -> None:
    kept: list[dict[str, torch.Tensor]] = []

    def validate(model: Recommender, dataset: Dataset) -> float:
        kept.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return [0.1, 0.5, 0.2][len(kept) - 1]

    train(wandering, SMALL, tmp_path / "run", validate=validate)
    saved = safetensors.torch.load(weights_of(tmp_path / "run"))
    # How much theta counts is learnt when the weights are chosen.
    trained = [name for name in saved if not name.startswith("trust.")]
    assert all(torch.equal(saved[name], kept[1][name]) for name in trained)
    assert not all(torch.equal(saved[name], kept[2][name]) for name in trained)


def test_the_test_part_changes_nothing(make_dataset: MakeDataset, tmp_path: Path) -> None:
    sequences = [[2 + (u + t) % 20 for t in range(12)] for u in range(20)]
    other = [[*sequence[:-1], 2] for sequence in sequences]
    for name, content in (("one", sequences), ("two", other)):
        train(make_dataset(content, vocabulary=22), SMALL, tmp_path / name)
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "two")


def rewrite_config(folder: RunFolder, content: bytes) -> None:
    """Settings as if the run had begun with them."""
    folder.config.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    folder.write_environment(msgspec.structs.replace(folder.read_environment(), config_sha256=digest))


def test_a_run_of_a_version_without_some_setting_is_the_same_run(wandering: Dataset, tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        train(wandering, SMALL, tmp_path / "run", progress=StopAt(1, 1))
    folder = RunFolder(tmp_path / "run")
    lines = folder.config.read_bytes().splitlines(keepends=True)
    fewer = [line for line in lines if not line.startswith(b"global_model")]
    assert len(fewer) == len(lines) - 1
    rewrite_config(folder, b"".join(fewer))
    assert not train(wandering, SMALL, folder.root).already_finished
    assert train(wandering, SMALL, folder.root).already_finished
    assert load_run(folder.root).config == fill_in(SMALL, wandering)


def test_other_settings_in_the_same_folder_are_refused_and_the_run_stays(
    wandering: Dataset, finished: RunFolder
) -> None:
    before = weights_of(finished.root)
    other = msgspec.structs.replace(SMALL, seed=7)
    with pytest.raises(OutputExistsError, match=r"other settings or data: seed is 0 there and 7 here"):
        train(wandering, other, finished.root)
    assert weights_of(finished.root) == before
    train(wandering, other, finished.root, overwrite=True)
    assert weights_of(finished.root) != before


def test_a_folder_with_other_content_is_refused_even_with_overwrite(wandering: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="not a run folder"):
        train(wandering, SMALL, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/thesis.tex").read_text() == "years of work"


def test_a_run_with_something_of_somebody_elses_in_it_is_not_replaced(wandering: Dataset, finished: RunFolder) -> None:
    (finished.root / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match=r"holds thesis\.tex, which is not of it"):
        train(wandering, msgspec.structs.replace(SMALL, seed=7), finished.root, overwrite=True)
    assert (finished.root / "thesis.tex").read_text() == "years of work"
    assert load_run(finished.root).config == fill_in(SMALL, wandering)


def test_a_file_in_the_way_is_refused(wandering: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputExistsError, match="is a file"):
        train(wandering, SMALL, tmp_path / "run")


def test_an_unwritable_place_is_refused(wandering: Dataset) -> None:
    with pytest.raises(OutputUnwritableError):
        train(wandering, SMALL, Path("/proc/duetgen/run"))


def test_a_run_killed_before_it_began_is_taken_up(wandering: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.toml").write_text("half a fi")
    train(wandering, SMALL, tmp_path / "run")
    assert load_run(tmp_path / "run").environment.finished


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content.replace(b'\\"step\\":1', b'\\"step\\":2'),
        lambda content: content.replace(b"sha256", b"sha25_"),
    ],
    ids=["cut", "empty", "a bit of a weight", "a digit of a counter", "no digest"],
)
def test_a_damaged_checkpoint_is_refused(wandering: Dataset, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    config = msgspec.structs.replace(SMALL, checkpoint_seconds=0.0)
    with pytest.raises(PowerCutError):
        train(wandering, config, tmp_path / "run", progress=StopAt(0, 2))
    path = RunFolder(tmp_path / "run").checkpoint
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    assert path.read_bytes() != whole
    with pytest.raises(DamagedError, match=r"state\.safetensors is damaged"):
        train(wandering, config, tmp_path / "run")


@pytest.mark.parametrize("content", [None, b"", b'{"epoch": 1}', b"\xff"])
def test_damaged_metrics_are_refused(wandering: Dataset, tmp_path: Path, content: bytes | None) -> None:
    metrics = RunFolder(tmp_path / "run").metrics
    with pytest.raises(PowerCutError):
        train(wandering, SMALL, tmp_path / "run", progress=StopAt(1, 1))
    metrics.unlink() if content is None else metrics.write_bytes(content)
    with pytest.raises(DamagedError, match=r"metrics\.jsonl is damaged"):
        train(wandering, SMALL, tmp_path / "run")


@pytest.mark.parametrize("file", ["weights.safetensors", "config.toml", "environment.json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "other"])
def test_a_damaged_run_is_refused(finished: RunFolder, file: str, damage: str) -> None:
    path = finished.root / file
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": whole[:-9], "empty": b"", "other": b"\xff\x00"}[damage])
    with pytest.raises(NotARunError if (file, damage) == ("environment.json", "missing") else DamagedError):
        load_run(finished.root)


def test_one_changed_bit_of_the_weights_is_refused(wandering: Dataset, finished: RunFolder) -> None:
    whole = finished.weights.read_bytes()
    finished.weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedError, match="not what was written"):
        load_run(finished.root)
    # Nobody is told that such a run has been trained.
    with pytest.raises(DamagedError, match="not what was written"):
        train(wandering, SMALL, finished.root)


@pytest.mark.parametrize(
    ("file", "written", "changed"),
    [
        ("config.toml", b"learning_rate = 0.01", b"learning_rate = 0.02"),
        ("environment.json", b'"finished": true', b'"finished": false'),
        ("environment.json", b'"vocabulary": ', b'"vocabulary": 1'),
    ],
)
def test_one_changed_word_or_digit_of_a_run_is_refused(
    wandering: Dataset, finished: RunFolder, file: str, written: bytes, changed: bytes
) -> None:
    path = finished.root / file
    assert written in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(written, changed))
    for read in (load_run, lambda root: train(wandering, SMALL, root)):
        with pytest.raises(DamagedError, match="not what was written"):
            read(path.parent)
    train(wandering, SMALL, path.parent, overwrite=True)
    load_run(path.parent)


def test_settings_that_do_not_fit_the_weights_are_refused(finished: RunFolder) -> None:
    rewrite_config(finished, with_model(SMALL, backbone=BackboneConfig(width=16)).to_toml())
    with pytest.raises(DamagedError):
        load_run(finished.root)


def test_two_do_not_train_in_one_folder_and_a_finished_run_is_told_to_all(wandering: Dataset, tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        train(wandering, SMALL, tmp_path / "run", progress=StopAt(1, 1))
    with alone_in(tmp_path / "run"):
        for overwrite in (False, True):
            with pytest.raises(FolderBusyError):
                train(wandering, SMALL, tmp_path / "run", overwrite=overwrite)
    train(wandering, SMALL, tmp_path / "run")
    with alone_in(tmp_path / "run"):
        assert train(wandering, SMALL, tmp_path / "run").already_finished


def test_a_run_of_another_version_is_refused(finished: RunFolder) -> None:
    content = json.loads(finished.environment.read_text()) | {"format_version": 99}
    finished.environment.write_text(json.dumps(content))
    with pytest.raises(NotARunError, match="run format 99"):
        load_run(finished.root)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotARunError, match="not a run folder"):
        load_run(tmp_path)


def test_a_run_and_another_dataset_do_not_go_together(
    wandering: Dataset, make_dataset: MakeDataset, whole: Path
) -> None:
    run = load_run(whole)
    run.check_dataset(wandering)
    other = make_dataset([[2, 3, 4, 5]])
    manifest = msgspec.structs.replace(other.manifest, content_sha256="f" * 64)
    write_manifest(other.root, manifest)
    with pytest.raises(DatasetMismatchError):
        run.check_dataset(Dataset(other.root))


def test_nothing_to_train_on_is_refused(make_dataset: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailedError, match="no device with two events"):
        train(make_dataset([[2, 3, 4]]), SMALL, tmp_path / "run")


def test_a_loss_that_is_not_finite_ends_the_run(wandering: Dataset, tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        SMALL, optimiser=msgspec.structs.replace(SMALL.optimiser, learning_rate=10.0, clip=0.0, epochs=200)
    )
    trainer_config = fill_in(config, wandering)
    trainer = Trainer(wandering, trainer_config, RunFolder(tmp_path), lambda model, dataset: 0.0, Processes())
    with torch.no_grad():
        trainer.model.backbone.item_embedding.weight.fill_(float("inf"))
    with pytest.raises(TrainingFailedError, match="the loss is nan after 0 steps"):
        trainer.run_epoch(StopAt(-1, -1))


def test_what_the_dataset_decides_is_kept(wandering: Dataset, tmp_path: Path) -> None:
    free = msgspec.structs.replace(SMALL.optimiser, batch_positions=0, epochs=1)
    train(wandering, msgspec.structs.replace(SMALL, optimiser=free), tmp_path / "run")
    assert load_run(tmp_path / "run").config.optimiser.batch_positions == 256
    assert fill_in(SMALL, wandering).optimiser.batch_positions == 128
