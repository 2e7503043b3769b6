"""The protocols: what a target is ranked among, and what is kept of the scores.

A target is ranked among what its device could show. The unknown item, one entry for all that training does not know,
takes no place: no device can show it. Where the dataset's policy hides items that a device has met, neither do they. A
target that is unknown, or hidden, is a miss for every model, its rank infinite, however few items are shown.

Shapes: B targets of a batch, N targets, L window length, C candidates with the positive first, V items, P values in
theta.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from duetgen.data.candidates import Drawn
from duetgen.data.store import FIRST_ITEM, PADDING, UNKNOWN, Dataset, Int32, Int64, Part
from duetgen.evaluation.errors import NonFiniteScoresError, ProtocolUnavailableError
from duetgen.evaluation.inputs import target_items
from duetgen.evaluation.met import MetItems, missed
from duetgen.evaluation.metrics import LAST, Float32, Float64, mean_rank
from duetgen.wire.messages import MetPolicy

FIRST_PIECE, LARGEST_PIECE = 128, 1024
"""Items that a `TopRanking` scores at a time."""

ProtocolName = Literal["full", "candidates", "given"]
PROTOCOLS: Final[tuple[ProtocolName, ...]] = ("full", "candidates", "given")


def full_name(name: str, met: MetPolicy) -> str:
    """A protocol as reports name it, complete: `full, met hidden`."""
    return f"{name}, met {'hidden' if met == 'hide' else 'shown'}"


def missed_targets(targets: int, unknown: int, repeats: int, met: MetPolicy, model: str = "training") -> str:
    """Which targets are missed in any case, or how many are repeats, in words; empty where there is nothing to say.

    Args:
        targets: how many there are.
        unknown: of these, how many are items that the model does not know.
        repeats: of these, how many the device had met.
        met: the policy of met items.
        model: what does not know them: training, or a run of an earlier version of the dataset.
    """
    parts = []
    if unknown:
        parts.append(f"{unknown / targets:.2%} of the targets are items that {model} does not know: all missed.")
    if repeats:
        outcome = "hidden, so missed by all" if met == "hide" else "shown; figures of new items stand beside"
        parts.append(f"{repeats / targets:.2%} are items that the device had met: {outcome}.")
    return " ".join(parts)


class Recommender(Protocol):
    """What is measured: a device model, and a generator if `personal`. Histories are right-padded with 0."""

    @property
    def window(self) -> int:
        """L_d."""

    @property
    def generator_history(self) -> int:
        """L_g; 0 without a generator."""

    @property
    def personal(self) -> bool:
        """Whether there is a generator."""

    @property
    def normalised(self) -> bool:
        """Whether a softmax over the catalogue makes probabilities of scores; else each score stands for itself."""

    vocabulary: int

    def generate(self, history_BL: Tensor) -> Any:
        """Theta of each history, which can be indexed by device."""

    def trusted(self, theta: Any, age: int) -> Any:
        """Theta as it counts when it is so many events old."""

    def score_catalogue(self, window_BL: Tensor, theta: Any) -> Tensor:
        """Scores [B, V]; padding scores -inf."""

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta: Any) -> Tensor:
        """Scores [B, C]."""

    def added(self, window_BL: Tensor, theta: Any) -> Tensor | None:
        """What the scores of some items have beside those of the softmax, of counts or opinions: [B, V]."""


class ItemRecommender(Recommender, Protocol):
    """A model that can score some items alone."""

    def score_items(self, window_BL: Tensor, items_M: Tensor, theta: Any) -> Tensor:
        """Scores of the same items for all targets: [B, M]."""


class Scores:
    """What a model says of the targets of one batch. The catalogue is scored once, however many protocols ask.

    Args:
        model: the model.
        window_BL: the targets' windows.
        theta: their parameters; None for the global model.
    """

    def __init__(self, model: Recommender, window_BL: Tensor, theta: Any) -> None:
        self.model, self.window_BL, self.theta = model, window_BL, theta

    @cached_property
    def catalogue(self) -> Tensor:
        """Scores of all item indices: [B, V]; padding scores -inf."""
        return self.model.score_catalogue(self.window_BL, self.theta).float()

    @cached_property
    def log_total(self) -> Tensor:
        """The log-normaliser of the softmax over the catalogue: [B]."""
        return torch.logsumexp(self.catalogue, 1)

    @cached_property
    def trained_total(self) -> Tensor:
        """The log-normaliser of the softmax that was trained, without what is added to the scores of some items: [B].

        That says nothing of the others, which keep their likelihood.
        """
        added_BV = self.model.added(self.window_BL, self.theta)
        return self.log_total if added_BV is None else torch.logsumexp(self.catalogue - added_BV, 1)

    def of_items(self, items_M: Tensor, rows: Tensor | slice) -> Tensor:
        """Scores of the same items for some of the targets: [A, M]; of a model that can score some alone."""
        theta = None if self.theta is None else self.theta[rows]
        return cast(ItemRecommender, self.model).score_items(self.window_BL[rows], items_M, theta).float()

    def comparable(self, candidates_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of each target's own candidates [B, C], and what makes them comparable between devices [B]."""
        if self.model.normalised:
            return self.catalogue.gather(1, candidates_BC), self.trained_total
        scores_BC = self.model.score(self.window_BL, candidates_BC, self.theta).float()
        return scores_BC, scores_BC.new_zeros(len(scores_BC))


