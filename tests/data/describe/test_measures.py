"""Figures of a dataset, by hand."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import write_dataset
from tests.pages import Page

from duetgen.data import sequences
from duetgen.data.describe import Description, describe
from duetgen.data.describe.measures import (
    DAY,
    measure_lengths,
    measure_new_items,
    measure_popularity,
    measure_sessions,
)
from duetgen.data.describe.report import render
from duetgen.data.describe.tastes import LENGTHS, measure_drift, measure_reach, place_items
from duetgen.data.describe.warnings import warn
from duetgen.data.store import Dataset

GROUPS = 6
EACH = 20
"""Items of a group; a device chooses among the first ten, its targets are among the others."""


class TestCounts:
    def test_lengths(self) -> None:
        found = measure_lengths(np.array([2, 3, 5, 6, 14]))
        assert found.mean == 30 / 5
        assert found.quantiles["0%"] == 2
        assert found.quantiles["50%"] == 5
        assert found.quantiles["100%"] == 14
        # Up to 2, 5, 10 and 20 events.
        assert found.histogram == {2: 1, 5: 2, 10: 1, 20: 1}

    def test_sessions_end_with_a_pause(self) -> None:
        times = np.array([0, 100, 5000, 5100, 5200, 7, 9, 200_000])
        found = measure_sessions(times, np.array([0, 5, 7, 8]))
        assert found.gap == 1800
        # Sessions of 2 and 3, of 2, and of 1 events.
        assert found.per_device == 1
        assert found.events == 2
        assert found.single == 2 / 3
        assert found.days_between == 4900 / DAY

    def test_sessions_of_a_log_of_days_are_days(self) -> None:
        found = measure_sessions(np.array([0, 0, 2, 3]) * DAY, np.array([0, 4]))
        assert (found.gap, found.per_device, found.events, found.days_between) == (DAY, 3, 1, 1.5)

    def test_popularity(self) -> None:
        found = measure_popularity(np.array([1, 6, 1, 2]))
        assert found.once == 2 / 4
        # A hundredth of four items is 0.04 of one, a tenth 0.4.
        assert found.top == {"1%": pytest.approx(0.04 * 6 / 10), "10%": pytest.approx(0.4 * 6 / 10)}
        assert found.curve[0] == (1 / 4, 6 / 10)
        assert found.curve[-1] == (1.0, 1.0)
        # (2 * (1*1 + 2*1 + 3*2 + 4*6) / (4 * 10)) - 5/4
        assert found.gini == pytest.approx(66 / 40 - 5 / 4)
        assert measure_popularity(np.array([3, 3, 3])).gini == pytest.approx(0)

    def test_new_items_in_order_of_time(self) -> None:
        times, items = np.array([5, 1, 2, 3, 4, 6]), np.array([2, 2, 3, 2, 1, 3])
        # In order: 2 and 3 are new, then 2, then one that is not known, then 2 and 3 again.
        offsets = np.array([0, 1, 6])
        assert measure_new_items(times, items.astype(np.int32), offsets, 4) == [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]

    @given(st.lists(st.tuples(st.integers(-3, 12), st.integers(1, 6)), min_size=1, max_size=60), st.integers(1, 9))
    def test_new_items_are_those_of_one_long_list(self, events: list[tuple[int, int]], each: int) -> None:
        times, items = (np.array(column) for column in zip(*events))
        offsets = np.append(np.arange(0, len(times), each), len(times))
        met, new = set[int](), []
        for at in sorted(range(len(times)), key=lambda at: int(times[at])):
            new.append(items[at] == 1 or int(items[at]) not in met)
            met.add(int(items[at]))
        expected = [float(part.mean()) for part in np.array_split(new, min(20, len(new)))]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sequences, "PIECE", 7)
            assert measure_new_items(times, items.astype(np.int32), offsets, 7) == pytest.approx(expected)


def of_groups(root: Path, groups: list[list[int]], seed: int = 0) -> Dataset:
    """Devices that choose from a group of items at each event; the last but one, which validates, is one not met."""
    rng = np.random.default_rng(seed)
    sequences = []
    for chosen in groups:
        group = np.array(chosen)
        items = group * EACH + rng.integers(0, EACH // 2, size=len(group))
        few = rng.permutation(np.arange(EACH // 2, EACH))
        places = rng.choice(len(group) // 2, 6, replace=False)
        items[places] = group[places] * EACH + few[:6]
        items[-2] = group[-2] * EACH + few[6]
        sequences.append((items + 2).tolist())
    return write_dataset(root, sequences, vocabulary=GROUPS * EACH + 2)


class TestTastes:
    def test_who_stays_does_not_drift(self, tmp_path: Path) -> None:
        dataset = of_groups(tmp_path / "d", [[device % GROUPS] * 60 for device in range(90)])
        rng = np.random.default_rng(1)
        drift = measure_drift(dataset, place_items(dataset, rng), rng)
        assert drift is not None
        assert drift.devices == 90
        assert drift.early_late > 0.8
        assert drift.share < 0.1

    def test_who_becomes_another_drifts_wholly(self, tmp_path: Path) -> None:
        stay = [[device % GROUPS] * 60 for device in range(120)]
        move = [[device % GROUPS] * 30 + [(device + 1) % GROUPS] * 30 for device in range(60)]
        dataset = of_groups(tmp_path / "d", stay + move)
        rng = np.random.default_rng(1)
        places = place_items(dataset, rng)
        places.row_U[:120] = 0  # Only those that move are measured; items stay where all have put them.
        drift = measure_drift(dataset, places, rng)
        assert drift is not None
        assert drift.devices == 60
        assert drift.share > 0.8

    def test_a_long_history_tells_more_where_the_last_ten_are_anything(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(2)
        noisy = []
        for device in range(120):
            groups = np.full(72, device % GROUPS)
            groups[60:70] = rng.integers(0, GROUPS, size=10)
            noisy.append(groups.tolist())
        dataset = of_groups(tmp_path / "d", noisy)
        reach = measure_reach(dataset, place_items(dataset, rng), rng)
        assert reach is not None
        assert set(reach.auc) == {length for length in LENGTHS if length <= 50}
        assert reach.auc[10] < 0.75
        assert reach.auc[50] > 0.9

    def test_the_last_events_are_enough_where_they_say_all(self, tmp_path: Path) -> None:
        dataset = of_groups(tmp_path / "d", [[device % GROUPS] * 72 for device in range(120)])
        rng = np.random.default_rng(2)
        reach = measure_reach(dataset, place_items(dataset, rng), rng)
        assert reach is not None
        assert reach.auc[10] > 0.9
        assert abs(reach.auc[50] - reach.auc[10]) < 0.05

    def test_too_little_is_not_measured(self, tmp_path: Path) -> None:
        dataset = write_dataset(tmp_path / "d", [[2, 3, 4, 5]] * 3)
        rng = np.random.default_rng(0)
        places = place_items(dataset, rng)
        assert measure_drift(dataset, places, rng) is None
        assert measure_reach(dataset, places, rng) is None


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Description:
    from duetgen.data.prepare import PrepareConfig, prepare
    from duetgen.data.sources.synthetic import SyntheticConfig

    root = tmp_path_factory.mktemp("describe") / "d"
    prepare(None, root, PrepareConfig(source="synthetic", synthetic=SyntheticConfig(people=80, items=60)))
    return describe(Dataset(root))


class TestPage:
    def test_the_same_seed_gives_the_same_figures(self, found: Description) -> None:
        assert found.devices == 80
        assert found.span is not None
        assert found.span[0].startswith("2024-01")
        assert any("Of 80 devices intervals are wide" in line for line in found.warnings)

    def test_is_whole_and_fetches_nothing(self, found: Description) -> None:
        hostile = msgspec.structs.replace(found, name="<script>alert(1)</script>")
        text = render(hostile)
        page = Page(text)
        assert (page.open, page.wrong) == ([], [])
        assert "<script" not in text
        anchors = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
        assert len(anchors) == len(set(anchors))
        for title in ("Events a device", "Sessions", "Popularity", "Cold items over time", "Drift"):
            assert title in page.text

    def test_warnings_follow_from_the_figures(self, found: Description) -> None:
        few = msgspec.structs.replace(found.lengths, quantiles=found.lengths.quantiles | {"50%": 3.0})
        bare = msgspec.structs.replace(found, lengths=few, has_time=False, tied=None, unseen=0.5, sessions=None)
        lines = " ".join(warn(bare))
        assert "Half of the devices have at most 3 events" in lines
        assert "There is no time" in lines
        assert "50% of the test targets are items that training does not know" in lines
