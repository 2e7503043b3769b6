"""What each part of theta counts by its age, against the validation figure and against a loop over the catalogue."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import MakeDataset, wandering_sequences

from duetgen.backbones import BackboneConfig
from duetgen.baselines.counting import incidence
from duetgen.baselines.item_knn import neighbours
from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.cloudmodel.table import TableModel
from duetgen.core import AGES, GeneratorConfig, Theta
from duetgen.data.store import UNKNOWN, Dataset
from duetgen.evaluation import validate
from duetgen.evaluation.scoring import select
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training import OptimiserConfig, TrainConfig, load_run, train, trust
from duetgen.training.trust import FEW_AGES, OPINIONS, WEIGHTS, choose, learn_trust, score_at
from duetgen.wire.messages import MetPolicy

V, ALL = 30, 10_000
SIZES = {
    "backbone": BackboneConfig(width=8, window=4, dropout=0.0),
    "history": HistoryConfig(length=12, width=8, embedding_width=8),
}


def make(dataset: Dataset, name: str = "sasrec", kind: str = "blend", scale: float = 1.0) -> Recommender:
    """Untrained, but for a table that is counted; weights large enough to see."""
    torch.manual_seed(0)
    cloud = CloudConfig(kind=kind, table="item-knn", width=8, items=6, neighbours=8)  # type: ignore[arg-type]
    config = ModelConfig(
        name=name,  # type: ignore[arg-type]
        generator=GeneratorConfig(width=8, decoder_scale=scale),
        cloud=cloud,
        **SIZES,
    )
    model = Recommender(V, config)
    if cloud.members:
        model.attach(CloudModel(V, 12, cloud, dataset.manifest.met))
        assert model.cloud is not None
        for member in model.cloud.members.values():
            if isinstance(member, TableModel):
                near_VK, weight_VK = neighbours(incidence(dataset), 8)
                member.near_VK.copy_(near_VK)
                member.weight_VK.copy_(weight_VK)
    return model.eval()


@pytest.fixture
def hidden(make_dataset: MakeDataset) -> Dataset:
    """Thirty devices of few events each, of which some meet their target again; what was met is hidden."""
    sequences = wandering_sequences(30, V, seed=2, longest=24)
    sequences[3][-2] = sequences[3][0]
    sequences[4][-2] = UNKNOWN
    return make_dataset(sequences, vocabulary=V, met="hide")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sasrec", "none"), ("sasrec", "item-knn"), ("sasrec", "blend"), ("din", "none"), ("din", "blend")],
)
def test_what_it_finds_is_what_validation_finds_at_every_age(
    hidden: Dataset, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    # Without a threshold every part counts something, so that the figures depend on all of them.
    monkeypatch.setattr(trust, "ERRORS", -100.0)
    taken: list[float] = []

    def chosen(found: dict[tuple[float, ...], np.ndarray]) -> tuple[float, ...]:
        parts = choose(found)
        taken.append(float(found[parts].mean()))
        return parts

    monkeypatch.setattr(trust, "choose", chosen)
    model = make(hidden, name, kind)
    fresh = learn_trust(model, hidden, ALL, 0)
    ages = FEW_AGES if name == "din" else AGES
    assert model.trust is not None
    assert model.trust.weights_A[0] > 0
    assert (model.trust.opinions_JA[:, 0] > 0).all()
    assert fresh == taken[0]
    found = [validate(model, hidden, staleness=(age,)) for age in ages]
    assert taken == pytest.approx(found, abs=1e-9)
    assert len({round(value, 6) for value in found}) > 1


def test_a_choice_of_devices_is_that_of_validation(hidden: Dataset) -> None:
    model = make(hidden, kind="item-knn")
    fresh = learn_trust(model, hidden, 7, 3)
    assert fresh == pytest.approx(validate(model, hidden, limit_devices=7, seed=3), abs=1e-9)
    assert fresh != pytest.approx(validate(model, hidden), abs=1e-9)


@pytest.mark.parametrize("name", ["sasrec", "din"])
def test_nothing_counts_more_when_it_is_older(hidden: Dataset, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    drawn = iter(np.random.default_rng(0).random((100, 400)))

    def anything(found: dict[tuple[float, ...], np.ndarray]) -> tuple[float, ...]:
        return max(zip(next(drawn), found))[1]

    monkeypatch.setattr(trust, "choose", anything)
    model = make(hidden, name)
    learn_trust(model, hidden, ALL, 0)
    assert model.trust is not None
    curves = torch.cat([model.trust.weights_A[None], model.trust.opinions_JA])
    assert (curves.diff(dim=1) <= 0).all()
    assert curves[:, 0].any()
    told = set(WEIGHTS) | {round(value, 4) for value in OPINIONS}
    measured = [AGES.index(age) for age in (FEW_AGES if name == "din" else AGES)]
    assert {round(value, 4) for value in curves[:, measured].flatten().tolist()} <= told


def test_where_each_measurement_is_dear_ages_between_are_on_a_line(
    hidden: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    picked = iter([(1.0, 2.0), (1.0, 0.5), (0.0, 0.1), (0.0, 0.0)])
    monkeypatch.setattr(trust, "choose", lambda found: next(picked))
    model = make(hidden, "din", "item-knn")
    learn_trust(model, hidden, ALL, 0)
    assert model.trust is not None
    # Measured at 0, 5, 20 and 100 events.
    weights = [1, 1, 1, 1, 1 - 5 / 15, 0, 0, 0]
    opinion = [2, 2 - 1.5 / 5, 2 - 3 / 5, 0.5, 0.5 - 0.4 / 3, 0.1, 0.1 * 50 / 80, 0]
    torch.testing.assert_close(model.trust.weights_A, torch.tensor(weights))
    torch.testing.assert_close(model.trust.opinions_JA, torch.tensor([opinion]))


def walk(make_dataset: MakeDataset, met: MetPolicy = "show") -> Dataset:
    """Forty devices that walk up the catalogue one by one, each from an item of its own."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, V - 2, 40)
    return make_dataset([[2 + (start + t) % (V - 2) for t in range(12)] for start in starts], vocabulary=V, met=met)


