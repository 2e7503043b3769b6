"""SASRec (ICDM 2018): causal self-attention over the window; the newest event's state is the device's interest.

Two choices make whole sequences cheap to train on: positions count backwards from the newest event of the window, and
they enter after the layer's norm. A key is then the sum of an event's part, shared by all windows that contain it, and
of an offset's part, and one layer over all windows of a sequence is a banded attention.

Shapes: B devices, T events of a sequence, N rows or blocks of positions, C positions of a block, R events that a block
reaches, L window length, D width, H heads, F width of a head.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.backbones.backbone import BackboneConfig, SequenceBackbone
from duetgen.backbones.prefix import AttentionPrefix, WindowPrefix

BLOCK: Final = 32
"""Positions whose banded attention is one product of matrices."""


class Attended(NamedTuple):
    """What an attention makes of windows, before anything follows.

    Attributes:
        x_D: the newest events.
        found_D: what they attend to.
        query_D: with what, all heads side by side.
        logits_HL: of each event of the window, -inf where there is none.
    """

    x_D: Tensor
    found_D: Tensor
    query_D: Tensor
    logits_HL: Tensor


class AttentionBlock(nn.Module):
    """Pre-norm causal self-attention and a feed-forward layer (ICDM 2018, section 3.2)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width = config.width
        if width % config.heads:
            raise ValueError(f"width {width} does not divide into {config.heads} heads")
        self.heads = config.heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(config.dropped), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(config.dropped)

    def split_heads(self, x_D: Tensor) -> Tensor:
        """[*, D] to [*, H, F]."""
        heads_HF: Tensor = x_D.unflatten(-1, (self.heads, -1))
        return heads_HF

    def finish(self, x_D: Tensor, attended_D: Tensor) -> Tensor:
        """Both residual connections and the feed-forward layer: [*, D]."""
        x_D = x_D + self.dropout(self.output(attended_D))
        fed_D: Tensor = self.feed_forward(self.forward_norm(x_D))
        finished_D: Tensor = x_D + self.dropout(fed_D)
        return finished_D

    def rows(self, x_NLD: Tensor, position_LD: Tensor, real_NL: Tensor) -> Tensor:
        """The layer on windows as rows, newest event first: [N, L, D]."""
        step_L = torch.arange(real_NL.shape[1], device=real_NL.device)
        # Causal; what stands for no event sees its like, so that no softmax is empty, and is seen by no event.
        mask_NLL = (step_L[:, None] <= step_L) & (real_NL.unsqueeze(1) | ~real_NL.unsqueeze(2))
        u_NLD = self.attention_norm(x_NLD) + position_LD
        q, k, v = (self.split_heads(part(u_NLD)).transpose(1, 2) for part in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask_NLL.unsqueeze(1))
        return self.finish(x_NLD, attended.transpose(1, 2).flatten(-2))

    def newest(self, x_NLD: Tensor, position_LD: Tensor, real_NL: Tensor) -> Attended:
        """The same of the newest event of each window alone, before anything follows.

        One query needs no keys and no values: it is carried back through the keys' weights and meets the events
        themselves, and the values' weights meet the mean of the events.
        """
        u_NLD = self.attention_norm(x_NLD) + position_LD
        key_HFD, value_HFD = (part.weight.unflatten(0, (self.heads, -1)) for part in (self.key, self.value))
        q_NHF = self.split_heads(self.query(u_NLD[:, 0]))
        carried_NHD = (q_NHF.unsqueeze(-2) @ key_HFD).squeeze(-2)
        # The bias adds the same for all events: a softmax is blind to it.
        bias_NH1 = (q_NHF * self.split_heads(self.key.bias)).sum(-1, keepdim=True)
        logits_NHL = carried_NHD @ u_NLD.transpose(1, 2) + bias_NH1
        logits_NHL = torch.where(real_NL.unsqueeze(1), logits_NHL, -torch.inf) / math.sqrt(q_NHF.shape[-1])
        share_NHL = torch.softmax(logits_NHL, dim=-1)
        found_NHF = (value_HFD @ (share_NHL @ u_NLD).unsqueeze(-1)).squeeze(-1)
        return Attended(x_NLD[:, 0], found_NHF.flatten(-2) + self.value.bias, q_NHF.flatten(-2), logits_NHL)

    def banded(self, x_BTD: Tensor, position_LD: Tensor) -> Attended:
        """The attention of every position of whole sequences, each seeing its last L events.

        Args:
            x_BTD: embedded events.
            position_LD: embedding of each offset from the newest event, newest first.
        """
        length, count = position_LD.shape[0], x_BTD.shape[1]
        block = min(BLOCK, count)
        behind, reach = -count % block, block + length - 1
        norm_BTD = self.attention_norm(x_BTD)
        oldest_first_LD = position_LD.flip(0)

        def blocks(of_BTD: Tensor, before: int, size: int) -> Tensor:
            """`size` events for each block of C positions: [B, N, H, size, F]; zeros stand before and behind."""
            padded_BTD = functional.pad(of_BTD, (0, 0, before, behind))
            blocks_BNRD = padded_BTD.unfold(1, size, block).transpose(-1, -2)
            return self.split_heads(blocks_BNRD).transpose(2, 3)

        def offsets(part: nn.Linear) -> Tensor:
            """What the offsets add to keys or values, oldest first: [H, L, F]."""
            return self.split_heads(functional.linear(oldest_first_LD, part.weight)).transpose(0, 1)

        q_BNHCF = blocks(self.query(norm_BTD + position_LD[0]), 0, block)
        k_BNHRF, v_BNHRF = (blocks(part(norm_BTD), length - 1, reach) for part in (self.key, self.value))
        logits_BNHCL = band(q_BNHCF @ k_BNHRF.transpose(-1, -2), length) + q_BNHCF @ offsets(self.key).transpose(-1, -2)
        position_NC1 = torch.arange(count + behind, device=x_BTD.device).view(-1, block, 1)
        before_NCL = torch.arange(length, device=x_BTD.device) < length - 1 - position_NC1
        logits_BNHCL = logits_BNHCL.masked_fill(before_NCL.unsqueeze(1), -torch.inf) / math.sqrt(q_BNHCF.shape[-1])
        share_BNHCL = torch.softmax(logits_BNHCL, dim=-1)
        found_BNHCF = unband(share_BNHCL, reach) @ v_BNHRF + share_BNHCL @ offsets(self.value)

        def joined(of_BNHCx: Tensor) -> Tensor:
            """The inverse of `blocks`: [B, T, H, x]."""
            return of_BNHCx.transpose(2, 3).flatten(1, 2)[:, :count]

        return Attended(x_BTD, joined(found_BNHCF).flatten(-2), joined(q_BNHCF).flatten(-2), joined(logits_BNHCL))


