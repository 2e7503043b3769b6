"""One training step: a batch in, the joint loss out. The static part and the encoder run once for all positions.

Staleness-aware training holds theta for a block of S + 1 events, as a device does that asks after every S + 1: the
batch's positions are cut into blocks at a random offset, theta is generated at the first position of each block, and
its age is uniform in 0..S. It also makes theta S + 1 times cheaper than one a position.

Shapes: B sequences, T positions, K blocks with a trained position, S block length (staleness + 1), N trained positions,
M shared items, C candidates of a position, V items, P values in theta, R rows, L window; `x` dimensions of a context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.backbones import PairwiseBackbone, SequenceBackbone, windows
from duetgen.core import Encoder, SequenceEncoder, joint_loss
from duetgen.recommender import Recommender
from duetgen.training.batches import Batch
from duetgen.training.config import ObjectiveConfig
from duetgen.training.distillation import Teacher
from duetgen.training.met import MetItems
from duetgen.training.objectives import Advice, NegativeSampler, binary_cross_entropy, corrected, sampled_softmax
from duetgen.training.rows import RowBatch
from duetgen.training.softmax import catalogue_cross_entropy
from duetgen.training.states import States

BINARY_NEGATIVES: Final = 4
"""Drawn for each position where binary cross-entropy is added to a softmax: as many as with it alone."""


@dataclass(frozen=True)
class Blocks:
    """Positions that share one theta.

    Attributes:
        context_KSx: the static part's output; of each candidate where the backbone is pairwise and they are drawn.
        target_KS: the items to predict.
        trained_KS: the positions that count.
        theta_KP: parameters of each block; None for a base model.
        candidates_KSC: the target and what was drawn for each position; None where items are shared.
        met_BM: see `Batch`; None where the loss does not ask what was met.
        place_KS2: of each position, its row in `met_BM` and how many events of that lie before its target.
        index_KS: where the targets lie among the dataset's events; None where no cloud model teaches.
    """

    context_KSx: Tensor
    target_KS: Tensor
    trained_KS: Tensor
    theta_KP: Tensor | None
    candidates_KSC: Tensor | None = None
    met_BM: Tensor | None = None
    place_KS2: Tensor | None = None
    index_KS: Tensor | None = None

    def at(self, index: Any) -> Blocks:
        """Some blocks, or some positions of them."""

        def part(x_KSx: Tensor | None) -> Tensor | None:
            return None if x_KSx is None else x_KSx[index]

        return replace(
            self,
            context_KSx=self.context_KSx[index],
            target_KS=self.target_KS[index],
            trained_KS=self.trained_KS[index],
            candidates_KSC=part(self.candidates_KSC),
            place_KS2=part(self.place_KS2),
            index_KS=part(self.index_KS),
        )

    @cached_property
    def places(self) -> tuple[Tensor, ...]:
        """Where the trained positions are: [N] and [N]. Looked up once: on a GPU each look waits for it."""
        return self.trained_KS.nonzero(as_tuple=True)

    @property
    def met(self) -> MetItems | None:
        """What was met before the trained positions."""
        if self.met_BM is None or self.place_KS2 is None:
            return None
        row_N, count_N = self.place_KS2[self.places].unbind(-1)
        return MetItems(self.met_BM, row_N, count_N)

    def drawn(self, share: float, random: torch.Generator) -> Blocks:
        """About `share` of the blocks, at least one, without theta."""
        if share >= 1:
            return replace(self, theta_KP=None)
        count = max(1, round(share * len(self.target_KS)))
        kept = torch.randperm(len(self.target_KS), generator=random)[:count].to(self.target_KS.device)
        return replace(self.at(kept), theta_KP=None)

    def packed(self) -> Blocks:
        """The same with each block's trained positions first and no more positions than the fullest block has."""
        most = int(self.trained_KS.sum(1).max())
        order_KS = self.trained_KS.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
        row_K1 = torch.arange(len(order_KS), device=order_KS.device)[:, None]
        return self.at((row_K1, order_KS))


