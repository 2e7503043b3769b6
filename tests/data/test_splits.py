from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.sequences import Sequences, codes
from duetgen.data.splits import TEST, TRAIN, VALID, boundary, divide, find_rule

from .conftest import ordered

logs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40)


def log(rows: list[tuple[object, ...]], names: str = "user item timestamp") -> Sequences:
    frame = pl.DataFrame(rows, schema=names.split(), orient="row")
    return ordered(frame.with_columns(pl.col("user", "item").cast(pl.String)))


def times(some: Sequence[int]) -> list[Sequences]:
    """A log of events at these times, in two partitions."""
    return [log([(user, "x", time) for time in some[user::2]]) for user in range(2) if len(some[user::2])]


def parts(sequences: Sequences) -> list[int]:
    assert sequences.bounds is not None
    edges = zip(sequences.bounds.tolist(), sequences.lengths.tolist())
    return [part for (first, end), count in edges for part in [0] * first + [1] * (end - first) + [2] * (count - end)]


def divided(sequences: Sequences, kind: str, valid_share: float = 0.1, test_share: float = 0.1) -> Sequences:
    return divide(sequences, find_rule([sequences], kind, valid_share, test_share))


class TestOrder:
    def test_by_first_appearance_then_time_then_file(self) -> None:
        found = log([("b", "x", 3), ("a", "y", 1), ("b", "z", 1), ("b", "w", 3), ("a", "x", 0)])
        assert found.users.tolist() == [0, 1]
        assert found.offsets.tolist() == [0, 3, 5]
        # By first appearance the items are x, y, z, w.
        assert found.item_E.tolist() == [2, 0, 3, 0, 1]
        assert found.row_E.tolist() == [2, 0, 3, 4, 1]
        assert found.time_E is not None
        assert found.time_E.tolist() == [1, 3, 3, 0, 1]

    def test_without_time_the_file_is_the_order(self) -> None:
        found = log([("a", "x"), ("b", "y"), ("a", "z")], "user item")
        assert found.time_E is None
        assert found.row_E.tolist() == [0, 2, 1]

    def test_given_test_events_come_last_whatever_their_time(self) -> None:
        found = log([("a", "x", 5, 0), ("a", "y", 1, 2)], "user item timestamp part")
        assert found.row_E.tolist() == [0, 1]

    @given(logs)
    def test_is_python_sorted(self, rows: list[tuple[int, int, int]]) -> None:
        found = log(rows)
        for user, first in enumerate(dict.fromkeys(row[0] for row in rows)):
            mine = [i for i, row in enumerate(rows) if row[0] == first]
            piece = found.row_E[found.offsets[user] : found.offsets[user + 1]]
            assert piece.tolist() == sorted(mine, key=lambda i: rows[i][2])

    def test_keep_drops_users_whole(self) -> None:
        found = log([("a", "x", 1), ("b", "y", 2), ("a", "z", 3)]).keep(np.array([False, True]))
        assert (found.users.tolist(), found.offsets.tolist(), found.row_E.tolist()) == ([1], [0, 1], [1])

    def test_codes(self) -> None:
        code, distinct = codes(pl.Series("v", ["q", "p", "q"]))
        assert (code.tolist(), distinct.to_list()) == ([0, 1, 0], ["q", "p"])


class TestBoundary:
    def test_share_of_events_at_or_after_it(self) -> None:
        assert boundary(times(range(10)), 0.2) == 8
        assert boundary(times(range(10)), 0.1) == 9

    def test_with_ties_the_nearest_share(self) -> None:
        # At or after 1: 7/10, at or after 2: 1/10.
        assert boundary(times([0, 0, 0, 1, 1, 1, 1, 1, 1, 2]), 0.1) == 2
        assert boundary(times([0, 0, 0, 1, 1, 1, 1, 1, 1, 2]), 0.5) == 1

    def test_leaves_some_on_both_sides(self) -> None:
        assert boundary(times([5, 5, 5, 6]), 0.99) == 6
        assert boundary(times([5, 6, 6, 6]), 0.01) == 6
        assert boundary(times([5, 5]), 0.5) is None

    @given(st.lists(st.integers(-(10**12), 10**12) | st.integers(0, 50), min_size=2), st.floats(0.01, 0.99))
    def test_is_the_nearest_of_all_times(self, moments: list[int], share: float) -> None:
        found = boundary(times(moments), share)
        least = min(moments)
        away = {time: abs(sum(one >= time for one in moments) - share * len(moments)) for time in moments}
        best = min((distance, time) for time, distance in away.items() if time > least) if len(away) > 1 else None
        assert found == (best and best[1])


