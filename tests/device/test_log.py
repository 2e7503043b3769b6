"""The event log: what it keeps, and what of it survives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duetgen.device.log import EventLog, decode_records, encode_record


def test_golden_record() -> None:
    # CRC-32 of the rest; 2 bytes of id; number 1; "ab"
    assert encode_record(1, "ab").hex() == "5c6976a7" + "0200" + "0100000000000000" + "6162"


def test_keeps_the_newest(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.log", 3)
    log.append("abcde")
    assert log.last(3) == ["c", "d", "e"]
    assert log.last(2) == ["d", "e"]
    assert log.last(0) == []
    assert log.count == 5
    log.close()


def test_opens_as_it_was(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.log", 3)
    for item in "abcde":
        log.append(item)
    log.close()
    again = EventLog(tmp_path / "events.log", 3)
    assert (again.last(3), again.count) == (["c", "d", "e"], 5)
    again.append("f")
    again.close()
    third = EventLog(tmp_path / "events.log", 3)
    assert (third.last(3), third.count) == (["d", "e", "f"], 6)
    third.close()


def test_the_file_stays_small(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.log", 4)
    for number in range(1000):
        log.append([str(number)])
    log.close()
    assert (tmp_path / "events.log").stat().st_size <= (2 * 4 + 64) * (14 + 3)
    assert EventLog(tmp_path / "events.log", 4).last(4) == ["996", "997", "998", "999"]


def test_a_torn_record_ends_the_log_and_the_next_event_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log = EventLog(path, 5)
    log.append(["one", "two", "three"])
    log.close()
    os.truncate(path, path.stat().st_size - 2)
    torn = EventLog(path, 5)
    assert (torn.last(5), torn.count) == (["one", "two"], 2)
    torn.append(["four"])
    torn.close()
    assert EventLog(path, 5).last(5) == ["one", "two", "four"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_never_makes_an_event_that_was_not(items: list[str], at: int, bit: int) -> None:
    content = b"".join(encode_record(i + 1, item) for i, item in enumerate(items))
    whole = [(i + 1, item) for i, item in enumerate(items)]
    assert decode_records(content) == (whole, len(content))
    damaged = bytearray(content)
    damaged[at % len(content)] ^= 1 << bit
    records, _ = decode_records(bytes(damaged))
    assert records == whole[: len(records)]


@pytest.mark.parametrize("item", ["", "é" * 400, "x" * 600, "\ud800", "\0", "日本"])
def test_ids_of_any_kind_are_kept_or_cut(tmp_path: Path, item: str) -> None:
    log = EventLog(tmp_path / "events.log", 3)
    log.append([item])
    kept = log.last(1)
    log.close()
    assert len(kept[0].encode()) <= 512
    assert EventLog(tmp_path / "events.log", 3).last(1) == kept


def test_a_disk_that_is_full_loses_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / "events.log", 5)
    log.append(["a"])

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "fsync", full)
        log.append(["b"])
        log.append(["c"])
    assert log.last(5) == ["a", "b", "c"]
    assert log.disk_errors == 2
    log.append(["d"])
    log.close()
    assert EventLog(tmp_path / "events.log", 5).last(5) == ["a", "b", "c", "d"]


def test_grows_and_forgets(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.log", 2)
    log.append("abc")
    log.grow(4)
    log.append("de")
    assert log.last(9) == ["b", "c", "d", "e"]
    log.clear()
    assert (log.last(9), log.count) == ([], 5)
    log.append("f")
    log.close()
    again = EventLog(tmp_path / "events.log", 4)
    assert (again.last(9), again.count) == (["f"], 6)


def test_without_a_path_it_lives_in_memory() -> None:
    log = EventLog(None, 2)
    log.append("abc")
    log.close()
    assert log.last(2) == ["b", "c"]
