import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.sequences import Sequences, codes, order
from duetgen.data.splits import TEST, TRAIN, VALID, Division, boundary, divide, leave_one_out, temporal
from duetgen.data.splits import given as given_split

logs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40)


def log(rows: list[tuple[object, ...]], names: str = "user item timestamp") -> Sequences:
    frame = pl.DataFrame(rows, schema=names.split(), orient="row")
    return order(frame.with_columns(pl.col("user", "item").cast(pl.String)))


class TestOrder:
    def test_by_first_appearance_then_time_then_file(self) -> None:
        found = log([("b", "x", 3), ("a", "y", 1), ("b", "z", 1), ("b", "w", 3), ("a", "x", 0)])
        assert found.users.to_list() == ["b", "a"]
        assert found.items.to_list() == ["x", "y", "z", "w"]
        assert found.offsets.tolist() == [0, 3, 5]
        assert found.items.gather(found.item_E).to_list() == ["z", "x", "w", "x", "y"]
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
        for user in range(len(found.users)):
            mine = [i for i, row in enumerate(rows) if str(row[0]) == found.users[user]]
            piece = found.row_E[found.offsets[user] : found.offsets[user + 1]]
            assert piece.tolist() == sorted(mine, key=lambda i: rows[i][2])

    def test_keep_drops_users_whole(self) -> None:
        found = log([("a", "x", 1), ("b", "y", 2), ("a", "z", 3)]).keep(np.array([False, True]))
        assert (found.users.to_list(), found.offsets.tolist(), found.row_E.tolist()) == (["b"], [0, 1], [1])

    def test_codes(self) -> None:
        code, distinct = codes(pl.Series("v", ["q", "p", "q"]))
        assert (code.tolist(), distinct.to_list()) == ([0, 1, 0], ["q", "p"])


class TestBoundary:
    def test_share_of_events_at_or_after_it(self) -> None:
        assert boundary(np.arange(10), 0.2) == 8
        assert boundary(np.arange(10), 0.1) == 9

    def test_with_ties_the_nearest_share(self) -> None:
        # At or after 1: 7/10, at or after 2: 1/10.
        assert boundary(np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 2]), 0.1) == 2
        assert boundary(np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 2]), 0.5) == 1

    def test_leaves_some_on_both_sides(self) -> None:
        assert boundary(np.array([5, 5, 5, 6]), 0.99) == 6
        assert boundary(np.array([5, 6, 6, 6]), 0.01) == 6
        assert boundary(np.array([5, 5]), 0.5) is None


class TestTemporal:
    def test_by_hand(self) -> None:
        # Ten events at 0..9: the test is 8 and 9; of the 8 before, a quarter is 6 and 7.
        found = temporal(log([(i % 2, i, i) for i in range(10)]), 0.25, 0.2)
        assert (found.split.valid_from, found.split.test_from) == (6, 8)
        assert found.part_E.tolist() == [0, 0, 0, 1, 2] * 2

    @pytest.mark.parametrize("times", [[7, 7, 7], [7, 7, 8]])
    def test_too_few_moments(self, times: list[int]) -> None:
        with pytest.raises(errors.NoBoundaryError):
            temporal(log([("a", i, t) for i, t in enumerate(times)]), 0.1, 0.1)

    def test_without_time(self) -> None:
        with pytest.raises(errors.NoTimeError):
            temporal(log([("a", "x")], "user item"), 0.1, 0.1)

    @given(logs, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
    def test_parts_are_divided_by_their_boundaries(
        self, rows: list[tuple[int, int, int]], valid: float, test: float
    ) -> None:
        sequences = log(rows)
        if len({row[2] for row in rows}) < 2:
            return
        try:
            found = temporal(sequences, valid, test)
        except errors.NoBoundaryError:
            return
        time, part = sequences.time_E, found.part_E
        assert time is not None
        assert found.split.valid_from is not None
        assert found.split.test_from is not None
        assert set(part) == {0, 1, 2}
        assert time[part == 0].max() < found.split.valid_from <= time[part == 1].min()
        assert time[part == 1].max() < found.split.test_from <= time[part == 2].min()
        inside = np.diff(sequences.user_E) == 0
        assert (np.diff(part)[inside] >= 0).all()


class TestLeaveOneOut:
    def test_users_with_fewer_than_three_events_are_dropped(self) -> None:
        rows = [("a", i, i) for i in range(4)] + [("b", 1, 1), ("b", 2, 2), ("c", 1, 1)]
        found = leave_one_out(log(rows))
        assert found.sequences.users.to_list() == ["a"]
        assert found.part_E.tolist() == [0, 0, 1, 2]
        assert found.reason is not None

    def test_nobody_has_three(self) -> None:
        with pytest.raises(errors.NoEventsLeftError):
            leave_one_out(log([("a", "x", 1), ("b", "x", 1)]))

    def test_needs_no_time(self) -> None:
        assert leave_one_out(log([("a", i) for i in range(3)], "user item")).part_E.tolist() == [0, 1, 2]


class TestGiven:
    def test_last_training_event_is_validation(self) -> None:
        rows = [("a", 1, 0), ("a", 2, 0), ("a", 3, 0), ("a", 4, 2), ("b", 1, 0), ("b", 2, 2), ("c", 5, 2)]
        found = given_split(log(rows, "user item part"))
        assert found.part_E.tolist() == [0, 0, 1, 2, 0, 2, 2]

    def test_needs_a_second_file(self) -> None:
        with pytest.raises(errors.TestInputMissingError):
            divide(log([("a", "x", 1)]), "given", 0.1, 0.1)


class TestLargeLogs:
    """More than 10,000 users: 5,000 that are drawn validate, the others' event before the last trains."""

    def divide(self, users: int, seed: int = 0) -> Division:
        events = pl.DataFrame(
            {"user": [f"u{u}" for u in range(users) for _ in range(4)], "item": ["a", "b", "c", "d"] * users}
        )
        return divide(order(events), "leave-one-out", 0.1, 0.1, seed)

    def test_so_many_validate_and_no_event_is_lost(self) -> None:
        parts = self.divide(10_001).part_E.reshape(-1, 4)
        assert (parts[:, :2] == TRAIN).all()
        assert (parts[:, 3] == TEST).all()
        assert sorted(np.unique(parts[:, 2]).tolist()) == [TRAIN, VALID]
        assert (parts[:, 2] == VALID).sum() == 5_000

    def test_of_fewer_all_validate(self) -> None:
        assert (self.divide(10_000).part_E.reshape(-1, 4)[:, 2] == VALID).all()

    def test_the_choice_is_the_seeds(self) -> None:
        one, again, other = (self.divide(10_001, seed).part_E for seed in (0, 0, 1))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)
