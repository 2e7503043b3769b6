"""Runs of fine-tuning: the folder, what is chosen, taken up again, and refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from tests.conftest import write_people
from tests.training.test_frozen_base import BASE, SMALL

from duetgen.comparison.methods.changes import with_settings
from duetgen.data.store import Dataset
from duetgen.documents import DamagedError, encode_sealed
from duetgen.evaluation import few_devices, validate
from duetgen.export.bundle import check_exportable
from duetgen.export.errors import NotExportableError
from duetgen.export.published import load_model
from duetgen.training import TrainConfig, finetune_run, load_run, recommender_of, train
from duetgen.training.config import InvalidConfigError, decode_config
from duetgen.training.finetune import FineTuned
from duetgen.training.finetune_run import read_choice
from duetgen.training.progress import Silent
from duetgen.training.run import DatasetMismatchError, NotARunError, RunFolder

TUNED = with_settings(SMALL, {"model.method": "finetune", "optimiser.epochs": 1})


@pytest.fixture(scope="module")
def base(people: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished base run."""
    return train(people, with_settings(BASE, {"optimiser.epochs": 1}), tmp_path_factory.mktemp("runs") / "base").root


@pytest.fixture(autouse=True)
def two_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pairs of steps and rate are enough here."""
    monkeypatch.setattr(finetune_run, "STEPS", (1, 3))
    monkeypatch.setattr(finetune_run, "RATES", (1e-3, 1e-2))


def on(base: Path, **settings: object) -> TrainConfig:
    """Fine-tuning of a base run; `__` stands for the dot in the settings' names."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return with_settings(TUNED, {"global_model": str(base)} | named)


def test_without_a_global_model_it_trains_the_base_run_first(people: Dataset, base: Path, tmp_path: Path) -> None:
    result = train(people, TUNED, tmp_path / "run")
    folder = RunFolder(result.root)
    assert {path.name for path in folder.root.iterdir()} == {
        "config.toml",
        "environment.json",
        "weights.safetensors",
        "finetune.json",
        "base",
    }
    own = RunFolder(folder.base)
    assert own.weights.read_bytes() == folder.weights.read_bytes() == RunFolder(base).weights.read_bytes()
    assert load_run(own.root).config == load_run(base).config
    choice = read_choice(folder)
    assert [(one.steps, one.learning_rate) for one in choice.tried] == [(1, 1e-3), (1, 1e-2), (3, 1e-3), (3, 1e-2)]
    best = max(one.validation_ndcg10 for one in choice.tried)
    assert result.best == choice.validation_ndcg10 == best == folder.read_environment().best
    assert result.seconds == pytest.approx(own.read_environment().seconds + choice.seconds)
    assert folder.read_environment().global_model_sha256 == ""
    again = train(people, TUNED, tmp_path / "run")
    assert (again.already_finished, again.best) == (True, best)


@pytest.mark.parametrize("scope", ["head", "whole"])
def test_it_is_loaded_as_it_was_chosen(people: Dataset, base: Path, tmp_path: Path, scope: str) -> None:
    result = train(people, on(base, finetune__scope=scope), tmp_path / "run")
    assert not RunFolder(result.root).base.exists()
    assert len(RunFolder(result.root).read_environment().global_model_sha256) == 64
    model, settings, _ = load_model(result.root, people)
    assert isinstance(model, FineTuned)
    choice = read_choice(RunFolder(result.root))
    assert (model.config.scope, model.config.steps) == (scope, choice.steps)
    assert (model.config.learning_rate, model.config.negatives, model.length) == (choice.learning_rate, 64, 12)
    assert settings["model"]["method"] == "finetune"
    devices = few_devices(people, TUNED.validation_devices)
    assert validate(model, people, limit_devices=devices) == result.best
    global_model = load_run(base).model
    assert validate(global_model, people, limit_devices=devices) == choice.base_validation_ndcg10
    windows = torch.tensor([[3, 4, 5, 6]])
    assert torch.equal(model.score_catalogue(windows), global_model.score_catalogue(windows))


def test_steps_and_rate_that_are_given_are_not_chosen(people: Dataset, base: Path, tmp_path: Path) -> None:
    root = train(people, on(base, finetune__steps=2, finetune__learning_rate=0.02), tmp_path / "both").root
    assert [(one.steps, one.learning_rate) for one in read_choice(RunFolder(root)).tried] == [(2, 0.02)]
    root = train(people, on(base, finetune__steps=2), tmp_path / "steps").root
    assert [(one.steps, one.learning_rate) for one in read_choice(RunFolder(root)).tried] == [(2, 1e-3), (2, 1e-2)]


