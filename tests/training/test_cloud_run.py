"""Runs of cloud models, and of devices that get their opinions: the folder, taken up again, and refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from tests.conftest import write_people
from tests.signing import KEY
from tests.training.test_frozen_base import BASE, SMALL
from torch import Tensor, nn

from duetgen.baselines.counting import incidence
from duetgen.baselines.ease import CatalogueTooLargeError, gram, solve
from duetgen.baselines.item_knn import neighbours
from duetgen.cloudmodel import CloudList
from duetgen.cloudmodel.sequence import SequenceModel
from duetgen.cloudmodel.table import HALF_LIVES, TableModel, largest
from duetgen.comparison.methods.changes import with_settings
from duetgen.data.store import UNKNOWN, Dataset
from duetgen.errors import OutputExistsError
from duetgen.evaluation import evaluate, validate
from duetgen.export import export_bundle
from duetgen.export.errors import NotExportableError
from duetgen.training import TrainConfig, cloud_run, job, load_run, train
from duetgen.training.cloud_run import RECURRENT_SHARES, SCALES, SHARES, fit_scale
from duetgen.training.config import InvalidConfigError, check_config
from duetgen.training.defaults import EASE_ITEMS, fill_in
from duetgen.training.progress import Losses, Silent
from duetgen.training.run import DatasetMismatchError, NotARunError, RunFolder

TINY = {"kind": "blend", "width": 8, "items": 5, "neighbours": 10}
DUET = with_settings(SMALL, {"optimiser.epochs": 1} | {f"model.cloud.{name}": value for name, value in TINY.items()})
CLOUD = with_settings(DUET, {"model.method": "cloud"})
FILES = {"config.toml", "environment.json", "weights.safetensors"}


def files_of(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def weights_of(root: Path) -> bytes:
    return RunFolder(root).weights.read_bytes()


@pytest.fixture(scope="module")
def cloud(people: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cloud model: a sequence model and EASE."""
    return train(people, CLOUD, tmp_path_factory.mktemp("runs") / "cloud").root


