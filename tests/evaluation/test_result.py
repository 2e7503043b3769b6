"""Records to JSON and back, and paired differences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from duetgen.data.manifest import write_manifest
from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, ZERO, Condition, Evaluation, compare, evaluate
from duetgen.evaluation.errors import NotComparableError
from duetgen.recommender import Recommender

from .conftest import MakeModel

AGED = Condition("own", 5)
CONFIG = {"backbone": {"width": 8, "residual": True}, "seeds": [1, 2], "note": None}


@pytest.fixture(scope="module")
def model(temporal: Dataset, make_model: MakeModel) -> Recommender:
    return make_model(temporal)


@pytest.fixture(scope="module")
def one(temporal: Dataset, model: Recommender) -> Evaluation:
    return evaluate(model, temporal, protocols=["candidates"], conditions=[OWN, AGED, ZERO], config=CONFIG)[0]


@pytest.fixture(scope="module")
def other(temporal: Dataset, make_model: MakeModel) -> Evaluation:
    return evaluate(make_model(temporal, seed=1), temporal, protocols=["candidates"], conditions=[OWN, AGED, ZERO])[0]


@pytest.fixture(scope="module")
def base(temporal: Dataset, make_model: MakeModel) -> Evaluation:
    return evaluate(make_model(temporal, method="base", seed=2), temporal, protocols=["candidates"])[0]


class TestRecord:
    def test_json_and_back(self, one: Evaluation) -> None:
        again = Evaluation.from_json(one.to_json())
        assert again == one
        assert again.to_json() == one.to_json()
        assert again.provenance.config == CONFIG
        assert again[AGED] == one["own+5"]

    def test_json_is_one_line_of_names_and_figures(self, one: Evaluation) -> None:
        content = one.to_json()
        assert b"\n" not in content
        record = json.loads(content)
        first = record["conditions"][0]
        assert (first["name"], first["condition"]) == ("own", {"kind": "own", "staleness": 0, "part": None})
        assert set(first["metrics"]["auc"]) == {"mean", "low", "high"}
        assert "auc" not in first["by_history"][0]["metrics"]

    def test_single_devices_stay_out_of_json(self, one: Evaluation) -> None:
        assert b"device_U" not in one.to_json()
        assert b"by_device" not in one.to_json()
        with pytest.raises(NotComparableError, match="read from JSON"):
            _ = Evaluation.from_json(one.to_json()).by_device

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"protocol": "full"}', b"\xff"])
    def test_json_of_something_else(self, content: str | bytes) -> None:
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            Evaluation.from_json(content)

    def test_condition_that_was_not_measured(self, one: Evaluation) -> None:
        with pytest.raises(KeyError, match="random"):
            one[Condition("random")]


class TestCompare:
    @pytest.mark.parametrize("metric", ["ndcg@10", "hr@5", "mrr", "user_auc", "log_loss", "auc"])
    def test_is_the_difference_of_means(self, one: Evaluation, other: Evaluation, metric: str) -> None:
        found = compare(one, other, metric)
        mine, its = one["own"].metrics[metric].mean, other["own"].metrics[metric].mean
        assert found.metric == metric
        assert found.devices == one.devices
        assert found.mean == pytest.approx(mine - its, abs=1e-12)
        assert found.mean != 0
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.mean < found.high
        assert compare(other, one, metric).mean == pytest.approx(-found.mean)

    @pytest.mark.parametrize("metric", ["mrr", "auc"])
    def test_a_model_and_itself(self, one: Evaluation, metric: str) -> None:
        found = compare(one, one, metric)
        assert (found.mean, found.low, found.high) == (0, 0, 0)

    def test_pairs_devices(self, temporal: Dataset, model: Recommender) -> None:
        mine, its = (evaluate(model, temporal, conditions=[ZERO])[0] for _ in range(2))
        its.by_device.values["zero"]["mrr"] = mine.by_device.of("zero", "mrr") - 0.25
        found = compare(mine, its, "mrr", condition_one=ZERO)
        # Each device differs alike, so there is nothing left to be unsure of.
        assert (found.mean, found.low, found.high) == pytest.approx((1 / 4, 1 / 4, 1 / 4))

    @pytest.mark.parametrize("metric", ["mrr", "auc"])
    def test_two_conditions_of_one_evaluation(self, one: Evaluation, metric: str) -> None:
        found = compare(one, one, metric, condition_one=AGED, condition_other="zero")
        assert found.mean == pytest.approx(one["own+5"].metrics[metric].mean - one["zero"].metrics[metric].mean)

    def test_own_against_the_one_condition_of_a_base_model(self, one: Evaluation, base: Evaluation) -> None:
        found = compare(one, base, "mrr")
        assert found.mean == pytest.approx(one["own"].metrics["mrr"].mean - base["zero"].metrics["mrr"].mean)

    def test_same_condition_of_another_duet_by_default(self, one: Evaluation, other: Evaluation) -> None:
        found = compare(one, other, "mrr", condition_one="own+5")
        assert found.mean == pytest.approx(one["own+5"].metrics["mrr"].mean - other["own+5"].metrics["mrr"].mean)

    def test_follows_from_the_seed(self, one: Evaluation, other: Evaluation) -> None:
        assert compare(one, other, seed=3) == compare(one, other, seed=3)
        assert compare(one, other, seed=3) != compare(one, other, seed=4)

    @pytest.mark.parametrize("metric", ["mrr", "auc"])
    def test_no_rounds_no_bounds(self, one: Evaluation, other: Evaluation, metric: str) -> None:
        found = compare(one, other, metric, rounds=0)
        assert (found.low, found.high) == (None, None)

    def test_pooled_parts_are_those_of_the_rows(self, one: Evaluation) -> None:
        below, positives, above, negatives = one.by_device.pooled["own"].sum(0)
        assert positives == one.targets
        assert positives + negatives == pytest.approx(one.candidates * one.targets)
        assert below / positives == pytest.approx(above / negatives)
        assert below / positives == one["own"].metrics["auc"].mean


class TestRefusals:
    def test_other_protocol(self, temporal: Dataset, model: Recommender, one: Evaluation) -> None:
        (full,) = evaluate(model, temporal, conditions=[OWN], bootstrap=0)
        with pytest.raises(NotComparableError, match="protocol: candidates and full"):
            compare(one, full, "mrr")

    def test_other_part(self, temporal: Dataset, model: Recommender, one: Evaluation) -> None:
        (valid,) = evaluate(model, temporal, part="valid", protocols=["candidates"], conditions=[OWN], bootstrap=0)
        with pytest.raises(NotComparableError, match="part: test and valid"):
            compare(one, valid, "mrr")

    def test_other_data(self, temporal: Dataset, model: Recommender, one: Evaluation, tmp_path: Path) -> None:
        shutil.copytree(temporal.root, tmp_path / "copy")
        write_manifest(tmp_path / "copy", msgspec.structs.replace(temporal.manifest, content_sha256="f" * 64))
        (found,) = evaluate(model, Dataset(tmp_path / "copy"), protocols=["candidates"], conditions=[OWN], bootstrap=0)
        with pytest.raises(NotComparableError, match="data: "):
            compare(one, found, "mrr")

    @pytest.mark.parametrize("metric", ["mrr", "auc"])
    def test_other_devices(self, temporal: Dataset, model: Recommender, one: Evaluation, metric: str) -> None:
        some = [
            evaluate(
                model, temporal, protocols=["candidates"], conditions=[OWN], limit_devices=5, bootstrap=0, seed=seed
            )[0]
            for seed in (0, 1)
        ]
        for a, b in ((one, some[0]), (some[0], some[1])):
            with pytest.raises(NotComparableError, match="different devices"):
                compare(a, b, metric)

    def test_metric_or_condition_that_was_not_measured(self, one: Evaluation, other: Evaluation) -> None:
        with pytest.raises(NotComparableError, match="ndcg@7 was not measured"):
            compare(one, other, "ndcg@7")
        for metric in ("mrr", "auc"):
            with pytest.raises(NotComparableError, match="'random'"):
                compare(one, other, metric, condition_one=Condition("random"))

    def test_read_from_json(self, one: Evaluation) -> None:
        with pytest.raises(NotComparableError):
            compare(one, Evaluation.from_json(one.to_json()))
