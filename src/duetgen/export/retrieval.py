"""Opinions from a large catalogue in two steps: the item table in int8 finds twice as many items as an opinion has, the
table itself scores these.

A product with the whole table in float32 waits for memory; a quarter of the bytes takes less than half of the time. The
values are exact, and so are the items, but for those that rounding keeps from twice the places: how many are found is
measured before anything is published.

Shapes: B devices, L history length, V items, D width, N items found first, K items of an opinion.
"""

from __future__ import annotations

import itertools
from functools import reduce
from typing import Final, Literal

import onnxruntime
import torch
from torch import Tensor, nn

from duetgen.cloudmodel import CloudModel
from duetgen.cloudmodel.model import SEQUENCE, best
from duetgen.cloudmodel.sequence import SequenceModel
from duetgen.core import ItemBias
from duetgen.data.store import Dataset, Int64
from duetgen.export.errors import NotExportableError
from duetgen.export.parity import Float32, run
from duetgen.export.plausible import histories

Retrieval = Literal["auto", "exact", "two-step"]

LARGE: Final = 20_000
"""Items from which on two steps take less time than one, and are taken by themselves."""
MORE: Final = 2
"""How many times as many items are found as an opinion has."""
LEVELS: Final = 63
"""Of 7 bits: processors without VNNI cut sums of products of 8."""
RECALL: Final = 0.99
"""Least share of the exact opinions' items that two steps must find."""
BATCHES: Final = 4
"""Batches of devices whose opinions are compared, at most."""


def two_steps(wanted: Retrieval, cloud: CloudModel | None) -> bool:
    """Whether the opinion of a sequence model comes in two steps.

    Raises:
        NotExportableError: they are asked for, and there is no sequence model.
    """
    has = cloud is not None and SEQUENCE in cloud.advisers
    if wanted == "two-step" and not has:
        raise NotExportableError(
            "only the opinion of a sequence model comes in two steps, and this bundle has none",
            "export --retrieval auto",
        )
    return has and (wanted == "two-step" or (wanted == "auto" and cloud is not None and cloud.vocabulary > LARGE))


class TwoStep(nn.Module):
    """The opinion of a sequence model in an ONNX graph; torch gives the exact one, which the graph is compared with.

    Args:
        model: the sequence model.
    """

    byte_DV: Tensor
    step_V: Tensor

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        table_VD = torch.cat(model.tables, 1).detach()
        step_V = table_VD.abs().amax(1).clamp(min=1e-12) / LEVELS
        self.register_buffer("byte_DV", (table_VD / step_V.unsqueeze(1)).round().to(torch.int8).T.contiguous())
        self.register_buffer("step_V", step_V)

    def forward(self, cloud: CloudModel, history_BL: Tensor, state_BD: Tensor) -> ItemBias:
        """The best items and what they exceed the last of them by."""
        model = cloud.members[SEQUENCE]
        assert isinstance(model, SequenceModel)
        queries = model.queries(state_BD)
        exporting = torch.compiler.is_exporting()
        rough_BV = self.rough(torch.cat(queries, 1)) if exporting else model.scores(state_BD)
        found = cloud.shown(rough_BV, history_BL).topk(min(MORE * cloud.items, cloud.vocabulary), dim=1, sorted=False)
        products = [table[found.indices] @ query.unsqueeze(-1) for table, query in zip(model.tables, queries)]
        exact_BN = reduce(torch.add, products).squeeze(-1)
        opinion = best(exact_BN.where(found.values > -1e8, -1e9), cloud.items)
        return ItemBias(found.indices.gather(1, opinion.items_BK), opinion.values_BK)

    def rough(self, query_BD: Tensor) -> Tensor:
        """Scores of the catalogue from the table in int8: [B, V]; operators of ONNX, which torch does not have."""
        batch, (width, vocabulary) = query_BD.shape[0], self.byte_DV.shape
        byte_BD, step, zero = torch.onnx.ops.symbolic_multi_out(
            "DynamicQuantizeLinear",
            [query_BD],
            dtypes=[torch.uint8, torch.float32, torch.uint8],
            shapes=[(batch, width), (), ()],
        )
        product_BV = torch.onnx.ops.symbolic(
            "MatMulInteger", [byte_BD, self.byte_DV, zero], dtype=torch.int32, shape=(batch, vocabulary)
        )
        return product_BV.to(torch.float32) * (step * self.step_V)


def recall(graph: onnxruntime.InferenceSession, generate: nn.Module, dataset: Dataset, length: int) -> float:
    """The share of items of exact opinions, by the longest histories of the training part, that a graph finds.

    Args:
        graph: `generator.onnx`.
        generate: gives the exact opinions.
        dataset: whose training histories are looked at.
        length: L_g.

    Raises:
        NotExportableError: it is below `RECALL`.
    """
    found = wanted = 0
    longest = (history_BL for history_BL in histories(dataset, length) if history_BL.shape[1] == length)
    for history_BL in itertools.islice(longest, BATCHES):
        with torch.inference_mode():
            exact_BJK = [part.numpy() for part in generate(torch.from_numpy(history_BL))[1:]]
        for exact, given in zip(named(*exact_BJK), named(*run(graph, history=history_BL)[1:]), strict=True):
            wanted += len(exact)
            found += len(exact & given)
    share = found / wanted if wanted else 1.0
    if share < RECALL:
        raise NotExportableError(
            f"two steps find {share:.1%} of the items of an exact opinion, {RECALL:.0%} is wanted",
            "export --retrieval exact",
        )
    return share


def named(items_BJK: Int64, values_BJK: Float32) -> list[set[int]]:
    """The items that each opinion says something about."""
    return [
        set(items_K[values_K > 0].tolist())
        for items_JK, values_JK in zip(items_BJK, values_BJK)
        for items_K, values_K in zip(items_JK, values_JK)
    ]
