"""Weights and opinions together in one recommender, on every backbone."""

from __future__ import annotations

import pytest
import torch

from duetgen.backbones import BACKBONES, BackboneConfig
from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.core import GeneratorConfig, Theta
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender

V = 30
HISTORY, WINDOW = torch.tensor([[3, 9, 4, 1, 7], [2, 5, 0, 0, 0]]), torch.tensor([[9, 4, 1, 7], [2, 5, 0, 0]])
CANDIDATES = torch.arange(1, V).expand(2, -1)


def make(name: str) -> Recommender:
    torch.manual_seed(0)
    cloud = CloudConfig(kind="sequence", width=8, items=5)
    config = ModelConfig(
        name=name,  # type: ignore[arg-type]
        backbone=BackboneConfig(width=8, window=4),
        history=HistoryConfig(length=12, width=8, embedding_width=6),
        generator=GeneratorConfig(width=8, decoder_scale=0.1),
        cloud=cloud,
    )
    model = Recommender(V, config)
    model.attach(CloudModel(V, 12, cloud, "hide"))
    return model.eval()


@pytest.mark.parametrize("name", BACKBONES)
class TestRecommender:
    def test_it_generates_weights_and_the_opinions_of_its_cloud_model(self, name: str) -> None:
        model = make(name)
        theta = model.generate(HISTORY)
        assert model.generator is not None
        assert model.cloud is not None
        assert torch.equal(theta.weights_BP, model.generator(HISTORY))  # type: ignore[arg-type]
        for one, other in zip(theta.opinions, model.cloud.opinions(HISTORY), strict=True):
            assert torch.equal(one.items_BK, other.items_BK)
            assert torch.equal(one.values_BK, other.values_BK)

    def test_without_trust_it_is_the_global_model_bit_for_bit(self, name: str) -> None:
        model = make(name)
        assert model.trust is not None
        model.trust.weights_A.zero_()
        theta = model.trusted(model.generate(HISTORY), 0)
        assert torch.equal(model.score(WINDOW, CANDIDATES, theta), model.score(WINDOW, CANDIDATES))
        assert torch.equal(model.score_catalogue(WINDOW, theta), model.score_catalogue(WINDOW))

    def test_weights_of_zeros_without_opinions_are_the_global_model_bit_for_bit(self, name: str) -> None:
        model = make(name)
        zero = Theta(torch.zeros(2, model.backbone.head.layout.size))
        assert torch.equal(model.score(WINDOW, CANDIDATES, zero), model.score(WINDOW, CANDIDATES))
        assert torch.equal(model.score_catalogue(WINDOW, zero), model.score_catalogue(WINDOW))

    def test_opinions_are_added_to_the_scores_of_the_weights(self, name: str) -> None:
        model = make(name)
        theta = model.generate(HISTORY)
        bias = theta.bias(V)
        assert bias is not None
        assert bias.any(dim=1).all()
        personal = model.score_catalogue(WINDOW, theta.only("weights"))
        torch.testing.assert_close(model.score_catalogue(WINDOW, theta), personal + bias)
        torch.testing.assert_close(
            model.score_catalogue(WINDOW, theta.only("bias")), model.score_catalogue(WINDOW) + bias
        )
        torch.testing.assert_close(
            model.score(WINDOW, CANDIDATES, theta), model.score_catalogue(WINDOW, theta)[:, 1:], atol=1e-5, rtol=1e-5
        )

    def test_a_history_stands_for_the_theta_that_counts_when_it_is_fresh(self, name: str) -> None:
        model = make(name)
        assert model.trust is not None
        model.trust.weights_A[0] = 0.5
        model.trust.opinions_JA[0, :2] = torch.tensor([2.0, 0.0])
        theta = model.generate(HISTORY)
        assert theta.weights_BP is not None
        (opinion,) = theta.opinions
        counting = Theta(theta.weights_BP * 0.5, (opinion._replace(values_BK=opinion.values_BK * 2),))
        assert torch.equal(model(WINDOW, CANDIDATES, HISTORY), model.score(WINDOW, CANDIDATES, counting))
