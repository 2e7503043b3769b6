from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from duetgen.data.sources.duet_text.chains import Edge, chain, trails


def edges_of(events: list[int], width: int = 4, tests: int = 1, first: int = 1) -> tuple[list[Edge], list[Edge]]:
    """The rows of a sequence, from its event number `first` on; the last `tests` are the test's."""
    rows = [Edge(tuple(events[max(0, i - width) : i]), events[i], width) for i in range(first, len(events))]
    return rows[: len(rows) - tests], rows[len(rows) - tests :]


class TestChain:
    def test_shuffled_rows_are_put_in_order(self) -> None:
        train, test = edges_of([1, 2, 3, 4, 5, 6, 7])
        found = chain(train[::-1], test)
        assert found is not None
        assert found.events == [1, 2, 3, 4, 5, 6, 7]
        assert found.tests == [(3, 4, 5, 6)]
        assert (found.bridged, found.lost) == (0, 0)

    def test_a_window_that_comes_twice(self) -> None:
        # 1 1 1 1 1 2 1 1 1 1 3: the window 1 1 1 1 is left three times.
        events = [1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 3]
        train, test = edges_of(events)
        found = chain(train, test)
        assert found is not None
        assert found.events == events
        assert found.lost == 0

    def test_no_test_rows(self) -> None:
        found = chain(edges_of([1, 2, 3], tests=0)[0], [])
        assert found is not None
        assert (found.events, found.tests) == ([1, 2, 3], [])

    def test_only_test_rows(self) -> None:
        found = chain([], [Edge((1, 2), 3, 4)])
        assert found is not None
        assert found.events == [1, 2, 3]

    def test_no_rows(self) -> None:
        found = chain([], [])
        assert found is not None
        assert found.events == []

    def test_history_that_begins_full(self) -> None:
        train, test = edges_of(list(range(1, 10)), first=4)
        found = chain(train, test)
        assert found is not None
        assert found.events == list(range(1, 10))

    def test_one_missing_row_is_bridged(self) -> None:
        train, test = edges_of(list(range(1, 12)))
        del train[6]
        found = chain(train, test)
        assert found is not None
        assert found.events == list(range(1, 12))
        assert (found.bridged, found.lost) == (1, 0)

    def test_too_many_missing_rows_lose_what_is_before(self) -> None:
        train, test = edges_of(list(range(1, 16)))
        # Rows of the targets 8 to 11 are missing: the next window begins where only 11 is in both.
        found = chain([edge for edge in train if not 8 <= edge.target <= 11], test)
        assert found is not None
        assert found.events == list(range(8, 16))
        assert found.lost == 6

    def test_missing_first_rows_lose_nothing(self) -> None:
        train, test = edges_of([1, 2, 3, 4, 5, 6])
        found = chain([train[0], *train[2:]], test)
        assert found is not None
        assert found.events == [1, 2, 3, 4, 5, 6]
        assert found.lost == 0

    def test_several_test_cases_in_order(self) -> None:
        train, test = edges_of([1, 2, 3, 4, 5, 6], tests=2)
        found = chain(train, test[::-1])
        assert found is not None
        assert found.tests == [(1, 2, 3, 4), (2, 3, 4, 5)]

    def test_training_after_the_test_is_refused(self) -> None:
        train, test = edges_of([1, 2, 3, 4, 5])
        assert chain([*train[:1], *train[2:], *test], train[1:2]) is None

    def test_two_test_cases_apart_are_refused(self) -> None:
        assert chain([], [Edge((1,), 2, 4), Edge((7,), 8, 4)]) is None

    @given(st.lists(st.integers(1, 3), min_size=3, max_size=30), st.integers(2, 5), st.randoms())
    def test_whatever_repeats_all_rows_are_used_and_the_test_is_last(
        self, events: list[int], width: int, random: object
    ) -> None:
        train, test = edges_of(events, width)
        random.shuffle(train)  # type: ignore[attr-defined]
        found = chain(train, test)
        assert found is not None
        assert len(found.events) == len(events)
        assert sorted(found.events) == sorted(events)
        assert found.events[-1] == events[-1]
        assert found.tests == [test[0].window]
        # The same windows and targets, in some order that fits together.
        again = edges_of(found.events, width)
        key = lambda edge: (edge.window, edge.target)  # noqa: E731
        assert sorted(map(key, again[0])) == sorted(map(key, train))

    @given(st.lists(st.integers(1, 9), min_size=4, max_size=40), st.data())
    def test_trails_use_each_row_once(self, events: list[int], data: st.DataObject) -> None:
        train, _ = edges_of(events, 3, tests=0)
        some = data.draw(st.lists(st.sampled_from(train), min_size=1))
        found = trails([(edge.window, edge.after) for edge in some])
        assert sorted(number for trail in found for number in trail) == list(range(len(some)))
        for trail in found:
            for a, b in pairwise(trail):
                assert some[a].after == some[b].window