def on(cloud: Path, **settings: object) -> TrainConfig:
    """A DUET that gets the opinions of a cloud run; `__` stands for the dot in the settings' names."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return with_settings(SMALL, {"cloud_model": str(cloud), "optimiser.epochs": 1} | named)


class TestCloudRun:
    def test_its_sequence_model_is_two_base_runs_and_its_table_a_baseline(self, people: Dataset, cloud: Path) -> None:
        assert files_of(cloud) == FILES | {"sequence", "recurrent"}
        model, folder = load_run(cloud).cloud_model, RunFolder(cloud)
        base, recurrent = load_run(folder.sequence), load_run(folder.recurrent)
        sequence, table = model.members["sequence"], model.members["ease"]
        assert isinstance(sequence, SequenceModel)
        assert isinstance(table, TableModel)
        for run, name, width in ((base, "sasrec", 8), (recurrent, "gru4rec", 4)):
            own = run.config.model
            assert (own.name, own.method, own.backbone.width, own.backbone.window) == (name, "base", width, 12)
        history = torch.tensor([[3, 4, 5, 6], [7, 2, 0, 0]])
        each = [run.device_model.score_catalogue(history)[:, 2:] for run in (base, recurrent)]
        share = float(sequence.share)
        assert share in RECURRENT_SHARES
        expected = torch.log_softmax((1 - share) * each[0] + share * each[1], dim=1)
        torch.testing.assert_close(sequence(history)[:, 2:], expected)
        near_VK, weight_VK = largest(solve(gram(people), 300.0), 10)
        assert torch.equal(table.near_VK.long(), near_VK)
        assert torch.equal(table.weight_VK, weight_VK)
        assert float(table.half_life) in HALF_LIVES
        assert model.shares_J[0] == 1
        assert round(float(model.shares_J[1]), 4) in SHARES

    def test_the_scale_of_the_table_is_that_of_the_least_log_loss(self, people: Dataset, cloud: Path) -> None:
        table, targets = load_run(cloud).cloud_model.members["ease"], people.targets("valid")
        assert isinstance(table, TableModel)
        chosen, losses = float(table.scale), {}
        # Of the devices that validate, the choice is drawn; here all of them are taken.
        config = with_settings(CLOUD, {"validation_devices": 1000})
        fit_scale(table, people, 12, config)
        best = float(table.scale)
        for scale in SCALES:
            table.scale.fill_(scale)
            losses[scale] = 0.0
            for start, end in zip(targets.start_N.tolist(), targets.position_N.tolist()):
                if (target := int(people.events[end])) != UNKNOWN:
                    history = torch.tensor([people.events[start:end].tolist()[-12:]])
                    losses[scale] -= float(torch.log_softmax(table(history)[0, 2:], dim=0)[target - 2])
        assert best == pytest.approx(min(losses, key=lambda one: losses[one]))
        assert any(chosen == pytest.approx(scale) for scale in SCALES)

    def test_what_it_tells_is_what_its_list_has_on_the_validation_part(self, people: Dataset, cloud: Path) -> None:
        run = load_run(cloud)
        found = validate(CloudList(run.cloud_model), people, limit_devices=CLOUD.validation_devices)
        assert found == run.environment.best > 0

    def test_what_is_chosen_is_the_best_there(self, people: Dataset, cloud: Path) -> None:
        model = load_run(cloud).cloud_model
        found = {}
        for share in SHARES:
            model.shares_J[1] = share
            found[share] = validate(CloudList(model), people, limit_devices=CLOUD.validation_devices)
        assert max(found.values()) == load_run(cloud).environment.best

    def test_so_is_what_the_gru4rec_counts_in_the_sequence_model_alone(self, people: Dataset, cloud: Path) -> None:
        model = load_run(cloud).cloud_model
        sequence, found = model.members["sequence"], {}
        assert isinstance(sequence, SequenceModel)
        chosen = float(sequence.share)
        model.shares_J[1] = 0
        for share in RECURRENT_SHARES:
            sequence.share.fill_(share)
            found[share] = validate(CloudList(model), people, limit_devices=CLOUD.validation_devices)
        assert chosen == max(found, key=lambda share: found[share])

    @pytest.mark.parametrize("kind", ["ease", "item-knn", "sequence"])
    def test_one_model_alone(self, people: Dataset, tmp_path: Path, kind: str) -> None:
        root = train(people, with_settings(CLOUD, {"model.cloud.kind": kind}), tmp_path / "run").root
        model = load_run(root).cloud_model
        assert files_of(root) == FILES | ({"sequence", "recurrent"} if kind == "sequence" else set())
        assert list(model.members) == [kind]
        assert model.shares_J.tolist() == [1]
        if kind == "item-knn":
            near_VK, cosine_VK = neighbours(incidence(people), 10)
            assert torch.equal(model.members[kind].near_VK.long(), near_VK)  # type: ignore[operator]
            assert torch.equal(model.members[kind].weight_VK, cosine_VK)  # type: ignore[arg-type]

    def test_a_finished_one_is_told_of_and_another_takes_its_place_on_demand(
        self, people: Dataset, tmp_path: Path
    ) -> None:
        config = with_settings(CLOUD, {"model.cloud.kind": "item-knn"})
        first = train(people, config, tmp_path / "run")
        again = train(people, config, tmp_path / "run")
        assert again.already_finished
        assert (again.best, again.epochs) == (first.best, 0)
        other = with_settings(config, {"model.cloud.neighbours": 3})
        with pytest.raises(OutputExistsError, match="other settings"):
            train(people, other, tmp_path / "run")
        train(people, other, tmp_path / "run", overwrite=True)
        assert load_run(tmp_path / "run").config.model.cloud.neighbours == 3

    def test_it_is_measured_like_any_other_run(self, people: Dataset, cloud: Path) -> None:
        (found,) = evaluate(load_run(cloud).model, people, bootstrap=0)
        assert [result.name for result in found.conditions] == ["zero"]


@pytest.mark.parametrize(("room", "asked"), [(2**28, 2), (2 * 3 * 4, 3), (0, 4)])
def test_what_models_say_is_kept_while_there_is_room(room: int, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(nn.Module):
        times = 0

        def forward(self, history_BL: Tensor) -> Tensor:
            self.times += 1
            return history_BL.float() + 1

    monkeypatch.setattr(cloud_run, "KEPT_BYTES", room)
    counted = Counted()
    members = nn.ModuleDict({"one": counted})
    histories = [torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64)]
    with cloud_run.kept(members):
        for history_BL in histories * 2:
            assert torch.equal(members["one"](history_BL), history_BL.float() + 1)
    assert counted.times == asked
    assert dict(members) == {"one": counted}


class PowerCutError(Exception):
    """Stands in for a power cut."""


class CutAt(Silent):
    """Stops at the first step of the training that is the so-manieth to start."""

    def __init__(self, training: int) -> None:
        self.training, self.started_so_far = training, 0

    def started(self, epochs: int, steps: int, resumed_epoch: int) -> None:
        self.started_so_far += 1

    def stepped(self, step: int, losses: Losses, positions_per_second: float) -> None:
        if self.started_so_far == self.training:
            raise PowerCutError


def cut(*arguments: object) -> None:
    raise PowerCutError


@pytest.fixture(scope="module")
def whole(people: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DUET with a cloud model of its own."""
    return train(people, DUET, tmp_path_factory.mktemp("runs") / "whole").root


