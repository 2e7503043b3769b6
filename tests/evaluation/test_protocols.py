"""What a target is ranked among, with scores given by hand."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import seal
from torch import Tensor

from duetgen.data.store import UNKNOWN, Dataset
from duetgen.documents import DamagedError
from duetgen.evaluation.errors import NonFiniteScoresError, ProtocolUnavailableError
from duetgen.evaluation.metrics import LAST
from duetgen.evaluation.protocols import CandidateRanking, Collector, FullRanking, Scored, Scores, make_ranking

INF, NAN = math.inf, math.nan


class Table:
    """A recommender whose scores are a table, one row a target of the batch."""

    window = generator_history = 1
    personal = False

    def __init__(self, scores: list[list[float]], normalised: bool = False) -> None:
        self.scores_BV = torch.tensor(scores)
        self.scores_BV[:, 0] = -INF
        self.vocabulary, self.normalised = self.scores_BV.shape[1], normalised
        self.asked: list[str] = []
        self.added_BV: Tensor | None = None

    def generate(self, history_BL: Tensor) -> Tensor:
        raise AssertionError("not personal")

    def score_catalogue(self, window_BL: Tensor, theta_BP: Tensor | None) -> Tensor:
        self.asked.append("catalogue")
        return self.scores_BV

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta_BP: Tensor | None) -> Tensor:
        self.asked.append("candidates")
        return self.scores_BV.gather(1, candidates_BC)

    def added(self, window_BL: Tensor, theta_BP: Tensor | None) -> Tensor | None:
        return self.added_BV


def scores_of(table: Table, targets: int) -> Scores:
    return Scores(table, torch.ones(targets, 1, dtype=torch.long), None)


def full(table: Table, targets: list[int], with_loss: bool = True) -> Scored:
    return FullRanking(np.array(targets), with_loss=with_loss).rank(
        scores_of(table, len(targets)), slice(0, len(targets))
    )


def among(table: Table, targets: list[int], others: list[list[int]]) -> Scored:
    ranking = CandidateRanking(
        "candidates", np.array(targets), np.arange(len(targets)), np.array(others, dtype=np.int32)
    )
    return ranking.rank(scores_of(table, len(targets)), slice(0, len(targets)))


class TestFull:
    def test_rank_and_loss_by_hand(self) -> None:
        # Shares of the softmax: unknown 1/10, item 2 2/10, item 3 3/10, item 4 4/10; padding none.
        row = [9.0, *(math.log(n) for n in (1, 2, 3, 4))]
        found = full(Table([row, row]), [3, UNKNOWN])
        # The unknown item has no place, whatever it scores.
        assert found.rank_N.tolist() == [2, INF]
        assert found.count_N.tolist() == [3, 4]
        assert found.loss_N is not None
        assert found.loss_N.tolist() == pytest.approx([math.log(10 / 3), math.log(10)], rel=1e-6)

    def test_the_unknown_item_is_never_ahead(self) -> None:
        # No device can show it: it takes no place from a known target, and as a target it is missed.
        row = [0.0, 50.0, 3.0, 2.0, 1.0]
        found = full(Table([row, row, row]), [2, 4, UNKNOWN])
        assert found.rank_N.tolist() == [1, 3, INF]
        assert found.count_N.tolist() == [3, 3, 4]

    def test_ties_rank_by_the_mean_position(self) -> None:
        assert full(Table([[0.0, 1.0, 2.0, 2.0, 2.0]]), [3]).rank_N.tolist() == [(1 + 2 + 3) / 3]

    def test_rows_of_a_later_batch(self) -> None:
        ranking = FullRanking(np.array([2, 2, 3]))
        found = ranking.rank(scores_of(Table([[0.0, 1.0, 4.0, 3.0]]), 1), slice(2, 3))
        assert found.rank_N.tolist() == [2]

    @pytest.mark.parametrize("with_loss", [False, True])
    @pytest.mark.parametrize("row", [[0, 1, NAN], [0, NAN, 1], [0, NAN, NAN], [0, 1, INF], [0, INF, 1], [0, -INF, 1]])
    def test_scores_that_cannot_be_ranked(self, row: list[float], with_loss: bool) -> None:
        with pytest.raises(NonFiniteScoresError, match=r"in one batch of 2 targets"):
            full(Table([[0.0, 1.0, 2.0], list(map(float, row))]), [1, 1], with_loss)


class TestCandidates:
    ROW = (0.0, 0.5, 4.0, 3.0, 2.0, 1.0)

    def test_by_hand_with_padding(self) -> None:
        found = among(Table([list(self.ROW), list(self.ROW)]), [3, 5], [[2, 4, 5], [2, 0, 0]])
        assert found.rank_N.tolist() == [2, 2]
        assert found.count_N.tolist() == [4, 2]
        assert found.loss_N is None
        assert found.scores_NC is not None
        assert found.scores_NC.tolist() == [[3.0, 4.0, 2.0, 1.0], [1.0, 4.0, -INF, -INF]]

    def test_scores_of_a_softmax_become_log_shares_of_the_catalogue(self) -> None:
        # Shares: unknown 1/10, item 2 2/10, item 3 3/10, item 4 4/10.
        row = [9.0, *(math.log(n) for n in (1, 2, 3, 4))]
        found = among(Table([row], normalised=True), [3], [[4, 0]])
        assert found.rank_N.tolist() == [2]
        assert found.scores_NC is not None
        assert found.scores_NC[0].tolist() == pytest.approx([math.log(0.3), math.log(0.4), -INF], rel=1e-6)

    def test_what_is_added_to_some_items_leaves_the_log_shares_of_the_others(self) -> None:
        # The same shares, and log 5 more for item 4: item 3 keeps its 3/10.
        table = Table([[9.0, *(math.log(n) for n in (1, 2, 3, 20))]], normalised=True)
        table.added_BV = torch.tensor([[0.0, 0, 0, 0, math.log(5)]])
        found = among(table, [3], [[4, 2]])
        assert found.rank_N.tolist() == [2]
        assert found.scores_NC is not None
        assert found.scores_NC[0].tolist() == pytest.approx([math.log(0.3), math.log(2), math.log(0.2)], rel=1e-6)

    @pytest.mark.parametrize(("normalised", "asked"), [(True, ["catalogue"]), (False, ["catalogue", "candidates"])])
    def test_protocols_share_the_scores_of_the_catalogue(self, normalised: bool, asked: list[str]) -> None:
        table = Table([list(self.ROW)], normalised)
        scores, rows = scores_of(table, 1), slice(0, 1)
        FullRanking(np.array([3])).rank(scores, rows)
        CandidateRanking("candidates", np.array([3]), np.arange(1), np.array([[2, 4]], dtype=np.int32)).rank(
            scores, rows
        )
        assert table.asked == asked

    def test_no_other_candidate(self) -> None:
        found = among(Table([list(self.ROW)]), [5], [[0, 0]])
        assert (found.rank_N.tolist(), found.count_N.tolist()) == ([1], [1])

    def test_an_unknown_target_is_missed_whatever_it_is_ranked_among(self) -> None:
        found = among(Table([list(self.ROW)]), [UNKNOWN], [[UNKNOWN, 2, UNKNOWN]])
        assert (found.rank_N.tolist(), found.count_N.tolist()) == ([INF], [4])

    def test_the_unknown_item_is_behind_all_known_ones_and_before_padding(self) -> None:
        found = among(Table([[0.0, 50.0, *self.ROW[2:]]] * 2), [UNKNOWN, 5], [[2, 5, 0], [2, UNKNOWN, 0]])
        assert found.rank_N.tolist() == [INF, 2]
        assert found.count_N.tolist() == [3, 3]
        assert found.scores_NC is not None
        assert found.scores_NC.tolist() == [[np.float32(LAST), 4.0, 1.0, -INF], [1.0, 4.0, np.float32(LAST), -INF]]

    def test_rows_are_looked_up_in_all_candidates_of_the_part(self) -> None:
        others = np.array([[9], [2], [9], [4]], dtype=np.int32)
        ranking = CandidateRanking("candidates", np.array([3, 3]), np.array([1, 3]), others)
        found = ranking.rank(scores_of(Table([list(self.ROW), list(self.ROW)]), 2), slice(0, 2))
        assert found.rank_N.tolist() == [2, 1]

    @pytest.mark.parametrize("bad", [NAN, INF])
    @pytest.mark.parametrize("item", [3, 4])
    def test_scores_that_cannot_be_ranked(self, bad: float, item: int) -> None:
        row = list(self.ROW)
        row[item] = bad
        with pytest.raises(NonFiniteScoresError):
            among(Table([row]), [3], [[2, 4]])

    def test_normaliser_that_is_not_finite(self) -> None:
        with pytest.raises(NonFiniteScoresError):
            among(Table([[*self.ROW[:-1], NAN]], normalised=True), [3], [[2, 4]])

    def test_what_padding_would_score_does_not_matter(self) -> None:
        class OddPadding(Table):
            def score(self, window_BL: Tensor, candidates_BC: Tensor, theta_BP: Tensor | None) -> Tensor:
                return super().score(window_BL, candidates_BC, theta_BP).masked_fill(candidates_BC == 0, NAN)

        assert among(OddPadding([list(self.ROW)]), [3], [[2, 0]]).rank_N.tolist() == [2]


class TestCollector:
    def test_batches_become_whole_arrays(self) -> None:
        collector = Collector(3)
        collector.add(slice(0, 2), Scored(np.array([1.0, 2.0]), np.array([5, 6]), np.array([0.1, 0.2])))
        collector.add(slice(2, 3), Scored(np.array([3.0]), np.array([7]), np.array([0.3])))
        whole = collector.result()
        assert (whole.rank_N.tolist(), whole.count_N.tolist()) == ([1, 2, 3], [5, 6, 7])
        assert whole.loss_N is not None
        assert whole.loss_N.tolist() == [0.1, 0.2, 0.3]
        assert whole.scores_NC is None


class TestMakeRanking:
    @pytest.fixture
    def copy(self, text: Dataset, tmp_path: Path) -> Dataset:
        shutil.copytree(text.root, tmp_path / "copy")
        return Dataset(tmp_path / "copy")

    def rows(self, dataset: Dataset) -> np.ndarray:
        return np.arange(len(dataset.targets("test")))

    @pytest.mark.parametrize("name", ["full", "candidates", "given"])
    def test_names(self, text: Dataset, name: str) -> None:
        assert make_ranking(name, text, "test", self.rows(text)).name == name

    @pytest.mark.parametrize("name", ["", "Full", "sampled", "../given"])
    def test_no_such_protocol(self, text: Dataset, name: str) -> None:
        with pytest.raises(ProtocolUnavailableError, match="there is no protocol"):
            make_ranking(name, text, "test", self.rows(text))

    def test_dataset_without_candidates(self, plain: Dataset) -> None:
        with pytest.raises(ProtocolUnavailableError, match="no candidates for the protocol `given`"):
            make_ranking("given", plain, "test", self.rows(plain))

    def test_given_candidates_are_of_the_test_part(self, text: Dataset) -> None:
        with pytest.raises(ProtocolUnavailableError, match="test part only"):
            make_ranking("given", text, "valid", np.arange(1))

    @pytest.mark.parametrize("content", [b"", b"not an array", None])
    def test_damaged_candidates(self, copy: Dataset, content: bytes | None) -> None:
        path = copy.root / "given/test.npy"
        path.write_bytes(path.read_bytes()[:-4] if content is None else content)
        with pytest.raises(DamagedError, match="damaged"):
            make_ranking("given", copy, "test", self.rows(copy))

    def test_candidates_of_other_targets(self, copy: Dataset) -> None:
        np.save(copy.root / "given/test.npy", np.load(copy.root / "given/test.npy")[:-1])
        copy = seal(copy.root)
        with pytest.raises(DamagedError, match="damaged"):
            make_ranking("given", copy, "test", self.rows(copy))

    @pytest.mark.parametrize("bad", [-1, 10_000])
    def test_candidates_beyond_the_catalogue(self, copy: Dataset, bad: int) -> None:
        others = np.load(copy.root / "given/test.npy")
        others[-1, -1] = bad
        np.save(copy.root / "given/test.npy", others)
        copy = seal(copy.root)
        with pytest.raises(ProtocolUnavailableError, match="items that it does not have"):
            make_ranking("given", copy, "test", self.rows(copy))

    @pytest.mark.parametrize("cut", [slice(None, None, -1), slice(1, None), slice(0, 0)])
    def test_given_candidates_that_do_not_begin_with_the_target(self, copy: Dataset, cut: slice) -> None:
        given = np.load(copy.root / "given/test.npy")
        np.save(copy.root / "given/test.npy", given[:, cut].copy())
        copy = seal(copy.root)
        with pytest.raises(ProtocolUnavailableError, match="do not begin with the targets"):
            make_ranking("given", copy, "test", self.rows(copy))
