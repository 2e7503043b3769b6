"""Whole evaluations of untrained models, against a loop over targets that runs each as a device would."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.conftest import MakeDataset
from torch import Tensor

from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.core import AGES, Theta
from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset, Part
from duetgen.evaluation import OWN, ZERO, Condition, Evaluation, calibration, evaluate, scoring, validate
from duetgen.evaluation.errors import (
    NonFiniteScoresError,
    NothingToEvaluateError,
    ProtocolUnavailableError,
    VocabularyMismatchError,
)
from duetgen.evaluation.inputs import HistoryReader, target_items
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.metrics import LAST
from duetgen.evaluation.protocols import CandidateRanking, FullRanking, Scores
from duetgen.recommender import Recommender

from .conftest import MakeModel

CONDITIONS = (OWN, Condition("own", 5), ZERO, Condition("another"), Condition("random"))
FLIP = 2e-5
"""Matrices of other shapes give scores that differ in their last bits, by which a near tie may turn."""
NAMES = pytest.mark.parametrize("name", ["sasrec", "gru4rec", "din"])


@pytest.fixture(scope="module")
def model(temporal: Dataset, make_model: MakeModel) -> Recommender:
    return make_model(temporal)


@pytest.fixture(scope="module")
def both(temporal: Dataset, model: Recommender) -> list[Evaluation]:
    """`full` and `candidates` under five conditions."""
    return evaluate(model, temporal, protocols=("full", "candidates"), conditions=CONDITIONS, bootstrap=200)


@dataclass
class Row:
    """One target: its device, how much lies before it, and the scores of all items."""

    device: int
    before: int
    item: int
    scores: dict[int, float]

    def standing(self, item: int) -> float:
        """What an item is ranked by: the unknown item stands behind all others."""
        return self.scores[item] if item != UNKNOWN else LAST

    def rank(self, items: Sequence[int]) -> float:
        """The mean place of the target's score among those of some items, itself one of them; none if it is unknown."""
        if self.item == UNKNOWN:
            return math.inf
        ordered = sorted(map(self.standing, items), reverse=True)
        places = [place for place, score in enumerate(ordered, 1) if score == self.standing(self.item)]
        return sum(places) / len(places)

    def catalogue(self) -> list[int]:
        """What `full` ranks: the known items, and the target."""
        return [item for item in self.scores if item not in (UNKNOWN, self.item)] + [self.item]

    def normaliser(self) -> float:
        return math.log(sum(math.exp(score) for score in self.scores.values()))


def right_padded(events: list[int], length: int) -> Tensor:
    kept = events[-length:]
    return torch.tensor([kept + [0] * (length - len(kept))])


def run_devices(model: Recommender, dataset: Dataset, condition: Condition, part: Part = "test") -> list[Row]:
    """Each target on its own: a window, a history, one theta, the scores of all items."""
    model = copy.deepcopy(model).eval()
    targets = dataset.targets(part)
    controls = None
    if condition.kind in ("another", "random"):
        controls = HistoryReader(dataset, targets, np.arange(len(targets)), condition, model.generator_history, seed=0)
    rows = []
    for i in range(len(targets)):
        start, position = int(targets.start_N[i]), int(targets.position_N[i])
        events = dataset.events[start:position].tolist()
        with torch.no_grad():
            theta = None
            if controls is not None:
                theta = model.generate(torch.from_numpy(controls.read(slice(i, i + 1))[0]))
            elif condition.kind == "own":
                read = events[: max(1, len(events) - condition.staleness)]
                theta = model.generate(right_padded(read, model.generator_history))
            if theta is not None:
                theta = model.trusted(theta, condition.staleness)
                theta = theta if condition.part is None else theta.only(condition.part)
            scores = model.score_catalogue(right_padded(events, model.window), theta)[0]
        by_item = {item: float(scores[item]) for item in range(1, dataset.vocabulary)}
        rows.append(Row(int(targets.device_N[i]), len(events), int(dataset.events[position]), by_item))
    return rows