def stepping(dataset: Dataset, strides: list[int]) -> Recommender:
    """Opinions that expect a step of a stride from the newest event: right for 1, as long as it is fresh."""
    model = make(dataset, kind="item-knn")
    cloud = CloudConfig(kind="item-knn", items=2, neighbours=1)
    model.attach(CloudModel(V, 12, cloud, dataset.manifest.met))
    assert model.cloud is not None
    for number, stride in enumerate(strides):
        table = TableModel(V, 1)
        table.near_VK.copy_(2 + (torch.arange(V)[:, None] - 2 + stride) % (V - 2))
        table.weight_VK[2:] = 1.0
        table.half_life.fill_(0.1)
        model.cloud.members[["item-knn", "ease"][number]] = table
    model.attach(model.cloud)
    return model


def test_an_opinion_that_is_right_counts_and_one_that_is_wrong_does_not(make_dataset: MakeDataset) -> None:
    dataset = walk(make_dataset)
    model = stepping(dataset, [1, 2])
    before = validate(model, dataset)
    found = learn_trust(model, dataset, ALL, 0)
    assert model.trust is not None
    right, wrong = model.trust.opinions_JA
    assert right[0] > 0
    assert not wrong[0].any()
    assert found > before + 0.3
    # An event later the first says what the device has just done, and the second may not count more than when fresh.
    assert not right[1:].any()
    assert not wrong.any()


def test_an_opinion_is_not_held_against_its_younger_self(make_dataset: MakeDataset) -> None:
    # Two events ahead is right when it is one event old, and no use when it is fresh.
    dataset = walk(make_dataset)
    model = stepping(dataset, [2])
    learn_trust(model, dataset, ALL, 0)
    assert model.trust is not None
    assert not model.trust.opinions_JA.any()


