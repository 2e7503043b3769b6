import pytest
import torch
from torch.nn import functional

from duetgen.training import softmax
from duetgen.training.softmax import catalogue_cross_entropy


@pytest.mark.parametrize("block", [1, 7, 2**20])
@pytest.mark.parametrize("rows", [1, 13])
def test_same_loss_and_gradients_as_the_plain_way(rows: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "BLOCK_ELEMENTS", block * 11)
    torch.manual_seed(0)
    query, items = torch.randn(rows, 5, requires_grad=True), torch.randn(11, 5, requires_grad=True)
    target = torch.randint(11, (rows,))
    plain = functional.cross_entropy(query @ items.T, target)
    expected = torch.autograd.grad(3 * plain, [query, items])
    loss = catalogue_cross_entropy(query, items, target)
    torch.testing.assert_close(loss, plain)
    for ours, theirs in zip(torch.autograd.grad(3 * loss, [query, items]), expected):
        torch.testing.assert_close(ours, theirs)


def test_items_that_are_not_trained_get_no_gradient_and_queries_the_same() -> None:
    torch.manual_seed(0)
    query, items, target = torch.randn(3, 5, requires_grad=True), torch.randn(11, 5), torch.tensor([0, 4, 10])
    loss = catalogue_cross_entropy(query, items, target)
    (ours,) = torch.autograd.grad(loss, [query])
    (theirs,) = torch.autograd.grad(functional.cross_entropy(query @ items.T, target), [query])
    torch.testing.assert_close(ours, theirs)
    assert items.grad is None


def test_large_scores_do_not_overflow() -> None:
    query, items = torch.full((2, 1), 1e4), torch.tensor([[1.0], [2.0]])
    assert float(catalogue_cross_entropy(query, items, torch.tensor([1, 1]))) == 0.0
    assert float(catalogue_cross_entropy(query, items, torch.tensor([0, 0]))) == 1e4
