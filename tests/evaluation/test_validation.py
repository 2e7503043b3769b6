"""The figure that stops training early is the one that an evaluation of the validation part gives."""

from __future__ import annotations

import pytest

from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, Condition, evaluate, validate

from .conftest import MakeModel


@pytest.mark.parametrize("method", ["duet", "base"])
def test_is_the_ndcg_of_evaluate_on_the_validation_part(temporal: Dataset, make_model: MakeModel, method: str) -> None:
    model = make_model(temporal, method=method)
    (whole,) = evaluate(model, temporal, part="valid", conditions=[OWN], bootstrap=0)
    name = "own" if method == "duet" else "zero"
    assert validate(model, temporal) == whole[name].metrics["ndcg@10"].mean
    (some,) = evaluate(model, temporal, part="valid", conditions=[OWN], bootstrap=0, limit_devices=3, seed=4)
    assert validate(model, temporal, limit_devices=3, seed=4) == some[name].metrics["ndcg@10"].mean


def test_is_the_mean_over_ages(temporal: Dataset, make_model: MakeModel) -> None:
    model = make_model(temporal)
    conditions = [OWN, Condition("own", 5)]
    (found,) = evaluate(model, temporal, part="valid", conditions=conditions, bootstrap=0)
    expected = sum(found[condition].metrics["ndcg@10"].mean for condition in conditions) / 2
    assert validate(model, temporal, staleness=(0, 5)) == pytest.approx(expected, rel=1e-12)
