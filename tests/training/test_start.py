"""A run that goes on from another one: what it takes over for each method, what it refuses, and that it resumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import wandering_sequences, write_dataset
from tests.lineage import versions_of, with_titles
from torch import Tensor, nn

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.cloudmodel.table import TableModel
from duetgen.comparison.methods.changes import with_settings
from duetgen.core import GeneratorConfig
from duetgen.data.store import Dataset
from duetgen.errors import OutputExistsError
from duetgen.evaluation.validation import validate
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training import OptimiserConfig, TrainConfig, load_run, train
from duetgen.training.config import InvalidConfigError
from duetgen.training.defaults import fill_in, later_passes, passes
from duetgen.training.frozen_base import to_beat
from duetgen.training.growth import grown
from duetgen.training.run import DatasetMismatchError, NotARunError, RunFolder
from duetgen.training.start import check_start, going_on, of_sequence

SMALL = TrainConfig(
    model=ModelConfig(
        backbone=BackboneConfig(width=8, window=4, dropout=0.2),
        history=HistoryConfig(length=12, width=8, embedding_width=8, share_embedding=False),
        generator=GeneratorConfig(width=8),
        cloud=CloudConfig(width=8, items=5, neighbours=6),
    ),
    optimiser=OptimiserConfig(epochs=2, batch_positions=128, learning_rate=0.01, warmup_steps=5),
    validation_devices=20,
)
PLAIN = with_settings(SMALL, {"model.cloud.kind": "none"})
KINDS = {
    "base": {"model.method": "base", "model.cloud.kind": "none"},
    "joint": {"joint": True, "model.cloud.kind": "none"},
    "replacing": {"model.backbone.residual": False, "model.cloud.kind": "none"},
    "duet": {},
    "cloud": {"model.method": "cloud"},
    "finetune": {
        "model.method": "finetune",
        "model.cloud.kind": "none",
        "finetune.steps": 2,
        "finetune.learning_rate": 0.01,
    },
}
OLD, NEW = 22, 30


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, ...]:
    """A dataset of 20 items, and a later version with 8 more."""
    root = tmp_path_factory.mktemp("versions")
    first = wandering_sequences(20, OLD, seed=0)
    second = [one + more for one, more in zip(first, wandering_sequences(20, NEW, seed=1, longest=10))]
    return versions_of(
        write_dataset(root / "one", first, vocabulary=OLD),
        with_titles(write_dataset(root / "two", second, vocabulary=NEW), [None] * (NEW - 2)),
    )


@pytest.fixture(scope="module")
def runs(versions: tuple[Dataset, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind on the earlier version."""
    root = tmp_path_factory.mktemp("runs")
    return {
        name: train(versions[0], with_settings(SMALL, settings), root / name).root for name, settings in KINDS.items()
    }