class TestTemporal:
    def test_by_hand(self) -> None:
        # Ten events at 0..9: the test is 8 and 9; of the 8 before, a quarter is 6 and 7.
        sequences = log([(i % 2, i, i) for i in range(10)])
        split = find_rule([sequences], "temporal", 0.25, 0.2).split
        assert (split.valid_from, split.test_from) == (6, 8)
        assert parts(divided(sequences, "temporal", 0.25, 0.2)) == [0, 0, 0, 1, 2] * 2

    @pytest.mark.parametrize("moments", [[7, 7, 7], [7, 7, 8]])
    def test_too_few_moments(self, moments: list[int]) -> None:
        with pytest.raises(errors.NoBoundaryError):
            find_rule([log([("a", i, t) for i, t in enumerate(moments)])], "temporal")

    def test_without_time(self) -> None:
        with pytest.raises(errors.NoTimeError):
            find_rule([log([("a", "x")], "user item")], "temporal")

    @given(logs, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
    def test_parts_are_divided_by_their_boundaries(
        self, rows: list[tuple[int, int, int]], valid: float, test: float
    ) -> None:
        sequences = log(rows)
        if len({row[2] for row in rows}) < 2:
            return
        try:
            split = find_rule([sequences], "temporal", valid, test).split
        except errors.NoBoundaryError:
            return
        time, part = sequences.time_E, np.array(parts(divided(sequences, "temporal", valid, test)))
        assert time is not None
        assert split.valid_from is not None
        assert split.test_from is not None
        assert set(part) == {0, 1, 2}
        assert time[part == 0].max() < split.valid_from <= time[part == 1].min()
        assert time[part == 1].max() < split.test_from <= time[part == 2].min()
        inside = np.diff(sequences.user_E) == 0
        assert (np.diff(part)[inside] >= 0).all()


class TestLeaveOneOut:
    def test_users_with_fewer_than_three_events_are_dropped(self) -> None:
        rows = [("a", i, i) for i in range(4)] + [("b", 1, 1), ("b", 2, 2), ("c", 1, 1)]
        found = divided(log(rows), "leave-one-out")
        assert found.users.tolist() == [0]
        assert parts(found) == [0, 0, 1, 2]
        assert find_rule([log(rows)], "leave-one-out").reason is not None

    def test_nobody_has_three(self) -> None:
        for names in ("user item timestamp", "user item"):
            rows = [("a", "x", 1)[: len(names.split())], ("b", "x", 1)[: len(names.split())]]
            with pytest.raises(errors.NoEventsLeftError) as refusal:
                find_rule([log(rows, names)], "leave-one-out")
            # Only what has times can be divided by time.
            assert ("--split temporal" in refusal.value.hint) == ("timestamp" in names)

    def test_needs_no_time(self) -> None:
        assert parts(divided(log([("a", i) for i in range(3)], "user item"), "leave-one-out")) == [0, 1, 2]


class TestGiven:
    def test_last_training_event_is_validation(self) -> None:
        rows = [("a", 1, 0), ("a", 2, 0), ("a", 3, 0), ("a", 4, 2), ("b", 1, 0), ("b", 2, 2), ("c", 5, 2)]
        assert parts(divided(log(rows, "user item part"), "given")) == [0, 0, 1, 2, 0, 2, 2]

    def test_needs_a_second_file(self) -> None:
        with pytest.raises(errors.TestInputMissingError):
            find_rule([log([("a", "x", 1)])], "given")


class TestLargeLogs:
    """More than 10,000 users: 5,000 that are drawn validate, the others' event before the last trains."""

    def divide(self, users: int, kind: str = "leave-one-out", seed: int = 0, cuts: int = 1) -> list[Sequences]:
        """Users of four events each, in some partitions."""
        row_E = np.arange(4 * users, dtype=np.int64)
        whole = Sequences(row_E[:users], 4 * np.arange(users + 1), (row_E % 4).astype(np.int32), None, row_E, None)
        of_user = np.arange(users) * cuts // users
        partitions = [whole.keep(of_user == part) for part in range(cuts)]
        rule = find_rule(partitions, kind, seed=seed)
        before = np.cumsum([0, *(len(some.users) for some in partitions)])
        return [divide(some, rule, int(n), 4 * int(n)) for some, n in zip(partitions, before)]

    def parts(self, users: int, seed: int = 0) -> np.ndarray:
        return np.array(parts(self.divide(users, seed=seed)[0])).reshape(-1, 4)

    def test_so_many_validate_and_no_event_is_lost(self) -> None:
        found = self.parts(10_001)
        assert (found[:, :2] == TRAIN).all()
        assert (found[:, 3] == TEST).all()
        assert sorted(np.unique(found[:, 2]).tolist()) == [TRAIN, VALID]
        assert (found[:, 2] == VALID).sum() == 5_000

    def test_of_fewer_all_validate(self) -> None:
        assert (self.parts(10_000)[:, 2] == VALID).all()

    def test_the_choice_is_the_seeds(self) -> None:
        one, again, other = (self.parts(10_001, seed) for seed in (0, 0, 1))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize("kind", ["leave-one-out", "random"])
    def test_is_the_same_in_any_partitions(self, kind: str) -> None:
        (whole,) = self.divide(10_001, kind)
        pieces = self.divide(10_001, kind, cuts=7)
        for name in ("users", "item_E", "row_E", "bounds"):
            assert np.array_equal(getattr(whole, name), np.concatenate([getattr(piece, name) for piece in pieces]))
