"""The protocols: what a target is ranked among, and what is kept of the scores.

The unknown item, one entry for all that training does not know, is ranked last: no device can show it. So a target
that training does not know is missed by every model, and a known one never stands behind it.

Shapes: B targets of a batch, N targets, L window length, C candidates with the positive first, V items, P values in
theta.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from duetgen.data.store import FIRST_ITEM, PADDING, UNKNOWN, Dataset, Int32, Int64, Part
from duetgen.evaluation.errors import NonFiniteScoresError, ProtocolUnavailableError
from duetgen.evaluation.inputs import target_items
from duetgen.evaluation.metrics import LAST, Float32, Float64, mean_rank

ProtocolName = Literal["full", "candidates", "given"]
PROTOCOLS: Final[tuple[ProtocolName, ...]] = ("full", "candidates", "given")


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

    def generate(self, history_BL: Tensor) -> Tensor:
        """Theta [B, P]."""

    def score_catalogue(self, window_BL: Tensor, theta_BP: Tensor | None) -> Tensor:
        """Scores [B, V]; padding scores -inf."""

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta_BP: Tensor | None) -> Tensor:
        """Scores [B, C]."""


class Scores:
    """What a model says of the targets of one batch. The catalogue is scored once, however many protocols ask.

    Args:
        model: the model.
        window_BL: the targets' windows.
        theta_BP: their parameters; None for the global model.
    """

    def __init__(self, model: Recommender, window_BL: Tensor, theta_BP: Tensor | None) -> None:
        self.model, self.window_BL, self.theta_BP = model, window_BL, theta_BP

    @cached_property
    def catalogue(self) -> Tensor:
        """Scores of all item indices: [B, V]; padding scores -inf."""
        return self.model.score_catalogue(self.window_BL, self.theta_BP).float()

    @cached_property
    def log_total(self) -> Tensor:
        """The log-normaliser of the softmax over the catalogue: [B]."""
        return torch.logsumexp(self.catalogue, 1)

    def comparable(self, candidates_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of each target's own candidates [B, C], and what makes them comparable between devices [B]."""
        if self.model.normalised:
            return self.catalogue.gather(1, candidates_BC), self.log_total
        scores_BC = self.model.score(self.window_BL, candidates_BC, self.theta_BP).float()
        return scores_BC, scores_BC.new_zeros(len(scores_BC))


@dataclass(frozen=True)
class Scored:
    """What a protocol keeps of each target.

    Attributes:
        rank_N: mean rank of the target.
        count_N: how many entries were ranked, the target included.
        loss_N: -log of the target's share of the softmax over the catalogue, in nats; `full` only.
        scores_NC: scores less the log-normaliser, the positive first; `LAST` for the unknown item, -inf where there is
            no candidate; not for `full`.
    """

    rank_N: Float64
    count_N: Int64
    loss_N: Float64 | None = None
    scores_NC: Float32 | None = None


