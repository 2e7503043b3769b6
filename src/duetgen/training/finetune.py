"""Fine-tuning on the device, what DUET means to spare it: a copy of the model trained on the device's own events.

The form that the paper compares with (DUET, section 4): from the global model, some steps of gradient descent on one
device's labelled history. `FineTuned` does it for many devices in one pass, each with its own copy and none seeing
another's gradient; `finetune_alone` does the same for one device, the way a device would.

Shapes: B devices, L events of a history, T positions of it (L - 1), M drawn items shared by all rows, S draws of them,
C candidates, V items, P values of a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.adam import Adam
from duetgen.backbones import windows
from duetgen.data.store import UNKNOWN
from duetgen.recommender import Recommender
from duetgen.training.config import FineTuneConfig
from duetgen.training.copies import Copies, HeadCopies, WholeCopies, logits
from duetgen.training.drawn import Drawn, query_gradient
from duetgen.training.objectives import NegativeSampler

ROWS: Final = 4096
"""Positions trained at a time: what a step touches stays in the processor's cache."""
DRAWS: Final = 64
"""S, how many sets of items are drawn; further steps use them again."""
EPSILON: Final = 1e-6
"""Of Adam; above the noise of float32, so that gradients of zero do not become steps."""


class FineTuned(nn.Module):
    """A recommender whose `generate` fine-tunes (`evaluation.protocols.Recommender`): theta is what the device's own
    copy differs by from the global model, so that theta = 0 is the global model as everywhere else.

    Args:
        base: the trained global model.
        counts_V: how often each item occurs in the training part.
        config: see `FineTuneConfig`; filled in, steps and rate too.
        length: how many of the newest events are trained on; two at least, one to read and one to predict.
        seed: of the drawn items.
    """

    personal = True
    items_SM: Tensor
    correction_SM: Tensor

    def __init__(
        self, base: Recommender, counts_V: Tensor, config: FineTuneConfig, *, length: int = 100, seed: int = 0
    ) -> None:
        super().__init__()
        self.base, self.config, self.length = base, config, max(2, length)
        self.vocabulary = base.vocabulary
        self.copies: Copies = (HeadCopies if config.scope == "head" else WholeCopies)(base.backbone)
        sampler = NegativeSampler(counts_V, power=0.5 if base.normalised else 0.0)
        random = torch.Generator().manual_seed(seed)
        draws = [Drawn.of(sampler, config.negatives, random) for _ in range(DRAWS)]
        self.register_buffer("items_SM", torch.stack([draw.items_M for draw in draws]), persistent=False)
        self.register_buffer("correction_SM", torch.stack([draw.correction_M for draw in draws]), persistent=False)

    def drawn(self, step: int) -> Drawn:
        """The items of a step."""
        return Drawn(self.items_SM[step % DRAWS], self.correction_SM[step % DRAWS])

    @property
    def normalised(self) -> bool:
        """Whether a softmax over the catalogue makes probabilities of scores."""
        return self.base.normalised

    @property
    def window(self) -> int:
        """L_d."""
        return self.base.window

    @property
    def generator_history(self) -> int:
        """How many events are trained on."""
        return self.length

    @property
    def backbone(self) -> nn.Module:
        """The device model."""
        return self.base.backbone

    def shares(self, target_BT: Tensor) -> Tensor:
        """What each position counts in its device's mean loss: [B, T]; nothing where the target is not known."""
        known_BT = target_BT > UNKNOWN
        share_BT: Tensor = known_BT / known_BT.sum(1, keepdim=True).clamp(min=1)
        return share_BT

    def losses(self, positive_BT: Tensor, shared_BTM: Tensor, target_BT: Tensor, drawn: Drawn) -> Tensor:
        """Each device's mean loss over its known targets: [B]; 0 for a device that has none."""
        same_BTM = drawn.items_M == target_BT[..., None]
        if self.base.normalised:
            shared_BTM = (shared_BTM - drawn.correction_M).masked_fill(same_BTM, -torch.inf)
            loss_BT = torch.logsumexp(torch.cat([positive_BT[..., None], shared_BTM], -1), -1) - positive_BT
        else:
            left_out_BTM = same_BTM | drawn.correction_M.isinf()
            wrong_BT = functional.softplus(shared_BTM).masked_fill(left_out_BTM, 0.0).sum(-1)
            loss_BT = (functional.softplus(-positive_BT) + wrong_BT) / (1 + len(drawn.items_M))
        return (loss_BT * self.shares(target_BT)).sum(1)

    def generate(self, history_BL: Tensor) -> Tensor:
        """Fine-tune a copy on each history [B, L], right-padded: theta [B, P]."""
        with torch.inference_mode(False), torch.enable_grad():
            history_BL = history_BL.clone()  # Made in inference mode, it could not take part in a backward pass.
            length_B = (history_BL != 0).sum(1)
            order_B = length_B.argsort(descending=True)
            theta_BP = self.copies.start_P.new_zeros(len(history_BL), len(self.copies.start_P))
            begin = 0
            while begin < len(order_B):
                longest = int(length_B[order_B[begin]])
                part_B = order_B[begin : begin + max(1, ROWS // max(1, longest))]
                begin += len(part_B)
                if longest > 1:
                    theta_BP[part_B] = self.train_copies(history_BL[part_B, :longest])
        return theta_BP

    def trusted(self, theta_BP: Tensor, age: int) -> Tensor:
        """A copy as it is, whatever its age."""
        return theta_BP

    def train_copies(self, history_BL: Tensor) -> Tensor:
        """Fine-tune on histories of like length in one pass: theta [B, P].

        What is trained are the copies themselves, as on a device, so that rounding is the same too.
        """
        prepared_BTx = self.copies.prepare(history_BL[:, :-1])
        own_BP = self.copies.start_P.repeat(len(history_BL), 1).requires_grad_()
        optimiser = Adam([own_BP], self.config.learning_rate, eps=EPSILON, fused=True)
        gradient = self.gradient_of(history_BL[:, 1:])
        for step in range(self.config.steps):
            own_BP.grad = gradient(own_BP, prepared_BTx, self.drawn(step))
            optimiser.step()
        return own_BP.detach() - self.copies.start_P

    def gradient_of(self, target_BT: Tensor) -> Callable[[Tensor, Tensor, Drawn], Tensor]:
        """The function from copies, prepared input and drawn items to the gradient of each device's loss: [B, P].

        A device's loss depends on its own copy alone, so the gradient of the sum is all of theirs. Where scores are dot
        products, they and their gradients never leave the processor's cache.
        """
        if self.base.backbone.pairwise or not self.base.normalised:

            def by_scores(own_BP: Tensor, prepared_BTx: Tensor, drawn: Drawn) -> Tensor:
                scores = self.copies.logits(own_BP, prepared_BTx, target_BT, drawn.items_M)
                (grad_BP,) = torch.autograd.grad(self.losses(*scores, target_BT, drawn).sum(), own_BP)
                return grad_BP

            return by_scores
        table_VD, target_N = self.base.backbone.item_embedding.weight, target_BT.flatten()
        target_ND, share_N = table_VD[target_N], self.shares(target_BT).flatten().to(table_VD.dtype)

        def by_query(own_BP: Tensor, prepared_BTx: Tensor, drawn: Drawn) -> Tensor:
            def of_query(query_BTD: Tensor) -> Tensor:
                query_ND = query_BTD.flatten(0, 1)
                _, grad_ND = query_gradient(query_ND, target_ND, table_VD[drawn.items_M], drawn, target_N, share_N)
                return grad_ND.view_as(query_BTD)

            return self.copies.gradient_by_query(own_BP, prepared_BTx, of_query)

        return by_query

    def history_losses(self, history_BL: Tensor, theta_BP: Tensor, step: int = 0) -> Tensor:
        """The loss of each device on its own history, with the items of one step: [B]."""
        with torch.no_grad():
            prepared_BTx, drawn = self.copies.prepare(history_BL[:, :-1]), self.drawn(step)
            scores = self.copies.logits(self.own(theta_BP), prepared_BTx, history_BL[:, 1:], drawn.items_M)
            return self.losses(*scores, history_BL[:, 1:], drawn)

    def own(self, theta_BP: Tensor) -> Tensor:
        """The copies [B, P] that theta tells of."""
        return self.copies.start_P + theta_BP

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta_BP: Tensor | None = None) -> Tensor:
        """Scores of each device's own candidates: [B, C]; theta None is the global model."""
        if theta_BP is None:
            return self.base.score(window_BL, candidates_BC)
        return self.copies.score(self.own(theta_BP), window_BL, candidates_BC)

    def score_catalogue(self, window_BL: Tensor, theta_BP: Tensor | None = None) -> Tensor:
        """Scores of all item indices: [B, V]; padding scores -inf."""
        if theta_BP is None:
            return self.base.score_catalogue(window_BL)
        items_V = torch.arange(self.vocabulary, device=window_BL.device)
        scores_BV = self.copies.score_shared(self.own(theta_BP), window_BL, items_V)
        scores_BV[:, 0] = -torch.inf
        return scores_BV

    def added(self, window_BL: Tensor, theta_BP: Tensor | None = None) -> None:
        """A copy of the model has nothing beside its softmax."""


def finetune_alone(model: FineTuned, history_L: Tensor, *, cached: bool = False) -> nn.Module:
    """Fine-tune for one device the way a device would: its own model, an ordinary optimiser, its windows as rows.

    Args:
        model: tells the global model, the settings and the drawn items.
        history_L: the device's events, without padding.
        cached: run the static part once instead of in each step; for the head alone.

    Returns:
        The device's own backbone, trained.
    """
    backbone = copy.deepcopy(model.base.backbone).eval()
    whole = model.config.scope == "whole"
    backbone.requires_grad_(whole)
    backbone.item_embedding.requires_grad_(False)
    backbone.head.requires_grad_(True)
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    optimiser = Adam(trained, model.config.learning_rate, eps=EPSILON)
    rows_TL, target_1T = windows(history_L[None, :-1], model.window)[0], history_L[None, 1:]
    context_1Tx = None
    for step in range(model.config.steps):
        if context_1Tx is None or not cached:
            with torch.set_grad_enabled(whole):
                context_1Tx = backbone.context(rows_TL)[None]
        drawn = model.drawn(step)
        scores = logits(backbone, context_1Tx, target_1T, drawn.items_M, None)
        optimiser.zero_grad()
        model.losses(*scores, target_1T, drawn).sum().backward()
        optimiser.step()
    return backbone