def over_devices(rows: list[Row], values: list[float]) -> float:
    devices = sorted({row.device for row in rows})
    return float(np.mean([np.mean([v for row, v in zip(rows, values) if row.device == d]) for d in devices]))


def rank_metrics(rows: list[Row], ranks: list[float], counts: list[int]) -> dict[str, float]:
    return {
        "ndcg@10": over_devices(rows, [1 / math.log2(1 + r) if r <= 10 else 0 for r in ranks]),
        "hr@5": over_devices(rows, [float(r <= 5) for r in ranks]),
        "mrr": over_devices(rows, [1 / r for r in ranks]),
        "user_auc": over_devices(rows, [max(0, c - r) / (c - 1) for r, c in zip(ranks, counts)]),
    }


def check_metrics(evaluation: Evaluation, condition: Condition, expected: dict[str, float]) -> None:
    found = {name: evaluation[condition].metrics[name].mean for name in expected}
    assert found == pytest.approx(expected, abs=FLIP)


def drawn(dataset: Dataset, part: Part) -> np.ndarray:
    return dataset.candidates(part)[np.arange(len(dataset.targets(part)))]


def check_candidates(evaluation: Evaluation, condition: Condition, rows: list[Row], others: np.ndarray) -> None:
    """Every metric of drawn or given candidates from single rows."""
    fitted = evaluation.calibration
    assert fitted is not None
    lists = [[row.item, *(int(item) for item in drawn if item)] for row, drawn in zip(rows, others)]
    counts = [len(items) for items in lists]
    expected = rank_metrics(rows, [row.rank(items) for row, items in zip(rows, lists)], counts)
    losses, positives, negatives = [], [], []
    for row, items in zip(rows, lists):
        known = np.array(items) != UNKNOWN
        score = np.array([row.standing(item) for item in items]) - row.normaliser()
        logit = fitted.slope * np.where(known, score, 0) + fitted.intercept
        logit[0] *= -1
        losses.append(float(np.log1p(np.exp(logit))[known].sum() / max(1, known.sum())))
        positives.append(score[0])
        negatives.extend(score[1:])
    expected["log_loss"] = over_devices(rows, losses)
    wins = np.subtract.outer(np.array(positives), np.array(negatives))
    expected["auc"] = float(((wins > 0) + (wins == 0) / 2).mean())
    # Scores are float32: pairs that are equal to the last bit here may not be there.
    check_metrics(evaluation, condition, {name: value for name, value in expected.items() if name != "auc"})
    assert evaluation[condition].metrics["auc"].mean == pytest.approx(expected["auc"], abs=1e-4)
    assert evaluation.candidates == pytest.approx(np.mean(counts))


