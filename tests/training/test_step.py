"""The training step against the plain way: one prefix, one target, one theta at a time."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from duetgen.backbones import DIN, BackboneConfig
from duetgen.backbones.heads import HeadKind
from duetgen.core import GeneratorConfig
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training.batches import Batch
from duetgen.training.config import ObjectiveConfig
from duetgen.training.step import Blocks, TrainingStep, anchors, to_blocks

V = 20


def make_step(name: str = "sasrec", method: str = "duet", head: HeadKind = "auto", **objective: object) -> TrainingStep:
    torch.manual_seed(0)
    config = ModelConfig(
        name=name,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        backbone=BackboneConfig(width=8, window=4, dropout=0.0, head=head, rank=3),
        history=HistoryConfig(length=12, width=8, embedding_width=6, dropout=0.0, event_dropout=0.0),
        generator=GeneratorConfig(width=8, decoder_scale=0.2),
    )
    settings = {"kind": "softmax", "fallback_weight": 0.0, "fallback_share": 1.0, "staleness": 0} | objective
    return TrainingStep(Recommender(V, config), ObjectiveConfig(**settings), torch.ones(V))  # type: ignore[arg-type]


def make_batch() -> Batch:
    torch.manual_seed(3)
    events, target = torch.randint(2, V, (2, 9)), torch.randint(2, V, (2, 9))
    trained = torch.ones(2, 9, dtype=torch.bool)
    events[1, 6:], target[1, 6:], trained[1, 6:] = 0, 0, False
    trained[0, :3] = False
    return Batch(events, target, trained)


def window(events: torch.Tensor, t: int) -> torch.Tensor:
    recent = events[max(0, t - 3) : t + 1]
    return torch.cat([recent, torch.zeros(4 - len(recent), dtype=torch.long)])[None]


def plain_losses(
    step: TrainingStep, batch: Batch, age_of: dict[int, int] | None, fallback: bool, first_item: int = 1
) -> torch.Tensor:
    """The mean loss over (prefix, target) rows, each run as a device would; a softmax over all items from the first."""
    losses = []
    for row in range(2):
        for t in batch.trained_BT[row].nonzero().flatten().tolist():
            end = t - (age_of[t] if age_of else 0)
            theta = None if fallback else step.model.generate(batch.events_BT[row : row + 1, : end + 1])
            scores = step.model.score_catalogue(window(batch.events_BT[row], t), theta)
            losses.append(functional.cross_entropy(scores[:, first_item:], batch.target_BT[row, t][None] - first_item))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("head", ["full", "window-prefix"])
@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "din"])
def test_all_positions_at_once_equal_one_row_at_a_time(name: str, head: HeadKind) -> None:
    step, batch = make_step(name, head=head, fallback_weight=0.5), make_batch()
    total, personal, fallback = step(batch, seed=0)
    torch.testing.assert_close(personal, plain_losses(step, batch, None, fallback=False))
    assert fallback is not None
    torch.testing.assert_close(fallback, plain_losses(step, batch, None, fallback=True))
    torch.testing.assert_close(total, personal + 0.5 * fallback)


@pytest.mark.parametrize("name", ["sasrec", "din"])
def test_the_base_model_trains_with_theta_zero(name: str) -> None:
    step, batch = make_step(name, method="base"), make_batch()
    total, personal, fallback = step(batch, seed=0)
    assert fallback is None
    assert torch.equal(total, personal)
    torch.testing.assert_close(total, plain_losses(step, batch, None, fallback=True))


@pytest.mark.parametrize("kind", ["softmax", "sampled"])
def test_a_binary_cross_entropy_is_added_by_its_weight(kind: str) -> None:
    batch = make_batch()
    plain, both = (make_step(method="base", kind=kind, negatives=5, bce_weight=weight) for weight in (0.0, 2.0))
    added = both(batch, seed=1)[0] - plain(batch, seed=1)[0]
    # The same draws: where blocks begin, the items that all share, four for each position.
    random = torch.Generator().manual_seed(1)
    torch.randint(1, (), generator=random)
    both.items(random, torch.device("cpu"))
    drawn = both.uniform.draw((int(batch.trained_BT.sum()), 1, 4), random)
    losses = []
    for (row, t), items in zip(batch.trained_BT.nonzero().tolist(), drawn[:, 0].tolist()):
        target = int(batch.target_BT[row, t])
        scores = both.model.score_catalogue(window(batch.events_BT[row], t))[0]
        losses += [functional.softplus(-scores[target])]
        losses += [functional.softplus(-scores[i] if i == target else scores[i]) for i in items]
    torch.testing.assert_close(added, 2.0 * torch.stack(losses).mean())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("name", "head"), [("sasrec", "full"), ("sasrec", "window-prefix"), ("gru4rec", "window-prefix")]
)
def test_theta_is_held_for_a_block_as_on_a_device_that_asks_every_few_events(
    seed: int, name: str, head: HeadKind
) -> None:
    step, batch = make_step(name, head=head, staleness=3), make_batch()
    offset = int(torch.randint(4, (), generator=torch.Generator().manual_seed(seed)))
    ages = {t: (t - offset) % 4 if t >= offset else t for t in range(9)}
    _, personal, _ = step(batch, seed=seed)
    torch.testing.assert_close(personal, plain_losses(step, batch, ages, fallback=False))


def test_every_age_occurs() -> None:
    offsets = {int(torch.randint(4, (), generator=torch.Generator().manual_seed(seed))) for seed in range(40)}
    assert offsets == {0, 1, 2, 3}


@pytest.mark.parametrize(("offset", "expected"), [(0, [0, 3, 6]), (1, [0, 1, 4]), (2, [0, 2, 5])])
def test_anchors_by_hand(offset: int, expected: list[int]) -> None:
    assert anchors(7, offset, 3).tolist() == expected


@pytest.mark.parametrize("offset", range(3))
def test_blocks_hold_every_position_in_order(offset: int) -> None:
    x = torch.arange(1, 8)[None]
    blocks = to_blocks(x, offset, 3)
    assert [value for value in blocks.flatten().tolist() if value] == list(range(1, 8))
    starts = anchors(7, offset, 3)
    assert [next(v for v in block.tolist() if v) - 1 for block in blocks[0]] == starts.tolist()


def test_half_a_fallback_costs_half_and_is_the_same_in_expectation() -> None:
    step, batch = make_step(fallback_weight=1.0, fallback_share=0.5), make_batch()
    whole = plain_losses(step, batch, None, fallback=True)
    drawn = torch.stack([step(batch, seed=seed)[2] for seed in range(300)])
    assert drawn.std() > 0
    torch.testing.assert_close(drawn.mean(), whole, rtol=0.03, atol=0.0)


@pytest.mark.parametrize("name", ["sasrec", "din"])
@pytest.mark.parametrize("kind", ["sampled", "bce"])
def test_drawn_negatives_follow_from_the_seed(name: str, kind: str) -> None:
    step, batch = make_step(name, kind=kind, negatives=5, fallback_weight=0.5), make_batch()
    one, again, other = (step(batch, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.isfinite(one)


@pytest.mark.parametrize("seed", range(3))
def test_many_draws_for_each_position_approach_the_softmax_over_all_known_items(seed: int) -> None:
    step, batch = make_step("din", kind="sampled", negatives=20_000, staleness=3, fallback_weight=1.0), make_batch()
    offset = int(torch.randint(4, (), generator=torch.Generator().manual_seed(seed)))
    ages = {t: (t - offset) % 4 if t >= offset else t for t in range(9)}
    _, personal, fallback = step(batch, seed=seed)
    torch.testing.assert_close(personal, plain_losses(step, batch, ages, False, first_item=2), rtol=0.003, atol=0.0)
    torch.testing.assert_close(fallback, plain_losses(step, batch, None, True, first_item=2), rtol=0.003, atol=0.0)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_pairwise_backbone_reads_its_windows_once_for_both_losses(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step("din", kind="sampled", negatives=5, staleness=3, fallback_weight=1.0, fallback_share=share)
    backbone, batch, read = step.model.backbone, make_batch(), []
    assert isinstance(backbone, DIN)
    features = backbone.features
    monkeypatch.setattr(backbone, "features", lambda *inputs: read.append(inputs) or features(*inputs))
    total, _, _ = step(batch, seed=1)
    assert len(read) == 1
    total.backward()
    shared = {name: parameter.grad for name, parameter in step.named_parameters()}
    step.zero_grad()

    # The same draws, the windows read anew for each of the losses.
    random = torch.Generator().manual_seed(1)
    blocks = step.with_candidates(step.blocks(batch, random).packed(), random)
    assert blocks.candidates_KSC is not None
    for part in (blocks, blocks.drawn(share, random)):
        state = random.get_state()
        again = step.blocks(batch, torch.Generator().manual_seed(1)).packed()
        random.set_state(state)
        assert part.candidates_KSC is not None
        kept = [int((blocks.candidates_KSC == one).flatten(1).all(1).nonzero()[0]) for one in part.candidates_KSC]
        read_anew = features(again.context_KSx[kept], backbone.item_embedding(part.candidates_KSC))
        torch.testing.assert_close(read_anew, part.context_KSx)
        of = replace(part, context_KSx=read_anew)
        step.loss(of, torch.empty(0, dtype=torch.long), random).backward(retain_graph=True)
    for name, parameter in step.named_parameters():
        torch.testing.assert_close(parameter.grad, shared[name], msg=name)


def test_packing_keeps_each_trained_position_with_its_theta_and_drops_the_rest() -> None:
    # Block 0 trains its positions 1 and 3, block 1 its position 2.
    number_KS = torch.arange(1, 9).reshape(2, 4)
    trained_KS = torch.tensor([[False, True, False, True], [False, False, True, False]])
    packed = Blocks(number_KS[..., None] * 1.0, number_KS, trained_KS, torch.tensor([[0.5], [0.7]])).packed()
    assert packed.target_KS.shape == (2, 2)
    assert packed.target_KS[packed.trained_KS].tolist() == [2, 4, 7]
    assert torch.equal(packed.context_KSx[..., 0], packed.target_KS.float())
    assert packed.theta_KP is not None
    assert packed.theta_KP.flatten().tolist() == pytest.approx([0.5, 0.7])


def test_a_batch_without_a_trained_position_has_no_loss_and_a_gradient() -> None:
    step, batch = make_step(), make_batch()
    total, _, _ = step(Batch(batch.events_BT, batch.target_BT, torch.zeros_like(batch.trained_BT)), seed=0)
    assert float(total.detach()) == 0.0
    total.backward()