@pytest.mark.parametrize(
    ("where", "started_again"),
    [
        ("in the base model", 5),
        ("in the sequence model", 4),
        ("in its second half", 3),
        ("before the table", 2),
        ("in the second base model", 2),
        ("in the generator", 1),
        ("before trust", 1),
    ],
)
def test_stopped_between_its_parts_it_ends_with_the_same_weights(
    people: Dataset, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, started_again: int
) -> None:
    parts = ("in the base model", "in the sequence model", "in its second half", "in the second base model")
    progress = CutAt(1 + [*parts, "in the generator"].index(where) if not where.startswith("before") else 0)
    with monkeypatch.context() as patched:
        if where == "before the table":
            patched.setattr(cloud_run, "count", cut)
        elif where == "before trust":
            patched.setattr(job, "settle", cut)
        with pytest.raises(PowerCutError):
            train(people, DUET, tmp_path / "cut", progress=progress)
    assert not RunFolder(tmp_path / "cut").weights.exists()
    rest = CutAt(0)
    result = train(people, DUET, tmp_path / "cut", progress=rest)
    # What had come to its end is not trained again.
    assert rest.started_so_far == started_again
    assert weights_of(result.root) == weights_of(whole)
    assert result.best == load_run(whole).environment.best


class TestDuetRun:
    def test_its_own_cloud_model_is_the_run_that_could_have_been_named(
        self, people: Dataset, cloud: Path, whole: Path, tmp_path: Path
    ) -> None:
        assert files_of(whole) == FILES | {"metrics.jsonl", "base", "base-distilled", "cloud"}
        assert weights_of(RunFolder(whole).cloud) == weights_of(cloud)
        named = train(people, on(cloud), tmp_path / "named").root
        assert files_of(named) == FILES | {"metrics.jsonl", "base", "base-distilled"}
        assert weights_of(named) == weights_of(whole)
        assert RunFolder(whole).read_environment().cloud_model_sha256 == ""
        assert len(RunFolder(named).read_environment().cloud_model_sha256) == 64
        assert load_run(named).config.model.cloud == load_run(cloud).config.model.cloud

    def test_it_has_the_cloud_models_opinions_and_its_figure_is_that_of_what_counts(
        self, people: Dataset, cloud: Path, whole: Path
    ) -> None:
        run, its = load_run(whole), load_run(cloud).cloud_model
        model, history = run.device_model, torch.tensor([[3, 4, 5, 6], [7, 2, 0, 0]])
        theta = model.generate(history)
        for one, other in zip(theta.opinions, its.opinions(history), strict=True):
            assert torch.equal(one.items_BK, other.items_BK)
            assert torch.equal(one.values_BK, other.values_BK)
        found = validate(model, people, limit_devices=DUET.validation_devices)
        assert found == pytest.approx(run.environment.best, abs=1e-9)

    def test_what_it_has_of_a_cloud_model_whose_run_is_gone_stays(
        self, people: Dataset, cloud: Path, tmp_path: Path
    ) -> None:
        mine = shutil.copytree(cloud, tmp_path / "cloud")
        root = train(people, on(mine), tmp_path / "run").root
        shutil.rmtree(mine)
        run = load_run(root)
        assert validate(run.model, people, limit_devices=10) == pytest.approx(run.environment.best, abs=1e-9)
        again = train(
            people, with_settings(SMALL, {"global_model": str(root), "model.cloud.kind": "none"}), tmp_path / "anew"
        )
        assert load_run(again.root).device_model.cloud is None

    @pytest.mark.parametrize(("kind", "opinions"), [("none", 0), ("ease", 1), ("item-knn", 1), ("sequence", 1)])
    def test_other_kinds(self, people: Dataset, tmp_path: Path, kind: str, opinions: int) -> None:
        root = train(people, with_settings(DUET, {"model.cloud.kind": kind}), tmp_path / "run").root
        model = load_run(root).device_model
        assert RunFolder(root).cloud.exists() == (kind != "none")
        assert len(model.generate(torch.tensor([[3, 4]])).opinions) == opinions
        assert model.trust is not None
        assert len(model.trust.opinions_JA) == opinions

    @pytest.mark.parametrize("changes", [{"model.backbone.head": "scale"}, {"model.name": "din"}])
    def test_every_device_model_gets_the_same_cloud_model(
        self, people: Dataset, tmp_path: Path, changes: dict[str, object]
    ) -> None:
        config = with_settings(DUET, {"model.cloud.kind": "item-knn"})
        plain = train(people, with_settings(config, {"model.method": "cloud"}), tmp_path / "cloud").root
        root = train(people, with_settings(config, changes), tmp_path / "run").root
        assert weights_of(RunFolder(root).cloud) == weights_of(plain)

    def test_a_kept_global_model_is_what_it_is_without_theta(
        self, people: Dataset, cloud: Path, tmp_path: Path
    ) -> None:
        base = train(people, with_settings(BASE, {"optimiser.epochs": 1}), tmp_path / "base").root
        root = train(people, on(cloud, global_model=str(base)), tmp_path / "run").root
        window = torch.tensor([[3, 4, 5, 6]])
        assert torch.equal(load_run(root).model.score_catalogue(window), load_run(base).model.score_catalogue(window))

    def test_its_own_global_model_can_be_kept_for_another_cloud_model(
        self, people: Dataset, whole: Path, tmp_path: Path
    ) -> None:
        config = with_settings(DUET, {"global_model": str(whole), "model.cloud.kind": "none"})
        model = load_run(train(people, config, tmp_path / "run").root).device_model
        window = torch.tensor([[3, 4, 5, 6]])
        assert torch.equal(model.score_catalogue(window), load_run(whole).model.score_catalogue(window))
        assert model.cloud is None


