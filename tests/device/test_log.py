"""The event log: what it keeps, and what of it survives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duetgen.device.log import EventLog, decode_records, encode_record
from duetgen.device.state import StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "state")
    yield folder
    folder.release()


def test_golden_record() -> None:
    # CRC-32 of the rest; 2 bytes of id; number 1; "ab"
    assert encode_record(1, "ab").hex() == "5c6976a7" + "0200" + "0100000000000000" + "6162"


def test_keeps_the_newest(folder: StateFolder) -> None:
    log = EventLog(folder, 3)
    log.append("abcde")
    assert log.last(3) == ["c", "d", "e"]
    assert log.last(2) == ["d", "e"]
    assert log.last(0) == []
    assert log.count == 5


def test_opens_as_it_was(folder: StateFolder) -> None:
    log = EventLog(folder, 3)
    for item in "abcde":
        log.append(item)
    again = EventLog(folder, 3)
    assert (again.last(3), again.count) == (["c", "d", "e"], 5)
    again.append("f")
    third = EventLog(folder, 3)
    assert (third.last(3), third.count) == (["d", "e", "f"], 6)


def test_the_file_stays_small(folder: StateFolder) -> None:
    log = EventLog(folder, 4)
    for number in range(1000):
        log.append([str(number)])
    assert (folder.root / "events.log").stat().st_size <= (2 * 4 + 64) * (14 + 3)
    assert EventLog(folder, 4).last(4) == ["996", "997", "998", "999"]


def test_a_torn_record_ends_the_log_and_the_next_event_mends_it(folder: StateFolder) -> None:
    path = folder.root / "events.log"
    log = EventLog(folder, 5)
    log.append(["one", "two", "three"])
    os.truncate(path, path.stat().st_size - 2)
    torn = EventLog(folder, 5)
    assert (torn.last(5), torn.count) == (["one", "two"], 2)
    torn.append(["four"])
    assert EventLog(folder, 5).last(5) == ["one", "two", "four"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_costs_the_event_that_it_hit_and_no_other(items: list[str], at: int, bit: int) -> None:
    content = b"".join(encode_record(i + 1, item) for i, item in enumerate(items))
    whole = [(i + 1, item) for i, item in enumerate(items)]
    assert decode_records(content) == (whole, True)
    damaged = bytearray(content)
    at %= len(content)
    damaged[at] ^= 1 << bit
    ends = np.cumsum([len(encode_record(1, item)) for item in items])
    hit = int(np.searchsorted(ends, at, side="right"))
    assert decode_records(bytes(damaged)) == (whole[:hit] + whole[hit + 1 :], False)


def test_a_damaged_record_in_the_middle_is_skipped_and_the_next_event_mends_the_file(folder: StateFolder) -> None:
    path = folder.root / "events.log"
    EventLog(folder, 5).append(["one", "two", "three"])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"two", b"tw\0"))
    log = EventLog(folder, 5)
    assert (log.last(5), log.count) == (["one", "three"], 3)
    log.append(["four"])
    assert EventLog(folder, 5).last(5) == ["one", "three", "four"]
    assert decode_records(path.read_bytes())[1]


@pytest.mark.parametrize("cut", [b"\xff" * 7, b"\0" * 300, encode_record(9, "x" * 40)[:20]])
def test_records_after_what_is_none_are_found(cut: bytes) -> None:
    content = encode_record(3, "a") + cut + encode_record(4, "b") + encode_record(5, "c")
    assert decode_records(content) == ([(3, "a"), (4, "b"), (5, "c")], False)


def test_records_that_come_twice_or_go_back_count_once() -> None:
    content = b"".join(encode_record(number, str(number)) for number in (1, 2, 2, 1, 3))
    assert decode_records(content) == ([(1, "1"), (2, "2"), (3, "3")], False)


def test_of_a_file_that_grew_too_large_the_newest_events_are_read(folder: StateFolder) -> None:
    (folder.root / "events.log").write_bytes(b"".join(encode_record(i, "x" * 500) for i in range(1, 400)))
    log = EventLog(folder, 3)
    assert (len(log.last(3)), log.count) == (3, 399)


@pytest.mark.parametrize("item", ["", "é" * 256, "x" * 512, "\0", "日本"])
def test_ids_are_kept_as_they_are(folder: StateFolder, item: str) -> None:
    EventLog(folder, 3).append([item])
    assert EventLog(folder, 3).last(1) == [item]


@pytest.mark.parametrize("item", ["é" * 400, "x" * 513])
def test_ids_that_no_item_can_have_are_kept_as_none(folder: StateFolder, item: str) -> None:
    log = EventLog(folder, 3)
    log.append([item])
    assert log.last(1) == EventLog(folder, 3).last(1) == [""]


def test_a_disk_that_is_full_loses_no_event(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(folder, 5)
    log.append(["a"])

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "fsync", full)
        log.append(["b"])
        log.append(["c"])
    assert log.last(5) == ["a", "b", "c"]
    assert folder.errors == 2
    log.append(["d"])
    assert EventLog(folder, 5).last(5) == ["a", "b", "c", "d"]


def test_forgets(folder: StateFolder) -> None:
    log = EventLog(folder, 4)
    log.append("abcde")
    assert log.last(9) == ["b", "c", "d", "e"]
    assert log.clear()
    assert (log.last(9), log.count) == ([], 5)
    log.append("f")
    again = EventLog(folder, 4)
    assert (again.last(9), again.count) == (["f"], 6)


def test_without_a_path_it_lives_in_memory() -> None:
    log = EventLog(None, 2)
    log.append("abc")
    assert log.last(2) == ["b", "c"]


@pytest.mark.parametrize("content", [bytes(10_000_000), b"\xff" * 10_000_000, b"\1" * 10_000_000])
def test_a_file_of_nothing_but_one_byte_holds_no_event(content: bytes) -> None:
    assert decode_records(content) == ([], False)


def test_a_record_behind_much_that_is_none_is_found_wherever_it_lies() -> None:
    for gap in (*range(40), 2**14 - 1, 2**14, 2**14 + 1, 100_003):
        content = encode_record(7, "a") + b"\xfe" * gap + encode_record(9, "b")
        assert decode_records(content) == ([(7, "a"), (9, "b")], gap == 0)
