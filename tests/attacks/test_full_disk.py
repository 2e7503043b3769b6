"""A disk that is full is named, with what is free on it; nothing half-written stays."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from duetgen.files import unwritable

SCRIPT = """
import sys, subprocess
from pathlib import Path
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=True)
from duetgen.errors import OutputUnwritableError
from duetgen.files import new_folder, write_bytes
import numpy as np

def file(): write_bytes(disk / "file", b"x" * 200_000)

def array():
    with new_folder(disk / "folder", marker="m") as folder:
        np.save(folder / "array.npy", np.zeros(100_000))

for write in (file, array):
    try:
        write()
    except OutputUnwritableError as error:
        print(error.message)
    print(sorted(path.name for path in disk.iterdir()))
"""


READ_ONLY = """
for place in /tmp /var/tmp "$1"; do mount --bind "$place" "$place" && mount -o remount,ro,bind "$place"; done
cd /proc && shift && exec "$@"
"""


def with_mounts(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """What a command does that mounts disks for itself alone."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no disk can be mounted here")
    return subprocess.run([*unshare, *map(str, command)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("serve {version} --open --port 0", "there is no folder for temporary files that can be written to"),
        ("keys new --out {place}/key", "cannot write {place}/key: Read-only file system"),
        ("device {version} --state {place}/state", "cannot write {place}/state: Read-only file system"),
    ],
)
def test_disks_that_can_only_be_read_are_one_line(words: str, cause: str, version: Path, tmp_path: Path) -> None:
    places = {"version": version, "place": tmp_path}
    command = [sys.executable, "-m", "duetgen", *words.format(**places).split()]
    ended = with_mounts("sh", "-c", READ_ONLY, "sh", tmp_path, *command)
    assert ended.returncode == 2
    *log, told, hint = ended.stderr.splitlines()
    assert told == f"duet: {cause.format(**places)} [output-unwritable]"
    assert hint.startswith("  hint: ")
    assert all(line.startswith("{") for line in log)


def test_a_full_disk_is_named_with_its_free_bytes(tmp_path: Path) -> None:
    disk = tmp_path.resolve() / "disk"
    disk.mkdir()
    ended = with_mounts(sys.executable, "-c", SCRIPT, disk)
    assert ended.returncode == 0, ended.stderr
    file, nothing, array, still_nothing = ended.stdout.splitlines()
    assert file.startswith(f"no space left to write {disk}/file: the disk at {disk} has ")
    assert array.startswith(f"no space left to write {disk}/folder: the disk at {disk} has ")
    assert nothing == still_nothing == "[]"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_the_disk_is_told_of_a_path_that_is_not_there_yet(tmp_path: Path, code: int) -> None:
    place = tmp_path
    while not place.is_mount():
        place = place.parent
    told = unwritable(tmp_path / "none" / "nor" / "this", OSError(code, "full")).message
    assert f"the disk at {place} has " in told
    assert told.endswith(" bytes free")


def test_another_cause_is_told_as_it_is(tmp_path: Path) -> None:
    assert unwritable(tmp_path, PermissionError(errno.EACCES, "Permission denied")).message == (
        f"cannot write {tmp_path}: Permission denied"
    )