def test_weights_that_do_harm_count_nothing(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = walk(make_dataset)
    optimiser = OptimiserConfig(epochs=12, batch_positions=64, learning_rate=0.03, warmup_steps=2)
    base = train(dataset, TrainConfig(model=ModelConfig(method="base", **SIZES), optimiser=optimiser), tmp_path / "run")
    model = make(dataset, kind="none", scale=5.0)
    model.backbone.load_state_dict(load_run(base.root).device_model.backbone.state_dict())
    assert model.trust is not None
    assert validate(model, dataset) < base.best - 0.1
    assert learn_trust(model, dataset, ALL, 0) == pytest.approx(base.best)
    assert not model.trust.weights_A.any()


def devices(*gains: float) -> np.ndarray:
    return np.array(gains)


def test_a_part_has_to_gain_more_than_the_error_of_its_gain() -> None:
    # A gain of 0.2 of four devices, 0.3 off it each: an error of √(4 · 0.09 / 3 / 4) = 0.17.
    nothing, part = devices(0, 0, 0, 0), devices(0.5, 0.5, -0.1, -0.1)
    assert choose({(0.0,): nothing, (0.5,): part, (1.0,): part - 0.01}) == (0.5,)
    # 0.14 is less.
    assert choose({(0.0,): nothing, (0.5,): part - 0.06, (1.0,): part - 0.07}) == (0.0,)
    assert choose({(0.0,): nothing}) == (0.0,)


def test_one_device_alone_proves_no_gain() -> None:
    assert choose({(0.0,): devices(0), (1.0,): devices(0.5)}) == (0.0,)


def test_a_second_part_has_to_gain_beside_the_first() -> None:
    nothing, one, other = devices(0, 0), devices(0.5, 0.5), devices(0.4, 0.4)
    single = {(0.0, 0.0): nothing, (1.0, 0.0): one, (0.0, 1.0): other}
    assert choose(single | {(1.0, 1.0): devices(0.5, 0.5)}) == (1.0, 0.0)
    assert choose(single | {(1.0, 1.0): devices(0.6, 0.6)}) == (1.0, 1.0)
    # Better than nothing together, though neither is alone.
    alone = {(0.0, 0.0): nothing, (1.0, 0.0): devices(-1, -1), (0.0, 1.0): devices(-1, -1)}
    assert choose(alone | {(1.0, 1.0): devices(0.1, 0.1)}) == (1.0, 1.0)


@pytest.mark.parametrize("age", [0, 3])
@pytest.mark.parametrize("met", ["show", "hide"])
@pytest.mark.parametrize("kind", ["none", "blend"])
def test_gains_against_a_loop_over_the_catalogue(
    make_dataset: MakeDataset, hidden: Dataset, met: MetPolicy, age: int, kind: str
) -> None:
    dataset = hidden if met == "hide" else make_dataset(wandering_sequences(30, V, seed=2), vocabulary=V)
    model, selection = make(dataset, kind=kind), select(dataset, "valid", None, 0)
    factors = (0.0, 0.5, 1.0)
    (scored,) = score_at(model, dataset, selection, (age,), factors)
    targets = selection.targets
    assert 0 < len(scored.row_N) <= len(targets)
    opinions = [()] if kind == "none" else [(0.0, 0.0), (2.0, 0.35), (0.1, 2.0)]
    for factor, counts in itertools.product(range(3), opinions):
        expected = []
        for start, end in zip(targets.start_N.tolist(), targets.position_N.tolist()):
            events, target = dataset.events[start:end].tolist(), int(dataset.events[end])
            with torch.no_grad():
                theta = model.generate(torch.tensor([events[: max(1, len(events) - age)][-12:]]))
                assert theta.weights_BP is not None
                weights = Theta(theta.weights_BP * factors[factor]) if factor else None
                scores = model.score_catalogue(torch.tensor([events[-4:]]), weights)[0]
                for count, opinion in zip(counts, theta.opinions):
                    scores += count * opinion.over(V)[0]
            shown = [item for item in range(2, V) if met == "show" or item not in events]
            rank = 1 + sum(bool(scores[item] > scores[target]) for item in shown) if target in shown else math.inf
            expected.append(1 / math.log2(rank + 1) if rank <= 10 else 0.0)
        found = np.zeros(len(targets))
        found[scored.row_N.numpy()] = scored.gains(factor, torch.tensor(counts)).numpy()
        assert found == pytest.approx(expected, abs=1e-6)
