"""Distillation: the divergence by hand, losses against the plain way, what a cloud model teaches, and whole runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.conftest import MakeDataset
from tests.training.test_cloud_run import CLOUD, DUET, TINY, CutAt, PowerCutError, files_of, weights_of
from tests.training.test_frozen_base import BASE
from tests.training.test_step import V, make_batch, make_step, window
from torch import Tensor
from torch.nn import functional

from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.cloudmodel.table import TableModel
from duetgen.comparison.methods.changes import with_settings
from duetgen.data.store import Dataset
from duetgen.training import ObjectiveConfig, TrainConfig, defaults, job, load_run, softmax, train
from duetgen.training.config import InvalidConfigError, check_config
from duetgen.training.defaults import fill_in
from duetgen.training.distillation import Teacher
from duetgen.training.frozen_base import own_base, to_beat
from duetgen.training.met import MetItems
from duetgen.training.objectives import Advice
from duetgen.training.run import RunFolder
from duetgen.training.softmax import catalogue_cross_entropy
from duetgen.training.step import TrainingStep

TAUGHT = with_settings(BASE, {"optimiser.epochs": 1, "objective.distillation": 1.0} | {
    f"model.cloud.{name}": value for name, value in (TINY | {"kind": "item-knn"}).items()
})  # fmt: skip


def test_the_divergence_by_hand() -> None:
    # Wanted 1/2, 1/4 and 1/4 for the others; own 1/4, 1/4 and 1/2: 1/2 ln 2 + 0 - 1/4 ln 2.
    advice = Advice(torch.tensor([[5, 3]]), torch.tensor([[1 / 2, 1 / 4]]), weight=3.0, temperature=2.0)
    found = advice.loss(torch.tensor([[1 / 4, 1 / 4]]), torch.tensor([1 / 2]))
    assert found.tolist() == pytest.approx([3 * 2**2 * math.log(2) / 4])


def test_no_divergence_from_the_same_shares_and_a_finite_one_from_nothing() -> None:
    advice = Advice(torch.tensor([[5, 3]]), torch.tensor([[1.0, 0.0]]), weight=1.0, temperature=1.0)
    assert advice.loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0])).tolist() == [0.0]
    assert math.isfinite(float(advice.loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1.0]))))


def advise(items: int, rows: int, count: int, temperature: float, left_out: Tensor | None = None) -> Advice:
    """Advice drawn at random: the best of scores of all items."""
    scores = torch.randn(rows, items)
    if left_out is not None:
        scores = scores.scatter(1, left_out, -torch.inf)
    share, best = torch.softmax(scores, 1).topk(count, dim=1)
    return Advice(best, share, weight=0.7, temperature=temperature)


def plain_distillation(scores: Tensor, advice: Advice) -> Tensor:
    """The mean divergence, in the way of the definition: all items apart from the advised ones are summed up."""
    own = torch.softmax(scores / advice.temperature, 1)
    best = own.gather(1, advice.items_NK)
    others, aim = 1 - best.sum(1), 1 - advice.share_NK.sum(1)
    of_best = torch.where(advice.share_NK > 0, advice.share_NK * (advice.share_NK / best).log(), 0.0).sum(1)
    of_others = torch.where(aim > 1e-6, aim * (aim / others).log(), 0.0)
    return advice.weight * advice.temperature**2 * (of_best + of_others).mean()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("block", [1, 2**20])
def test_the_fused_softmax_has_loss_and_gradients_of_the_plain_way(
    count: int, temperature: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "BLOCK_ELEMENTS", block * 11)
    torch.manual_seed(0)
    query, items = torch.randn(5, 3, requires_grad=True), torch.randn(11, 3, requires_grad=True)
    target, met = torch.tensor([0, 4, 10, 4, 2]), torch.tensor([[1, 3], [5, 6], [10, 9], [0, 0], [7, 8]])
    advice = advise(11, 5, count, temperature, met)
    scores = query @ items.T
    shown = scores.scatter(1, met, -torch.inf).scatter(1, target[:, None], scores.gather(1, target[:, None]))
    plain = functional.cross_entropy(shown, target) + plain_distillation(shown, advice)
    expected = torch.autograd.grad(3 * plain, [query, items])
    loss = catalogue_cross_entropy(query, items, target, lambda rows: met[rows], advice)
    torch.testing.assert_close(loss, plain)
    for ours, theirs in zip(torch.autograd.grad(3 * loss, [query, items]), expected):
        torch.testing.assert_close(ours, theirs)


def test_advice_of_all_items_is_the_divergence_of_whole_distributions() -> None:
    torch.manual_seed(0)
    query, items, target = torch.randn(5, 3), torch.randn(11, 3), torch.zeros(5, dtype=torch.long)
    advice = advise(11, 5, 11, 1.0)
    added = catalogue_cross_entropy(query, items, target, None, advice) - catalogue_cross_entropy(query, items, target)
    wanted = torch.zeros(5, 11).scatter(1, advice.items_NK, advice.share_NK)
    expected = functional.kl_div(torch.log_softmax(query @ items.T, 1), wanted, reduction="batchmean")
    torch.testing.assert_close(added, 0.7 * expected)


class Drawn(Teacher):
    """Advice of nobody."""

    def __init__(self, count: int, temperature: float = 1.0) -> None:
        torch.manual_seed(9)
        share, items = torch.softmax(3 * torch.randn(20, V - 2), 1).topk(count, dim=1)
        self.items_EK, self.share_EK = items + 2, share
        self.weight, self.temperature = 0.7, temperature


def teach(step: TrainingStep, teacher: Teacher) -> TrainingStep:
    step.teacher = teacher
    return step


def expected_distillation(step: TrainingStep, age_of: dict[int, int], first_item: int) -> Tensor:
    """What advice adds, one position at a time, each run as a device would."""
    batch, found = make_batch(), []
    assert step.teacher is not None
    for row, t in batch.trained_BT.nonzero().tolist():
        theta = None
        if step.model.generator is not None:
            theta = step.model.generate(batch.events_BT[row : row + 1, : t - age_of[t] + 1])
        scores = step.model.score_catalogue(window(batch.events_BT[row], t), theta)[:, first_item:]
        advice = step.teacher.at(torch.tensor([9 * row + t])).counted_from(first_item)
        found.append(plain_distillation(scores, advice))
    return torch.stack(found).mean()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(
    ("name", "method"), [("sasrec", "base"), ("sasrec", "duet"), ("gru4rec", "base"), ("din", "duet")]
)
def test_every_position_learns_with_theta_as_old_as_on_a_device(name: str, method: str, temperature: float) -> None:
    step, batch = make_step(name, method=method, staleness=3), make_batch()
    batch = replace(batch, index_BT=torch.arange(18).reshape(2, 9))
    plain = step(batch, seed=1)[1]
    added = teach(step, Drawn(5, temperature))(batch, seed=1)[1] - plain
    offset = int(torch.randint(4, (), generator=torch.Generator().manual_seed(1)))
    ages = {t: (t - offset) % 4 if t >= offset else t for t in range(9)}
    torch.testing.assert_close(added, expected_distillation(step, ages, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_with_many_drawn_items_it_is_that_over_all_known_items(temperature: float) -> None:
    step = make_step(method="base", kind="sampled", negatives=100_000)
    batch = replace(make_batch(), index_BT=torch.arange(18).reshape(2, 9))
    plain = step(batch, seed=1)[1]
    added = teach(step, Drawn(5, temperature))(batch, seed=1)[1] - plain
    expected = expected_distillation(step, {}, 2)
    torch.testing.assert_close(added, expected, rtol=0.003, atol=0.0)


@pytest.mark.parametrize("kind", ["softmax", "sampled"])
def test_what_was_met_has_no_part_in_it(kind: str) -> None:
    step = teach(make_step(method="base", kind=kind, negatives=50), Drawn(V - 2))
    batch = replace(make_batch(), index_BT=torch.arange(18).reshape(2, 9))
    assert step.teacher is not None
    met = MetItems(batch.events_BT, torch.arange(2), torch.tensor([9, 6])).among(torch.arange(V))
    share, items = step.teacher.share_EK, step.teacher.items_EK
    gone = met[torch.arange(20) // 9 % 2][:, None, :].expand(-1, V - 2, -1).gather(2, items[..., None])[..., 0]
    step.teacher.share_EK = share.masked_fill(gone, 0) / share.masked_fill(gone, 0).sum(1, keepdim=True)
    batch = replace(batch, met_BM=batch.events_BT, before_B=torch.tensor([8, 5]))
    batch.trained_BT[:, :] = batch.target_BT > 0
    loss = step(batch, seed=1)[0]
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    for name, parameter in step.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("met", ["hide", "show"])
def test_a_teacher_has_the_best_items_of_every_position_that_is_trained(make_dataset: MakeDataset, met: str) -> None:
    dataset = make_dataset([[2, 3, 4, 5, 6], [7, 2, 7, 3, 8, 2]], vocabulary=9)
    config = CloudConfig(kind="blend", table="item-knn", width=8, items=4, neighbours=9)
    torch.manual_seed(0)
    cloud = CloudModel(9, 3, config, "hide").eval()
    table = cloud.members["item-knn"]
    assert isinstance(table, TableModel)
    table.near_VK.copy_(torch.arange(9).int().expand(9, 9))
    table.weight_VK.copy_(torch.rand(9, 9))
    teacher = Teacher(cloud, dataset, ObjectiveConfig(distillation=1.0, temperature=2.0, met=met))  # type: ignore[arg-type]
    events = dataset.events.tolist()
    # The last two events of each are for validation and test.
    for start, places in ((0, range(1, 3)), (5, range(6, 9))):
        for place in places:
            scores = cloud.score_catalogue(torch.tensor([events[max(start, place - 3) : place]]))[0]
            for item in {1, *(events[start:place] if met == "hide" else ())} - {events[place]}:
                scores[item] = -torch.inf
            share, items = torch.softmax(scores / 2, 0).topk(4)
            advice = teacher.at(torch.tensor([place]))
            torch.testing.assert_close(advice.share_NK[0], share, rtol=1e-3, atol=1e-6)
            shown = share > 0
            assert torch.equal(advice.items_NK[0][shown], items[shown])
    untrained = [0, 3, 4, 5, 9, 10]
    assert not teacher.share_EK[untrained].any()


class TestRuns:
    def test_a_base_model_learns_from_a_cloud_model_and_keeps_nothing_of_it(
        self, people: Dataset, tmp_path: Path
    ) -> None:
        strong = with_settings(TAUGHT, {"objective.distillation": 10.0, "optimiser.epochs": 4})
        taught = train(people, strong, tmp_path / "taught").root
        alone = train(people, with_settings(BASE, {"optimiser.epochs": 4}), tmp_path / "alone").root
        assert files_of(taught) == {"config.toml", "environment.json", "weights.safetensors", "metrics.jsonl", "cloud"}
        run, cloud = load_run(taught), load_run(RunFolder(taught).cloud).cloud_model
        assert run.device_model.cloud is None
        assert run.model.state_dict().keys() == load_run(alone).model.state_dict().keys()
        histories = torch.tensor([[2, 3, 4, 5], [9, 8, 7, 6], [20, 0, 0, 0]])
        aim = torch.softmax(cloud.score_catalogue(histories)[:, 2:], 1)
        own = [torch.log_softmax(load_run(root).model.score_catalogue(histories)[:, 2:], 1) for root in (taught, alone)]
        near, far = (functional.kl_div(one, aim, reduction="batchmean") for one in own)
        assert near < far

    def test_a_named_cloud_model_teaches_as_one_of_its_own_does(self, people: Dataset, tmp_path: Path) -> None:
        own = train(people, TAUGHT, tmp_path / "own").root
        named = with_settings(TAUGHT, {"cloud_model": str(RunFolder(own).cloud)})
        other = train(people, named, tmp_path / "named").root
        assert weights_of(other) == weights_of(own)
        assert len(load_run(other).environment.cloud_model_sha256) == 64
        assert files_of(other) == files_of(own) - {"cloud"}

    @pytest.mark.parametrize("where", ["in the cloud model", "in the device model"])
    def test_stopped_it_ends_with_the_same_weights(self, people: Dataset, tmp_path: Path, where: str) -> None:
        config = with_settings(TAUGHT, {"model.cloud.kind": "sequence", "checkpoint_seconds": 0.0})
        whole = train(people, config, tmp_path / "whole").root
        with pytest.raises(PowerCutError):
            train(people, config, tmp_path / "cut", progress=CutAt(1 if where == "in the cloud model" else 2))
        assert weights_of(train(people, config, tmp_path / "cut").root) == weights_of(whole)

    def test_a_generator_learns_from_the_cloud_model_whose_opinions_it_comes_with(
        self, people: Dataset, tmp_path: Path
    ) -> None:
        settings = {"model.cloud.kind": "item-knn", "objective.distillation": 1.0}
        taught, alone = (
            train(people, with_settings(DUET, settings | {"objective.distillation": weight}), tmp_path / name).root
            for name, weight in (("taught", 1.0), ("alone", 0.0))
        )
        assert weights_of(RunFolder(taught).cloud) == weights_of(RunFolder(alone).cloud)
        history = torch.tensor([[3, 4, 5, 6]])
        one, other = (load_run(root).device_model.generate(history) for root in (taught, alone))
        assert not torch.equal(one.weights_BP, other.weights_BP)  # type: ignore[arg-type]
        assert torch.equal(one.opinions[0].items_BK, other.opinions[0].items_BK)


class TestBaseOfADuet:
    def test_the_better_one_of_two_base_models_is_kept(self, people: Dataset, tmp_path: Path) -> None:
        config = with_settings(DUET, {"model.cloud.kind": "item-knn", "objective.base_distillation": 3.0})
        folder = RunFolder(train(people, config, tmp_path / "run").root)
        both = [RunFolder(root).read_environment() for root in (folder.base, folder.taught)]
        cloud = RunFolder(folder.cloud).read_environment()
        assert cloud.best > both[0].best
        assert own_base(folder).root == (folder.taught if both[1].best > both[0].best else folder.base)
        assert to_beat(config, folder.root) == max(one.best for one in both)
        windows = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
        kept = load_run(own_base(folder).root).device_model
        assert torch.equal(load_run(folder.root).device_model.score_catalogue(windows), kept.score_catalogue(windows))
        # It is the one that `--method base` gives with the weight and the cloud model, but that its folder names none.
        alone = {"objective.distillation": 3.0, "model.cloud.kind": "item-knn", "cloud_model": str(folder.cloud)}
        taught = train(people, with_settings(BASE, {"optimiser.epochs": 1} | alone), tmp_path / "taught").root
        assert weights_of(folder.taught) == weights_of(taught)
        assert load_run(folder.taught).config.cloud_model == ""
        assert train(people, config, folder.root).already_finished

    def test_a_cloud_model_that_ranks_no_better_teaches_nothing(
        self, people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job, "knows_more", lambda cloud, base: False)
        folder = RunFolder(train(people, with_settings(DUET, {"model.cloud.kind": "item-knn"}), tmp_path / "run").root)
        assert not folder.taught.exists()
        assert own_base(folder).root == folder.base

    def test_it_is_left_out_on_demand_and_stopped_it_ends_with_the_same_weights(
        self, people: Dataset, tmp_path: Path
    ) -> None:
        config = with_settings(DUET, {"model.cloud.kind": "item-knn", "checkpoint_seconds": 0.0})
        assert not RunFolder(
            train(people, with_settings(config, {"objective.base_distillation": 0.0}), tmp_path / "without").root
        ).taught.exists()
        whole = train(people, config, tmp_path / "whole").root
        with pytest.raises(PowerCutError):
            train(people, config, tmp_path / "cut", progress=CutAt(2))
        assert weights_of(train(people, config, tmp_path / "cut").root) == weights_of(whole)

    @pytest.mark.parametrize(
        ("settings", "weight"),
        [
            ({}, 1.0),
            ({"objective.base_distillation": 0.3}, 0.3),
            ({"objective.base_distillation": 0.0}, 0.0),
            ({"model.name": "gru4rec", "objective.kind": "sampled"}, 1.0),
            ({"model.name": "din"}, 0.0),
            ({"model.name": "din", "objective.kind": "softmax"}, 1.0),
            ({"objective.kind": "bce"}, 0.0),
            ({"model.cloud.kind": "none"}, 0.0),
            ({"model.method": "base", "model.cloud.kind": "auto"}, "auto"),
            ({"joint": True, "objective.base_distillation": 1.0}, "auto"),
            ({"global_model": "somewhere", "objective.base_distillation": 1.0}, "auto"),
        ],
    )
    def test_where_there_is_a_second_one(self, people: Dataset, settings: dict[str, object], weight: object) -> None:
        config = with_settings(DUET, {"model.cloud.kind": "item-knn"} | settings)
        assert fill_in(config, people).objective.base_distillation == weight

    def test_where_it_would_take_long_nobody_is_kept_waiting(
        self, people: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(defaults, "MOST_TAUGHT_POSITIONS", 10)
        config = with_settings(DUET, {"model.cloud.kind": "item-knn"})
        assert fill_in(config, people).objective.base_distillation == 0
        asked = with_settings(config, {"objective.base_distillation": 1.0})
        assert fill_in(asked, people).objective.base_distillation == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.method": "base", "model.cloud.kind": "ease"}, "base has no use for model.cloud.kind 'ease'"),
        ({"model.method": "base", "cloud_model": "somewhere"}, "base has no use for cloud_model"),
        ({"model.method": "finetune", "model.cloud.kind": "blend"}, "finetune has no use for model.cloud.kind"),
        ({"model.method": "finetune", "objective.distillation": 1.0}, "finetune has no use for objective.distillation"),
        ({"model.method": "cloud", "objective.distillation": 1.0}, "cloud has no use for objective.distillation"),
        ({"objective.distillation": 1.0, "model.cloud.kind": "none"}, "no cloud model to learn from"),
        ({"objective.distillation": 1.0, "objective.kind": "bce"}, "needs a softmax"),
        ({"objective.distillation": 1.0, "feed": "rows"}, "needs a softmax"),
        ({"objective.distillation": -1.0}, "objective.distillation is -1"),
        ({"objective.base_distillation": 1.0, "model.cloud.kind": "none"}, "base_distillation has no cloud model"),
        ({"objective.base_distillation": 1.0, "objective.kind": "bce"}, "base_distillation needs a softmax"),
        ({"objective.base_distillation": -1.0}, "objective.base_distillation is -1"),
        ({"objective.temperature": 0.0}, "objective.temperature is 0"),
    ],
)
def test_settings_without_use_or_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfigError, match=message):
        check_config(with_settings(TrainConfig(), settings))


def test_items_drawn_for_each_position_cannot_be_distilled(people: Dataset) -> None:
    config = with_settings(CLOUD, {"model.method": "duet", "model.name": "din", "objective.distillation": 1.0})
    with pytest.raises(InvalidConfigError, match="all positions are scored against"):
        fill_in(config, people)
    assert fill_in(with_settings(config, {"objective.kind": "softmax"}), people).objective.kind == "softmax"


def test_the_hint_for_a_base_model_with_a_cloud_model_says_what_may_be_wanted() -> None:
    with pytest.raises(InvalidConfigError) as refused:
        check_config(with_settings(BASE, {"model.cloud.kind": "ease"}))
    assert "--set objective.distillation=1" in refused.value.hint
    check_config(with_settings(BASE, {"model.cloud.kind": "ease", "objective.distillation": 1.0}))
