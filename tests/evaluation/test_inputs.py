"""What the device model and the generator read, against a loop over targets."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import MakeDataset, write_dataset

from duetgen.data.store import Dataset, Targets
from duetgen.evaluation.conditions import Condition, Kind
from duetgen.evaluation.errors import NothingToEvaluateError
from duetgen.evaluation.inputs import (
    HistoryReader,
    another_device,
    histories,
    history_lengths,
    random_items,
    target_items,
    windows,
)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Devices of 1 to 9 events, some without validation or test events; every event is an item of its own."""
    lengths, bounds = [9, 1, 2, 6, 3, 5], [(3, 6), (0, 0), (1, 2), (2, 2), (0, 1), (1, 3)]
    ends = np.cumsum(lengths)
    sequences = [list(range(2 + end - length, 2 + end)) for length, end in zip(lengths, ends)]
    root: Path = tmp_path_factory.mktemp("inputs") / "uneven"
    return write_dataset(root, sequences, bounds=bounds)


def last(dataset: Dataset, start: int, end: int, length: int) -> list[int]:
    kept = dataset.events[start:end].tolist()[-length:] if length else []
    return kept + [0] * (length - len(kept))


PARTS = pytest.mark.parametrize("part", ["valid", "test"])


class TestReading:
    @PARTS
    @pytest.mark.parametrize("length", [0, 1, 3, 50])
    def test_windows_end_before_the_target(self, uneven: Dataset, part: str, length: int) -> None:
        targets = uneven.targets(part)  # type: ignore[arg-type]
        expected = [
            last(uneven, start, position, length)
            for start, position in zip(targets.start_N.tolist(), targets.position_N.tolist())
        ]
        assert windows(uneven, targets, length).tolist() == expected

    @PARTS
    @pytest.mark.parametrize("length", [1, 3, 50])
    @pytest.mark.parametrize("staleness", [0, 1, 2, 5, 1000])
    def test_histories_end_some_events_earlier(self, uneven: Dataset, part: str, length: int, staleness: int) -> None:
        targets = uneven.targets(part)  # type: ignore[arg-type]
        expected = [
            last(uneven, start, max(position - staleness, start + 1), length)
            for start, position in zip(targets.start_N.tolist(), targets.position_N.tolist())
        ]
        assert histories(uneven, targets, length, staleness).tolist() == expected

    def test_by_hand(self, uneven: Dataset) -> None:
        # The first device has events 2..10, of which 8, 9, 10 are the test.
        targets = uneven.targets("test").take(slice(0, 3))
        assert target_items(uneven, targets).tolist() == [8, 9, 10]
        assert history_lengths(targets).tolist() == [6, 7, 8]
        assert windows(uneven, targets, 3).tolist() == [[5, 6, 7], [6, 7, 8], [7, 8, 9]]
        assert histories(uneven, targets, 4, staleness=5).tolist() == [[2, 0, 0, 0], [2, 3, 0, 0], [2, 3, 4, 0]]

    def test_older_than_the_history_leaves_the_first_event(self, uneven: Dataset) -> None:
        targets = uneven.targets("test")
        found = histories(uneven, targets, 3, staleness=1_000_000)
        assert found[:, 0].tolist() == uneven.events[targets.start_N].tolist()
        assert not found[:, 1:].any()

    def test_nothing_reads_the_target_or_what_follows(self, uneven: Dataset) -> None:
        targets = uneven.targets("test")
        item_N1 = target_items(uneven, targets)[:, None]
        # Items are numbered in the order of events here.
        assert (windows(uneven, targets, 50) < item_N1).all()
        assert (histories(uneven, targets, 50) < item_N1).all()


class TestAnotherDevice:
    @pytest.mark.parametrize("seed", range(10))
    def test_nobody_gets_its_own_and_everybody_gives_once(self, uneven: Dataset, seed: int) -> None:
        targets = uneven.targets("test")
        giver_N = targets.device_N[another_device(targets, seed)]
        assert (giver_N != targets.device_N).all()
        of_device = {int(taker): set(giver_N[targets.device_N == taker]) for taker in np.unique(targets.device_N)}
        assert all(len(givers) == 1 for givers in of_device.values())
        assert sorted(min(givers) for givers in of_device.values()) == sorted(of_device)

    def test_the_circle_is_one(self, temporal: Dataset) -> None:
        targets = temporal.targets("test")
        giver_of = dict(zip(targets.device_N, targets.device_N[another_device(targets, 0)]))
        first = device = min(giver_of)
        seen = []
        while not seen or device != first:
            seen.append(device)
            device = giver_of[device]
        assert sorted(seen) == sorted(giver_of)

    def test_targets_in_turn_and_again_where_the_giver_has_fewer(self) -> None:
        targets = Targets(np.array([3, 3, 3, 8, 8]), np.array([5, 6, 7, 20, 21]), np.array([0, 0, 0, 15, 15]))
        assert another_device(targets, 0).tolist() == [3, 4, 3, 0, 1]

    def test_follows_from_the_seed(self, temporal: Dataset) -> None:
        targets = temporal.targets("test")
        assert another_device(targets, 1).tolist() == another_device(targets, 1).tolist()
        assert another_device(targets, 1).tolist() != another_device(targets, 2).tolist()

    def test_alone(self, make_dataset: MakeDataset) -> None:
        with pytest.raises(NothingToEvaluateError, match="two devices"):
            another_device(make_dataset([[2, 3, 4, 5]]).targets("test"), 0)