class TestDefaults:
    @pytest.mark.parametrize(
        ("method", "feed", "kind"),
        [
            ("duet", "sequences", "blend"),
            ("cloud", "sequences", "blend"),
            ("duet", "rows", "none"),
            ("base", "sequences", "none"),
            ("finetune", "sequences", "none"),
        ],
    )
    def test_a_cloud_model_where_it_is_of_use(self, people: Dataset, method: str, feed: str, kind: str) -> None:
        config = with_settings(TrainConfig(), {"model.method": method, "feed": feed})
        filled = fill_in(config, people).model.cloud
        assert (filled.kind, filled.table) == (kind, "ease")

    def test_a_large_catalogue_has_neighbours(self, wandering: Dataset) -> None:
        def table(items: int) -> str:
            counts = with_items(wandering, items)
            return fill_in(TrainConfig(), counts).model.cloud.table

        assert table(EASE_ITEMS - 2) == "ease"
        assert table(EASE_ITEMS - 1) == "item-knn"

    def test_ease_on_a_catalogue_beyond_it_is_refused_before_anything_is_trained(self, wandering: Dataset) -> None:
        config = with_settings(TrainConfig(), {"model.cloud.table": "ease"})
        with pytest.raises(CatalogueTooLargeError):
            fill_in(config, with_items(wandering, 20_000))


def with_items(dataset: Dataset, items: int) -> Dataset:
    """The dataset as if it had so many items."""
    counts = msgspec.structs.replace(dataset.manifest.counts, items=items)
    dataset.manifest = msgspec.structs.replace(dataset.manifest, counts=counts)
    return dataset