class TestAgainstALoop:
    @pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
    def test_full(self, model: Recommender, temporal: Dataset, both: list[Evaluation], condition: Condition) -> None:
        rows = run_devices(model, temporal, condition)
        assert any(row.item == UNKNOWN for row in rows)
        counts = [len(row.catalogue()) for row in rows]
        expected = rank_metrics(rows, [row.rank(row.catalogue()) for row in rows], counts)
        expected["log_loss"] = over_devices(rows, [row.normaliser() - row.scores[row.item] for row in rows])
        check_metrics(both[0], condition, expected)
        assert both[0].candidates == pytest.approx(np.mean(counts))

    @pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
    def test_candidates(
        self, model: Recommender, temporal: Dataset, both: list[Evaluation], condition: Condition
    ) -> None:
        others = drawn(temporal, "test")
        assert (others == 0).any()
        check_candidates(both[1], condition, run_devices(model, temporal, condition), others)

    @pytest.mark.parametrize("name", ["sasrec", "din"])
    def test_given(self, text: Dataset, make_model: MakeModel, name: str) -> None:
        model = make_model(text, name)
        (evaluation,) = evaluate(model, text, protocols=["given"], conditions=[OWN, ZERO])
        assert (evaluation.protocol, evaluation.split, evaluation.devices) == ("given", "given", 12)
        assert evaluation.candidates == 3
        for condition in (OWN, ZERO):
            check_candidates(evaluation, condition, run_devices(model, text, condition), text.given()[:, 1:])

    @pytest.mark.parametrize(("method", "condition"), [("duet", OWN), ("base", ZERO)])
    def test_calibration_is_of_fresh_parameters_on_the_validation_part(
        self, temporal: Dataset, make_model: MakeModel, method: str, condition: Condition
    ) -> None:
        model = make_model(temporal, method=method)
        rows, others = run_devices(model, temporal, condition, "valid"), drawn(temporal, "valid")
        scores = [{item: score - row.normaliser() for item, score in row.scores.items()} for row in rows]
        expected = calibration.fit(
            np.array([score[row.item] for row, score in zip(rows, scores) if row.item != UNKNOWN], dtype=np.float32),
            np.array([score[i] for score, drawn in zip(scores, others) for i in drawn if i], dtype=np.float32),
        )
        assert expected is not None
        (found,) = evaluate(model, temporal, protocols=["candidates"], conditions=[ZERO], bootstrap=0)
        assert found.calibration is not None
        assert found.calibration.rows == expected.rows
        assert found.calibration.slope == pytest.approx(expected.slope, rel=1e-3)
        assert found.calibration.intercept == pytest.approx(expected.intercept, rel=1e-3)

    @pytest.mark.parametrize("name", ["gru4rec", "din"])
    def test_other_backbones(self, temporal: Dataset, make_model: MakeModel, name: str) -> None:
        model = make_model(temporal, name)
        condition = Condition("own", 2)
        full, among = evaluate(model, temporal, protocols=("full", "candidates"), conditions=[condition], bootstrap=0)
        rows = run_devices(model, temporal, condition)
        ranks = [row.rank(row.catalogue()) for row in rows]
        check_metrics(full, condition, rank_metrics(rows, ranks, [len(row.catalogue()) for row in rows]))
        check_candidates(among, condition, rows, drawn(temporal, "test"))

    def test_parts_of_theta_as_they_count_at_their_age(self, temporal: Dataset, make_model: MakeModel) -> None:
        model = make_model(temporal)
        cloud = CloudConfig(kind="sequence", width=8, items=20)
        model.attach(CloudModel(temporal.vocabulary, model.generator_history, cloud, temporal.manifest.met))
        assert model.trust is not None
        model.trust.weights_A.copy_(torch.linspace(1, 0, len(AGES)))
        model.trust.opinions_JA.copy_(torch.linspace(2, 0.5, len(AGES)))
        conditions = [OWN, *(Condition("own", 7, part) for part in (None, "weights", "bias")), ZERO]
        (found,) = evaluate(model, temporal, conditions=conditions, bootstrap=0)
        assert len({found[condition].metrics["mrr"].mean for condition in conditions}) == len(conditions)
        for condition in conditions:
            rows = run_devices(model, temporal, condition)
            ranks, counts = [row.rank(row.catalogue()) for row in rows], [len(row.catalogue()) for row in rows]
            check_metrics(found, condition, rank_metrics(rows, ranks, counts))

    def test_buckets_of_history_length(self, model: Recommender, temporal: Dataset, both: list[Evaluation]) -> None:
        rows = run_devices(model, temporal, OWN)
        buckets = both[0]["own"].by_history
        assert sum(bucket.targets for bucket in buckets) == len(rows) == both[0].targets
        assert len(buckets) > 1
        for bucket in buckets:
            inside = [row for row in rows if bucket.shortest <= row.before <= (bucket.longest or math.inf)]
            assert (bucket.targets, bucket.devices) == (len(inside), len({row.device for row in inside}))
            ranks = [row.rank(row.catalogue()) for row in inside]
            expected = rank_metrics(inside, ranks, [len(row.catalogue()) for row in inside])
            assert {name: bucket.metrics[name] for name in expected} == pytest.approx(expected, abs=FLIP)

    def test_head_of_the_record(self, temporal: Dataset, both: list[Evaluation]) -> None:
        targets = temporal.targets("test")
        unknown = int((temporal.events[targets.position_N] == UNKNOWN).sum())
        assert unknown > 0
        for evaluation in both:
            assert evaluation.targets == len(targets)
            assert evaluation.unknown_targets == unknown
            assert evaluation.devices == evaluation.devices_in_part == len(set(targets.device_N))
            assert (evaluation.part, evaluation.split, evaluation.has_time) == ("test", "temporal", True)
            assert (evaluation.note, evaluation.personal, evaluation.bootstrap) == (None, True, 200)
        assert [evaluation.protocol for evaluation in both] == ["full", "candidates"]
        assert [result.name for result in both[0].conditions] == [condition.name for condition in CONDITIONS]

    def test_a_log_without_time_says_so(self, plain: Dataset, make_model: MakeModel) -> None:
        (evaluation,) = evaluate(make_model(plain), plain, conditions=[ZERO])
        assert evaluation.note is not None
        assert "no time" in evaluation.note


