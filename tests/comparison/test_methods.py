"""Every method on one small dataset: it fits, is measured, resumes; and what each changes in the shared settings."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from duetgen.backbones import BackboneConfig
from duetgen.comparison.methods import changes
from duetgen.comparison.methods.table import METHODS, encoder_note
from duetgen.core import GeneratorConfig
from duetgen.data.store import Dataset
from duetgen.evaluation import evaluate
from duetgen.evaluation.conditions import Condition, has_parts
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training import ObjectiveConfig, OptimiserConfig, TrainConfig, check_config
from duetgen.training.config import InvalidConfigError
from duetgen.training.defaults import fill_in

SMALL = TrainConfig(
    model=ModelConfig(
        backbone=BackboneConfig(width=8, window=4),
        history=HistoryConfig(length=12, width=8, embedding_width=8),
        generator=GeneratorConfig(width=8),
    ),
    objective=ObjectiveConfig(staleness=3),
    optimiser=OptimiserConfig(epochs=1, batch_positions=256, learning_rate=0.01, warmup_steps=5),
    validation_devices=10,
)
PARTS = [Condition("own", 0, "weights"), Condition("own", 5, "bias")]
CONDITIONS = [Condition("own"), Condition("own", 5), Condition("zero"), Condition("another"), Condition("random")]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_fits_and_is_measured(people: Dataset, tmp_path: Path, name: str) -> None:
    method = METHODS[name]
    assert (method.name, method.description[:1] != "") == (name, True)
    fitted = method.fit(people, SMALL, tmp_path / "cell", None)
    assert fitted.seconds >= 0
    assert (fitted.validation is None) == (method.family in ("counting", "finetuned"))
    if method.family in ("global", "generated", "cloud") and name != "base-ensemble":
        assert fitted.root is not None
        assert fitted.validation == json.loads((fitted.root / "environment.json").read_bytes())["best"]
    assert has_parts(fitted.model) == (name in ("duet", "duet-distilled", "duet-joint"))
    conditions = [*CONDITIONS, *(PARTS if has_parts(fitted.model) else [])]
    for evaluation in evaluate(
        fitted.model, people, protocols=("full", "candidates"), conditions=conditions, bootstrap=0
    ):
        assert evaluation.personal == (method.family in ("generated", "finetuned") or name == "cloud-list")
        for result in evaluation.conditions:
            assert all(np.isfinite(value.mean) for value in result.metrics.values()), result.name
    again = method.fit(people, SMALL, tmp_path / "cell", None)
    for (key, one), other in zip(fitted.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), key


@pytest.mark.parametrize("backbone", ["gru4rec", "din"])
@pytest.mark.parametrize("name", ["apg", "film", "concat", "duet-paper", "duet-frozen"])
def test_methods_on_the_other_backbones(people: Dataset, tmp_path: Path, name: str, backbone: str) -> None:
    config = changes.with_settings(SMALL, {"model.name": backbone})
    fitted = METHODS[name].fit(people, config, tmp_path / "cell", None)
    (evaluation,) = evaluate(fitted.model, people, conditions=CONDITIONS, bootstrap=0)
    assert all(np.isfinite(result.metrics["ndcg@10"].mean) for result in evaluation.conditions)


def test_settings_are_replaced_by_their_full_names() -> None:
    changed = changes.with_settings(SMALL, {"model.backbone.window": 7, "seed": 3})
    assert (changed.model.backbone.window, changed.seed) == (7, 3)
    assert changed == msgspec.structs.replace(
        SMALL,
        seed=3,
        model=msgspec.structs.replace(SMALL.model, backbone=BackboneConfig(width=8, window=7)),
    )
    assert SMALL.model.backbone.window == 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changes.base_long, {"method": "base", "backbone.window": 12}),
        (changes.concat, {"method": "duet", "backbone.head": "concat", "backbone.rank": 8}),
        (changes.duet_short, {"method": "duet", "history.length": 4}),
        (changes.duet_low_rank, {"method": "duet", "generator.decoder_rank": 2}),
        (changes.duet_paper, {"backbone.window": 10, "history.length": 10, "history.share_embedding": True}),
    ],
)
def test_what_a_method_changes(people: Dataset, change: changes.Change, expected: dict[str, object]) -> None:
    changed = change(SMALL, people)
    check_config(changed)
    for path, value in expected.items():
        node: object = changed.model
        for part in path.split("."):
            node = getattr(node, part)
        assert node == value, path


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "din"])
@pytest.mark.parametrize("heads", [1, 2])
def test_base_wide_is_as_near_to_the_parameters_of_duet_as_a_width_can_be(
    people: Dataset, backbone: str, heads: int
) -> None:
    config = changes.with_settings(SMALL, {"model.name": backbone, "model.backbone.heads": heads})
    vocabulary = people.vocabulary
    aim = changes.parameters(vocabulary, config.model)
    wide = changes.base_wide(config, people)
    assert wide.model.method == "base"
    width = wide.model.backbone.width
    assert width > 8
    assert width % heads == 0

    def gap(width: int) -> int:
        return abs(
            changes.parameters(vocabulary, changes.with_settings(wide, {"model.backbone.width": width}).model) - aim
        )

    assert gap(width) <= min(gap(width - heads), gap(width + heads))


def test_a_frozen_generator_is_the_same_before_and_after_training(people: Dataset, tmp_path: Path) -> None:
    fitted = METHODS["duet-frozen"].fit(people, SMALL, tmp_path / "cell", None)
    torch.manual_seed(SMALL.seed)
    change = changes.weights(
        joint=True,
        model__generator__frozen=True,
        model__history__share_embedding=False,
        model__generator__decoder_scale=changes.VISIBLE_SCALE,
    )
    before = Recommender(people.vocabulary, fill_in(change(SMALL, people), people).model).state_dict()
    after = fitted.model.state_dict()
    for key, tensor in before.items():
        if key.startswith("trust."):
            continue
        assert torch.equal(tensor, after[key]) == key.startswith("generator."), key
    theta = fitted.model.generate(torch.tensor([[3, 4, 5]]))  # type: ignore[operator]
    assert float(theta.weights_BP.detach().abs().mean()) > 0.001


def test_all_but_duet_generate_weights_alone(people: Dataset) -> None:
    advised = changes.with_settings(SMALL, {"model.cloud.kind": "ease", "cloud_model": "somewhere"})
    assert changes.duet(advised, people).cloud_model == "somewhere"
    for change in (
        changes.weights(),
        changes.concat,
        changes.duet_low_rank,
        changes.duet_short,
        changes.duet_paper,
        changes.base,
        changes.base_long,
        changes.base_small,
        changes.finetune("head"),
        changes.cloud,
    ):
        changed = change(advised, people)
        assert changed.cloud_model == ""
        check_config(changed)
        if changed.model.method == "duet":
            assert changed.model.cloud.kind == "none"
    assert changes.cloud(changes.with_settings(advised, {"model.name": "din"}), people) == changes.cloud(
        advised, people
    )


def test_weights_alone_keep_an_encoder_of_the_history(people: Dataset, tmp_path: Path) -> None:
    of_state = changes.with_settings(SMALL, {"model.history.encoder": "cloud"})
    for change, encoder in (
        (changes.duet, "cloud"),
        (changes.duet_joint, "cloud"),
        (changes.weights(joint=True), "average"),
        (changes.weights(model__history__encoder="gru"), "gru"),
        (changes.concat, "average"),
        (changes.duet_low_rank, "average"),
        (changes.duet_short, "average"),
        (changes.duet_paper, "gru"),
    ):
        changed = change(of_state, people)
        assert changed.model.history.encoder == encoder
        fill_in(changed, people)
    names = ["base", "base-long", "apg", "duet", "duet-joint"]
    assert encoder_note(of_state, names).endswith("encoders read the history itself: apg.")
    assert (encoder_note(of_state, ["base", "duet"]), encoder_note(SMALL, names)) == ("", "")
    assert METHODS["apg"].fit(people, of_state, tmp_path / "cell", None).root is not None


def test_without_a_cloud_model_there_is_nothing_to_rank_by(people: Dataset, tmp_path: Path) -> None:
    none = changes.with_settings(SMALL, {"model.cloud.kind": "none"})
    for name in ("cloud", "cloud-list"):
        with pytest.raises(InvalidConfigError):
            METHODS[name].fit(people, none, tmp_path / name, None)
    assert not has_parts(METHODS["duet"].fit(people, none, tmp_path / "duet", None).model)


def test_a_method_by_its_settings_leaves_the_rest_shared(people: Dataset) -> None:
    for name in ("duet-no-swa", "duet-replacing", "duet-joint-own", "duet-fresh"):
        assert METHODS[name].family == "generated"
    changed = changes.weights(objective__fallback_weight=0.0)(SMALL, people)
    assert changed.objective.fallback_weight == 0.0
    assert changed.optimiser == SMALL.optimiser
