"""What workers tell each other, and which of them are still there."""

from __future__ import annotations

from pathlib import Path

from duetgen.cloud.peers import Peers

from .peers import another_worker


def test_a_worker_is_there_until_it_is_killed_and_what_it_left_stays(tmp_path: Path) -> None:
    mine = Peers(tmp_path)
    mine.write("loaded", b"mine")
    assert list(mine.others("loaded")) == []
    with another_worker(tmp_path) as other:
        other.write("loaded", "a")
        other.write("loaded", "a b")
        other.write("totals", "7")
        assert list(mine.others("loaded")) == [(b"a b", True)]
    # No process number is looked at: one that another process has by now is no sign of life.
    assert list(mine.others("loaded")) == [(b"a b", False)]
    assert list(mine.others("totals")) == [(b"7", False)]


def test_two_workers_of_one_process_number_are_two(tmp_path: Path) -> None:
    first, second = Peers(tmp_path), Peers(tmp_path)
    first.write("loaded", b"a")
    second.write("loaded", b"b")
    assert list(first.others("loaded")) == [(b"b", True)]
    assert list(second.others("loaded")) == [(b"a", True)]


def test_a_worker_alone_and_a_full_disk(tmp_path: Path) -> None:
    alone = Peers(None)
    alone.write("loaded", b"a")
    assert list(alone.others("loaded")) == []
    gone = Peers(tmp_path)
    tmp_path.joinpath("loaded-made-a-folder").mkdir()
    gone.write("no/such/folder", b"a")
    assert list(gone.others("loaded")) == []
