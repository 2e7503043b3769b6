import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import candidates
from duetgen.data.candidates import NEGATIVES, Drawn, draw
from duetgen.data.store import Int32, Int64, Targets


def one_device(history: list[int], target: int) -> tuple[Int32, Int64, Targets]:
    events = np.array([*history, target], dtype=np.int32)
    position = np.array([len(history)])
    return events, np.array([0, len(events)]), Targets(np.array([0]), position, np.array([0]))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestDraw:
    def test_small_catalogue_gives_what_there_is(self) -> None:
        # Known items 2..6; the device met 2 and 3 and wants 5: 4 and 6 are left.
        drawn = draw(*one_device([2, 3, 2], 5), 7, rng())
        assert drawn.shape == (1, NEGATIVES)
        assert sorted(drawn[0, :2].tolist()) == [4, 6]
        assert not drawn[0, 2:].any()

    def test_nothing_left_is_all_padding(self) -> None:
        assert not draw(*one_device([2], 3), 4, rng()).any()

    def test_items_met_later_may_be_drawn(self) -> None:
        events = np.array([2, 3, 4], dtype=np.int32)
        targets = Targets(np.array([0]), np.array([1]), np.array([0]))
        assert draw(events, np.array([0, 3]), targets, 5, rng())[0, 0] == 4

    def test_unknown_target(self) -> None:
        assert sorted(draw(*one_device([1], 1), 5, rng())[0, :3].tolist()) == [2, 3, 4]

    def test_no_targets(self) -> None:
        empty = np.zeros(0, dtype=np.int64)
        assert draw(np.array([2], dtype=np.int32), np.array([0, 1]), Targets(empty, empty, empty), 9, rng()).shape == (
            0,
            NEGATIVES,
        )

    def test_same_seed_same_draws(self) -> None:
        a, b, c = (draw(*one_device([2, 3], 5), 1000, rng(seed)) for seed in (0, 0, 1))
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)

    @pytest.mark.parametrize("vocabulary", [130, 400])
    def test_uniform_over_what_is_allowed(self, vocabulary: int) -> None:
        devices = 3000
        events = np.tile(np.array([2, 3, 4], dtype=np.int32), devices)
        offsets = np.arange(devices + 1) * 3
        targets = Targets(np.arange(devices), offsets[:-1] + 2, offsets[:-1])
        counts = np.bincount(draw(events, offsets, targets, vocabulary, rng()).ravel(), minlength=vocabulary)
        assert not counts[:5].any()
        share = NEGATIVES / (vocabulary - 5)
        # Binomial over devices: five standard deviations.
        assert abs(counts[5:] / devices - share).max() < 5 * (share * (1 - share) / devices) ** 0.5

    @given(
        st.lists(st.lists(st.integers(1, 150), min_size=2, max_size=60), min_size=1, max_size=8),
        st.integers(0, 3),
    )
    def test_never_the_target_never_met_never_twice(self, sequences: list[list[int]], seed: int) -> None:
        vocabulary = 151
        events = np.concatenate([np.array(s, dtype=np.int32) for s in sequences])
        offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])])
        device = np.arange(len(sequences))
        targets = Targets(device, offsets[1:] - 1, offsets[:-1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(candidates, "CELLS", 2 * vocabulary)
            drawn = draw(events, offsets, targets, vocabulary, rng(seed))
        for sequence, row in zip(sequences, drawn.tolist()):
            allowed = set(range(2, vocabulary)) - set(sequence)
            real = [item for item in row if item]
            assert row == real + [0] * (NEGATIVES - len(real))
            assert len(real) == len(set(real)) == min(NEGATIVES, len(allowed))
            assert set(real) <= allowed


class TestDrawn:
    DEVICES = 40

    def drawn(self, seed: int = 0) -> Drawn:
        """Devices of five events, of which the last two are targets, among 300 items."""
        offsets = np.arange(self.DEVICES + 1) * 5
        events = np.random.default_rng(1).integers(2, 300, size=5 * self.DEVICES).astype(np.int32)
        position = (offsets[:-1, None] + np.array([3, 4])).ravel()
        device = np.repeat(np.arange(self.DEVICES), 2)
        return Drawn(events, offsets, Targets(device, position, offsets[device]), 300, (seed, 1))

    def test_is_the_same_whoever_asks_for_what(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(candidates, "CHUNK", 7)
        drawn = self.drawn()
        whole = drawn[np.arange(len(drawn))]
        assert whole.shape == drawn.shape == (80, NEGATIVES)
        some = np.array([79, 3, 3, 50])
        assert np.array_equal(self.drawn()[some], whole[some])
        assert np.array_equal(self.drawn()[12], whole[12])
        assert not np.array_equal(self.drawn(1)[12], whole[12])

    def test_devices_between_those_of_the_targets_change_nothing(self) -> None:
        whole = self.drawn()
        some = whole.targets.take(np.array([6, 7, 70]))
        among_all = draw(whole.events, whole.offsets, some, 300, np.random.default_rng([0, 1, 0]))
        assert np.array_equal(Drawn(whole.events, whole.offsets, some, 300, (0, 1))[np.arange(3)], among_all)

    def test_never_met_before_across_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(candidates, "CHUNK", 7)
        drawn = self.drawn()
        for row, position in enumerate(drawn.targets.position_N.tolist()):
            met = drawn.events[position - position % 5 : position + 1]
            assert set(drawn[row].tolist()).isdisjoint(met.tolist())

    def test_the_first_chunk_is_the_seeds_own_stream(self) -> None:
        drawn = self.drawn()
        expected = draw(drawn.events, drawn.offsets, drawn.targets, 300, np.random.default_rng([0, 1]))
        assert np.array_equal(drawn[np.arange(80)], expected)