class Cut(Silent):
    """Stops a run after so many settings."""

    def __init__(self, after: int) -> None:
        self.after = after

    def tried(self, done: int, total: int, steps: int, learning_rate: float, ndcg: float) -> None:
        assert total == 4
        if done == self.after:
            raise KeyboardInterrupt


def test_stopped_while_choosing_it_goes_on_and_measures_nothing_twice(
    people: Dataset, base: Path, tmp_path: Path
) -> None:
    train(people, on(base), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(people, on(base), tmp_path / "cut", progress=Cut(2))
    folder = RunFolder(tmp_path / "cut")
    with pytest.raises(NotARunError, match="has not finished"):
        load_run(folder.root)
    # Had the first been measured again, it would not be told as it was found here.
    found = read_choice(folder)
    found.tried[0] = msgspec.structs.replace(found.tried[0], validation_ndcg10=0.99)
    folder.finetune.write_bytes(encode_sealed(found))
    assert train(people, on(base), folder.root).best == 0.99
    whole, cut = (read_choice(RunFolder(tmp_path / name)).tried for name in ("whole", "cut"))
    assert cut[1:] == whole[1:]
    assert RunFolder(tmp_path / "whole").weights.read_bytes() == folder.weights.read_bytes()


def test_stopped_while_its_base_trains_it_goes_on(people: Dataset, tmp_path: Path) -> None:
    class CutBase(Silent):
        def measured(self, epoch: int, loss: float, ndcg: float, best: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(people, TUNED, tmp_path / "cut", progress=CutBase())
    assert not RunFolder(tmp_path / "cut").weights.exists()
    train(people, TUNED, tmp_path / "cut")
    assert load_run(tmp_path / "cut" / "base").environment.finished


def test_a_generator_can_be_trained_for_what_was_fine_tuned(people: Dataset, base: Path, tmp_path: Path) -> None:
    tuned = train(people, on(base, finetune__steps=1, finetune__learning_rate=0.01), tmp_path / "tuned").root
    duet = load_run(train(people, with_settings(SMALL, {"global_model": str(tuned)}), tmp_path / "duet").root)
    windows = torch.tensor([[3, 4, 5, 6]])
    expected = load_run(base).model.score_catalogue(windows)
    assert torch.equal(duet.model.score_catalogue(windows), expected)
    assert recommender_of(duet, people) is duet.model


def test_it_makes_no_bundle(people: Dataset, base: Path, tmp_path: Path) -> None:
    root = train(people, on(base, finetune__steps=1, finetune__learning_rate=0.01), tmp_path / "run").root
    with pytest.raises(NotExportableError, match="fine-tuned") as refused:
        check_exportable(load_run(root))
    assert "--global-model" in refused.value.hint


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"model__backbone__width": 16}, "model.backbone.width"),
        ({"model__backbone__window": 5}, "model.backbone.window"),
        ({"model__backbone__head": "scale"}, "finetune has no use for model.backbone.head"),
        ({"finetune__steps": -1}, "finetune.steps"),
        ({"finetune__learning_rate": 11.0}, "finetune.learning_rate"),
    ],
)
def test_what_does_not_fit_is_refused(
    people: Dataset, base: Path, tmp_path: Path, settings: dict[str, object], names: str
) -> None:
    with pytest.raises(InvalidConfigError, match=names):
        train(people, on(base, **settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_data_and_damage_are_refused(people: Dataset, base: Path, tmp_path: Path) -> None:
    with pytest.raises(NotARunError, match="nowhere"):
        train(people, on(tmp_path / "nowhere"), tmp_path / "run")
    with pytest.raises(DatasetMismatchError):
        train(write_people(tmp_path / "others", seed=1), on(base), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    root = train(people, on(base, finetune__steps=1, finetune__learning_rate=0.01), tmp_path / "run").root
    RunFolder(root).finetune.write_text("{")
    with pytest.raises(DamagedError, match=r"finetune\.json is damaged"):
        load_model(root, people)


def test_settings_of_another_method_are_as_they_were(people: Dataset, base: Path) -> None:
    config = load_run(base).config
    assert config.finetune == TrainConfig().finetune
    kept = RunFolder(base).config.read_text()
    without = kept.replace('\n[finetune]\nscope = "head"\nsteps = 0\nlearning_rate = 0.0\nnegatives = 0\n', "")
    assert without != kept
    assert decode_config(without.encode()) == config
