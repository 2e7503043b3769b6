"""A device's own copy of a part of the model, for many devices at once.

Shapes: B devices, T events of a history, L window length, C candidates of a row, M items shared by all rows, P values
of a copy; `x` dimensions of what is computed once before training.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from duetgen.backbones import Backbone, SequenceBackbone
from duetgen.core import ParameterLayout


def logits(
    backbone: Backbone, context_BTx: Tensor, target_BT: Tensor, items_M: Tensor, own_BP: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores of each position's target [B, T] and of shared items [B, T, M], by one pass through the head."""
    if isinstance(backbone, SequenceBackbone):
        query_BTD = backbone.query(context_BTx, own_BP)
        table_VD = backbone.item_embedding.weight
        return (query_BTD * table_VD[target_BT]).sum(-1), query_BTD @ table_VD[items_M].T
    candidates_BTC = torch.cat([target_BT[..., None], items_M.expand(*target_BT.shape, -1)], dim=-1)
    scores_BTC = backbone.score(context_BTx, candidates_BTC, own_BP)
    return scores_BTC[..., 0], scores_BTC[..., 1:]


class Copies(nn.Module):
    """Runs the model with each device's own copy of a part of it; the rest is shared and fixed.

    Args:
        backbone: the global model; its parameters are used, frozen, and not written.
    """

    layout: ParameterLayout
    start_P: Tensor
    """The global model's values of a copy: what fine-tuning starts from."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        shared = {id(parameter): parameter for parameter in backbone.parameters()}
        self.backbone = copy.deepcopy(backbone, shared).requires_grad_(False).eval()

    @abstractmethod
    def prepare(self, events_BT: Tensor) -> Tensor:
        """What no step changes, computed once: [B, T, x]."""

    @abstractmethod
    def logits(self, own_BP: Tensor, prepared_BTx: Tensor, target_BT: Tensor, items_M: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of targets [B, T] and of shared items [B, T, M]; gradients flow to the copies."""

    @abstractmethod
    def query(self, own_BP: Tensor, prepared_BTx: Tensor) -> Tensor:
        """What items are compared with, where scores are dot products: [B, T, D]; gradients flow to the copies."""

    def gradient_by_query(self, own_BP: Tensor, prepared_BTx: Tensor, of_query: Callable[[Tensor], Tensor]) -> Tensor:
        """The gradient of a loss with respect to the copies: [B, P].

        Args:
            own_BP: the copies.
            prepared_BTx: see `prepare`.
            of_query: the gradient of the loss with respect to the queries [B, T, D], from the queries.
        """
        query_BTD = self.query(own_BP, prepared_BTx)
        with torch.no_grad():
            grad_BTD = of_query(query_BTD)
        (grad_BP,) = torch.autograd.grad(query_BTD, own_BP, grad_BTD)
        return grad_BP

    @abstractmethod
    def score(self, own_BP: Tensor, window_BL: Tensor, candidates_BC: Tensor) -> Tensor:
        """Scores of each device's own candidates: [B, C]."""

    @abstractmethod
    def score_shared(self, own_BP: Tensor, window_BL: Tensor, items_M: Tensor) -> Tensor:
        """Scores of shared items: [B, M]."""


class HeadCopies(Copies):
    """Copies of the head: the static part runs once for all steps."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        for _, _, change in self.backbone.head.by_name():
            change.residual = False
        self.layout = self.backbone.head.layout
        self.register_buffer("start_P", self.backbone.head.origin(), persistent=False)

    def prepare(self, events_BT: Tensor) -> Tensor:
        """The static part at every position."""
        with torch.no_grad():
            return self.backbone.contexts(events_BT)

    def logits(self, own_BP: Tensor, prepared_BTx: Tensor, target_BT: Tensor, items_M: Tensor) -> tuple[Tensor, Tensor]:
        """One pass of batched matrix products through all heads."""
        return logits(self.backbone, prepared_BTx, target_BT, items_M, own_BP)

    def query(self, own_BP: Tensor, prepared_BTx: Tensor) -> Tensor:
        """The head on top of the static part."""
        assert isinstance(self.backbone, SequenceBackbone)
        return self.backbone.query(prepared_BTx, own_BP)

    def gradient_by_query(self, own_BP: Tensor, prepared_BTx: Tensor, of_query: Callable[[Tensor], Tensor]) -> Tensor:
        """The same for a head of two layers, written out: half the passes over memory that autograd makes."""
        first, *_, second = self.layout.layers.values()
        batch, width = len(own_BP), prepared_BTx.shape[-1]

        def layer(whole_BP: Tensor, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
            """Views of a layer's weight [B, D, D] and bias [B, 1, D]."""
            part = whole_BP[:, place[0] : place[0] + place[1]]
            return part[:, : width * width].view(batch, width, width), part[:, None, width * width :]

        with torch.no_grad():
            (weight, bias), (weight_2, bias_2) = layer(own_BP, first), layer(own_BP, second)
            hidden_BTD = torch.baddbmm(bias, prepared_BTx, weight.transpose(1, 2))
            active_BTD = functional.gelu(hidden_BTD)
            query_BTD = torch.baddbmm(bias_2, active_BTD, weight_2.transpose(1, 2)).add_(prepared_BTx)
            grad_BTD, grad_BP = of_query(query_BTD), torch.empty_like(own_BP)
            (grad_weight, grad_bias), (grad_weight_2, grad_bias_2) = layer(grad_BP, first), layer(grad_BP, second)
            torch.bmm(grad_BTD.transpose(1, 2), active_BTD, out=grad_weight_2)
            torch.sum(grad_BTD, 1, keepdim=True, out=grad_bias_2)
            grad_BTD = torch.ops.aten.gelu_backward(torch.bmm(grad_BTD, weight_2), hidden_BTD)
            torch.bmm(grad_BTD.transpose(1, 2), prepared_BTx, out=grad_weight)
            torch.sum(grad_BTD, 1, keepdim=True, out=grad_bias)
        return grad_BP

    def score(self, own_BP: Tensor, window_BL: Tensor, candidates_BC: Tensor) -> Tensor:
        """As a device does, with its own head."""
        return self.backbone.score(self.backbone.context(window_BL), candidates_BC, own_BP)

    def score_shared(self, own_BP: Tensor, window_BL: Tensor, items_M: Tensor) -> Tensor:
        """As a device does, with its own head."""
        return self.backbone.score_shared(self.backbone.context(window_BL), items_M, own_BP)


