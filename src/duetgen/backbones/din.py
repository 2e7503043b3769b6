"""DIN (KDD 2018): each candidate looks at the window in its own way, and a final network scores what it found.

Activations are SiLU: Dice (section 5.3) with α = 0 and without the batch's statistics, so that a device computes
exactly what was trained.

Shapes: L window length, D width, A width of the attention unit, C candidates of a row, M candidates shared by all rows,
P values in theta, X candidates times A, N candidates of all rows; `*` leading dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.backbones.backbone import BackboneConfig, PairwiseBackbone, windows
from duetgen.backbones.heads import head_layers
from duetgen.backbones.prefix import KeyPrefix, WindowPrefix
from duetgen.core import Personal


class ActivationUnit(nn.Module):
    """How much each past item matters to a candidate (KDD 2018, section 4.3): a small network on (key, candidate,
    key x candidate). Its first layer is split by input, so that the parts of keys and candidates are computed once.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.of_key, self.of_candidate = nn.Linear(width, hidden), nn.Linear(width, hidden, bias=False)
        self.of_product = nn.Parameter(torch.empty(hidden, width))
        nn.init.normal_(self.of_product, std=width**-0.5)
        self.activation = nn.SiLU()
        self.output = nn.Linear(hidden, 1)

    def forward(self, key_LD: Tensor, candidate_CD: Tensor) -> Tensor:
        """Keys [*, L, D] and candidates [*, C, D] or [M, D] to weights [*, C, L], not normalised (as in the paper)."""
        count, length, hidden = candidate_CD.shape[-2], key_LD.shape[-2], len(self.of_product)
        # The same sums whichever way; a graph that is exported must not depend on the sizes.
        if torch.compiler.is_exporting() or candidate_CD.dim() == 2:
            return self.by_key(key_LD, candidate_CD)
        # Where a key or a candidate meets all hidden values, gradients are sums over products, in twice the time.
        ways = {
            self.by_pair: count * length,
            self.by_key: 2 * length * hidden,
            self.by_candidate: 2 * count * hidden,
        }
        return min(ways, key=ways.__getitem__)(key_LD, candidate_CD)

    def by_key(self, key_LD: Tensor, candidate_CD: Tensor) -> Tensor:
        """What each key does to any candidate is made first: for many candidates; shared ones are one product."""
        on_candidate_LAD = key_LD.unsqueeze(-2) * self.of_product + self.of_candidate.weight
        alone_LA = self.of_key(key_LD)
        if candidate_CD.dim() == 2:
            hidden_MX = functional.linear(candidate_CD, on_candidate_LAD.flatten(0, -2), alone_LA.flatten())
            hidden_CLA = hidden_MX.unflatten(-1, alone_LA.shape).movedim(0, -3)
        else:
            on_candidate_XD, alone_X = on_candidate_LAD.flatten(-3, -2), alone_LA.flatten(-2)
            hidden_CX = candidate_CD @ on_candidate_XD.transpose(-1, -2) + alone_X.unsqueeze(-2)
            hidden_CLA = hidden_CX.unflatten(-1, alone_LA.shape[-2:])
        weight_CL: Tensor = self.output(self.activation(hidden_CLA)).squeeze(-1)
        return weight_CL

    def by_pair(self, key_LD: Tensor, candidate_CD: Tensor) -> Tensor:
        """Each product of a key and a candidate is made first: for few of both, as in training on a short window."""
        product_CLD = candidate_CD.unsqueeze(-2) * key_LD.unsqueeze(-3)
        alone_CLA = self.of_key(key_LD).unsqueeze(-3) + self.of_candidate(candidate_CD).unsqueeze(-2)
        hidden_CLA = functional.linear(product_CLD, self.of_product) + alone_CLA
        weight_CL: Tensor = self.output(self.activation(hidden_CLA)).squeeze(-1)
        return weight_CL

    def by_candidate(self, key_LD: Tensor, candidate_CD: Tensor) -> Tensor:
        """What each candidate does to any key is made first: for a few candidates of a long window."""
        count = candidate_CD.shape[-2]
        on_key_XD = (candidate_CD.unsqueeze(-2) * self.of_product + self.of_key.weight).flatten(-3, -2)
        alone_X1 = (self.of_candidate(candidate_CD) + self.of_key.bias).flatten(-2).unsqueeze(-1)
        hidden_XL = on_key_XD @ key_LD.transpose(-1, -2) + alone_X1
        hidden_CAL = self.activation(hidden_XL).unflatten(-2, (count, -1))
        # As one batch of products: `@` would lay all that is hidden out anew, which took as long as the rest.
        flat_NAL = hidden_CAL.flatten(0, -3)
        weight_N1L = torch.bmm(self.output.weight.expand(len(flat_NAL), -1, -1), flat_NAL)
        weight_CL: Tensor = weight_N1L.view(*hidden_CAL.shape[:-2], -1) + self.output.bias
        return weight_CL


