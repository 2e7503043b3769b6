"""A global model that is kept: what stays, what is trained, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from tests.conftest import write_people

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel import CloudConfig
from duetgen.comparison.methods.changes import with_settings
from duetgen.core import GeneratorConfig
from duetgen.data.store import Dataset
from duetgen.documents import DamagedError
from duetgen.errors import OutputExistsError
from duetgen.recommender import HistoryConfig, ModelConfig
from duetgen.training import OptimiserConfig, TrainConfig, job, load_run, train
from duetgen.training.config import InvalidConfigError
from duetgen.training.frozen_base import to_beat
from duetgen.training.run import DatasetMismatchError, NotARunError, RunFolder

SMALL = TrainConfig(
    model=ModelConfig(
        backbone=BackboneConfig(width=8, window=4, dropout=0.2),
        history=HistoryConfig(length=12, width=8, embedding_width=8),
        generator=GeneratorConfig(width=8),
        cloud=CloudConfig(kind="none"),
    ),
    optimiser=OptimiserConfig(epochs=2, batch_positions=128, learning_rate=0.01, warmup_steps=5),
    validation_devices=10,
)
BASE = with_settings(SMALL, {"model.method": "base"})


@pytest.fixture(scope="module")
def base(people: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished base run."""
    return train(people, BASE, tmp_path_factory.mktemp("runs") / "base").root


