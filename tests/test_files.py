"""Writing aside: who may read what was written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from duetgen.errors import OutputExistsError, OutputUnwritableError
from duetgen.files import new_folder, unwritable, write_bytes


@pytest.fixture(params=[0o000, 0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_the_umask_says_who_may_read(umask: int, tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"1")
    write_bytes(tmp_path / "key", b"1", 0o600)
    with new_folder(tmp_path / "folder", marker="file") as folder:
        (folder / "file").write_text("1")
    assert mode(tmp_path / "file") == mode(tmp_path / "folder/file") == 0o666 & ~umask
    assert mode(tmp_path / "folder") == 0o777 & ~umask
    assert mode(tmp_path / "key") == 0o600


@pytest.mark.parametrize("name", [".", "..", "folder", "n" * 250])
def test_a_folder_or_a_name_that_is_too_long_is_no_file_to_write(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputUnwritableError):
        write_bytes(Path(name), b"1")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def both(out: Path) -> None:
    with new_folder(out, marker="file") as late:
        (late / "file").write_text("late")
        with new_folder(out, marker="file") as first:
            (first / "file").write_text("first")


def test_of_two_that_make_one_folder_the_second_loses_nothing_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputExistsError, match="another process has made"):
        both(out)
    assert (out / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [out]


def test_a_write_that_numpy_cut_is_told_as_a_full_disk(tmp_path: Path) -> None:
    assert "no space left" in unwritable(tmp_path / "x", OSError("23513 requested and 4064 written")).message