class Interest(NamedTuple):
    """How much each key of a window [*, L, D] matters to each candidate, [*, C, D] or shared [M, D]: [*, C, L]."""

    weight_CL: Tensor
    key_LD: Tensor
    candidate_CD: Tensor


class InterestLinear(nn.Linear):
    """The head's first layer, on (interest, candidate) side by side: [*, C, 2D]. Of an `Interest` in shared candidates
    it multiplies keys and candidates once, rather than what becomes of them for each window and candidate.
    """

    as_its_type = True

    def forward(self, input: Tensor | Interest) -> Tensor:
        """The layer's output: [*, C, 4D]."""
        if isinstance(input, Tensor):
            return super().forward(input)
        of_interest, of_candidate = self.weight.chunk(2, 1)
        found_CF: Tensor = input.weight_CL @ functional.linear(input.key_LD, of_interest)
        return found_CF + functional.linear(input.candidate_CD, of_candidate, self.bias)


class DIN(PairwiseBackbone):
    """Deep interest network (KDD 2018) whose final network is dynamic."""

    def __init__(self, vocabulary: int, config: BackboneConfig) -> None:
        super().__init__(vocabulary, config)
        self.unit = ActivationUnit(config.width, hidden=max(1, config.width // 4))
        self.position = nn.Parameter(torch.zeros(config.window, config.width))
        self.dropout = nn.Dropout(config.dropped)

    @staticmethod
    def make_head(config: BackboneConfig) -> Personal:
        """The network on (interest, candidate): 2D to 4D to 2D to 1; full layers at width 32 have 16,641 values."""
        widths = [2 * config.width, 4 * config.width, 2 * config.width, 1]
        return head_layers(config.head, widths, config.rank, config.residual, nn.SiLU, InterestLinear)

    @staticmethod
    def make_prefix(config: BackboneConfig) -> WindowPrefix:
        """Events more for the activation unit; M of them have M D values."""
        return KeyPrefix(config.rank, config.width)

    def context(self, window_BL: Tensor) -> Tensor:
        """The window itself: everything after it depends on the candidate."""
        return window_BL

    def contexts(self, events_BT: Tensor) -> Tensor:
        """The windows at every position: int64 [B, T, L], no longer than the longest one is."""
        return windows(events_BT, min(self.config.window, events_BT.shape[1]))

    def features(self, context_x: Tensor, candidate_CD: Tensor) -> Tensor:
        """The interest in each candidate that the window [*, L] tells of, and the candidate: [*, C, 2D]."""
        weight_CL, key_LD, candidate_CD = self.attend(context_x, candidate_CD)
        interest_CD = weight_CL @ key_LD
        return torch.cat([interest_CD, candidate_CD.expand_as(interest_CD)], dim=-1)

    def attend(self, window_L: Tensor, candidate_CD: Tensor) -> Interest:
        """The keys of the window, and how much each matters to each candidate; all with dropout."""
        if self.training:
            # The same values of all candidates of a position; shared ones lose their own.
            alike_CD = candidate_CD[..., :1, :] if candidate_CD.dim() > 2 else candidate_CD
            candidate_CD = candidate_CD * self.dropout(torch.ones_like(alike_CD))
        real_L = window_L != 0
        newest_first_L = real_L.sum(-1, keepdim=True) - 1 - torch.arange(window_L.shape[-1], device=window_L.device)
        key_LD = self.dropout(self.item_embedding(window_L) + self.position[newest_first_L.clamp(min=0)])
        weight_CL = self.unit(key_LD, candidate_CD) * real_L.unsqueeze(-2).to(key_LD.dtype)
        return Interest(weight_CL, key_LD, candidate_CD)

    def score_piece(self, context_x: Tensor, candidate_MD: Tensor, theta_P: Tensor | None) -> Tensor:
        """`Interest` is enough for the head where theta does not ask for the whole of what it reads: [*, M]."""
        if theta_P is None or (self.prefix is None and not self.head.reads_input):
            score_C: Tensor = self.head(theta_P, self.attend(context_x, candidate_MD)).squeeze(-1)
            return score_C
        score_C = super().score_piece(context_x, candidate_MD, theta_P)
        if theta_P.requires_grad or (self.prefix is None and not self.head.residual) or bool(theta_P.any(-1).all()):
            return score_C
        # Where theta is zeros, the global model bit for bit.
        zero_x1 = ~theta_P.any(-1)[(..., *[None] * (score_C.dim() - theta_P.dim() + 1))]
        return torch.where(zero_x1, self.score_piece(context_x, candidate_MD, None), score_C)

    def widened(self, features_CF: Tensor, theta_P: Tensor) -> Tensor:
        """The same with the interest that the prefix tells of: [*, C, 2D]."""
        assert self.prefix is not None
        interest_CD, candidate_CD = features_CF.chunk(2, -1)
        return torch.cat([interest_CD + self.prefix(theta_P, candidate_CD, self.unit), candidate_CD], dim=-1)