def band(square_CR: Tensor, length: int) -> Tensor:
    """Of each row its L values from the diagonal on: [*, C, R] to [*, C, L], where R = C + L - 1."""
    rows, reach = square_CR.shape[-2:]
    padded = functional.pad(square_CR.flatten(-2), (0, rows))
    return padded.view(*square_CR.shape[:-1], reach + 1)[..., :length]


def unband(band_CL: Tensor, reach: int) -> Tensor:
    """The inverse of `band`, with zeros elsewhere: [*, C, L] to [*, C, R]."""
    rows, length = band_CL.shape[-2:]
    padded = functional.pad(band_CL, (0, reach + 1 - length)).flatten(-2)
    return padded[..., : rows * reach].reshape(*band_CL.shape[:-1], reach)


class SASRec(SequenceBackbone):
    """Self-attentive sequential recommendation (ICDM 2018) with the head of dynamic layers on the newest state.

    One layer trains whole sequences by banded attention; deeper models run their windows as rows.
    """

    def __init__(self, vocabulary: int, config: BackboneConfig) -> None:
        super().__init__(vocabulary, config)
        self.position = nn.Parameter(torch.empty(config.window, config.width))
        nn.init.normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    @staticmethod
    def make_prefix(config: BackboneConfig) -> WindowPrefix:
        """Keys and values in the top attention; M events have 2 M D values."""
        return AttentionPrefix(config.rank, config.heads, config.width)

    @property
    def top(self) -> AttentionBlock:
        """The last layer."""
        block = self.blocks[-1]
        assert isinstance(block, AttentionBlock)
        return block

    def embed(self, events: Tensor) -> Tensor:
        """Scaled item embeddings (ICDM 2018, section 3.1): [*] to [*, D]."""
        embedded: Tensor = self.dropout(self.item_embedding(events) * math.sqrt(self.config.width))
        return embedded

    def encode(self, rows_NL: Tensor) -> Tensor:
        """The state of the newest event of each window: [N, D]; with a prefix, what `read` needs for it."""
        last_N1 = ((rows_NL != 0).sum(1, keepdim=True) - 1).clamp(min=0)
        step_L = torch.arange(rows_NL.shape[1], device=rows_NL.device)
        # Newest first, so that offsets are the same in all windows.
        x_NLD = self.embed(rows_NL.gather(1, (last_N1 - step_L).clamp(min=0)))
        position_LD = functional.embedding(step_L.clamp(max=len(self.position) - 1), self.position)
        real_NL = step_L <= last_N1
        for block in self.blocks[:-1]:
            assert isinstance(block, AttentionBlock)
            x_NLD = block.rows(x_NLD, position_LD, real_NL)
        return self.context_of(self.top.newest(x_NLD, position_LD, real_NL))

    def contexts(self, events_BT: Tensor) -> Tensor:
        """The context at every position: [B, T, x]."""
        if len(self.blocks) > 1:
            return super().contexts(events_BT)
        # Of a sequence shorter than the window no event looks further back than its first.
        return self.context_of(self.top.banded(self.embed(events_BT), self.position[: events_BT.shape[1]]))

    def context_of(self, attended: Attended) -> Tensor:
        """The states of newest events: [*, D]; with a prefix, a 1, which an empty window has not, and what was attended
        to and how: [*, 1 + 3 D + H L].
        """
        x_D, found_D, query_D, logits_HL = attended
        if self.prefix is None:
            return self.state(x_D, found_D)
        # An empty window's context is zeros, which -inf would not become.
        logits_HL = logits_HL.clamp(min=torch.finfo(logits_HL.dtype).min).flatten(-2)
        return torch.cat([torch.ones_like(x_D[..., :1]), x_D, found_D, query_D, logits_HL], -1)

    def state(self, x_D: Tensor, found_D: Tensor) -> Tensor:
        """What follows the top attention: [*, D]."""
        state_D: Tensor = self.norm(self.top.finish(x_D, found_D))
        return state_D

    def read(self, context_x: Tensor, theta_P: Tensor | None) -> Tensor:
        """The states of newest events whose attention has a prefix: [*, D]."""
        width = self.config.width
        events = context_x.shape[-1] - 1 - 3 * width
        seen_1, x_D, found_D, query_D, logits_HL = context_x.split([1, width, width, width, events], -1)
        if theta_P is not None:
            assert isinstance(self.prefix, AttentionPrefix)
            found_D = found_D + self.prefix(theta_P, query_D, logits_HL)
        # A product with a piece of wider rows may round otherwise, on some processors, than one with rows of their own.
        state_D: Tensor = self.state(x_D, found_D.contiguous()) * seen_1
        return state_D
