"""The sequence model of the cloud is a base model or two, and what it says are log-likelihoods."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch
from torch import nn

from duetgen.backbones import BackboneConfig
from duetgen.cloudmodel import CloudConfig, CloudModel
from duetgen.cloudmodel.sequence import SequenceModel, recurrent_backbone, sequence_backbone
from duetgen.recommender import ModelConfig, Recommender
from duetgen.training.config import convert_config
from duetgen.training.run import make_model

V = 30
CONFIG = CloudConfig(width=8, heads=2, layers=2)
BOTH = CloudConfig(width=8, heads=2, recurrent=6)
HISTORY = torch.tensor([[3, 9, 4, 1, 7, 2], [5, 6, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])


def base_of(name: str, backbone: BackboneConfig) -> Recommender:
    return Recommender(V, ModelConfig(name=name, method="base", backbone=backbone)).eval()


def test_it_is_the_log_softmax_of_a_base_model_over_the_known_items() -> None:
    torch.manual_seed(0)
    base = base_of("sasrec", sequence_backbone(6, CONFIG))
    model = SequenceModel(V, 6, CONFIG).eval()
    model.backbone.load_state_dict(base.backbone.state_dict())
    found = model(HISTORY)
    expected = torch.log_softmax(base.score_catalogue(HISTORY)[:, 2:], dim=1)
    torch.testing.assert_close(found[:, 2:], expected)
    assert (found[:, :2] < -1e8).all()


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_of_two_it_is_a_mean_of_their_log_likelihoods_but_for_a_constant_of_each_device(share: float) -> None:
    torch.manual_seed(0)
    wide, narrow = base_of("sasrec", sequence_backbone(6, BOTH)), base_of("gru4rec", recurrent_backbone(6, BOTH))
    model = SequenceModel(V, 6, BOTH).eval()
    model.backbones["backbone"].load_state_dict(wide.backbone.state_dict())
    model.backbones["recurrent"].load_state_dict(narrow.backbone.state_dict())
    model.share.fill_(share)
    each = [torch.log_softmax(base.score_catalogue(HISTORY)[:, 2:], dim=1) for base in (wide, narrow)]
    less = model(HISTORY)[:, 2:] - ((1 - share) * each[0] + share * each[1])
    torch.testing.assert_close(less, less[:, :1].expand_as(less))
    torch.testing.assert_close(model(HISTORY)[:, 2:].exp().sum(1), torch.ones(3))


def test_the_mean_of_two_by_hand() -> None:
    """One has the odds 8 : 2 for items 2 and 3, the other 2 : 2: together the roots of 16 and 4, 4 : 2."""
    model = SequenceModel(4, 3, CloudConfig(width=2, heads=1, recurrent=1))
    with torch.no_grad():
        for backbone in model.backbones.values():
            for parameter in backbone.parameters():
                parameter.zero_()
        for backbone, odds in zip(model.backbones.values(), ((8, 2), (2, 2))):
            last = backbone.head.module[-1]  # type: ignore[index]
            assert isinstance(last, nn.Linear)
            last.bias[0] = 1  # A query of 1, whatever was read.
            backbone.item_embedding.weight[2:, 0] = torch.tensor([math.log(one) for one in odds])
    likelihood = model.eval()(torch.tensor([[2, 3]])).exp()
    torch.testing.assert_close(likelihood, torch.tensor([[0, 0, 4 / 6, 2 / 6]]))


def test_a_gru4rec_that_counts_nothing_is_left_out_and_nothing_changes() -> None:
    torch.manual_seed(0)
    cloud = CloudModel(V, 6, msgspec.structs.replace(BOTH, kind="sequence", items=5), "hide").eval()
    model = cloud.members["sequence"]
    assert isinstance(model, SequenceModel)
    model.share.zero_()
    before, state = cloud.opinion("sequence", HISTORY), cloud.state(HISTORY)
    assert state is not None
    cloud.keep(("sequence",), state=True)
    assert torch.equal(cloud.state(HISTORY), state)  # type: ignore[arg-type]
    cloud.keep(("sequence",))
    assert list(model.backbones) == ["backbone"]
    assert torch.equal(cloud.state(HISTORY), state[:, :8])  # type: ignore[arg-type]
    for one, other in zip(before, cloud.opinion("sequence", HISTORY)):
        torch.testing.assert_close(one.sort(1).values, other.sort(1).values)


def test_a_run_of_before_both_had_a_share_counts_them_the_same() -> None:
    model = SequenceModel(V, 6, BOTH)
    weights = model.state_dict()
    model.share.zero_()
    del weights["share"]
    model.load_state_dict(weights)
    assert model.share == 0.5


@pytest.mark.parametrize("length", [4, 6, 11])
def test_along_a_sequence_it_says_what_it_says_after_each_history(length: int) -> None:
    torch.manual_seed(0)
    model = SequenceModel(V, 6, BOTH).eval()
    events = torch.randint(2, V, (2, length))
    events[1, length - 2 :] = 0
    found = model.along(events, events != 0, 6)
    places = (events != 0).nonzero().tolist()
    expected = [model(events[row : row + 1, max(0, place - 5) : place + 1]) for row, place in places]
    torch.testing.assert_close(found, torch.cat(expected))


def test_a_run_that_knew_no_gru4rec_has_none() -> None:
    config = convert_config({"model": {"method": "cloud", "cloud": {"kind": "sequence", "width": 8}}})
    cloud = make_model(V, config.model)
    assert not any("recurrent" in name for name in cloud.state_dict())
    assert config.model.cloud.state_width == 8