@dataclass(frozen=True)
class Scored:
    """What a protocol keeps of each target.

    Attributes:
        rank_N: mean rank of the target; infinite where no device can show it.
        count_N: how many entries were ranked, the target included.
        loss_N: -log of the target's share of the softmax over what is ranked and the unknown item, in nats; `full`
            only.
        scores_NC: scores less the log-normaliser of the trained softmax, the positive first; `LAST` for what no device
            can show, -inf where there is no candidate; not for `full`.
    """

    rank_N: Float64
    count_N: Int64
    loss_N: Float64 | None = None
    scores_NC: Float32 | None = None


class Collector:
    """Puts the batches of `total` targets into whole arrays; a target that is in no batch has 0.

    The arrays are made at the first batch: small results kept from every batch would lie between the large, passing
    ones and cut the process's memory into pieces that fit nothing.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.whole: Scored | None = None

    def add(self, rows: slice, part: Scored) -> None:
        """Keep the targets `rows`."""
        if self.whole is None:
            self.whole = Scored(
                np.zeros(self.total),
                np.zeros(self.total, dtype=np.int64),
                None if part.loss_N is None else np.zeros(self.total),
                None if part.scores_NC is None else np.zeros((self.total, part.scores_NC.shape[1]), dtype=np.float32),
            )
        for mine, its in (
            (self.whole.rank_N, part.rank_N),
            (self.whole.count_N, part.count_N),
            (self.whole.loss_N, part.loss_N),
            (self.whole.scores_NC, part.scores_NC),
        ):
            if mine is not None and its is not None:
                mine[rows] = its

    def result(self) -> Scored:
        """All targets."""
        return self.whole or Scored(np.zeros(self.total), np.zeros(self.total, dtype=np.int64), None, None)


def refuse_non_finite(*values_B: Tensor) -> None:
    """Raise `NonFiniteScoresError` if any value is not finite."""
    bad = sum(int((~torch.isfinite(value_B)).sum()) for value_B in values_B)
    if bad:
        raise NonFiniteScoresError(
            f"the model gives scores that are not finite ({bad} in one batch of {len(values_B[0])} targets)",
            "train again with a lower learning rate; a ranking by such scores would mean nothing",
        )


class Ranking(Protocol):
    """One protocol on one part of one dataset."""

    name: ProtocolName

    def rank(self, scores: Scores, rows: slice) -> Scored:
        """Rank the targets `rows`, which the scores are of."""


class FullRanking:
    """The whole catalogue: all known items that the device may show.

    Args:
        target_N: items of the targets.
        met: what their devices had met, to be hidden; None where it is shown.
        with_loss: whether the softmax's log loss is wanted.
    """

    name: ProtocolName = "full"

    def __init__(self, target_N: Int64, met: MetItems | None = None, with_loss: bool = True) -> None:
        self.target_N, self.met, self.with_loss = torch.from_numpy(target_N), met, with_loss
        self.missed_N = torch.from_numpy(missed(target_N, met))

    def rank(self, scores: Scores, rows: slice) -> Scored:
        """Ranks without a sort: see `metrics.mean_rank`. The loss is of the target's share among what is shown and
        the unknown item."""
        scores_BV = scores.catalogue if self.met is None else self.met.hide(scores.catalogue, rows)
        target_B1 = self.target_N[rows, None].to(scores_BV.device)
        missed_B1 = self.missed_N[rows, None].to(scores_BV.device)
        own_B1 = scores_BV.gather(1, target_B1)
        loss_B = None
        if self.with_loss:
            log_total_B = scores.log_total if self.met is None else torch.logsumexp(scores_BV, 1)
            loss_B = log_total_B - own_B1[:, 0]
            refuse_non_finite(loss_B)
        known_BV = scores_BV[:, FIRST_ITEM:]
        rank_B = mean_rank(known_BV, own_B1)
        refuse_non_finite(rank_B, own_B1)
        rank_B = rank_B.masked_fill(missed_B1[:, 0], torch.inf)
        # An unknown target is one entry more than the known items.
        count_B = known_BV.shape[1] + (target_B1[:, 0] == UNKNOWN).long()
        if self.met is not None:
            count_B -= torch.isneginf(known_BV).sum(1)
        return Scored(
            rank_B.cpu().numpy(), count_B.cpu().numpy(), None if loss_B is None else loss_B.double().cpu().numpy()
        )


class TopRanking:
    """`FullRanking` where only the first ranks matter, for a model that reads its window anew for each item: a target
    is done with as soon as so many items are ahead of it. Ranks up to `last` are exact, others infinite.

    Args:
        target_N: items of the targets.
        order_M: all known items; the sooner those come that are ahead of many targets, the fewer are scored.
        last: the last rank that matters.
        met: what the targets' devices had met, to be hidden; None where it is shown.
    """

    name: ProtocolName = "full"

    def __init__(self, target_N: Int64, order_M: Tensor, last: int, met: MetItems | None = None) -> None:
        self.target_N, self.order_M, self.last, self.met = torch.from_numpy(target_N), order_M, last, met
        self.missed_N = torch.from_numpy(missed(target_N, met))

    def rank(self, scores: Scores, rows: slice) -> Scored:
        """Ranks by counting what is ahead, in more and more items at a time."""
        device = scores.window_BL.device
        target_B, order_M = self.target_N[rows].to(device), self.order_M.to(device)
        own_B = scores.of_items(target_B, slice(None)).diagonal()
        refuse_non_finite(own_B)
        hidden_BV = target_B.new_zeros(len(target_B), scores.model.vocabulary, dtype=torch.bool)
        if self.met is not None:
            row_K, item_K = self.met.pairs(rows)
            hidden_BV[torch.from_numpy(row_K).to(device), torch.from_numpy(item_K).to(device)] = True
        hidden_BV.scatter_(1, target_B[:, None], True)
        ahead_B = torch.where(self.missed_N[rows].to(device), torch.inf, 0.0).double()
        left_A, first, size = ahead_B.isfinite().nonzero()[:, 0], 0, FIRST_PIECE
        while len(left_A) and first < len(order_M):
            items_P = order_M[first : first + size]
            scores_AP = scores.of_items(items_P, left_A)
            refuse_non_finite(scores_AP.amax(1))
            # An item that ties is half ahead: the mean rank.
            ahead_AP = ((scores_AP - own_B[left_A, None]).sign() + 1) / 2
            ahead_B[left_A] += ahead_AP.masked_fill(hidden_BV[left_A][:, items_P], 0).sum(1)
            left_A = left_A[ahead_B[left_A] < self.last]
            first, size = first + size, min(2 * size, LARGEST_PIECE)
        rank_B = torch.where(ahead_B < self.last, 1 + ahead_B, torch.inf)
        count_B = np.full(len(rank_B), len(order_M))
        return Scored(rank_B.cpu().numpy(), count_B)


class CandidateRanking:
    """The target and its candidates; 0 is no candidate, and neither is one that is hidden.

    A candidate that is the same index as the target ties with it, to the last bit; so do two unknown items.

    Args:
        name: of the protocol.
        target_N: items of the targets.
        index_N: rows of the targets in `others`.
        others: candidates of every target of the part, memory-mapped or drawn when they are asked for.
        met: what their devices had met, to be hidden; None where it is shown.
    """

    def __init__(
        self, name: ProtocolName, target_N: Int64, index_N: Int64, others: Int32 | Drawn, met: MetItems | None = None
    ) -> None:
        self.name, self.target_N, self.index_N, self.others, self.met = name, target_N, index_N, others, met

    def rank(self, scores: Scores, rows: slice) -> Scored:
        """Ranks among the candidates, and the scores of all of them for pooled metrics."""
        drawn = self.others[self.index_N[rows]].astype(np.int64)
        candidates = np.concatenate([self.target_N[rows, None], drawn], axis=1)
        candidates_BC = torch.from_numpy(candidates).to(scores.window_BL.device)
        absent_BC, last_BC = candidates_BC == PADDING, candidates_BC == UNKNOWN
        if self.met is not None:
            hidden_BC = torch.from_numpy(self.met.among(candidates, rows)).to(candidates_BC.device)
            own_BC = candidates_BC == candidates_BC[:, :1]
            absent_BC, last_BC = absent_BC | (hidden_BC & ~own_BC), last_BC | (hidden_BC & own_BC)
        scores_BC, normaliser_B = scores.comparable(candidates_BC)
        scores_BC = scores_BC.masked_fill(last_BC, LAST).masked_fill(absent_BC, -torch.inf)
        positive_B1 = scores_BC[:, :1]
        scores_BC = torch.where(candidates_BC == candidates_BC[:, :1], positive_B1, scores_BC)
        rank_B = mean_rank(scores_BC, positive_B1)
        refuse_non_finite(rank_B, normaliser_B, scores_BC.amax(1))
        rank_B = rank_B.masked_fill(last_BC[:, 0], torch.inf)
        return Scored(
            rank_B.cpu().numpy(),
            (~absent_BC).sum(1).cpu().numpy(),
            scores_NC=(scores_BC - normaliser_B[:, None]).cpu().numpy(),
        )


def make_ranking(
    name: str,
    dataset: Dataset,
    part: Part,
    index_N: Int64,
    *,
    with_loss: bool = True,
    met: MetItems | None = None,
) -> Ranking:
    """A protocol for the targets `index_N` of a part.

    Args:
        name: of the protocol.
        dataset: the dataset folder.
        part: of the dataset.
        index_N: which of the part's targets.
        with_loss: whether the log loss over the catalogue is wanted.
        met: what their devices had met, to be hidden; None where it is shown.

    Raises:
        ProtocolUnavailableError: there is no such protocol, or the dataset lacks its candidates.
        DamagedError: the file of the candidates is damaged.
    """
    target_N = target_items(dataset, dataset.targets(part).take(index_N))
    if name == "full":
        return FullRanking(target_N, met, with_loss)
    if name not in PROTOCOLS:
        raise ProtocolUnavailableError(f"there is no protocol {name!r}", f"choose among {', '.join(PROTOCOLS)}")
    if name == "given" and part != "test":
        raise ProtocolUnavailableError(
            "the protocol `given` measures the test part only", "use `full` or `candidates` on the validation part"
        )
    if name == "candidates":
        return CandidateRanking("candidates", target_N, index_N, dataset.candidates(part), met)
    if not dataset.has_given:
        raise ProtocolUnavailableError(
            f"the dataset {dataset.manifest.name} has no candidates for the protocol `{name}`",
            "use the protocol `full`",
        )
    others = dataset.given()
    if others.size and not (others.min() >= PADDING and others.max() < dataset.vocabulary):
        raise ProtocolUnavailableError(
            f"the candidates of {dataset.manifest.name} hold items that it does not have", "prepare the logs again"
        )
    if not np.array_equal(others[index_N, :1], target_N[:, None]):
        raise ProtocolUnavailableError(
            f"the given candidates of {dataset.manifest.name} do not begin with the targets", "prepare the logs again"
        )
    return CandidateRanking("given", target_N, index_N, others[:, 1:], met)
