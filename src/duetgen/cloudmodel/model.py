"""Cloud models together: their opinions for a device, and their ranking where they could rank themselves.

Shapes: B devices, T events of a sequence, L history length, N positions, K items of an opinion, J models, C candidates,
V items.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from duetgen.cloudmodel.config import CloudConfig, Member
from duetgen.cloudmodel.graph import GraphModel
from duetgen.cloudmodel.member import MemberModel
from duetgen.cloudmodel.sequence import SequenceModel
from duetgen.cloudmodel.table import TableModel
from duetgen.core.theta import ItemBias, Theta
from duetgen.data.store import FIRST_ITEM, PADDING, UNKNOWN
from duetgen.wire.messages import MetPolicy

SEQUENCE: Final = "sequence"
"""The member that has a state."""


class CloudModel(nn.Module):
    """One model or several, each with a score for every item; a recommender, see `evaluation.protocols.Recommender`.

    Args:
        vocabulary: V.
        length: L_g, how many recent events they read.
        config: see `CloudConfig`.
        met: `hide` leaves out of opinions what the history holds.

    Attributes:
        members: the models by name.
        silent: names of those that give no opinion; none, but where `keep` leaves one for its state alone.
        shares_J: what each one's scores count in their common ranking.
    """

    personal = False
    normalised = True
    generator_history = 0
    shares_J: Tensor

    def __init__(self, vocabulary: int, length: int, config: CloudConfig, met: MetPolicy) -> None:
        super().__init__()
        self.vocabulary, self.window, self.config, self.met = vocabulary, length, config, met
        self.members = nn.ModuleDict({name: self._make(name) for name in config.members})
        self.silent: frozenset[str] = frozenset()
        self.register_buffer("shares_J", torch.ones(len(self.members)))

    def _make(self, name: Member) -> nn.Module:
        if name == "sequence":
            return SequenceModel(self.vocabulary, self.window, self.config)
        return GraphModel(self.vocabulary) if name == "onnx" else TableModel(self.vocabulary, self.config.neighbours)

    @property
    def advisers(self) -> tuple[str, ...]:
        """Names of the models that give opinions, in order."""
        return tuple(name for name in self.members if name not in self.silent)

    def keep(self, advisers: tuple[str, ...], state: bool = False) -> None:
        """Leave it the opinions of some models alone, and what they need.

        Args:
            advisers: their names.
            state: keep the sequence model too, whose state something else reads.
        """
        places = [place for place, name in enumerate(self.members) if name in advisers or (state and name == SEQUENCE)]
        members = list(self.members.items())
        self.members = nn.ModuleDict(dict(members[place] for place in places))
        self.silent = frozenset(self.members) - set(advisers)
        self.shares_J = self.shares_J[places]
        if SEQUENCE in self.members and not state:
            sequence = self.members[SEQUENCE]
            assert isinstance(sequence, SequenceModel)
            sequence.drop_idle()

    def counts(self) -> dict[str, float]:
        """What was chosen to count: a GRU4Rec in the sequence model, where it counts 1 with its SASRec, and what stands
        beside that.
        """
        found = {}
        for name, share, model in zip(self.members, self.shares_J.tolist(), self.members.values()):
            if isinstance(model, SequenceModel) and model.recurrent is not None:
                found["gru4rec"] = float(model.share)
            if name != SEQUENCE and len(self.members) > 1:
                found[name] = round(share, 4)
        return found

    def state(self, history_BL: Tensor) -> Tensor | None:
        """The state of the sequence model after each history: [B, D]; None where there is no such model."""
        if SEQUENCE not in self.members:
            return None
        sequence = self.members[SEQUENCE]
        assert isinstance(sequence, SequenceModel)
        return sequence.state(history_BL)

    def opinions(self, history_BL: Tensor, state_BD: Tensor | None = None) -> tuple[ItemBias, ...]:
        """The best items of each model for each device, and what they exceed the last of them by.

        Args:
            history_BL: of the devices.
            state_BD: see `state`; where it is known, no model reads the history for it again.
        """
        return tuple(self.opinion(name, history_BL, state_BD) for name in self.advisers)

    def opinion(self, name: str, history_BL: Tensor, state_BD: Tensor | None = None) -> ItemBias:
        """The same of one model."""
        model = self.members[name]
        assert isinstance(model, MemberModel)
        if isinstance(model, SequenceModel) and state_BD is not None:
            scores_BV = model.scores(state_BD)
        else:
            scores_BV = model.compared(history_BL)
        return best(self.shown(scores_BV, history_BL), self.items)

    @property
    def items(self) -> int:
        """K: that of the settings, or what the catalogue has."""
        return min(self.config.items, self.vocabulary - FIRST_ITEM)

    def shown(self, scores_BV: Tensor, history_BL: Tensor) -> Tensor:
        """Scores with what no device shows far below all others: [B, V]."""
        never_B2 = torch.arange(FIRST_ITEM, device=history_BL.device).expand(history_BL.shape[0], -1)
        hidden_BL = torch.cat([never_B2, history_BL], 1) if self.met == "hide" else never_B2
        return scores_BV.scatter(1, hidden_BL, -1e9)

    def score_catalogue(self, window_BL: Tensor, theta: Theta | None = None) -> Tensor:
        """The common ranking on the cloud itself: [B, V]; padding scores -inf, the unknown item as its least item."""
        # While the settings of one model are chosen, the others count nothing.
        scores = [share * model(window_BL) for share, model in zip(self.shares_J, self.members.values()) if share]
        scores_BV = torch.stack(scores).sum(0)
        scores_BV[:, PADDING] = -torch.inf
        scores_BV[:, UNKNOWN] = scores_BV[:, FIRST_ITEM:].amin(1)
        return scores_BV

    def along(self, events_BT: Tensor, wanted_BT: Tensor) -> Tensor:
        """The common ranking at some positions of right-padded sequences, each from its own last L events: [N, V]."""
        scores = []
        for share, model in zip(self.shares_J, self.members.values()):
            assert isinstance(model, MemberModel)
            scores.append(share * model.along(events_BT, wanted_BT, self.window))
        return torch.stack(scores).sum(0)

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta: Theta | None = None) -> Tensor:
        """Scores of each device's own candidates: [B, C]."""
        return self.score_catalogue(window_BL).gather(1, candidates_BC)

    def added(self, window_BL: Tensor, theta: Theta | None = None) -> Tensor | None:
        """What tables add to the likelihoods of a sequence model: [B, V]; None where they stand alone."""
        rows = [
            share * model.named(window_BL)
            for share, model in zip(self.shares_J, self.members.values())
            if isinstance(model, TableModel) and SEQUENCE in self.members
        ]
        return torch.stack(rows).sum(0) if rows else None

    def trusted(self, theta: Theta, age: int) -> Theta:
        """There is no theta to trust."""
        return theta


