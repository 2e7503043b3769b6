from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.arrays import write_sequences
from duetgen.data.filters import Indexed, find_core, find_vocabulary, keep_rated
from duetgen.data.sequences import Sequences, order
from duetgen.data.spool import Spool


class Divided:
    """Events as (user, item, part), in order, in partitions of one user each."""

    def __init__(self, rows: list[tuple[str, str, int]]) -> None:
        schema = {"user": pl.String, "item": pl.String, "part": pl.UInt8}
        spool = Spool.of(pl.DataFrame(rows, schema=schema, orient="row"))
        self.users, self.items = spool.ids("user"), spool.ids("item")
        table = spool.events.with_row_index("row").collect()
        self.partitions: list[Sequences] = []
        for one in table.partition_by("user", maintain_order=True):
            bounds = np.array([[int((one["part"] <= part).sum()) for part in (0, 1)]])
            self.partitions.append(replace(order(one), bounds=bounds))

    def index(self, folder: Path, min_user_events: int = 1, min_item_events: int = 1) -> Indexed:
        core, vocabulary = find_vocabulary(self.partitions, len(self.items), min_user_events, min_item_events)
        return write_sequences(folder, self.partitions, core, vocabulary, self.users, self.items)


def events(text: str) -> list[tuple[str, str, int]]:
    """`a:xyz/v/t`: user a, training x, y, z, validation v, test t."""
    rows = []
    for piece in text.split():
        user, parts = piece.split(":")
        rows += [(user, item, part) for part, items in enumerate(parts.split("/")) for item in items]
    return rows


class TestIndex:
    def test_by_falling_training_count_ties_by_first_training_event(self, tmp_path: Path) -> None:
        found = Divided(events("a:xyz/w/q b:zy/q/q c:p")).index(tmp_path)
        # Training: y 2, z 2, x 1, p 1; y is the first of y and z, x of x and p.
        assert found.items.to_list() == ["y", "z", "x", "p"]
        assert found.counts.tolist() == [2, 2, 1, 1]
        assert found.events.tolist() == [4, 2, 3, 1, 1, 3, 2, 1, 1, 5]
        assert found.offsets.tolist() == [0, 5, 9, 10]
        assert found.bounds.tolist() == [[3, 4], [2, 3], [1, 1]]

    def test_ties_follow_the_log_not_the_order_of_users(self, tmp_path: Path) -> None:
        rows = [("a", "t", 2), ("b", "x", 0), ("a", "y", 0)]
        assert Divided(rows).index(tmp_path).items.to_list() == ["x", "y"]

    def test_item_of_validation_and_test_only_is_unknown(self, tmp_path: Path) -> None:
        assert Divided(events("a:x/y/z")).index(tmp_path).events.tolist() == [2, 1, 1]

    def test_rare_items_become_unknown_in_place(self, tmp_path: Path) -> None:
        found = Divided(events("a:xyx/y/y")).index(tmp_path, min_item_events=2)
        assert found.items.to_list() == ["x"]
        assert found.events.tolist() == [2, 1, 2, 1, 1]

    def test_device_without_training_stays_with_no_filter(self, tmp_path: Path) -> None:
        found = Divided(events("a:xx b://xxx")).index(tmp_path)
        assert found.users.to_list() == ["a", "b"]
        assert found.bounds.tolist() == [[2, 2], [0, 0]]

    def test_device_without_training_goes_with_a_core(self, tmp_path: Path) -> None:
        assert Divided(events("a:xx b://xxx")).index(tmp_path, min_user_events=2).users.to_list() == ["a"]

    def test_nothing_left(self, tmp_path: Path) -> None:
        with pytest.raises(errors.NoEventsLeftError):
            Divided(events("a:xy b:yz")).index(tmp_path, min_user_events=9)
        with pytest.raises(errors.NoEventsLeftError):
            Divided(events("a:xy b:yz")).index(tmp_path, min_item_events=9)

    def test_test_events_do_not_hold_the_core_up(self, tmp_path: Path) -> None:
        found = Divided(events("a:xx//yyyy b:yx//yy")).index(tmp_path, min_item_events=2)
        assert found.items.to_list() == ["x"]


class TestCore:
    def test_falls_step_by_step(self) -> None:
        # z is rare, so c falls below two; then y is rare, so b falls; a holds x up alone.
        found = Divided(events("a:xxx b:xy c:yz"))
        core = find_core(found.partitions, len(found.items), 2, 2)
        assert [stays.tolist() for stays in core.stays] == [[True], [False], [False]]
        assert [i for i, k in zip(found.items, core.known_I) if k] == ["x"]

    @given(
        st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("uvwxyz"), st.integers(0, 2)), min_size=1),
        st.integers(1, 4),
        st.integers(1, 4),
    )
    def test_is_the_largest_fixed_point(self, rows: list[tuple[str, str, int]], least_u: int, least_i: int) -> None:
        rows = sorted(rows, key=lambda row: (row[0], row[2]))
        found = Divided(rows)
        core = find_core(found.partitions, len(found.items), least_u, least_i)
        # By plain removal, one offender at a time.
        training = [(u, i) for u, i, part in rows if part == 0]
        users = {u for u, _, _ in rows}
        items = {i for _, i, _ in rows}
        while True:
            count = {i: sum(j == i and v in users for v, j in training) for i in items}
            have = {u: sum(v == u and j in items for v, j in training) for u in users}
            rare = [i for i in items if count[i] < least_i]
            idle = [u for u in users if have[u] < least_u and least_u > 1]
            if rare:
                items.remove(rare[0])
            elif idle:
                users.remove(idle[0])
            else:
                break
        assert {u for u, s in zip(found.users, np.concatenate(core.stays)) if s} == users
        assert {i for i, k in zip(found.items, core.known_I) if k} == items


class TestKeepRated:
    def test_at_least(self) -> None:
        frame = pl.LazyFrame({"rating": [1.0, 4.0, 5.0]})
        assert keep_rated(frame, 4).collect()["rating"].to_list() == [4.0, 5.0]

    def test_none_says_the_highest(self) -> None:
        with pytest.raises(errors.NoEventsLeftError, match="the highest is 5"):
            keep_rated(pl.LazyFrame({"rating": [1.0, 5.0]}), 6)
