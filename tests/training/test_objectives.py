import math

import pytest
import torch
from torch.nn import functional

from duetgen.training.objectives import NegativeSampler, binary_cross_entropy, sampled_softmax


def test_sampled_softmax_by_hand() -> None:
    # One position, target item 2 with score 1; drawn items 3 and 4 with scores 0 and 2, each drawn with share 1/4.
    # Drawn scores lose log(2 / 4): loss = log(e^1 + 2 e^0 + 2 e^2) - 1.
    log_share = torch.full((6,), math.log(1 / 4))
    loss = sampled_softmax(
        torch.tensor([1.0]), torch.tensor([[0.0, 2.0]]), torch.tensor([2]), torch.tensor([3, 4]), log_share
    )
    assert float(loss) == pytest.approx(math.log(math.e + 2 + 2 * math.e**2) - 1)


def test_sampled_softmax_corrects_for_how_often_an_item_is_drawn() -> None:
    # The target is certain to be there, the other item has share 1/8 and one draw: e^1 against e^(0 - log 1/8) = 8.
    log_share = torch.tensor([0, 0, math.log(1 / 2), math.log(1 / 8)])
    loss = sampled_softmax(torch.tensor([1.0]), torch.tensor([[0.0]]), torch.tensor([2]), torch.tensor([3]), log_share)
    assert float(loss) == pytest.approx(math.log(math.e + 8) - 1)


def test_a_drawn_item_that_is_the_target_does_not_count() -> None:
    log_share = torch.zeros(5)
    with_hit = sampled_softmax(
        torch.tensor([1.0]), torch.tensor([[1.0, 0.5]]), torch.tensor([2]), torch.tensor([2, 3]), log_share
    )
    # Two draws still: the remaining one loses log 2.
    assert float(with_hit) == pytest.approx(math.log(math.e + math.e**0.5 / 2) - 1)


def test_sampled_softmax_approaches_the_full_one() -> None:
    torch.manual_seed(0)
    counts = torch.randint(1, 50, (40,))
    sampler = NegativeSampler(counts, power=0.5)
    scores = torch.randn(3, 40)
    target = torch.tensor([5, 9, 30])
    full = functional.cross_entropy(scores[:, 2:], target - 2)
    items = sampler.draw((200_000,), torch.Generator().manual_seed(1))
    few = sampled_softmax(scores.gather(1, target[:, None])[:, 0], scores[:, items], target, items, sampler.log_share_V)
    assert float(few) == pytest.approx(float(full), abs=0.02)


def test_padding_and_the_unknown_item_are_never_drawn() -> None:
    drawn = NegativeSampler(torch.tensor([99, 99, 1, 1, 0]), power=1.0).draw((5000,), torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {2, 3, 4}


@pytest.mark.parametrize(("power", "share"), [(0.0, 1 / 2), (0.5, 1 / 3), (1.0, 1 / 5)])
def test_draws_follow_the_power_of_the_count(power: float, share: float) -> None:
    sampler = NegativeSampler(torch.tensor([0, 0, 1, 4]), power=power)
    drawn = sampler.draw((40_000,), torch.Generator().manual_seed(0))
    assert float((drawn == 2).float().mean()) == pytest.approx(share, abs=0.01)
    assert float(sampler.log_share_V[2].exp()) == pytest.approx(share)


def test_binary_cross_entropy_by_hand() -> None:
    # -log σ(0) = log 2 for both; label 1 at score log 3: -log(3/4); label 0: -log(1/4).
    loss = binary_cross_entropy(torch.tensor([[0.0, math.log(3)]]), torch.tensor([[True, False]]))
    assert float(loss) == pytest.approx((math.log(2) + math.log(4)) / 2)
