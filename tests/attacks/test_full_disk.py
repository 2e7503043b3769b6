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


def test_a_full_disk_is_named_with_its_free_bytes(tmp_path: Path) -> None:
    disk = tmp_path.resolve() / "disk"
    disk.mkdir()
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no disk can be mounted here")
    ended = subprocess.run(
        [*unshare, sys.executable, "-c", SCRIPT, str(disk)], capture_output=True, text=True, check=False
    )
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
