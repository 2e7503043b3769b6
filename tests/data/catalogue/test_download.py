"""Downloads from a real server on this machine that does what servers do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.publisher import CONTENT, MD5, Publisher, publishing

from duetgen.data.catalogue import download
from duetgen.data.catalogue.download import fetch
from duetgen.data.catalogue.entries import File
from duetgen.data.catalogue.errors import DownloadCorruptError, DownloadFailedError
from duetgen.errors import OutputUnwritableError
from duetgen.jobfolder import FolderBusyError, alone_in

FULL_DISK = """
import subprocess, sys
from pathlib import Path
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=True)
from duetgen.data.catalogue.download import fetch
from duetgen.data.catalogue.entries import File
from duetgen.errors import OutputUnwritableError
try:
    fetch(File(name="set.zip", url=sys.argv[2] + "/set.zip"), disk)
except OutputUnwritableError as refusal:
    print(refusal.message, refusal.hint)
"""


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as server:
        yield server


class TestWhole:
    def test_size_and_checksum_are_checked_and_progress_is_told(self, publisher: Publisher, tmp_path: Path) -> None:
        told: list[tuple[int, int | None]] = []
        file = publisher.file(size=len(CONTENT), md5=MD5)
        path = fetch(file, tmp_path / "raw", lambda done, total: told.append((done, total)))
        assert path == tmp_path / "raw/set.zip"
        assert path.read_bytes() == CONTENT
        assert told[0] == (0, len(CONTENT))
        assert told[-1] == (len(CONTENT), len(CONTENT))
        assert [one.name for one in path.parent.iterdir()] == ["set.zip"]

    def test_what_is_here_is_not_asked_for(self, publisher: Publisher, tmp_path: Path) -> None:
        (tmp_path / "set.zip").write_bytes(b"mine")
        assert fetch(publisher.file(), tmp_path).read_bytes() == b"mine"
        assert publisher.asked == []

    def test_the_checksum_beside_a_file_that_changes(self, publisher: Publisher, tmp_path: Path) -> None:
        fetch(publisher.file(md5_url=f"{publisher.url}/set.zip.md5"), tmp_path)
        publisher.content = b"other"
        with pytest.raises(DownloadCorruptError, match="MD5"):
            fetch(publisher.file(md5_url=f"{publisher.url}/set.zip.md5"), tmp_path / "again")

    def test_a_redirect_is_followed(self, publisher: Publisher, tmp_path: Path) -> None:
        assert fetch(publisher.file(f"/to/{publisher.url}/set.zip"), tmp_path).read_bytes() == CONTENT

    @pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/set.zip"])
    def test_a_redirect_out_of_http_is_not(self, publisher: Publisher, tmp_path: Path, to: str) -> None:
        with pytest.raises(DownloadFailedError):
            fetch(publisher.file(f"/to/{to}"), tmp_path, pause=0)

    def test_a_redirect_from_https_to_http_is_refused(self) -> None:
        import urllib.request

        request = urllib.request.Request("https://publisher.test/set.zip")
        with pytest.raises(DownloadFailedError, match="from https to http"):
            download.Redirects().redirect_request(request, None, 302, "", {}, "http://publisher.test/set.zip")


class TestCut:
    def test_goes_on_by_a_range(self, publisher: Publisher, tmp_path: Path) -> None:
        publisher.cuts = [300_000, 200_000]
        assert fetch(publisher.file(md5=MD5), tmp_path, pause=0).read_bytes() == CONTENT
        assert publisher.asked == [None, "bytes=300000-", "bytes=500000-"]

    def test_goes_on_in_a_later_call(self, publisher: Publisher, tmp_path: Path) -> None:
        publisher.cuts = [300_000, *[0] * download.TRIES]
        with pytest.raises(DownloadFailedError, match=r"cut after 300,000 of 1,048,576 bytes") as caught:
            fetch(publisher.file(), tmp_path, pause=0)
        assert "goes on where it stopped" in caught.value.hint
        assert str(tmp_path) in caught.value.hint
        publisher.asked.clear()
        assert fetch(publisher.file(), tmp_path).read_bytes() == CONTENT
        assert publisher.asked == ["bytes=300000-"]

    def test_begins_again_where_no_range_is_granted(self, publisher: Publisher, tmp_path: Path) -> None:
        publisher.ranges, publisher.cuts = False, [300_000]
        assert fetch(publisher.file(md5=MD5), tmp_path, pause=0).read_bytes() == CONTENT
        assert publisher.asked == [None, "bytes=300000-"]

    def test_begins_again_where_nothing_tells_that_it_is_the_same_file(
        self, publisher: Publisher, tmp_path: Path
    ) -> None:
        publisher.etag, publisher.cuts = None, [300_000]
        assert fetch(publisher.file(md5=MD5), tmp_path, pause=0).read_bytes() == CONTENT
        assert publisher.asked == [None, None]

    def test_a_file_that_changed_meanwhile_is_taken_whole(self, publisher: Publisher, tmp_path: Path) -> None:
        publisher.cuts = [300_000, *[0] * download.TRIES]
        with pytest.raises(DownloadFailedError):
            fetch(publisher.file(), tmp_path, pause=0)
        publisher.content, publisher.etag = CONTENT[::-1], '"two"'
        assert fetch(publisher.file(), tmp_path).read_bytes() == CONTENT[::-1]

    @pytest.mark.parametrize(("more", "asked"), [(b"", 1), (b"too much", 2)])
    def test_all_was_here_before_the_process_died(
        self, publisher: Publisher, tmp_path: Path, more: bytes, asked: int
    ) -> None:
        (tmp_path / ".set.zip.part").write_bytes(CONTENT + more)
        (tmp_path / ".set.zip.etag").write_text('"one"')
        assert fetch(publisher.file(md5=MD5), tmp_path, pause=0).read_bytes() == CONTENT
        assert len(publisher.asked) == asked


class TestRefusals:
    @pytest.mark.parametrize("known", [{"md5": "0" * 32}, {"size": len(CONTENT) + 1}])
    def test_another_file_than_is_known(self, publisher: Publisher, tmp_path: Path, known: dict[str, Any]) -> None:
        with pytest.raises(DownloadCorruptError):
            fetch(publisher.file(**known), tmp_path)
        assert [one.name for one in tmp_path.iterdir() if one.name.endswith((".zip", ".part"))] == []

    @pytest.mark.parametrize("status", [403, 404, 500])
    def test_the_server_refuses(self, publisher: Publisher, tmp_path: Path, status: int) -> None:
        publisher.status = status
        with pytest.raises(DownloadFailedError, match=str(status)):
            fetch(publisher.file(), tmp_path)

    def test_nobody_answers(self, publisher: Publisher, tmp_path: Path) -> None:
        file = File(name="set.zip", url="http://127.0.0.1:9/set.zip")
        with pytest.raises(DownloadFailedError, match="refused"):
            fetch(file, tmp_path, pause=0)

    def test_a_page_to_sign_in_is_no_file(self, publisher: Publisher, tmp_path: Path) -> None:
        with pytest.raises(DownloadFailedError, match="a page and no file"):
            fetch(publisher.file("/page"), tmp_path)

    def test_a_disk_that_is_too_small_is_told_before(
        self, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", "free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000))
        with pytest.raises(OutputUnwritableError, match="1,048,576 bytes to come, and the disk has 1,000 free"):
            fetch(publisher.file(), tmp_path)

    def test_a_disk_that_fills_meanwhile(self, publisher: Publisher, tmp_path: Path) -> None:
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
            pytest.skip("no disk can be mounted here")
        publisher.lengths = False
        command = [*unshare, sys.executable, "-c", FULL_DISK, str(tmp_path), publisher.url]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith(f"no space left to write {tmp_path}/set.zip: the disk at {tmp_path} has ")
        assert "DUETGEN_CACHE" in ended.stdout

    def test_two_at_once(self, publisher: Publisher, tmp_path: Path) -> None:
        with alone_in(tmp_path), pytest.raises(FolderBusyError):
            fetch(publisher.file(), tmp_path)