class UnrolledGRU(nn.GRU):
    """A GRU of plain operations, event after event: torch's own does not run with a batch of different weights."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Inputs [N, L, D] to the states after each event, [N, L, D], and the last one, [N, D]."""
        states_NLD: Tensor = input
        for layer in range(self.num_layers):
            of_input, of_state, input_bias, state_bias = (
                getattr(self, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            states, state_ND = [], states_NLD.new_zeros(len(states_NLD), self.hidden_size)
            for from_input in functional.linear(states_NLD, of_input, input_bias).unbind(1):
                reset, update, new = from_input.chunk(3, -1)
                reset_s, update_s, new_s = functional.linear(state_ND, of_state, state_bias).chunk(3, -1)
                new = torch.tanh(new + torch.sigmoid(reset + reset_s) * new_s)
                state_ND = new + torch.sigmoid(update + update_s) * (state_ND - new)
                states.append(state_ND)
            states_NLD = torch.stack(states, 1)
        return states_NLD, states_NLD[:, -1]


class Calls(nn.Module):
    """Gives `functional_call` the methods of a backbone: the first argument names what is run on one device's input."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, what: str, first: Tensor, second: Tensor, items_M: Tensor) -> Any:
        """`query` of events [T], `logits` of events and targets [T], `score` of a window [L] and candidates [C], or
        `score_shared` of a window.
        """
        context_1x = self.backbone.contexts(first[None])
        if what == "query":
            assert isinstance(self.backbone, SequenceBackbone)
            return self.backbone.query(context_1x, None)[0]
        if what == "logits":
            positive_1T, shared_1TM = logits(self.backbone, context_1x, second[None], items_M, None)
            return positive_1T[0], shared_1TM[0]
        # Windows are right-padded: the state after the last real event is the one that counts.
        last = ((first != 0).sum() - 1).clamp(min=0).reshape(1)
        newest_1x = context_1x.index_select(1, last)[:, 0]
        if what == "score":
            return self.backbone.score(newest_1x, second[None], None)[0]
        return self.backbone.score_shared(newest_1x, items_M, None)[0]


class WholeCopies(Copies):
    """Copies of all parameters but the item embedding, which stays shared: its rows are most of the model, and a device
    meets few of them.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        for module in self.backbone.modules():
            if isinstance(module, nn.GRU):
                module.__class__ = UnrolledGRU
        self.calls = Calls(self.backbone)
        parameters = {
            name: parameter
            for name, parameter in self.calls.named_parameters()
            if parameter is not self.backbone.item_embedding.weight
        }
        self.layout = ParameterLayout.of(("", name, tuple(parameter.shape)) for name, parameter in parameters.items())
        start_P = self.layout.flatten({name: parameter.detach() for name, parameter in parameters.items()})
        self.register_buffer("start_P", start_P, persistent=False)

    def _each(self, what: str, own_BP: Tensor, first_Bx: Tensor, second_Bx: Tensor, items_M: Tensor) -> Any:
        def alone(own_P: Tensor, first: Tensor, second: Tensor) -> Any:
            return torch.func.functional_call(self.calls, self.layout.split(own_P), (what, first, second, items_M))

        # The quicker kernels of attention do not run with a batch of different weights.
        with sdpa_kernel(SDPBackend.MATH):
            return torch.func.vmap(alone)(own_BP, first_Bx, second_Bx)

    def prepare(self, events_BT: Tensor) -> Tensor:
        """Nothing: every layer changes with every step."""
        return events_BT

    def logits(self, own_BP: Tensor, prepared_BTx: Tensor, target_BT: Tensor, items_M: Tensor) -> tuple[Tensor, Tensor]:
        """The whole model of each device on its own history."""
        positive_BT, shared_BTM = self._each("logits", own_BP, prepared_BTx, target_BT, items_M)
        return positive_BT, shared_BTM

    def query(self, own_BP: Tensor, prepared_BTx: Tensor) -> Tensor:
        """The whole model of each device on its own history."""
        query_BTD: Tensor = self._each("query", own_BP, prepared_BTx, prepared_BTx, prepared_BTx[0])
        return query_BTD

    def score(self, own_BP: Tensor, window_BL: Tensor, candidates_BC: Tensor) -> Tensor:
        """As a device does, with its own model."""
        score_BC: Tensor = self._each("score", own_BP, window_BL, candidates_BC, candidates_BC[0])
        return score_BC

    def score_shared(self, own_BP: Tensor, window_BL: Tensor, items_M: Tensor) -> Tensor:
        """As a device does, with its own model."""
        score_BM: Tensor = self._each("score_shared", own_BP, window_BL, window_BL, items_M)
        return score_BM
