"""A generator that reads the cloud model's state: the states that training reads, runs with them, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import MakeDataset
from tests.training.test_cloud_run import DUET, CutAt, PowerCutError, weights_of
from torch.testing import assert_close

from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.comparison.methods.changes import with_settings
from duetgen.core import Theta
from duetgen.data.store import Dataset
from duetgen.training import load_run, train
from duetgen.training.config import InvalidConfigError
from duetgen.training.defaults import fill_in
from duetgen.training.states import States

OF_STATE = with_settings(DUET, {"model.history.encoder": "cloud"})


def make_cloud(vocabulary: int, length: int) -> CloudModel:
    torch.manual_seed(0)
    config = CloudConfig(kind="blend", table="item-knn", width=8, recurrent=4, items=5, neighbours=3)
    return CloudModel(vocabulary, length, config, "hide").eval()


def test_states_are_those_after_the_last_events_that_the_cloud_reads(make_dataset: MakeDataset) -> None:
    # Three chunks, one event to read, and one chunk.
    logs = [[place * 5 % 7 + 2 for place in range(60)], [3, 4, 5], [5, 4, 3, 2, 6, 8]]
    dataset = make_dataset(logs)
    cloud = make_cloud(dataset.vocabulary, 12)
    states = States(cloud, dataset)
    assert list(cloud.members) == ["sequence", "item-knn"]
    assert list(states.cloud.members) == ["sequence"]
    assert not any(parameter.requires_grad for parameter in states.cloud.parameters())
    for begin, (end, *_) in zip(dataset.offsets.tolist(), dataset.bounds.tolist()):
        for place in range(begin, begin + end - 1):
            history = torch.from_numpy(dataset.events[max(begin, place - 11) : place + 1].astype(np.int64))
            with torch.inference_mode():
                expected = cloud.state(history[None])
            assert expected is not None
            assert_close(states.before(torch.tensor(place + 1)), expected[0], atol=2e-3, rtol=2e-3)
        assert not states.state_ED[begin + end - 1].any()


@pytest.fixture(scope="module")
def whole(people: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DUET whose generator reads the state of a cloud model of its own."""
    return train(people, OF_STATE, tmp_path_factory.mktemp("runs") / "whole").root


class TestRun:
    def test_weights_follow_from_the_state_and_the_base_model_stays(self, whole: Path) -> None:
        model, history = load_run(whole).device_model, torch.tensor([[3, 4, 5, 6], [7, 2, 0, 0]])
        assert model.cloud is not None
        assert model.generator is not None
        with torch.inference_mode():
            theta, state = model.generate(history), model.cloud.state(history)
            assert state is not None
            assert_close(theta.weights_BP, model.generator.decode(state))
            assert len(theta.opinions) == 2
            base = load_run(whole / "base").model
            assert torch.equal(model.score_catalogue(history), base.score_catalogue(history))
            own = model.score_catalogue(history, Theta(theta.weights_BP))
            assert not torch.equal(own, base.score_catalogue(history))

    def test_an_empty_history_gives_what_no_event_says(self, whole: Path) -> None:
        model = load_run(whole).device_model
        assert model.generator is not None
        with torch.inference_mode():
            weights = model.generate(torch.zeros(1, 5, dtype=torch.int64)).weights_BP
            assert_close(weights, model.generator.decode(torch.zeros(1, 12)))

    def test_without_its_cloud_model_it_generates_nothing(self, whole: Path) -> None:
        model = load_run(whole).device_model
        model.cloud = None
        with pytest.raises(ValueError, match="reads the state of a cloud model"):
            model.generate(torch.tensor([[3, 4]]))

    def test_only_the_generator_is_trained(self, whole: Path) -> None:
        run, cloud = load_run(whole).device_model, load_run(whole / "cloud").cloud_model
        assert run.cloud is not None
        for name, tensor in cloud.state_dict().items():
            assert torch.equal(run.cloud.state_dict()[name], tensor), name

    def test_stopped_in_the_generator_it_ends_with_the_same_weights(
        self, people: Dataset, whole: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(PowerCutError):
            train(people, OF_STATE, tmp_path / "cut", progress=CutAt(3))
        result = train(people, OF_STATE, tmp_path / "cut")
        assert weights_of(result.root) == weights_of(whole)
        assert result.best == load_run(whole).environment.best

    def test_jointly_too(self, people: Dataset, whole: Path, tmp_path: Path) -> None:
        joint = with_settings(OF_STATE, {"joint": True, "cloud_model": str(whole / "cloud")})
        run = load_run(train(people, joint, tmp_path / "run").root)
        assert run.environment.best > 0
        assert run.device_model.generate(torch.tensor([[3, 4]])).weights_BP is not None


@pytest.mark.parametrize("changes", [{"model.cloud.kind": "ease"}, {"model.cloud.kind": "none"}, {"feed": "rows"}])
def test_a_cloud_model_without_a_state_is_refused(people: Dataset, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidConfigError, match="needs a cloud model with a sequence model"):
        fill_in(with_settings(OF_STATE, changes), people)