class TestConditions:
    def test_each_gives_other_scores(self, both: list[Evaluation]) -> None:
        losses = [both[0].by_device.of(condition.name, "log_loss") for condition in CONDITIONS]
        for i, one in enumerate(losses):
            for other in losses[:i]:
                assert not np.isclose(one, other).any()

    @NAMES
    def test_zero_is_the_same_backbone_as_a_base_model_exactly(
        self, temporal: Dataset, make_model: MakeModel, name: str
    ) -> None:
        duet, base = make_model(temporal, name), make_model(temporal, name, "base", seed=9)
        base.backbone.load_state_dict(duet.backbone.state_dict())
        (mine,) = evaluate(duet, temporal, conditions=[ZERO], bootstrap=0)
        (its,) = evaluate(base, temporal, bootstrap=0)
        assert mine.personal
        assert not its.personal
        assert mine.conditions == its.conditions
        for metric, value_U in mine.by_device.values["zero"].items():
            assert np.array_equal(value_U, its.by_device.of("zero", metric))

    def test_theta_of_zeros_is_zero(
        self, temporal: Dataset, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = make_model(temporal)
        size = model.backbone.head.layout.size
        monkeypatch.setattr(model, "generate", lambda history_BL: Theta(torch.zeros(len(history_BL), size)))
        (found,) = evaluate(model, temporal, conditions=[OWN, ZERO], bootstrap=0)
        assert found["own"].metrics == found["zero"].metrics

    def test_a_base_model_has_zero_whatever_is_asked(self, temporal: Dataset, make_model: MakeModel) -> None:
        (found,) = evaluate(make_model(temporal, method="base"), temporal, conditions=CONDITIONS, bootstrap=0)
        assert [result.name for result in found.conditions] == ["zero"]

    def test_asked_twice_measured_once(self, model: Recommender, temporal: Dataset) -> None:
        (found,) = evaluate(model, temporal, conditions=[ZERO, OWN, ZERO], bootstrap=0)
        assert [result.name for result in found.conditions] == ["zero", "own"]

    def test_a_lone_device_has_no_other_to_borrow_from(self, make_dataset: MakeDataset, make_model: MakeModel) -> None:
        alone = make_dataset([[2, 3, 4, 5, 6, 7]])
        model = make_model(alone)
        (found,) = evaluate(model, alone)
        assert [result.name for result in found.conditions] == ["own", "own+1", "own+5", "own+20", "zero", "random"]
        assert found["own"].metrics["mrr"].low is None
        with pytest.raises(NothingToEvaluateError, match="two devices"):
            evaluate(model, alone, conditions=[Condition("another")])

    def test_one_device_of_many_borrows(self, model: Recommender, temporal: Dataset) -> None:
        (found,) = evaluate(model, temporal, limit_devices=1)
        assert "another" in [result.name for result in found.conditions]

    def test_none_asked(self, model: Recommender, temporal: Dataset) -> None:
        with pytest.raises(NothingToEvaluateError, match="no condition"):
            evaluate(model, temporal, conditions=[])


def same_metrics(one: Evaluation, other: Evaluation, conditions: Sequence[Condition]) -> None:
    for condition in conditions:
        for name, found in one[condition].metrics.items():
            assert found.mean == pytest.approx(other[condition].metrics[name].mean, abs=FLIP), (condition.name, name)


class TestHowItIsRun:
    @pytest.mark.parametrize("size", [1, 7])
    def test_the_size_of_batches_does_not_matter(
        self, model: Recommender, temporal: Dataset, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run() -> list[Evaluation]:
            protocols = ("full", "candidates")
            return evaluate(model, temporal, protocols=protocols, conditions=CONDITIONS, limit_devices=4, bootstrap=0)

        whole = run()
        assert whole[0].targets > size
        monkeypatch.setattr(scoring, "MAX_BATCH", size)
        for one, other in zip(whole, run()):
            same_metrics(one, other, CONDITIONS)

    def test_batches_fit_the_memory_meant_for_scores(
        self, temporal: Dataset, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        vocabulary = temporal.vocabulary
        monkeypatch.setattr(scoring, "SCORE_BYTES", 4 * vocabulary * scoring.PAIRWISE_COST * 3)
        assert scoring.batch_size(make_model(temporal, "din")) == 3  # type: ignore[arg-type]
        assert scoring.batch_size(make_model(temporal)) == 3 * scoring.PAIRWISE_COST  # type: ignore[arg-type]
        monkeypatch.setattr(scoring, "SCORE_BYTES", 1)
        assert scoring.batch_size(make_model(temporal)) == 1  # type: ignore[arg-type]

    def test_protocols_together_or_alone(self, model: Recommender, temporal: Dataset, both: list[Evaluation]) -> None:
        (alone,) = evaluate(model, temporal, protocols=["candidates"], conditions=CONDITIONS, bootstrap=200)
        assert alone.conditions == both[1].conditions

    def test_the_same_seed_gives_the_same_figures(
        self, model: Recommender, temporal: Dataset, both: list[Evaluation]
    ) -> None:
        (again,) = evaluate(model, temporal, conditions=CONDITIONS, bootstrap=200)
        assert again.conditions == both[0].conditions
        (other,) = evaluate(model, temporal, conditions=CONDITIONS, bootstrap=200, seed=1)
        for name in ("own", "zero"):
            assert other[name].metrics["mrr"].mean == again[name].metrics["mrr"].mean
            assert other[name].metrics["mrr"].low != again[name].metrics["mrr"].low
        for name in ("another", "random"):
            assert other[name].metrics["mrr"].mean != again[name].metrics["mrr"].mean

    def test_no_rounds_no_bounds(self, model: Recommender, temporal: Dataset) -> None:
        (found,) = evaluate(model, temporal, protocols=["candidates"], conditions=[ZERO], bootstrap=0)
        assert {(metric.low, metric.high) for metric in found["zero"].metrics.values()} == {(None, None)}

    def test_bounds_hold_the_mean(self, both: list[Evaluation]) -> None:
        for evaluation in both:
            for result in evaluation.conditions:
                for name in ("mrr", "user_auc", "log_loss"):
                    metric = result.metrics[name]
                    assert metric.low is not None
                    assert metric.high is not None
                    assert metric.low < metric.mean < metric.high

    def test_a_choice_of_devices_measures_them_as_all_do(
        self, model: Recommender, temporal: Dataset, both: list[Evaluation]
    ) -> None:
        some = evaluate(
            model, temporal, protocols=("full", "candidates"), conditions=CONDITIONS, limit_devices=5, bootstrap=0
        )
        for one, whole in zip(some, both):
            device_U, everyone_U = one.by_device.device_U, whole.by_device.device_U
            assert (one.devices, one.devices_in_part) == (5, len(everyone_U))
            assert len(device_U) == 5
            assert (np.diff(device_U) > 0).all()
            chosen = np.isin(everyone_U, device_U)
            assert chosen.sum() == 5
            # A random log is made for each device that is measured, so that condition is not comparable.
            for condition in CONDITIONS[:-1]:
                for metric, value_U in one.by_device.values[condition.name].items():
                    whole_U = whole.by_device.of(condition.name, metric)[chosen]
                    assert value_U == pytest.approx(whole_U, abs=FLIP), (condition.name, metric)

    def test_the_choice_follows_from_the_seed(self, model: Recommender, temporal: Dataset) -> None:
        chosen = [
            evaluate(model, temporal, conditions=[ZERO], limit_devices=5, bootstrap=0, seed=seed)[
                0
            ].by_device.device_U.tolist()
            for seed in (0, 0, 1)
        ]
        assert chosen[0] == chosen[1] != chosen[2]

    @pytest.mark.parametrize("limit", [12, 10_000, None])
    def test_a_limit_that_leaves_nobody_out(
        self, model: Recommender, temporal: Dataset, both: list[Evaluation], limit: int | None
    ) -> None:
        (found,) = evaluate(model, temporal, conditions=CONDITIONS, limit_devices=limit, bootstrap=200)
        assert both[0].devices == 12
        assert found.conditions == both[0].conditions

    def test_progress_names_the_condition_and_counts_to_the_end(
        self, model: Recommender, temporal: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scoring, "MAX_BATCH", 100)
        heard: list[tuple[str, int, int]] = []
        evaluate(model, temporal, conditions=[OWN, ZERO], bootstrap=0, progress=lambda *said: heard.append(said))
        total = len(temporal.targets("test"))
        assert heard == [(name, done, total) for name in ("own", "zero") for done in (100, total)]

    def test_cutoffs(self, model: Recommender, temporal: Dataset) -> None:
        (found,) = evaluate(model, temporal, conditions=[ZERO], cutoffs=[1, 3], bootstrap=0)
        assert set(found["zero"].metrics) == {"ndcg@1", "ndcg@3", "hr@1", "hr@3", "mrr", "user_auc", "log_loss"}
        assert found["zero"].metrics["ndcg@1"] == found["zero"].metrics["hr@1"]

    def test_equal_scores_are_chance(self, temporal: Dataset, make_model: MakeModel) -> None:
        model = make_model(temporal)
        with torch.no_grad():
            model.backbone.item_embedding.weight.zero_()
        full, drawn = evaluate(model, temporal, protocols=("full", "candidates"), conditions=[ZERO])
        known, targets = temporal.vocabulary - 2, temporal.targets("test")
        unknown_N = target_items(temporal, targets) == UNKNOWN
        # A known target has the middle place, an unknown one none.
        by_device = [unknown_N[targets.device_N == device].mean() for device in np.unique(targets.device_N)]
        share = float(np.mean(by_device))
        expected = (1 - share) / ((known + 1) / 2)
        assert full["zero"].metrics["mrr"].mean == pytest.approx(expected)
        assert drawn["zero"].metrics["user_auc"].mean == pytest.approx((1 - share) / 2)
        assert drawn["zero"].metrics["auc"].mean == pytest.approx((1 - unknown_N.mean()) / 2, abs=0.01)
        assert math.isfinite(drawn["zero"].metrics["log_loss"].mean)


@NAMES
@pytest.mark.parametrize("theta", ["own", "zero"])
def test_ranks_are_the_same_through_score_and_score_catalogue(
    temporal: Dataset, make_model: MakeModel, name: str, theta: str
) -> None:
    model = make_model(temporal, name).eval()
    items = np.arange(FIRST_ITEM, temporal.vocabulary)
    target_N = np.random.default_rng(0).choice(items, 25)
    others = np.stack([items[items != target] for target in target_N]).astype(np.int32)
    window_BL = torch.from_numpy(np.random.default_rng(1).choice(items, (25, model.window)))
    with torch.no_grad():
        theta_BP = model.generate(window_BL) if theta == "own" else None
        full = FullRanking(target_N).rank(Scores(model, window_BL, theta_BP), slice(0, 25))
        listed = CandidateRanking("candidates", target_N, np.arange(25), others)
        drawn = listed.rank(Scores(model, window_BL, theta_BP), slice(0, 25))
        everything_BC = torch.from_numpy(np.concatenate([target_N[:, None], others], 1))
        torch.testing.assert_close(
            model.score(window_BL, everything_BC, theta_BP),
            Scores(model, window_BL, theta_BP).comparable(everything_BC)[0],
        )
    assert full.rank_N.tolist() == drawn.rank_N.tolist()
    assert full.count_N.tolist() == drawn.count_N.tolist()
    assert len(set(full.rank_N.tolist())) > 5
    # The score less the normaliser is the log share of the softmax.
    assert full.loss_N is not None
    assert drawn.scores_NC is not None
    assert full.loss_N == pytest.approx(-drawn.scores_NC[:, 0], rel=1e-4)


class TestTheModelIsLeftAsItWas:
    def test_modes_weights_gradients_and_randomness(self, temporal: Dataset, make_model: MakeModel) -> None:
        model = make_model(temporal).train()
        model.backbone.eval()
        assert model.generator is not None
        model.generator.encoder.eval()
        modes = [module.training for module in model.modules()]
        assert len(set(modes)) == 2
        weights = copy.deepcopy(model.state_dict())
        state = torch.get_rng_state()
        evaluate(model, temporal, protocols=("full", "candidates"), conditions=CONDITIONS, bootstrap=0)
        validate(model, temporal)
        assert [module.training for module in model.modules()] == modes
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
        assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()

    @NAMES
    def test_it_can_be_trained_on(self, temporal: Dataset, make_model: MakeModel, name: str) -> None:
        model = make_model(temporal, name).train()
        validate(model, temporal, limit_devices=2)
        window_BL = torch.tensor([[2, 3, 4, 0]])
        model(window_BL, torch.tensor([[5, 6]]), history_BL=window_BL).sum().backward()
        assert any(bool(parameter.grad.any()) for parameter in model.parameters() if parameter.grad is not None)

    def test_modes_after_a_refusal(self, temporal: Dataset, make_model: MakeModel) -> None:
        model = make_model(temporal).train()
        with torch.no_grad():
            model.backbone.item_embedding.weight.fill_(math.nan)
        with pytest.raises(NonFiniteScoresError):
            evaluate(model, temporal)
        assert all(module.training for module in model.modules())
        assert not torch.is_inference_mode_enabled()


class TestRefusals:
    @pytest.mark.parametrize("protocol", ["full", "candidates"])
    @pytest.mark.parametrize("method", ["duet", "base"])
    def test_weights_that_are_not_numbers(
        self, temporal: Dataset, make_model: MakeModel, protocol: str, method: str
    ) -> None:
        model = make_model(temporal, method=method)
        with torch.no_grad():
            model.backbone.item_embedding.weight.fill_(math.nan)
        with pytest.raises(NonFiniteScoresError) as caught:
            evaluate(model, temporal, protocols=[protocol])
        assert caught.value.code == "non-finite-scores"
        with pytest.raises(NonFiniteScoresError):
            validate(model, temporal)

    def test_one_item_that_is_not_a_number(self, temporal: Dataset, make_model: MakeModel) -> None:
        model = make_model(temporal, method="base")
        with torch.no_grad():
            model.backbone.item_embedding.weight[temporal.vocabulary - 1] = math.nan
        with pytest.raises(NonFiniteScoresError):
            validate(model, temporal)

    def test_a_generator_that_gives_no_numbers_spoils_own_and_not_zero(
        self, temporal: Dataset, make_model: MakeModel
    ) -> None:
        model = make_model(temporal)
        assert model.generator is not None
        with torch.no_grad():
            next(model.generator.layers.parameters()).fill_(math.nan)
        with pytest.raises(NonFiniteScoresError):
            evaluate(model, temporal, conditions=[OWN])
        evaluate(model, temporal, conditions=[ZERO], bootstrap=0)

    def test_another_vocabulary(self, temporal: Dataset, plain: Dataset, make_model: MakeModel) -> None:
        with pytest.raises(VocabularyMismatchError, match=f"knows {plain.vocabulary} .* has {temporal.vocabulary}"):
            evaluate(make_model(plain), temporal)

    @pytest.mark.parametrize("protocol", ["given", "sampled"])
    def test_protocols_that_the_dataset_cannot_serve(
        self, plain: Dataset, make_model: MakeModel, protocol: str
    ) -> None:
        with pytest.raises(ProtocolUnavailableError):
            evaluate(make_model(plain), plain, protocols=["full", protocol])

    def test_given_on_the_validation_part(self, text: Dataset, make_model: MakeModel) -> None:
        with pytest.raises(ProtocolUnavailableError, match="test part only"):
            evaluate(make_model(text), text, part="valid", protocols=["given"])

    @pytest.mark.parametrize("part", ["test", "valid"])
    def test_a_part_without_targets(self, make_dataset: MakeDataset, make_model: MakeModel, part: Part) -> None:
        empty = make_dataset([[2, 3, 4]], bounds=[(3, 3)])
        with pytest.raises(NothingToEvaluateError, match=f"the {part} part of"):
            evaluate(make_model(empty), empty, part=part)
        with pytest.raises(NothingToEvaluateError):
            validate(make_model(empty), empty)

    @pytest.mark.parametrize("limit", [0, -1])
    def test_no_device(self, model: Recommender, temporal: Dataset, limit: int) -> None:
        with pytest.raises(NothingToEvaluateError, match=f"{limit} devices"):
            evaluate(model, temporal, limit_devices=limit)


def test_repeats_and_new_items_make_up_every_device(temporal: Dataset, both: list[Evaluation]) -> None:
    targets, groups = temporal.targets("test"), ("repeat", "new")
    inside_N = MetItems(temporal, targets).repeat_N
    assert 0 < inside_N.sum() < len(inside_N)
    for one in both:
        kept = one.by_device
        for slot, device in enumerate(kept.device_U):
            inside = inside_N[targets.device_N == device]
            parts = [kept.groups[group]["own"]["ndcg@10"][slot] for group in groups]
            assert np.isnan(parts).tolist() == [not inside.any(), bool(inside.all())]
            assert np.nansum(parts * np.array([inside.sum(), (~inside).sum()])) == pytest.approx(
                kept.of("own", "ndcg@10")[slot] * len(inside)
            )


def test_known_targets_make_up_what_is_hit(temporal: Dataset, both: list[Evaluation]) -> None:
    targets = temporal.targets("test")
    known_N = target_items(temporal, targets) != UNKNOWN
    assert 0 < known_N.sum() < len(known_N)
    kept = both[0].by_device
    for slot, device in enumerate(kept.device_U):
        known = known_N[targets.device_N == device]
        found = kept.groups["known"]["own"]["user_auc"][slot]
        assert math.isnan(found) == (not known.any())
        # A target that training does not know has an AUC of 0.
        assert np.nan_to_num(found) * known.sum() == pytest.approx(kept.of("own", "user_auc")[slot] * len(known))


def test_there_is_no_group_where_every_item_is_known(plain: Dataset, make_model: MakeModel) -> None:
    (one,) = evaluate(make_model(plain), plain, conditions=[Condition("zero")], bootstrap=0)
    assert one.unknown_targets == 0
    assert "known" not in one.by_device.groups