def later(run: Path, **settings: Any) -> TrainConfig:
    """Settings that go on from a run, for one pass; `__` stands for the dot in their names."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return with_settings(going_on(run), {"optimiser.epochs": 1, "optimiser.warmup_steps": 1} | named)


class StoppedError(Exception):
    """What a killed process is here."""


class FirstWeights:
    """Keeps the weights of each model when it is first measured, and stops at the given measurement."""

    def __init__(self, stop_at: int = 1000) -> None:
        self.kept: list[dict[str, Tensor]] = []
        self.stop_at = stop_at

    def __call__(self, model: nn.Module, dataset: Dataset) -> float:
        if len(self.kept) == self.stop_at:
            raise StoppedError
        self.kept.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return float(len(self.kept))


@pytest.mark.parametrize("kind", ["base", "joint"])
def test_it_begins_with_the_weights_of_the_run(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    seen = FirstWeights()
    train(versions[1], later(runs[kind]), tmp_path / "run", validate=seen)
    before, begun = load_run(runs[kind]).model.state_dict(), seen.kept[0]
    assert begun.keys() == before.keys()
    tables = [name for name, tensor in before.items() if begun[name].shape != tensor.shape]
    assert tables == [name for name in before if name.endswith(("item_embedding.weight", "embed.weight"))]
    for name, tensor in before.items():
        if name.startswith(("backbone.", "generator.")):
            assert torch.equal(begun[name][: len(tensor)] if name in tables else begun[name], tensor), name
    for name in tables:
        assert begun[name].shape[0] == NEW
        assert (begun[name][OLD:].abs().sum(1) > 0).all(), "a new item begins with nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_goes_on(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    result = train(versions[1], later(runs[kind]), tmp_path / "run")
    run = load_run(result.root)
    assert run.environment.vocabulary == run.model.vocabulary == NEW
    assert run.environment.start_sha256 == load_run(runs[kind]).environment.weights_sha256
    assert run.environment.earlier == [versions[0].manifest.content_sha256]
    assert train(versions[1], later(runs[kind]), result.root).already_finished
    folder = RunFolder(result.root)
    assert folder.base.exists() == (kind in ("duet", "replacing", "finetune"))
    assert folder.cloud.exists() == (kind == "duet")


def test_a_generator_goes_on_for_the_base_model_that_went_on(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    """The base model goes on first, then the generator, from weights of its own, and so does the sequence model."""
    seen = FirstWeights()
    result = train(versions[1], later(runs["duet"]), tmp_path / "run", validate=seen)
    before = load_run(runs["duet"]).device_model.state_dict()
    base, generator = seen.kept[0], next(one for one in seen.kept if "generator.encoder.embed.weight" in one)
    assert torch.equal(base["backbone.item_embedding.weight"][:OLD], before["backbone.item_embedding.weight"])
    kept = load_run(RunFolder(result.root).base).model.state_dict()
    for name, tensor in generator.items():
        if name in kept:
            assert torch.equal(tensor, kept[name]), name
        elif name.startswith("generator."):
            assert torch.equal(tensor[: len(before[name])], before[name]), name
    assert generator["generator.encoder.embed.weight"].shape[0] == NEW
    cloud = RunFolder(RunFolder(result.root).cloud)
    for name, root in (("backbone", cloud.sequence), ("recurrent", cloud.recurrent)):
        assert load_run(root).environment.start_sha256 == load_run(runs["duet"]).environment.weights_sha256
        begun = of_sequence(before, name)
        assert begun is not None
        assert begun.keys() == load_run(root).model.state_dict().keys()


def test_parameters_that_replace_the_head_stay_as_far_from_it_as_they_were(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    seen = FirstWeights()
    train(versions[1], later(runs["replacing"]), tmp_path / "run", validate=seen)
    run = load_run(runs["replacing"]).device_model
    begun = Recommender(NEW, run.config)
    begun.load_state_dict(next(one for one in seen.kept if "generator.encoder.embed.weight" in one))
    assert run.generator is not None
    assert begun.generator is not None
    before = run.generator.constant() - run.backbone.head.origin()
    torch.testing.assert_close(begun.generator.constant() - begun.backbone.head.origin(), before, atol=1e-6, rtol=0)


def test_it_is_never_worse_than_what_it_goes_on_from(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    falling = iter((0.5, 0.4))
    result = train(versions[1], later(runs["base"]), tmp_path / "run", validate=lambda model, dataset: next(falling))
    assert result.best_epoch == 0
    run = load_run(result.root)
    assert torch.equal(
        run.device_model.backbone.item_embedding.weight[:OLD],
        load_run(runs["base"]).device_model.backbone.item_embedding.weight,
    )


def test_killed_again_and_again_it_ends_with_the_same_weights(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    config = later(runs["duet"], optimiser__epochs=2)
    whole = train(versions[1], config, tmp_path / "whole")
    killed = 0
    for most in (1, 2, 2, 2, 100):
        left = iter(range(most))

        def measure(model: nn.Module, dataset: Dataset, left: Iterator[int] = left) -> float:
            if next(left, None) is None:
                raise StoppedError
            return validate(model, dataset, limit_devices=config.validation_devices, seed=config.seed)

        try:
            assert not train(versions[1], config, tmp_path / "run", validate=measure).already_finished
            break
        except StoppedError:
            killed += 1
    assert killed > 2
    assert RunFolder(tmp_path / "run").weights.read_bytes() == RunFolder(whole.root).weights.read_bytes()


@pytest.mark.parametrize(
    ("method", "wholes"), [("base", ("joint", "duet", "finetune")), ("cloud", ("duet",)), ("finetune", ("base",))]
)
def test_a_part_of_a_run_goes_on_alone(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path, method: str, wholes: tuple[str, ...]
) -> None:
    for whole in wholes:
        config = with_settings(going_on(runs[whole], method), {"optimiser.epochs": 1, "model.method": method})
        run = load_run(train(versions[1], config, tmp_path / whole).root)
        assert run.config.model.method == method
        assert run.model.vocabulary == NEW


def test_a_kept_global_model_of_an_earlier_version_gets_rows_and_stays_else(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    kept = load_run(runs["base"]).device_model
    result = train(versions[1], with_settings(PLAIN, {"global_model": str(runs["base"])}), tmp_path / "run")
    run = load_run(result.root)
    windows = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    assert torch.equal(run.device_model.score_catalogue(windows)[:, :OLD], kept.score_catalogue(windows))
    assert run.device_model.score_catalogue(windows).shape == (2, NEW)
    # Its figure is of the other version's validation part.
    assert to_beat(run.config, run.root) is None


def test_a_generator_goes_on_for_a_global_model_that_is_named(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    base = train(versions[1], later(runs["base"]), tmp_path / "base").root
    config = later(runs["replacing"], global_model=str(base))
    with pytest.raises(InvalidConfigError, match=r"model.backbone.residual is True"):
        train(versions[1], with_settings(config, {"model.backbone.residual": True}), tmp_path / "run")
    run = load_run(train(versions[1], config, tmp_path / "run").root)
    own, kept = run.device_model, load_run(base).device_model
    assert torch.equal(own.backbone.item_embedding.weight, kept.backbone.item_embedding.weight)
    assert len(run.environment.start_sha256) == len(run.environment.global_model_sha256) == 64


def test_a_named_cloud_model_of_an_earlier_version_is_counted_anew(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    config = with_settings(SMALL, {"cloud_model": str(runs["cloud"])})
    run = load_run(train(versions[1], config, tmp_path / "run").root)
    cloud, before = run.device_model.cloud, load_run(runs["cloud"]).cloud_model
    assert isinstance(cloud, CloudModel)
    own, earlier = cloud.members["sequence"].state_dict(), before.members["sequence"].state_dict()
    for backbone in ("backbone", "recurrent"):
        table = f"{backbone}.item_embedding.weight"
        assert torch.equal(own.pop(table)[:OLD], earlier.pop(table))
    assert all(torch.equal(own[name], earlier[name]) for name in earlier)
    (counted,) = (one for one in cloud.members.values() if isinstance(one, TableModel))
    assert (counted.near_VK >= OLD).any()
    assert counted.near_VK.shape[0] == NEW


def test_the_same_version_may_be_trained_on(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    assert grown(load_run(runs["base"]), versions[0]).model.vocabulary == OLD
    assert load_run(train(versions[0], later(runs["base"]), tmp_path / "run").root).model.vocabulary == OLD


def test_fewer_passes_by_default(versions: tuple[Dataset, ...], runs: dict[str, Path]) -> None:
    anew = fill_in(with_settings(PLAIN, {"optimiser.epochs": 0}), versions[1]).optimiser.epochs
    on = fill_in(going_on(runs["base"]), versions[1]).optimiser.epochs
    assert (anew, on) == (passes(1), later_passes(1))
    assert on < anew


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.name", "gru4rec"),
        ("model.backbone.width", 16),
        ("model.backbone.window", 5),
        ("model.history.length", 13),
        ("model.history.encoder", "gru"),
        ("model.generator.width", 4),
        ("model.cloud.width", 16),
        ("joint", True),
    ],
)
def test_a_setting_that_the_weights_do_not_fit_is_refused_by_its_name(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path, setting: str, value: object
) -> None:
    config = with_settings(later(runs["duet"]), {setting: value})
    with pytest.raises(InvalidConfigError) as refused:
        train(versions[1], config, tmp_path / "run")
    assert refused.value.message.startswith(f"{setting} is {value!r}")
    assert not (tmp_path / "run").exists()


def test_a_cloud_model_that_the_run_does_not_hold_is_refused_by_its_kind(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    for kind, other in (("duet", "ease"), ("joint", "blend")):
        its = load_run(runs[kind]).config.model.cloud.kind
        config = with_settings(going_on(runs[kind]), {"model.cloud.kind": other})
        with pytest.raises(InvalidConfigError, match=rf"model\.cloud\.kind is '{other}', .* has '{its}'") as refused:
            train(versions[1], config, tmp_path / "run")
        assert "none to go on without" in refused.value.hint
    check_start(versions[1], later(runs["duet"], model__cloud__kind="none"), RunFolder(tmp_path / "run"))


def test_a_method_that_the_run_does_not_hold_is_refused(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    for kind, method in (("base", "duet"), ("cloud", "base"), ("base", "cloud")):
        with pytest.raises(InvalidConfigError, match=rf"model\.method is '{method}', .* the method '{kind}'"):
            going_on(runs[kind], method)
    config = with_settings(going_on(runs["base"]), {"model.method": "duet"})
    with pytest.raises(InvalidConfigError, match=r"model\.method is 'duet'"):
        train(versions[1], config, tmp_path / "run")


def test_another_dataset_and_an_earlier_version_are_refused(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    other = versions_of(write_dataset(tmp_path / "other", wandering_sequences(20, OLD, seed=0), vocabulary=OLD))[0]
    with pytest.raises(DatasetMismatchError, match="is other"):
        train(other, later(runs["base"]), tmp_path / "run")
    ahead = train(versions[1], later(runs["base"]), tmp_path / "ahead").root
    with pytest.raises(DatasetMismatchError, match=r"trained on version 2 of two, .* is version 1"):
        train(versions[0], later(ahead), tmp_path / "run")
    with pytest.raises(DatasetMismatchError, match=r"trained on version 1 of two, .* is version 2") as refused:
        load_run(runs["base"]).check_dataset(versions[1])
    assert "--from" in refused.value.hint


def test_a_run_that_changed_since_is_refused_and_so_is_one_inside_the_other(
    versions: tuple[Dataset, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    first = train(versions[0], with_settings(PLAIN, KINDS["base"]), tmp_path / "first").root
    with pytest.raises(StoppedError):
        train(versions[1], later(first), tmp_path / "run", validate=FirstWeights(stop_at=1))
    train(versions[0], with_settings(PLAIN, KINDS["base"] | {"seed": 1}), first, overwrite=True)
    with pytest.raises(NotARunError, match="begun for another run than"):
        train(versions[1], with_settings(later(first), {"seed": 0}), tmp_path / "run")
    with pytest.raises(OutputExistsError, match="first is the run to go on from"):
        train(versions[1], later(first), first, overwrite=True)
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(NotARunError, match=r"first, the run that .*run began with, is gone"):
        train(versions[1], with_settings(SMALL, {"start_from": str(first)}), tmp_path / "run")
