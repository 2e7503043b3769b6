"""What replaces something is killed before each of its changes of the disk: the old or the new is there, whole."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from duetgen import files
from duetgen.export.keys import load_key, new_key
from duetgen.files import new_folder, write_bytes
from duetgen.jobfolder import Job, work_in

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")

NAMES = {"a", "b", "mark"}
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "exchange")


def killed(work: Callable[[], None], at: int, exchanges: bool = True) -> bool:
    """Run in a process that SIGKILL ends just before its `at`-th change of the disk; whether it got that far."""
    child = os.fork()
    if not child:
        code = 1
        try:
            die_before(at, exchanges)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def die_before(at: int, exchanges: bool) -> None:
    count, real = 0, files.exchange

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        creates = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in CHANGES or creates:
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

    def exchange(one: Path, other: Path) -> bool:
        sys.audit("exchange")
        return exchanges and real(one, other)

    files.exchange = exchange
    sys.addaudithook(heard)


def fill(folder: Path, text: str) -> None:
    for name in sorted(NAMES):
        (folder / name).write_text(text)


def folder_by_folder(root: Path) -> None:
    with new_folder(root, marker="mark", own=NAMES, overwrite=True) as folder:
        fill(folder, "new")


def job_by_job(root: Path) -> None:
    job = Job("a job's folder", "another job", "mark", partial(fill, text="new"), lambda: "all", frozenset(NAMES))
    with work_in(root, job, overwrite=True):
        pass


def whole(root: Path) -> str:
    """What a folder holds: one text in all of its files."""
    found = {path.name: path.read_text() for path in root.iterdir() if path.name != ".lock"}
    assert set(found) == NAMES
    (text,) = set(found.values())
    return text


@pytest.mark.parametrize("work", [folder_by_folder, job_by_job])
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two-renames"])
def test_a_folder_is_the_old_or_the_new_whatever_the_moment(
    tmp_path: Path, work: Callable[[Path], None], exchanges: bool
) -> None:
    root, at, seen = tmp_path / "place" / "root", 1, []
    root.mkdir(parents=True)
    fill(root, "old")
    while killed(partial(work, root), at, exchanges):
        if not exchanges:  # Here there is a moment without, and the next run puts the old one back.
            files.sweep(root)
        seen.append(whole(root))
        fill(root, "old")
        at += 1
    assert whole(root) == "new"
    assert {"old", "new"} == set(seen)
    # What all those kills have left is gone.
    assert {path.name for path in root.parent.iterdir()} == {"root"}
    assert {path.name for path in root.iterdir()} == NAMES


def test_a_file_is_the_old_or_the_new_whatever_the_moment(tmp_path: Path) -> None:
    root, at = tmp_path / "file", 1
    root.write_bytes(b"old")
    while killed(partial(write_bytes, root, b"new"), at):
        assert root.read_bytes() in (b"old", b"new")
        at += 1
    assert at > 2
    assert root.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_key_is_whole_or_not_there_whatever_the_moment(tmp_path: Path) -> None:
    root, at = tmp_path / "key.pem", 1
    while killed(partial(new_key, root), at):
        if root.exists():
            load_key(root)
            root.unlink()
        at += 1
    assert at > 2
    load_key(root)
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_what_another_process_writes_is_not_swept(tmp_path: Path) -> None:
    with new_folder(tmp_path / "root", marker="mark", overwrite=True) as folder:
        fill(folder, "mine")
        assert not killed(partial(folder_by_folder, tmp_path / "root"), 0)
        assert whole(folder) == "mine"
        assert whole(tmp_path / "root") == "new"


@pytest.mark.parametrize("name", [".root.backup", ".root.12345678", ".root.x.abcdefgh.duet", "root.abcdefgh.duet"])
def test_somebody_elses_hidden_files_are_not_swept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("years of work")
    folder_by_folder(tmp_path / "root")
    write_bytes(tmp_path / "root/a", b"newer")
    assert (tmp_path / name).read_text() == "years of work"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    fill(tmp_path / "far", "old")
    (tmp_path / "root").symlink_to(tmp_path / "far")
    folder_by_folder(tmp_path / "root")
    assert (whole(tmp_path / "root"), whole(tmp_path / "far")) == ("new", "old")
    assert {path.name for path in tmp_path.iterdir()} == {"root", "far"}
