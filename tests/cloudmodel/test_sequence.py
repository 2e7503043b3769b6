"""The sequence model of the cloud is a base model, and what it says are log-likelihoods."""

import torch

from duetgen.cloudmodel import CloudConfig
from duetgen.cloudmodel.sequence import SequenceModel, sequence_backbone
from duetgen.recommender import ModelConfig, Recommender

V = 30
CONFIG = CloudConfig(width=8, heads=2, layers=2)
HISTORY = torch.tensor([[3, 9, 4, 1, 7, 2], [5, 6, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])


def test_it_is_the_log_softmax_of_a_base_model_over_the_known_items() -> None:
    torch.manual_seed(0)
    base = Recommender(V, ModelConfig(method="base", backbone=sequence_backbone(6, CONFIG))).eval()
    model = SequenceModel(V, 6, CONFIG).eval()
    model.backbone.load_state_dict(base.backbone.state_dict())
    found = model(HISTORY)
    expected = torch.log_softmax(base.score_catalogue(HISTORY)[:, 2:], dim=1)
    torch.testing.assert_close(found[:, 2:], expected)
    assert (found[:, :2] < -1e8).all()