class TestRefused:
    def test_a_cloud_model_of_another_dataset(self, cloud: Path, tmp_path: Path) -> None:
        with pytest.raises(DatasetMismatchError):
            train(write_people(tmp_path / "others", seed=1), on(cloud), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_cloud_model_of_another_history_length(self, people: Dataset, cloud: Path, tmp_path: Path) -> None:
        with pytest.raises(InvalidConfigError, match=r"model\.history\.length is 13, .* reads 12 events"):
            train(people, on(cloud, model__history__length=13), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_cloud_model_in_the_run_folder_itself(self, people: Dataset, tmp_path: Path) -> None:
        config = with_settings(CLOUD, {"model.cloud.kind": "item-knn"})
        root = train(people, config, tmp_path / "cloud").root
        for out, told in ((root, "cloud is the cloud model"), (tmp_path, "cloud, the cloud model, lies in")):
            with pytest.raises(OutputExistsError, match=told):
                train(people, on(root), out, overwrite=True)
        with pytest.raises(OutputExistsError, match=r"duet lies in .*cloud, the cloud model"):
            train(people, on(root), root / "duet")
        assert files_of(root) == FILES
        assert load_run(root).environment.finished

    def test_a_run_of_another_method(self, people: Dataset, whole: Path, tmp_path: Path) -> None:
        with pytest.raises(NotARunError, match="no cloud model: it is a run of the method duet") as refused:
            train(people, on(whole), tmp_path / "run")
        assert "--method cloud" in refused.value.hint
        assert not (tmp_path / "run").exists()

    def test_a_folder_that_is_no_run_and_a_run_that_has_not_finished(
        self, people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(NotARunError, match=r"there is no folder .*nowhere"):
            train(people, on(tmp_path / "nowhere"), tmp_path / "run")
        with monkeypatch.context() as patched:
            patched.setattr(cloud_run, "count", cut)
            with pytest.raises(PowerCutError):
                train(people, with_settings(CLOUD, {"model.cloud.kind": "ease"}), tmp_path / "begun")
        with pytest.raises(NotARunError, match="has not finished"):
            train(people, on(tmp_path / "begun"), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_run_does_not_go_on_for_a_cloud_model_that_has_changed(
        self, people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = with_settings(CLOUD, {"model.cloud.kind": "sequence"})
        root = train(people, config, tmp_path / "cloud").root
        with monkeypatch.context() as patched:
            patched.setattr(job, "settle", cut)
            with pytest.raises(PowerCutError):
                train(people, on(root), tmp_path / "run")
        # Another seed, so other weights under the settings that the run knows of.
        train(people, with_settings(config, {"seed": 1}), root, overwrite=True)
        with pytest.raises(NotARunError, match="begun for another cloud model"):
            train(people, on(root), tmp_path / "run")
        assert train(people, on(root), tmp_path / "run", overwrite=True).best_epoch > 0

    def test_a_cloud_model_that_changes_while_the_generator_is_trained(
        self, people: Dataset, cloud: Path, tmp_path: Path
    ) -> None:
        mine = shutil.copytree(cloud, tmp_path / "cloud")

        class Meddler(Silent):
            def measured(self, *told: object) -> None:
                train(people, with_settings(CLOUD, {"seed": 1}), mine, overwrite=True)

        with pytest.raises(NotARunError, match="has changed since this run began"):
            train(people, on(mine), tmp_path / "run", progress=Meddler())
        assert not RunFolder(tmp_path / "run").weights.exists()

    def test_a_cloud_model_where_a_device_model_is_wanted(self, people: Dataset, cloud: Path, tmp_path: Path) -> None:
        run = load_run(cloud)
        for call in (
            lambda: run.device_model,
            lambda: export_bundle(run, people, tmp_path / "bundle", key=KEY),
            lambda: train(people, with_settings(DUET, {"global_model": str(cloud)}), tmp_path / "run"),
        ):
            kinds = (NotARunError, NotExportableError)
            with pytest.raises(kinds, match="is a cloud model: no device runs it") as refused:
                call()
            assert "--cloud-model" in refused.value.hint
        assert not (tmp_path / "bundle").exists()
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"model.method": "base", "cloud_model": "somewhere"}, "base has no use for cloud_model"),
            ({"model.method": "cloud", "cloud_model": "somewhere"}, "cloud has no use for cloud_model"),
            ({"model.method": "cloud", "global_model": "somewhere"}, "cloud has no use for global_model"),
            ({"model.method": "cloud", "model.cloud.kind": "none"}, "kind none"),
            ({"model.method": "cloud", "feed": "rows"}, "not rows"),
            ({"model.cloud.items": 0}, "model.cloud.items is 0"),
            ({"model.cloud.items": 1001}, "model.cloud.items is 1001"),
            ({"model.cloud.width": 9}, "does not divide into 2 heads"),
        ],
    )
    def test_settings_without_use_or_out_of_range(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidConfigError, match=message):
            check_config(with_settings(TrainConfig(), settings))