def best(scores_BV: Tensor, count: int) -> ItemBias:
    """The best items in any order and what they exceed the last of them by; met ones, far below, by nothing."""
    found = scores_BV.topk(count, dim=1, sorted=False)
    # Where fewer can be shown than were asked for, the last that can be is the measure.
    least_B1 = torch.where(found.values > -1e8, found.values, torch.inf).amin(1, keepdim=True)
    values_BK = (found.values - least_B1).clamp(min=0)
    return ItemBias(found.indices, values_BK)


class CloudList(nn.Module):
    """What a device shows that ranks by the cloud's list alone: the list's order, and nothing else.

    Args:
        cloud: whose common ranking the list is of.
    """

    personal = True
    normalised = False
    window = 1

    def __init__(self, cloud: CloudModel) -> None:
        super().__init__()
        self.cloud, self.vocabulary, self.generator_history = cloud, cloud.vocabulary, cloud.window

    def generate(self, history_BL: Tensor) -> Theta:
        """The list of each device: places from the last, 1, to the first, K."""
        cloud = self.cloud
        items_BK = cloud.shown(cloud.score_catalogue(history_BL), history_BL).topk(cloud.items, dim=1).indices
        places_K = torch.arange(cloud.items, 0, -1, device=history_BL.device, dtype=torch.float32)
        return Theta(None, (ItemBias(items_BK, places_K.expand(items_BK.shape)),))

    def trusted(self, theta: Theta, age: int) -> Theta:
        """The list whatever its age."""
        return theta

    def score_catalogue(self, window_BL: Tensor, theta: Theta | None = None) -> Tensor:
        """Places of the list, and nothing for all other items: [B, V]; padding scores -inf."""
        scores_BV = torch.zeros(len(window_BL), self.vocabulary, device=window_BL.device)
        bias_BV = None if theta is None else theta.bias(self.vocabulary)
        scores_BV = scores_BV if bias_BV is None else scores_BV + bias_BV
        scores_BV[:, 0] = -torch.inf
        return scores_BV

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta: Theta | None = None) -> Tensor:
        """Scores of each device's own candidates: [B, C]."""
        return self.score_catalogue(window_BL, theta).gather(1, candidates_BC)

    def added(self, window_BL: Tensor, theta: Theta | None = None) -> None:
        """The list is all there is."""
