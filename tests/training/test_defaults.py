"""What the dataset decides, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import MakeDataset, wandering_sequences

from duetgen.backbones import BackboneConfig
from duetgen.data.store import Dataset
from duetgen.recommender import HistoryConfig, ModelConfig
from duetgen.training import ObjectiveConfig, OptimiserConfig, TrainConfig, check_config, decode_config
from duetgen.training.config import InvalidConfigError
from duetgen.training.defaults import (
    batch_size,
    dropout,
    fill_in,
    passes,
    patience,
    training_positions,
)


@pytest.mark.parametrize(
    ("positions", "expected"),
    [(0, 256), (7_403, 256), (46_340, 256), (46_342, 512), (92_681, 512), (92_683, 1024), (981_491, 1024)],
)
def test_a_pass_has_about_128_steps(positions: int, expected: int) -> None:
    # 46,341 = 128 * 256 * sqrt 2 lies half-way, on the logarithm's scale, between batches of 256 and of 512.
    assert batch_size(positions) == expected


@pytest.mark.parametrize(
    ("positions", "expected"), [(0, 100), (10_000, 100), (40_000, 60), (160_000, 30), (1_000_000, 12), (10**8, 8)]
)
def test_four_times_the_positions_halve_the_passes(positions: int, expected: int) -> None:
    assert passes(positions) == expected


@pytest.mark.parametrize(("epochs", "expected"), [(1, 5), (12, 5), (30, 10), (100, 33)])
def test_patience_is_a_third_of_the_passes(epochs: int, expected: int) -> None:
    assert patience(epochs) == expected


@pytest.mark.parametrize(
    ("events_an_item", "expected"), [(0, 0.5), (20, 0.5), (20 * 10**0.5, 0.3), (200, 0.1), (10_000, 0.1)]
)
def test_rare_items_are_dropped_more(events_an_item: float, expected: float) -> None:
    assert dropout(events_an_item) == pytest.approx(expected)


def test_a_configuration_is_filled_in_whole(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(wandering_sequences(60, 30, seed=0), vocabulary=30, met="hide")
    filled = fill_in(TrainConfig(), dataset)
    check_config(filled)
    assert decode_config(filled.to_toml()) == filled
    optimiser, objective, model = filled.optimiser, filled.objective, filled.model
    assert (optimiser.epochs, optimiser.patience, optimiser.batch_positions) == (100, 33, 256)
    assert (objective.kind, objective.met) == ("softmax", "hide")
    # 60 devices with about 20 training events each, over 28 items: 43 events an item.
    assert 0.3 < float(model.backbone.dropout) < 0.4
    assert fill_in(filled, dataset) == filled


@pytest.mark.parametrize(("longest", "shared", "rate"), [(12, True, 0.2), (80, False, 1.0)])
def test_a_generator_shares_the_embedding_where_devices_have_few_events(
    make_dataset: MakeDataset, longest: int, shared: bool, rate: float
) -> None:
    dataset = make_dataset(wandering_sequences(60, 30, seed=0, longest=longest), vocabulary=30)
    filled = fill_in(TrainConfig(joint=True), dataset)
    assert (filled.model.history.share_embedding, filled.optimiser.generator_rate) == (shared, rate)
    assert fill_in(TrainConfig(), dataset).optimiser.generator_rate == 1.0


@pytest.mark.parametrize(
    ("items", "wanted", "expected"),
    # 2**29 / 5,000 = 107,374: up to so many item indices nothing changes.
    [(107_372, 5000, 5000), (214_748, 5000, 2499), (10**6 - 2, 5000, 536), (10**6 - 2, 100, 100), (10**8, 5000, 500)],
)
def test_few_devices_measure_a_very_large_catalogue(wandering: Dataset, items: int, wanted: int, expected: int) -> None:
    counts = msgspec.structs.replace(wandering.manifest.counts, items=items)
    wandering.manifest = msgspec.structs.replace(wandering.manifest, counts=counts)
    assert fill_in(TrainConfig(validation_devices=wanted), wandering).validation_devices == expected


def test_distillation_from_a_catalogue_too_large_to_score_is_refused(wandering: Dataset) -> None:
    advised = TrainConfig(objective=ObjectiveConfig(distillation=1.0))
    positions = training_positions(advised, wandering)
    counts = msgspec.structs.replace(wandering.manifest.counts, items=2**42 // positions)
    wandering.manifest = msgspec.structs.replace(wandering.manifest, counts=counts)
    with pytest.raises(InvalidConfigError, match=f"items at each of {positions:,} positions"):
        fill_in(advised, wandering)
    fill_in(TrainConfig(), wandering)


def test_what_is_set_stays(wandering: Dataset) -> None:
    config = TrainConfig(
        model=ModelConfig(
            backbone=BackboneConfig(dropout=0.0, head="low-rank"), history=HistoryConfig(share_embedding=False)
        ),
        objective=ObjectiveConfig(kind="sampled", negatives=7, met="hide"),
        optimiser=OptimiserConfig(epochs=3, patience=2, batch_positions=128, generator_rate=0.5),
        joint=True,
    )
    filled = fill_in(config, wandering)
    assert filled.model.backbone == config.model.backbone
    assert filled.model.history == config.model.history
    assert (filled.objective, filled.optimiser) == (config.objective, config.optimiser)


class TestObjective:
    def kind(self, dataset: Dataset, items: int, name: str = "sasrec") -> str:
        counts = msgspec.structs.replace(dataset.manifest.counts, items=items)
        dataset.manifest = msgspec.structs.replace(dataset.manifest, counts=counts)
        return fill_in(TrainConfig(model=ModelConfig(name=name)), dataset).objective.kind  # type: ignore[arg-type]

    def test_auto_takes_softmax_for_encoders_and_sampled_for_din_and_large_catalogues(self, wandering: Dataset) -> None:
        assert self.kind(wandering, 4_998) == "softmax"
        assert self.kind(wandering, 4_999) == "sampled"
        assert self.kind(wandering, 28, "din") == "sampled"

    def test_a_base_model_has_no_age_and_bce_no_softmax(self, wandering: Dataset) -> None:
        assert fill_in(TrainConfig(model=ModelConfig(method="base")), wandering).objective.staleness == 0
        assert not fill_in(TrainConfig(objective=ObjectiveConfig(kind="bce")), wandering).model.normalised

    @pytest.mark.parametrize(
        ("name", "kind", "weight"), [("sasrec", "auto", 2.0), ("din", "auto", 0.0), ("sasrec", "bce", 0.0)]
    )
    def test_a_binary_cross_entropy_is_added_to_shared_items_alone(
        self, wandering: Dataset, name: str, kind: str, weight: float
    ) -> None:
        objective = ObjectiveConfig(kind=kind, bce_weight=2.0)  # type: ignore[arg-type]
        config = TrainConfig(model=ModelConfig(name=name), objective=objective)  # type: ignore[arg-type]
        assert fill_in(config, wandering).objective.bce_weight == weight

    @pytest.mark.parametrize("policy", ["hide", "show"])
    def test_the_loss_leaves_out_what_the_device_hides(self, make_dataset: MakeDataset, policy: str) -> None:
        dataset = make_dataset(wandering_sequences(20, 30, seed=0), met=policy)
        assert fill_in(TrainConfig(), dataset).objective.met == policy
        asked = TrainConfig(objective=ObjectiveConfig(met="show"))
        assert fill_in(asked, dataset).objective.met == "show"


def test_a_generator_for_a_kept_model_scales_and_shifts(wandering: Dataset, tmp_path: Path) -> None:
    def head(**settings: Any) -> str:
        return fill_in(TrainConfig(**settings), wandering).model.backbone.head

    replacing = ModelConfig(backbone=BackboneConfig(residual=False))
    assert (head(joint=True), head(model=ModelConfig(method="base"))) == ("full", "auto")
    assert head() == head(global_model=str(tmp_path)) == "scale"
    assert head(model=replacing) == "full"