class Collector:
    """Puts the batches of `total` targets into whole arrays.

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
                np.empty(self.total),
                np.empty(self.total, dtype=np.int64),
                None if part.loss_N is None else np.empty(self.total),
                None if part.scores_NC is None else np.empty((self.total, part.scores_NC.shape[1]), dtype=np.float32),
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
        assert self.whole is not None
        return self.whole


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


def rank_in_catalogue(scores_BV: Tensor, target_B: Tensor) -> Tensor:
    """Ranks of the targets among all known items, and behind them for one that is not known: float64 [B]."""
    unknown_B = target_B == UNKNOWN
    positive_B1 = scores_BV.gather(1, target_B[:, None]).masked_fill(unknown_B[:, None], LAST)
    # An unknown target is one entry more than the known items, and equal to none.
    return mean_rank(scores_BV[:, FIRST_ITEM:], positive_B1) + unknown_B / 2


class FullRanking:
    """The whole catalogue: all known items.

    Args:
        target_N: items of the targets.
        with_loss: whether the softmax's log loss is wanted.
    """

    name: ProtocolName = "full"

    def __init__(self, target_N: Int64, with_loss: bool = True) -> None:
        self.target_N, self.with_loss = torch.from_numpy(target_N), with_loss

    def rank(self, scores: Scores, rows: slice) -> Scored:
        """Ranks without a sort: see `metrics.mean_rank`."""
        scores_BV = scores.catalogue
        target_B = self.target_N[rows].to(scores_BV.device)
        rank_B = rank_in_catalogue(scores_BV, target_B)
        count_B = (scores_BV.shape[1] - FIRST_ITEM + (self.target_N[rows] == UNKNOWN).long()).numpy()
        refuse_non_finite(rank_B, scores_BV[:, UNKNOWN])
        if not self.with_loss:
            return Scored(rank_B.cpu().numpy(), count_B)
        loss_B = scores.log_total - scores_BV.gather(1, target_B[:, None])[:, 0]
        refuse_non_finite(loss_B)
        return Scored(rank_B.cpu().numpy(), count_B, loss_B.double().cpu().numpy())


class CandidateRanking:
    """The target and its candidates; 0 is no candidate.

    A candidate that is the same index as the target ties with it, to the last bit; so do two unknown items.

    Args:
        name: of the protocol.
        target_N: items of the targets.
        index_N: rows of the targets in `others`.
        others: candidates of every target of the part, memory-mapped.
    """

    def __init__(self, name: ProtocolName, target_N: Int64, index_N: Int64, others: Int32) -> None:
        self.name, self.target_N, self.index_N, self.others = name, target_N, index_N, others

    def rank(self, scores: Scores, rows: slice) -> Scored:
        """Ranks among the candidates, and the scores of all of them for pooled metrics."""
        drawn = self.others[self.index_N[rows]].astype(np.int64)
        candidates = np.concatenate([self.target_N[rows, None], drawn], axis=1)
        candidates_BC = torch.from_numpy(candidates).to(scores.window_BL.device)
        absent_BC = candidates_BC == PADDING
        scores_BC, normaliser_B = scores.comparable(candidates_BC)
        scores_BC = scores_BC.masked_fill(candidates_BC == UNKNOWN, LAST).masked_fill(absent_BC, -torch.inf)
        positive_B1 = scores_BC[:, :1]
        scores_BC = torch.where(candidates_BC == candidates_BC[:, :1], positive_B1, scores_BC)
        rank_B = mean_rank(scores_BC, positive_B1)
        refuse_non_finite(rank_B, normaliser_B, scores_BC.amax(1))
        return Scored(
            rank_B.cpu().numpy(),
            (~absent_BC).sum(1).cpu().numpy(),
            scores_NC=(scores_BC - normaliser_B[:, None]).cpu().numpy(),
        )


def make_ranking(name: str, dataset: Dataset, part: Part, index_N: Int64, with_loss: bool = True) -> Ranking:
    """A protocol for the targets `index_N` of a part.

    Raises:
        ProtocolUnavailableError: there is no such protocol, or the dataset lacks its candidates.
        NotADatasetError: the file of the candidates is damaged.
    """
    target_N = target_items(dataset, dataset.targets(part).take(index_N))
    if name == "full":
        return FullRanking(target_N, with_loss)
    if name not in PROTOCOLS:
        raise ProtocolUnavailableError(f"there is no protocol {name!r}", f"choose among {', '.join(PROTOCOLS)}")
    if name == "given" and part != "test":
        raise ProtocolUnavailableError(
            "the protocol `given` measures the test part only", "use `full` or `candidates` on the validation part"
        )
    path = dataset.root / ("given/test.npy" if name == "given" else f"candidates/{part}.npy")
    if not path.is_file():
        raise ProtocolUnavailableError(
            f"the dataset {dataset.manifest.name} has no candidates for the protocol `{name}`",
            "use the protocol `full`" if name == "given" else "prepare the logs again, or use the protocol `full`",
        )
    others = dataset.given() if name == "given" else dataset.candidates(part)
    if others.size and not (others.min() >= PADDING and others.max() < dataset.vocabulary):
        raise ProtocolUnavailableError(
            f"the candidates of {dataset.manifest.name} hold items that it does not have", "prepare the logs again"
        )
    if name == "candidates":
        return CandidateRanking("candidates", target_N, index_N, others)
    if not np.array_equal(others[index_N, :1], target_N[:, None]):
        raise ProtocolUnavailableError(
            f"the given candidates of {dataset.manifest.name} do not begin with the targets", "prepare the logs again"
        )
    return CandidateRanking("given", target_N, index_N, others[:, 1:])