def to_blocks(x_BTx: Tensor, offset: int, length: int) -> Tensor:
    """Cut [B, T, x] into blocks with a boundary at `offset`, padded with zeros at both ends: [B, n, length, x]."""
    front = -offset % length
    count = -(-(front + x_BTx.shape[1]) // length)
    padding = [0, 0] * (x_BTx.dim() - 2) + [front, count * length - front - x_BTx.shape[1]]
    padded_BTx = functional.pad(x_BTx, padding)
    return padded_BTx.reshape(x_BTx.shape[0], count, length, *x_BTx.shape[2:])


def anchors(positions: int, offset: int, length: int) -> Tensor:
    """The position at which each block's theta is generated: its first one, or 0 for a block cut by the beginning."""
    front = -offset % length
    count = -(-(front + positions) // length)
    return (torch.arange(count) * length - front).clamp(min=0)


def pairs_loss(scores_NC: Tensor, candidates_NC: Tensor, met: MetItems | None) -> Tensor:
    """Binary cross-entropy of candidates of which the first is the target; drawn ones that were met do not count.

    The target may be drawn again: it stays what it is, whether it was met or not.
    """
    counted_NC = None if met is None else functional.pad(~met.among(candidates_NC[:, 1:]), (1, 0), value=True)
    return binary_cross_entropy(scores_NC, candidates_NC == candidates_NC[:, :1], counted_NC)


class TrainingStep(nn.Module):
    """The loss of a batch; `forward` gives total, L_ppg (or the base model's loss) and L_umn.

    Args:
        model: the recommender.
        config: see `ObjectiveConfig`; filled in (`defaults.fill_in`).
        counts_V: how often each item occurs in the training part: int64 [V].
        teacher: what is distilled; None where nothing is.
        states: what the generator reads in place of histories; None where it reads these.
    """

    def __init__(
        self,
        model: Recommender,
        config: ObjectiveConfig,
        counts_V: Tensor,
        teacher: Teacher | None = None,
        states: States | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.teacher, self.states = model, config, teacher, states
        self.sampler = NegativeSampler(counts_V, power=0.5 if config.kind == "sampled" else 0.0)
        self.uniform = NegativeSampler(counts_V, power=0.0)

    def forward(
        self, batch: Batch | RowBatch, seed: int, own_seed: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The joint loss of a batch, or of a process's part of one.

        What is drawn for the whole batch, where blocks begin and the shared items, follows from `seed`; what is drawn
        for each position from `own_seed`, where a process has one.
        """
        random = torch.Generator().manual_seed(seed)
        own = random if own_seed is None else torch.Generator().manual_seed(own_seed)
        if isinstance(batch, RowBatch):
            return self.rows(batch)
        blocks = self.blocks(batch, random)
        if self.own_draws and len(blocks.target_KS):
            blocks = self.with_candidates(blocks.packed(), own)
        items_M = self.items(random, blocks.target_KS.device)

        def loss_of(theta_KP: Tensor | None) -> Tensor:
            part = blocks if theta_KP is not None else blocks.drawn(self.config.fallback_share, own)
            return self.loss(part, items_M, own)

        if blocks.theta_KP is None:
            loss = self.loss(blocks, items_M, own)
            return loss, loss, None
        return joint_loss(loss_of, blocks.theta_KP, self.config.fallback_weight)

    def blocks(self, batch: Batch, random: torch.Generator) -> Blocks:
        """Run the static part and the encoder over whole sequences and cut the result into blocks."""
        context_BTx = self.model.backbone.contexts(batch.events_BT)
        generator = self.model.generator
        length = self.config.staleness + 1 if generator is not None else 1
        offset = int(torch.randint(length, (), generator=random))
        trained_BnS = to_blocks(batch.trained_BT, offset, length)
        kept = trained_BnS.any(-1).nonzero(as_tuple=True)
        context_KSx = to_blocks(context_BTx, offset, length)[kept]
        target_KS = to_blocks(batch.target_BT, offset, length)[kept]
        theta_KP = None
        if generator is not None:
            at_n = anchors(batch.events_BT.shape[1], offset, length).to(batch.events_BT.device)
            theta_KP = generator.decode(self.vectors(generator.encoder, batch, at_n)[kept])
        blocks = Blocks(context_KSx, target_KS, trained_BnS[kept], theta_KP)
        if self.teacher is not None and batch.index_BT is not None:
            blocks = replace(blocks, index_KS=to_blocks(batch.index_BT, offset, length)[kept])
        if batch.met_BM is None:
            return blocks
        return replace(blocks, met_BM=batch.met_BM, place_KS2=to_blocks(batch.place_BT2, offset, length)[kept])

    def vectors(self, encoder: Encoder, batch: Batch, at_n: Tensor) -> Tensor:
        """The encoder's vectors at some positions, none from more than the last L_g events: [B, n, D].

        A chunk is no longer than L_g, so one causal pass over it does; where L_g is shorter than what the device's
        windows need of a chunk, as in the paper's set-up, the histories run as rows.
        """
        assert isinstance(encoder, SequenceEncoder)
        if self.states is not None and batch.index_BT is not None:
            return encoder.states(self.states.before(batch.index_BT[:, at_n]))
        events_BT, length = batch.events_BT, self.model.generator_history
        if events_BT.shape[1] <= length:
            return encoder.states(events_BT)[:, at_n]
        rows_BnL = windows(events_BT, length)[:, at_n]
        vector_ND: Tensor = encoder(rows_BnL.flatten(0, 1))
        return vector_ND.reshape(*rows_BnL.shape[:2], -1)

    @property
    def own_draws(self) -> bool:
        """Whether each position draws its own items: sharing them saves a pairwise backbone nothing."""
        return self.config.kind == "bce" or (self.config.kind == "sampled" and self.model.backbone.pairwise)

    def items(self, random: torch.Generator, device: torch.device) -> Tensor:
        """The items that the whole batch is scored against: [M]; empty where each position has its own."""
        if self.config.kind == "softmax":
            return torch.arange(1, self.model.vocabulary, device=device)
        return self.sampler.draw((0 if self.own_draws else self.config.negatives,), random).to(device)

    def loss(self, blocks: Blocks, items_M: Tensor, random: torch.Generator) -> Tensor:
        """The mean loss of the trained positions of some blocks."""
        if not len(blocks.places[0]):
            return (blocks.context_KSx if blocks.theta_KP is None else blocks.theta_KP).sum() * 0.0
        if blocks.candidates_KSC is not None:
            return self.loss_of_candidates(blocks, blocks.candidates_KSC)
        loss = self.loss_of_shared(blocks, items_M)
        if self.config.bce_weight == 0:
            return loss
        return loss + self.config.bce_weight * self.loss_of_pairs(blocks, random)

    def loss_of_shared(self, blocks: Blocks, items_M: Tensor) -> Tensor:
        """The mean softmax loss over items that all positions share, and what is distilled."""
        backbone, met, target_N = self.model.backbone, blocks.met, blocks.target_KS[blocks.places]
        advice = None
        if self.teacher is not None and blocks.index_KS is not None:
            advice = self.teacher.at(blocks.index_KS[blocks.places])
        if self.config.kind == "sampled":
            assert isinstance(backbone, SequenceBackbone)
            return self.loss_of_drawn(backbone, blocks, items_M, advice)
        advice = None if advice is None else advice.counted_from(1)
        if isinstance(backbone, SequenceBackbone):
            query_ND = backbone.query(blocks.context_KSx, blocks.theta_KP)[blocks.places]
            left_out = None if met is None else lambda rows: (met.items(rows) - 1).clamp(min=0)
            items_MD = backbone.item_embedding.weight[1:]
            return catalogue_cross_entropy(query_ND, items_MD, target_N - 1, left_out, advice)
        scores_NM = backbone.score_trained(blocks.context_KSx, blocks.places, items_M, blocks.theta_KP)
        if met is not None:
            scores_NM = scores_NM.masked_fill(met.among(items_M) & (items_M != target_N[:, None]), -torch.inf)
        loss = functional.cross_entropy(scores_NM, target_N - 1)
        if advice is None:
            return loss
        share_NM = torch.softmax(scores_NM / advice.temperature, 1)
        others_N = share_NM.scatter(1, advice.items_NK, 0).sum(1)
        return loss + advice.loss(share_NM.gather(1, advice.items_NK), others_N).mean()

    def loss_of_drawn(
        self, backbone: SequenceBackbone, blocks: Blocks, items_M: Tensor, advice: Advice | None
    ) -> Tensor:
        """The mean loss over items that are drawn for all positions; advised ones are there with certainty."""
        met, target_N = blocks.met, blocks.target_KS[blocks.places]
        query_ND = backbone.query(blocks.context_KSx, blocks.theta_KP)[blocks.places]
        drawn_NM = functional.linear(query_ND, backbone.item_embedding(items_M))
        own_N = (query_ND * backbone.item_embedding(target_N)).sum(1)
        log_share_V = self.sampler.log_share_V.to(target_N.device)
        met_NM = None if met is None else met.among(items_M)
        loss = sampled_softmax(own_N, drawn_NM, target_N, items_M, log_share_V, met_NM)
        if advice is None:
            return loss
        none_NK = advice.share_NK == 0
        items_NK = advice.items_NK.masked_fill(none_NK, 0)
        best_NK = (backbone.item_embedding(items_NK) @ query_ND.unsqueeze(-1)).squeeze(-1) / advice.temperature
        best_NK = best_NK.masked_fill(none_NK, -torch.inf)
        # What is advised is there with certainty, so that it does not count where it is drawn.
        row_N = torch.arange(len(items_NK), device=items_NK.device)
        advised_NM = MetItems(items_NK, row_N, torch.full_like(row_N, items_NK.shape[1])).among(items_M)
        left_out_NM = advised_NM if met_NM is None else advised_NM | met_NM
        others_NM = corrected(drawn_NM / advice.temperature, target_N, items_M, log_share_V, left_out_NM)
        advised_N = (items_NK == target_N[:, None]).any(1)
        own_N = (own_N / advice.temperature).masked_fill(advised_N, -torch.inf)
        share_NC = torch.softmax(torch.cat([best_NK, own_N[:, None], others_NM], 1), 1)
        count = best_NK.shape[1]
        return loss + advice.loss(share_NC[:, :count], share_NC[:, count:].sum(1)).mean()

    def loss_of_pairs(self, blocks: Blocks, random: torch.Generator) -> Tensor:
        """The mean binary cross-entropy of the targets and of items drawn uniformly for each position."""
        shape = (*blocks.target_KS.shape, BINARY_NEGATIVES)
        drawn_KSC = self.uniform.draw(shape, random).to(blocks.target_KS.device)
        candidates_KSC = torch.cat([blocks.target_KS[..., None], drawn_KSC], dim=-1)
        scores_KSC = self.model.backbone.score(blocks.context_KSx, candidates_KSC, blocks.theta_KP)
        return pairs_loss(scores_KSC[blocks.places], candidates_KSC[blocks.places], blocks.met)

    def with_candidates(self, blocks: Blocks, random: torch.Generator) -> Blocks:
        """The same with items drawn for each position. Both losses score these, so a pairwise backbone reads its
        windows for them once.
        """
        target_KS, backbone = blocks.target_KS, self.model.backbone
        drawn_KSC = self.sampler.draw((*target_KS.shape, self.config.negatives), random).to(target_KS.device)
        candidates_KSC = torch.cat([target_KS[..., None], drawn_KSC], dim=-1)
        context_KSx = blocks.context_KSx
        if isinstance(backbone, PairwiseBackbone):
            context_KSx = backbone.features(context_KSx, backbone.item_embedding(candidates_KSC))
        return replace(blocks, context_KSx=context_KSx, candidates_KSC=candidates_KSC)

    def loss_of_candidates(self, blocks: Blocks, candidates_KSC: Tensor) -> Tensor:
        """The mean loss where each position has items of its own, the target first."""
        backbone, context_KSx = self.model.backbone, blocks.context_KSx
        if isinstance(backbone, PairwiseBackbone):
            scores_KSC = backbone.rate(context_KSx, blocks.theta_KP)
        else:
            scores_KSC = backbone.score(context_KSx, candidates_KSC, blocks.theta_KP)
        scores_NC, candidates_NC = scores_KSC[blocks.places], candidates_KSC[blocks.places]
        if self.config.kind == "bce":
            return pairs_loss(scores_NC, candidates_NC, blocks.met)
        target_N, drawn_NC = candidates_NC[:, 0], candidates_NC[:, 1:]
        met_NC = None if (met := blocks.met) is None else met.among(drawn_NC)
        log_share_V = self.sampler.log_share_V.to(target_N.device)
        return sampled_softmax(scores_NC[:, 0], scores_NC[:, 1:], target_N, drawn_NC, log_share_V, met_NC)

    def rows(self, batch: RowBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """The joint loss of rows (window, trigger, target, label): the published way of feeding."""
        context_Rx = self.model.backbone.context(batch.window_RL)

        def loss_of(theta_RP: Tensor | None) -> Tensor:
            scores_R1 = self.model.backbone.score(context_Rx, batch.target_R[:, None], theta_RP)
            return binary_cross_entropy(scores_R1.squeeze(1), batch.label_R)

        if self.model.generator is None:
            loss = loss_of(None)
            return loss, loss, None
        return joint_loss(loss_of, self.model.generator(batch.trigger_RL), self.config.fallback_weight)