def on(base: Path, **settings: object) -> TrainConfig:
    """A generator for a base run; `__` stands for the dot in the settings' names."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return with_settings(SMALL, {"global_model": str(base)} | named)


@pytest.mark.parametrize("head", ["full", "low-rank", "scale", "prefix", "concat", "window-prefix"])
def test_without_theta_it_is_the_kept_model_bit_for_bit(people: Dataset, base: Path, tmp_path: Path, head: str) -> None:
    result = train(people, on(base, model__backbone__head=head), tmp_path / "run")
    run, kept = load_run(result.root), load_run(base).model
    windows = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    assert torch.equal(run.model.score_catalogue(windows), kept.score_catalogue(windows))
    own = run.model.score_catalogue(windows, run.model.generate(windows))
    assert not torch.equal(own, kept.score_catalogue(windows))
    trained = run.model.state_dict()
    for name, tensor in kept.state_dict().items():
        assert torch.equal(trained[name], tensor), name
    assert len(run.environment.global_model_sha256) == 64


def test_without_a_global_model_it_trains_the_base_run_first(people: Dataset, base: Path, tmp_path: Path) -> None:
    result = train(people, SMALL, tmp_path / "run")
    folder, named = RunFolder(result.root), train(people, on(base), tmp_path / "named")
    assert {path.name for path in folder.root.iterdir()} == {
        "config.toml",
        "environment.json",
        "weights.safetensors",
        "metrics.jsonl",
        "base",
    }
    assert RunFolder(folder.base).weights.read_bytes() == RunFolder(base).weights.read_bytes()
    assert load_run(folder.base).config == load_run(base).config
    assert folder.weights.read_bytes() == RunFolder(named.root).weights.read_bytes()
    assert result.best == named.best
    assert folder.read_environment().global_model_sha256 == ""
    assert result.seconds > load_run(folder.base).environment.seconds
    assert train(people, SMALL, folder.root).already_finished


def test_a_base_model_within_that_is_damaged_is_refused(
    people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(job, "settle", cut)
        with pytest.raises(KeyboardInterrupt):
            train(people, SMALL, folder.root)
    weights = RunFolder(folder.base).weights
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"base/weights\.safetensors"):
        train(people, SMALL, folder.root)


def cut(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_what_a_generator_has_to_beat(people: Dataset, base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    best = RunFolder(base).read_environment().best
    assert to_beat(on(base), run) == best
    assert to_beat(on(base, seed=1), run) is None
    assert to_beat(on(base, validation_devices=5), run) is None
    assert to_beat(SMALL, run) is None
    assert to_beat(on(tmp_path / "gone"), run) is None
    generated = train(people, SMALL, run).root
    assert to_beat(on(generated), tmp_path / "other") is None
    assert to_beat(SMALL, generated) == best
    assert to_beat(with_settings(SMALL, {"joint": True}), generated) is None


@pytest.mark.parametrize("backbone", ["gru4rec", "din"])
def test_other_backbones_are_kept_as_well(people: Dataset, tmp_path: Path, backbone: str) -> None:
    base = train(people, with_settings(BASE, {"model.name": backbone}), tmp_path / "base").root
    run = load_run(train(people, on(base, model__name=backbone), tmp_path / "run").root)
    windows, candidates = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[7, 8, 9]])
    assert torch.equal(run.model.score(windows, candidates), load_run(base).model.score(windows, candidates))


def test_the_generator_learns_from_the_kept_model_as_a_device_runs_it(
    people: Dataset, base: Path, tmp_path: Path
) -> None:
    one = load_run(train(people, on(base), tmp_path / "one").root).model.state_dict()
    other = load_run(train(people, on(base, model__backbone__dropout=0.9), tmp_path / "other").root).model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_shared_embedding_is_kept_and_the_rest_of_the_generator_trained(
    people: Dataset, base: Path, tmp_path: Path
) -> None:
    config = on(base, model__history__share_embedding=True)
    short, longer = (
        load_run(train(people, with_settings(config, {"optimiser.epochs": epochs}), tmp_path / str(epochs)).root).model
        for epochs in (1, 2)
    )
    before, after = short.state_dict(), longer.state_dict()
    trained = {name for name in before if not name.startswith("trust.")}
    moved = {name for name in trained if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("generator.layers.") for name in moved), moved


def test_a_replacing_generator_starts_from_the_kept_head(people: Dataset, base: Path, tmp_path: Path) -> None:
    config = on(base, model__backbone__residual=False, optimiser__learning_rate=1e-9)
    model, kept = load_run(train(people, config, tmp_path / "run").root).model, load_run(base).model
    windows = torch.tensor([[3, 4, 5, 6]])
    own = model.score_catalogue(windows, model.generate(windows))[:, 1:]
    assert torch.allclose(own, kept.score_catalogue(windows)[:, 1:], atol=0.1)


def test_a_generator_of_a_joint_run_can_be_trained_anew(people: Dataset, tmp_path: Path) -> None:
    joint = train(people, with_settings(SMALL, {"joint": True}), tmp_path / "joint").root
    anew = load_run(train(people, on(joint, seed=1), tmp_path / "anew").root).model
    windows = torch.tensor([[3, 4, 5, 6]])
    first = load_run(joint).model
    assert torch.equal(anew.score_catalogue(windows), first.score_catalogue(windows))
    assert not torch.equal(anew.generate(windows).weights_BP, first.generate(windows).weights_BP)


def test_a_refused_overwrite_loses_nothing(people: Dataset, base: Path, tmp_path: Path) -> None:
    run = RunFolder(train(people, on(base), tmp_path / "run").root)
    before = run.weights.read_bytes()
    with pytest.raises(InvalidConfigError):
        train(people, on(base, model__backbone__width=16), run.root, overwrite=True)
    with pytest.raises(NotARunError):
        train(people, on(tmp_path / "nowhere"), run.root, overwrite=True)
    with pytest.raises(OutputExistsError, match="run is the global model"):
        train(people, on(run.root), run.root, overwrite=True)
    assert run.weights.read_bytes() == before
    with pytest.raises(OutputExistsError, match="run, the global model, lies in"):
        train(people, on(run.root), tmp_path, overwrite=True)
    with pytest.raises(OutputExistsError, match=r"more lies in .*run, the global model"):
        train(people, on(run.root), run.root / "more")
    assert run.weights.read_bytes() == before


def test_a_run_does_not_go_on_for_another_global_model(people: Dataset, tmp_path: Path) -> None:
    base = train(people, BASE, tmp_path / "base").root
    run = RunFolder(train(people, on(base), tmp_path / "run").root)
    run.write_environment(msgspec.structs.replace(run.read_environment(), finished=False))
    train(people, with_settings(BASE, {"seed": 1}), base, overwrite=True)
    with pytest.raises(NotARunError, match="another global model"):
        train(people, on(base), run.root)
    assert train(people, on(base), run.root, overwrite=True).best_epoch > 0


def test_what_only_a_joint_run_needs_is_left_out_and_said_so(people: Dataset, base: Path, tmp_path: Path) -> None:
    root = train(people, on(base, optimiser__generator_rate=0.2), tmp_path / "run").root
    config = load_run(root).config
    assert (config.objective.fallback_weight, config.global_model) == (0.0, str(base))
    assert config.optimiser.generator_rate == 1.0


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"model__backbone__width": 16}, "model.backbone.width"),
        ({"model__backbone__window": 5}, "model.backbone.window"),
        ({"model__name": "gru4rec"}, "model.name"),
        ({"objective__kind": "bce"}, "model.normalised"),
        ({"model__method": "base"}, "global_model"),
        ({"model__generator__frozen": True}, "frozen"),
        ({"joint": True}, "a global model that is kept has no use for joint"),
    ],
)
def test_what_does_not_fit_is_refused(
    people: Dataset, base: Path, tmp_path: Path, settings: dict[str, object], names: str
) -> None:
    with pytest.raises(InvalidConfigError, match=names):
        train(people, on(base, **settings), tmp_path / "run")


def test_a_run_that_is_missing_unfinished_or_of_other_data_is_refused(
    people: Dataset, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotARunError, match="nowhere"):
        train(people, on(tmp_path / "nowhere"), tmp_path / "run")
    begun = RunFolder(tmp_path / "begun")
    begun.root.mkdir()
    begun.config.write_bytes(RunFolder(base).config.read_bytes())
    begun.write_environment(msgspec.structs.replace(RunFolder(base).read_environment(), finished=False))
    with pytest.raises(NotARunError, match="not finished"):
        train(people, on(begun.root), tmp_path / "run")
    with pytest.raises(DatasetMismatchError):
        train(write_people(tmp_path / "others", seed=1), on(base), tmp_path / "run")
    assert not (tmp_path / "run" / "weights.safetensors").exists()
