"""A prefix of the window: what it adds, by hand; and that devices compute what was trained on whole sequences."""

import math

import pytest
import torch
from torch import Tensor

from duetgen.backbones import BACKBONES, BackboneConfig
from duetgen.backbones.prefix import AttentionPrefix, KeyPrefix, StatePrefix
from duetgen.backbones.sasrec import BLOCK
from duetgen.core import Theta
from duetgen.core.layout import LayoutMismatchError
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender

V, L = 30, 4
CASES = [(name, layers) for name in BACKBONES for layers in (1, 2) if not (name == "din" and layers == 2)]


def make(name: str, layers: int = 1) -> Recommender:
    torch.manual_seed(0)
    backbone = BackboneConfig(width=8, window=L, layers=layers, heads=2, head="window-prefix", rank=3)
    history = HistoryConfig(length=12, width=8, embedding_width=6)
    return Recommender(V, ModelConfig(name=name, backbone=backbone, history=history)).eval()


class TestAttentionPrefix:
    def test_a_share_of_the_softmax_by_hand(self) -> None:
        prefix = AttentionPrefix(events=1, heads=1, width=1)
        torch.nn.init.ones_(prefix.keys)
        # Two events of the window with logits of 0; keys 1 - 1 = 0 and 1 + (ln 2 - 1) = ln 2, each for a query of 1.
        theta = torch.tensor([[-1.0, 6.0], [math.log(2) - 1, 6.0]])
        found = prefix(theta, torch.ones(2, 1), torch.zeros(2, 2))
        torch.testing.assert_close(found, torch.tensor([[6 * 1 / 3], [6 * 2 / 4]]))

    def test_each_head_has_its_part_of_keys_and_values(self) -> None:
        prefix = AttentionPrefix(events=1, heads=2, width=2)
        torch.nn.init.zeros_(prefix.keys)
        theta = torch.tensor([0.0, math.log(3), 8.0, 12.0])
        # One event of the window with a logit of 0 in both heads; the query's second half alone meets a key.
        found = prefix(theta, torch.ones(5, 2), torch.zeros(5, 2))
        torch.testing.assert_close(found, torch.tensor([[8 * 1 / 2, 12 * 3 / 4]]).expand(5, -1))

    def test_an_event_that_is_not_there_takes_no_share(self) -> None:
        prefix = AttentionPrefix(events=1, heads=1, width=1)
        torch.nn.init.zeros_(prefix.keys)
        logits = torch.tensor([[0.0, torch.finfo(torch.float32).min]])
        torch.testing.assert_close(prefix(torch.tensor([0.0, 1.0]), torch.ones(1, 1), logits), torch.tensor([[1 / 2]]))


def test_a_state_goes_to_the_rows_of_its_device_layer_by_layer() -> None:
    prefix = StatePrefix(layers=2, width=1)
    theta = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert prefix(theta, torch.zeros(2, 3, 5)).squeeze(-1).tolist() == [[1, 1, 1, 3, 3, 3], [2, 2, 2, 4, 4, 4]]
    assert prefix(theta[0], torch.zeros(2, 5)).squeeze(-1).tolist() == [[1, 1], [2, 2]]


def test_keys_are_weighed_for_each_candidate_by_hand() -> None:
    prefix = KeyPrefix(events=2, width=1)

    def unit(key_NMD: Tensor, candidate_NCD: Tensor) -> Tensor:
        return candidate_NCD @ key_NMD.transpose(1, 2)

    found = prefix(torch.tensor([[2.0, 1.0], [0.0, 0.0]]), torch.tensor([[[1.0], [3.0]]] * 2), unit)
    # Weights are candidate times key, and what they add is weight times key.
    assert found.tolist() == [[[2 * 2 + 1 * 1], [6 * 2 + 3 * 1]], [[0], [0]]]


@pytest.mark.parametrize(("name", "layers"), CASES)
class TestWindowPrefix:
    @pytest.mark.parametrize("count", [L - 2, 11, 2 * BLOCK + 3])
    def test_whole_sequences_are_what_devices_compute_window_by_window(
        self, name: str, layers: int, count: int
    ) -> None:
        model = make(name, layers)
        events = torch.randint(1, V, (2, count))
        theta = torch.randn(2, model.backbone.layout.size)
        together = model.backbone.score_shared(model.backbone.contexts(events), slice(None), theta)
        windows = torch.zeros(2, count, L, dtype=torch.long)
        for t in range(count):
            seen = events[:, max(0, t + 1 - L) : t + 1]
            windows[:, t, : seen.shape[1]] = seen
        for device in range(2):
            alone = model.score_catalogue(windows[device], Theta(theta[device].expand(count, -1)))
            torch.testing.assert_close(together[device, :, 1:], alone[:, 1:], atol=1e-5, rtol=1e-5)

    def test_it_changes_what_is_read_and_no_layer_of_the_head(self, name: str, layers: int) -> None:
        model = make(name, layers)
        window, candidates = torch.tensor([[3, 9, 4, 1]]), torch.arange(1, V)[None]
        theta = Theta(torch.randn(1, model.backbone.layout.size))
        assert not torch.allclose(model.score(window, candidates, theta), model.score(window, candidates))
        assert {entry.layer for entry in model.backbone.layout.entries} == {"window"}

    def test_another_size_of_theta_is_refused(self, name: str, layers: int) -> None:
        model = make(name, layers)
        with pytest.raises(LayoutMismatchError, match="theta holds 5 values"):
            model.score(torch.tensor([[3, 9, 4, 1]]), torch.arange(1, V)[None], Theta(torch.randn(1, 5)))


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_before_an_empty_window_it_adds_nothing(name: str) -> None:
    model = make(name)
    window, candidates = torch.zeros(1, L, dtype=torch.long), torch.arange(1, V)[None]
    theta = Theta(torch.randn(1, model.backbone.layout.size))
    assert torch.equal(model.score(window, candidates, theta), model.score(window, candidates))
