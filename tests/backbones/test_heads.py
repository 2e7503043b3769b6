"""Every kind of head on every backbone: the global model at theta = 0, personal with a generator, frozen on demand."""

import pytest
import torch
from torch import nn

from duetgen.backbones import BACKBONES, BackboneConfig
from duetgen.backbones.heads import head_layers
from duetgen.comparison.methods.changes import with_settings
from duetgen.core import GeneratorConfig, Theta
from duetgen.core.layers import OwnForwardSite
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training import TrainConfig, check_config
from duetgen.training.config import InvalidConfigError

V = 30
INSIDE = ["full", "low-rank", "scale", "prefix", "concat"]
HEADS = [*INSIDE, "window-prefix"]


def make(name: str, head: str, frozen: bool = False, share: bool = False) -> Recommender:
    torch.manual_seed(0)
    config = ModelConfig(
        name=name,  # type: ignore[arg-type]
        backbone=BackboneConfig(width=8, window=4, head=head, rank=3),  # type: ignore[arg-type]
        history=HistoryConfig(length=12, width=8, embedding_width=6, share_embedding=share),
        generator=GeneratorConfig(width=8, decoder_scale=0.1, frozen=frozen),
    )
    return Recommender(V, config).eval()


@pytest.mark.parametrize("kind", INSIDE)
def test_layers_by_kind(kind: str) -> None:
    head = head_layers(kind, [4, 8, 2, 1], 3, True, nn.SiLU)  # type: ignore[arg-type]
    assert [type(layer) for layer in head.module.children()] == [nn.Linear, nn.SiLU, nn.Linear, nn.SiLU, nn.Linear]
    personal = ["0"] if kind == "concat" else ["0", "2", "4"]
    assert [(name, change.kind) for name, _, change in head.by_name()] == [(name, kind) for name in personal]


@pytest.mark.parametrize("name", BACKBONES)
def test_the_layers_of_a_head_are_computed_for_all_devices_at_once(name: str) -> None:
    head = make(name, "full").backbone.head
    assert all(not isinstance(change.site, OwnForwardSite) for _, _, change in head.by_name())


@pytest.mark.parametrize(
    ("name", "head", "size"),
    [
        ("sasrec", "low-rank", 2 * (9 + 8)),
        ("sasrec", "scale", 2 * 16),
        ("sasrec", "prefix", 2 * 3 * 8),
        ("sasrec", "concat", 3),
        ("din", "low-rank", 3 * 9 + 32 + 16 + 1),
        ("din", "scale", 2 * (32 + 16 + 1)),
        ("din", "prefix", 3 * (32 + 16 + 1)),
        ("din", "concat", 3),
        ("sasrec", "window-prefix", 3 * 2 * 8),
        ("gru4rec", "window-prefix", 8),
        ("din", "window-prefix", 3 * 8),
    ],
)
def test_sizes_of_theta_by_hand(name: str, head: str, size: int) -> None:
    assert make(name, head).backbone.layout.size == size


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
class TestHead:
    def test_theta_zero_is_the_global_model_bit_for_bit(self, name: str, head: str) -> None:
        model, window, candidates = make(name, head), torch.tensor([[3, 9, 0, 0]]), torch.arange(1, V)[None]
        zero = Theta(torch.zeros(1, model.backbone.layout.size))
        assert torch.equal(model.score(window, candidates, zero), model.score(window, candidates))

    def test_every_parameter_learns_and_theta_matters(self, name: str, head: str) -> None:
        model = make(name, head)
        window = torch.tensor([[3, 9, 4, 1], [2, 5, 0, 0]])
        candidates, history = torch.randint(1, V, (2, 6)), torch.tensor([[3, 9, 4], [2, 5, 0]])
        scores = model(window, candidates, history_BL=history)
        assert not torch.allclose(scores, model(window, candidates))
        scores.square().sum().backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            # A softmax is blind to what all keys have in common: only rounding gives that a gradient.
            assert parameter.grad.abs().sum() > 0 or key.endswith("key.bias"), key

    @pytest.mark.parametrize("share", [False, True])
    def test_a_frozen_generator_trains_nothing_but_the_device_model(self, name: str, head: str, share: bool) -> None:
        model = make(name, head, frozen=True, share=share)
        assert model.backbone.item_embedding.weight.requires_grad
        for key, parameter in model.named_parameters():
            assert parameter.requires_grad == key.startswith("backbone."), key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.backbone.rank": 0}, "model.backbone.rank is 0"),
        ({"model.backbone.head": "scale", "model.backbone.residual": False}, "no replacing form"),
        ({"model.backbone.head": "low-rank", "model.method": "base"}, "the method base has no use"),
        ({"model.generator.decoder_rank": 65}, "decoder_rank is 65"),
        ({"model.generator.candidates": 3}, "the encoder gives 4 views"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfigError, match=message):
        check_config(with_settings(TrainConfig(), changes))
