"""DIN (KDD 2018): each candidate looks at the window in its own way, and a final network scores what it found.

Activations are SiLU: Dice (section 5.3) with α = 0 and without the batch's statistics, so that a device computes
exactly what was trained.

Shapes: L window length, D width, A width of the attention unit, C candidates of a row, M candidates shared by all rows,
P values in theta, X candidates times A, N candidates of all rows; `*` leading dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
        # The same sums either way; a graph that is exported must not depend on the sizes.
        if not torch.compiler.is_exporting() and candidate_CD.shape[-2] < key_LD.shape[-2]:
            return self.by_candidate(key_LD, candidate_CD)
        product_LAD = key_LD.unsqueeze(-2) * self.of_product
        hidden_CLA = (candidate_CD @ product_LAD.flatten(-3, -2).transpose(-1, -2)).unflatten(
            -1, (key_LD.shape[-2], -1)
        )
        hidden_CLA = hidden_CLA + self.of_key(key_LD).unsqueeze(-3) + self.of_candidate(candidate_CD).unsqueeze(-2)
        weight_CL: Tensor = self.output(self.activation(hidden_CLA)).squeeze(-1)
        return weight_CL

    def by_candidate(self, key_LD: Tensor, candidate_CD: Tensor) -> Tensor:
        """The same for fewer candidates than keys: what each candidate does to any key is made first. In training on a
        window of a hundred events, where a position has a few candidates, that takes half the time.
        """
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
        return head_layers(config.head, widths, config.rank, config.residual, nn.SiLU)

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
        window_L, candidate_CD = context_x, self.dropout(candidate_CD)
        real_L = window_L != 0
        newest_first_L = real_L.sum(-1, keepdim=True) - 1 - torch.arange(window_L.shape[-1], device=window_L.device)
        key_LD = self.dropout(self.item_embedding(window_L) + self.position[newest_first_L.clamp(min=0)])
        weight_CL = self.unit(key_LD, candidate_CD) * real_L.unsqueeze(-2).to(key_LD.dtype)
        interest_CD = weight_CL @ key_LD
        return torch.cat([interest_CD, candidate_CD.expand_as(interest_CD)], dim=-1)

    def widened(self, features_CF: Tensor, theta_P: Tensor) -> Tensor:
        """The same with the interest that the prefix tells of: [*, C, 2D]."""
        assert self.prefix is not None
        interest_CD, candidate_CD = features_CF.chunk(2, -1)
        return torch.cat([interest_CD + self.prefix(theta_P, candidate_CD, self.unit), candidate_CD], dim=-1)