class TestRandomItems:
    @pytest.fixture
    def popular(self, make_dataset: MakeDataset) -> Dataset:
        # In training: unknown once, 2 six times, 3 three times; 4 and 5 only later; 6 never.
        return make_dataset([[2, 2, 2, 3, 1, 4, 5], [2, 2, 2, 3, 3, 4, 5]], vocabulary=7)

    def test_follow_popularity_in_training(self, popular: Dataset) -> None:
        drawn = random_items(popular, (200, 100), seed=0)
        assert drawn.shape == (200, 100)
        assert drawn.dtype == np.int32
        share = np.bincount(drawn.ravel(), minlength=7) / drawn.size
        assert share[[0, 4, 5, 6]].tolist() == [0, 0, 0, 0]
        # Four standard errors of a share of one half, the widest: 4 · ½ / √20000.
        assert share[1:4] == pytest.approx([1 / 10, 6 / 10, 3 / 10], abs=0.0142)

    def test_follow_from_the_seed(self, popular: Dataset) -> None:
        one, again, other = (random_items(popular, (3, 50), seed) for seed in (1, 1, 2))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize(("draw", "item"), [(0.0, 1), (0.1, 2), (0.7, 3), (np.nextafter(1, 0), 3), (1.0, 3)])
    def test_draws_at_the_edges(
        self, popular: Dataset, draw: float, item: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Draws:
            def random(self, shape: tuple[int, int]) -> np.ndarray:
                return np.full(shape, draw)

        monkeypatch.setattr(np.random, "default_rng", lambda seed: Draws())
        assert random_items(popular, (1, 1), seed=0).tolist() == [[item]]

    def test_without_training_events_all_items_are_alike(self, make_dataset: MakeDataset) -> None:
        empty = make_dataset([[2, 3], [3, 2]], vocabulary=5, bounds=[(0, 1), (0, 1)])
        assert set(random_items(empty, (10, 50), 0).ravel().tolist()) == {1, 2, 3, 4}


class TestHistoryReader:
    def read_all(self, reader: HistoryReader, total: int, size: int) -> list[list[int]]:
        rows = []
        for first in range(0, total, size):
            history_HL, which_B = reader.read(slice(first, min(first + size, total)))
            assert len(np.unique(history_HL, axis=0)) == len(history_HL)
            rows += history_HL[which_B].tolist()
        return rows

    @pytest.mark.parametrize("size", [1, 4, 1000])
    @pytest.mark.parametrize("staleness", [0, 2, 1000])
    def test_own(self, uneven: Dataset, size: int, staleness: int) -> None:
        targets = uneven.targets("test")
        index_N = np.arange(len(targets))
        reader = HistoryReader(uneven, targets, index_N, Condition("own", staleness), 4, seed=0)
        expected = histories(uneven, targets, 4, staleness).tolist()
        assert self.read_all(reader, len(targets), size) == expected

    @pytest.mark.parametrize("staleness", [0, 2])
    def test_another_reads_what_the_giver_would(self, uneven: Dataset, staleness: int) -> None:
        targets = uneven.targets("test")
        index_N = np.arange(len(targets))
        reader = HistoryReader(uneven, targets, index_N, Condition("another", staleness), 4, seed=5)
        expected = histories(uneven, targets, 4, staleness)[another_device(targets, 5)].tolist()
        assert self.read_all(reader, len(targets), 3) == expected

    def test_another_of_a_selection_is_sought_among_everyone(self, uneven: Dataset) -> None:
        targets = uneven.targets("test")
        index_N = np.flatnonzero(targets.device_N == 0)
        reader = HistoryReader(uneven, targets, index_N, Condition("another"), 4, seed=5)
        expected = histories(uneven, targets, 4)[another_device(targets, 5)[index_N]].tolist()
        assert self.read_all(reader, len(index_N), 10) == expected

    @pytest.mark.parametrize("staleness", [0, 2])
    def test_random_is_as_long_as_the_real_one_and_grows_with_it(self, temporal: Dataset, staleness: int) -> None:
        targets = temporal.targets("test")
        reader = HistoryReader(temporal, targets, np.arange(len(targets)), Condition("random", staleness), 30, seed=0)
        made = np.array(self.read_all(reader, len(targets), 7))
        real = histories(temporal, targets, 30, staleness)
        assert ((made != 0) == (real != 0)).all()
        assert not np.array_equal(made, real)
        for device in np.unique(targets.device_N):
            mine = made[targets.device_N == device]
            for shorter, longer in itertools.pairwise(mine):
                inside = shorter != 0
                assert (shorter[inside] == longer[inside]).all()
        firsts = {tuple(made[targets.device_N == device][0]) for device in np.unique(targets.device_N)}
        assert len(firsts) == len(np.unique(targets.device_N))

    @pytest.mark.parametrize(("kind", "differs"), [("own", False), ("another", True), ("random", True)])
    def test_only_the_controls_depend_on_the_seed(self, temporal: Dataset, kind: Kind, differs: bool) -> None:
        targets = temporal.targets("test")
        one, other = (
            HistoryReader(temporal, targets, np.arange(len(targets)), Condition(kind), 12, seed).read(slice(0, 20))
            for seed in (0, 1)
        )
        assert (one[0].tolist() != other[0].tolist()) is differs
