"""Items that a device had met, left out of every loss, against plain losses over all that is left."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import MakeDataset
from torch.nn import functional

from duetgen.training.batches import SequenceBatches
from duetgen.training.met import MetItems
from duetgen.training.objectives import binary_cross_entropy
from duetgen.training.softmax import catalogue_cross_entropy

EVENTS = torch.tensor([[2, 3, 2, 5, 0], [4, 4, 6, 7, 3]])
MET = MetItems(EVENTS, row_N=torch.tensor([0, 0, 1, 1]), count_N=torch.tensor([1, 4, 2, 5]))
SETS = ({2}, {2, 3, 5}, {4}, {3, 4, 6, 7})
"""What was met before each of the four positions."""


def test_items_are_those_before_the_target() -> None:
    assert tuple(set(row.tolist()) for row in MET.items(slice(0, 4))) == SETS
    assert tuple(set(row.tolist()) for row in MET.items(slice(1, 3))) == SETS[1:3]


def test_among_shared_items_however_often_they_are_drawn() -> None:
    items = [7, 2, 9, 2, 4, 3]
    found = MET.among(torch.tensor(items))
    assert found.tolist() == [[item in met for item in items] for met in SETS]


def test_among_items_of_each_position() -> None:
    items = [[2, 3, 2], [5, 9, 2], [4, 6, 8], [8, 9, 8]]
    found = MET.among(torch.tensor(items))
    assert found.tolist() == [[item in met for item in row] for row, met in zip(items, SETS)]


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_the_softmax_is_over_what_is_left_and_the_target(scale: float) -> None:
    torch.manual_seed(0)
    query = (scale * torch.randn(4, 3)).requires_grad_()
    items, target = torch.randn(10, 3, requires_grad=True), torch.tensor([8, 3, 9, 6])
    left_out = torch.zeros(4, 10, dtype=torch.bool)
    for row, met in enumerate(SETS):
        left_out[row, list(met)] = True
    left_out[torch.arange(4), target] = False
    plain = functional.cross_entropy((query @ items.T).masked_fill(left_out, -torch.inf), target)
    found = catalogue_cross_entropy(query, items, target, MET.items)
    torch.testing.assert_close(found, plain)
    ours, theirs = (torch.autograd.grad(loss, [query, items]) for loss in (found, plain))
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other)


def test_binary_cross_entropy_counts_what_it_is_told() -> None:
    scores, label = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[True, False, False]])
    expected = (functional.softplus(torch.tensor(-1.0)) + functional.softplus(torch.tensor(-2.0))) / 2
    found = binary_cross_entropy(scores, label, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(found, expected)


def test_batches_tell_all_that_was_met_before_a_chunk_too(make_dataset: MakeDataset) -> None:
    # Training parts of 7 and 3 events, in chunks of 4 positions of which 2 are context.
    dataset = make_dataset([[2, 3, 4, 5, 6, 7, 8, 9, 9], [12, 11, 10, 2, 2]])
    batches = SequenceBatches(
        dataset, size=4, context=2, batch_positions=1000, unknown_share=0.5, seed=0, with_met=True
    )
    (batch,) = batches.epoch(0)
    found: dict[int, set[int]] = {}
    assert batch.met_BM is not None
    assert batch.before_B is not None
    for row, step in batch.trained_BT.nonzero().tolist():
        count = int(batch.before_B[row]) + 1 + step
        found[int(batch.target_BT[row, step])] = set(batch.met_BM[row, :count].tolist())
    first = {target: set(range(2, target)) for target in range(3, 9)}
    assert found == first | {11: {12}, 10: {12, 11}}
