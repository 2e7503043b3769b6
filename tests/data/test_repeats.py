"""How often events repeat, rows that stand twice, and the policy that follows, by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.repeats import choose_policy, exact_repeats
from duetgen.data.store import Dataset, Manifest, Repeats

from .conftest import Write, ordered

HEAD = "user,item,timestamp\n"
# Training (t < 30): a has x, y, x; b has y, y at one time (an exact repeat) and z. So one of five repeats.
LOG = HEAD + "a,x,10\na,y,11\na,x,12\nb,y,10\nb,y,10\nb,z,11\na,y,30\nb,z,31\na,x,40\nb,y,41\n"


def of(path: Path, out: Path, **settings: object) -> Manifest:
    return prepare(path, out, PrepareConfig(test_share=0.2, valid_share=0.2, **settings))  # type: ignore[arg-type]


class TestRepeats:
    def test_share_of_training_events_by_hand(self, write: Write, tmp_path: Path) -> None:
        manifest = of(write("log.csv", LOG), tmp_path / "out")
        assert manifest.split.valid_from == 30
        assert manifest.repeats == Repeats(share=1 / 5, events=5, exact_rows=1, dropped=False)
        assert (manifest.met, manifest.counts.events) == ("show", 10)

    def test_dropped_rows_are_a_step_of_the_manifest(self, write: Write, tmp_path: Path) -> None:
        manifest = of(write("log.csv", LOG), tmp_path / "out", drop_repeats=True)
        assert (manifest.repeats.exact_rows, manifest.repeats.dropped, manifest.counts.events) == (1, True, 9)
        (dropped,) = [step for step in manifest.steps if step.name == "repeats"]
        assert (dropped.events_in, dropped.events_out) == (10, 9)

    def test_a_log_with_every_row_twice_is_the_log_itself_once_they_are_dropped(
        self, write: Write, tmp_path: Path
    ) -> None:
        rows = [f"u{u},i{(3 * u + t) % 11},{100 * t + u}\n" for t in range(12) for u in range(6)]
        once = of(write("once.csv", HEAD + "".join(rows)), tmp_path / "once", name="one")
        twice = write("twice.csv", HEAD + "".join(row for row in rows for _ in range(2)))
        dropped = of(twice, tmp_path / "dropped", name="one", drop_repeats=True)
        assert dropped.content_sha256 == once.content_sha256
        assert dropped.repeats.exact_rows == len(rows)
        kept = of(twice, tmp_path / "kept", name="one")
        assert (kept.repeats.share, kept.repeats.dropped) == (once.repeats.share, False)

    def test_rare_items_which_are_one_index_do_not_repeat(self, write: Write, tmp_path: Path) -> None:
        log = HEAD + "".join(f"a,rare{t},{t}\nb,x,{t}\n" for t in range(8)) + "a,x,20\nb,x,30\n"
        manifest = of(write("log.csv", log), tmp_path / "out", min_item_events=2)
        # b has x in all of its training events; a's are of no known item.
        assert manifest.repeats.share == (manifest.repeats.events - 1) / manifest.repeats.events

    def test_without_time_a_row_that_follows_its_like_counts(self) -> None:
        # In order, a has x, x, y, x and b has x, x.
        events = pl.DataFrame({"user": ["a", "b", "a", "a", "b", "a"], "item": ["x", "x", "x", "y", "x", "x"]})
        assert exact_repeats(ordered(events)).tolist() == [False, True, False, False, False, True]

    def test_with_time_a_row_counts_wherever_it_stands_again(self) -> None:
        events = pl.DataFrame({"user": ["a"] * 4, "item": ["x", "y", "x", "y"], "timestamp": [1, 2, 1, 1]})
        assert exact_repeats(ordered(events)).tolist() == [False, True, False, False]

    def test_among_events_that_came_divided_too(self) -> None:
        events = pl.DataFrame({"user": ["a"] * 3, "item": ["x", "y", "x"], "timestamp": [1, 2, 1], "part": [0, 0, 2]})
        assert exact_repeats(ordered(events)).tolist() == [False, False, True]


class TestPolicy:
    @pytest.mark.parametrize(("share", "expected"), [(0.0, "hide"), (0.0099, "hide"), (0.01, "show"), (0.9, "show")])
    def test_auto_hides_below_one_in_a_hundred(self, share: float, expected: str) -> None:
        assert choose_policy("auto", Repeats(share=share, events=100, exact_rows=0, dropped=False)) == expected

    @pytest.mark.parametrize("met", ["hide", "show"])
    def test_what_is_asked_for_holds_and_is_part_of_the_content(self, write: Write, tmp_path: Path, met: str) -> None:
        manifest = of(write("log.csv", LOG), tmp_path / "out", met=met)
        assert Dataset(tmp_path / "out").manifest.met == manifest.met == met
        other = of(write("log.csv", LOG), tmp_path / "other", met="show" if met == "hide" else "hide")
        assert manifest.content_sha256 != other.content_sha256
