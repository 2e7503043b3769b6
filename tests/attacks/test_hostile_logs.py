"""Logs and archives made to do harm: each is refused by name, in little memory, and nothing is written."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data.errors import (
    ArchiveUnsafeError,
    BadJsonLineError,
    BadSettingError,
    InputCorruptError,
    InputTooLargeError,
    InputTruncatedError,
    LineTooLongError,
    NotTextError,
)
from duetgen.data.prepare import prepare
from duetgen.data.sources import events, objects, read
from duetgen.errors import DuetError
from duetgen.wire import limits

LOG = "user,item,timestamp\n" + "".join(f"u{i % 4},i{i % 7},{1_600_000_000 + i}\n" for i in range(40))
MEGABYTES = 400
"""What reading may take at most, of a file that would unpack to a gibibyte."""

MEASURED = """
import resource, sys
from pathlib import Path
from duetgen.data.sources import read
from duetgen.errors import DuetError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(len(read(Path(sys.argv[1])).events))
except DuetError as refusal:
    print(refusal.code)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry, content in members:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", content)
    return buffer.getvalue()


class TestTar:
    @pytest.mark.parametrize("name", ["../log.csv", "a/../../log.csv", "/etc/log.csv", "C:\\log.csv"])
    def test_a_path_that_climbs_out(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "log.tar").write_bytes(tar_of([(member(name), LOG.encode())]))
        with pytest.raises(ArchiveUnsafeError, match="leads out"):
            read(tmp_path / "log.tar")

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
    def test_a_link_or_a_device(self, tmp_path: Path, kind: bytes) -> None:
        (tmp_path / "log.tar").write_bytes(tar_of([(member("log.csv", kind, "/etc/passwd"), b"")]))
        with pytest.raises(ArchiveUnsafeError):
            read(tmp_path / "log.tar")

    def test_a_header_that_says_it_has_gigabytes(self, tmp_path: Path) -> None:
        entry = member("long", tarfile.XHDTYPE)
        entry.size = 8 * 2**30
        (tmp_path / "log.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
        with pytest.raises(InputCorruptError, match="a header of 8,589,934,592 bytes"):
            read(tmp_path / "log.tar")

    def test_cut_in_the_middle(self, tmp_path: Path) -> None:
        whole = tar_of([(member("log.csv"), (LOG * 100).encode())])
        (tmp_path / "log.tar").write_bytes(whole[:5000])
        with pytest.raises(InputCorruptError):
            read(tmp_path / "log.tar")

    def test_more_is_skipped_than_may_be_unpacked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "UNPACKED_BYTES", 2**20)
        filler = tar_of([(member("a/filler"), bytes(4 * 2**20)), (member("b/log.csv"), LOG.encode())])
        (tmp_path / "log.tar.gz").write_bytes(gzip.compress(filler))
        with pytest.raises(InputTooLargeError):
            read(tmp_path / "log.tar.gz/b/log.csv")

    def test_archives_in_archives_end(self, tmp_path: Path) -> None:
        inner = tar_of([(member("log.csv"), LOG.encode())])
        for _ in range(8):
            inner = tar_of([(member("log.tar"), inner)])
        (tmp_path / "log.tar").write_bytes(inner)
        with pytest.raises(DuetError):
            read(tmp_path / "log.tar")


class TestBombs:
    @pytest.mark.parametrize(
        "pack", [gzip.compress, zstandard.compress, zipped, lzma.compress], ids=lambda f: f.__name__
    )
    def test_of_many_lines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
    ) -> None:
        monkeypatch.setattr(limits, "UNPACKED_BYTES", 2**20)
        (tmp_path / "log.packed").write_bytes(pack(b"user,item\n" + b"a,x\n" * 2**19))
        with pytest.raises(InputTooLargeError, match="unpacks to more than 1,048,576 bytes"):
            read(tmp_path / "log.packed")

    def test_what_packs_as_logs_do_is_no_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "UNPACKED_BYTES", 2**10)
        (tmp_path / "log.csv.gz").write_bytes(gzip.compress(LOG.encode()))
        assert len(read(tmp_path / "log.csv.gz").events) == 40

    @pytest.mark.parametrize(
        ("pack", "streams"),
        [(gzip.compress, 1), (zstandard.compress, 1), (zipped, 1), (bz2.compress, 16), (lzma.compress, 16)],
    )
    def test_of_one_line_takes_little_memory(
        self, tmp_path: Path, pack: Callable[[bytes], bytes], streams: int
    ) -> None:
        """What packs slowly is packed once, and follows itself."""
        rest = pack(b"a" * (2**28 // streams)) * (streams - 1)
        (tmp_path / "log.packed").write_bytes(pack(b"user,item\n" + b"a" * (2**28 // streams)) + rest)
        command = [sys.executable, "-c", MEASURED, str(tmp_path / "log.packed")]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        code, megabytes = ended.stdout.split()
        assert code == LineTooLongError.code
        assert int(megabytes) < MEGABYTES

    def test_a_zstd_window_beyond_reason(self, tmp_path: Path) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, enable_ldm=True)
        content = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        packed = content.compress(bytes(2**20)) + content.flush()
        (tmp_path / "log.zst").write_bytes(packed)
        with pytest.raises(InputCorruptError):
            read(tmp_path / "log.zst")

    def test_a_zstd_stream_that_ends_early_is_told(self, tmp_path: Path) -> None:
        packed = zstandard.compress((LOG * 1000).encode())
        (tmp_path / "log.zst").write_bytes(packed[: len(packed) // 2])
        with pytest.raises(InputTruncatedError):
            read(tmp_path / "log.zst")

    def test_zstd_frames_as_pzstd_writes_them(self, tmp_path: Path) -> None:
        half = LOG.index("u3")
        parts = [zstandard.compress(part.encode()) for part in (LOG[:half], LOG[half:])]
        # Before each frame one to skip, with the size of what follows.
        skipped = [struct.pack("<3I", 0x184D2A50, 4, len(part)) + part for part in parts]
        (tmp_path / "log.zst").write_bytes(b"".join(skipped))
        assert len(read(tmp_path / "log.zst").events) == 40

    def test_packed_twice(self, tmp_path: Path) -> None:
        (tmp_path / "log.zst").write_bytes(zstandard.compress(gzip.compress(LOG.encode())))
        with pytest.raises(NotTextError, match="packed twice"):
            read(tmp_path / "log.zst")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
class TestFrames:
    """One after the other, as pigz, pbzip2, pixz and `cat` leave them."""

    @pytest.mark.parametrize("between", [b"", bytes(4), bytes(9000)])
    def test_are_one_log(self, tmp_path: Path, pack: Callable[[bytes], bytes], between: bytes) -> None:
        half = LOG.index("u3")
        content = b"".join(pack(part.encode()) + between for part in (LOG[:half], LOG[half:], ""))
        (tmp_path / "log.packed").write_bytes(content)
        assert len(read(tmp_path / "log.packed").events) == 40

    @pytest.mark.parametrize("behind", [b"u9,x\n", b"BZ", b"\xff" * 9000])
    def test_nothing_else_lies_behind_them(self, tmp_path: Path, pack: Callable[[bytes], bytes], behind: bytes) -> None:
        (tmp_path / "log.packed").write_bytes(pack(LOG.encode()) + behind)
        with pytest.raises((InputCorruptError, InputTruncatedError)):
            read(tmp_path / "log.packed")

    def test_a_damaged_one_does_not_end_the_log(self, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
        half = LOG.index("u3")
        first, second = (bytearray(pack(part.encode())) for part in (LOG[:half], LOG[half:]))
        second[1] ^= 0xFF
        (tmp_path / "log.packed").write_bytes(first + second)
        with pytest.raises(InputCorruptError):
            read(tmp_path / "log.packed")


def lying(rows: int, claim: int) -> bytes:
    """A Parquet file of so many rows whose header says that there are others."""

    def varint(number: int) -> bytes:
        number, out = number << 1, b""
        while number > 127:
            number, out = number >> 7, out + bytes([number & 127 | 128])
        return out + bytes([number])

    buffer = io.BytesIO()
    pl.DataFrame({"user": [f"u{i}" for i in range(rows)], "item": list(range(rows))}).write_parquet(buffer)
    raw = buffer.getvalue()
    (size,) = struct.unpack("<I", raw[-8:-4])
    footer = raw[-8 - size : -8]
    counted = b"\x16" + varint(rows)
    assert counted in footer
    footer = footer.replace(counted, b"\x16" + varint(claim))
    return raw[: -8 - size] + footer + struct.pack("<I", len(footer)) + b"PAR1"


class TestParquet:
    @pytest.mark.parametrize("claim", [41, 10**6, 2**30, 10**12, 2**62 - 1])
    def test_a_header_that_claims_more_rows(self, tmp_path: Path, claim: int) -> None:
        (tmp_path / "log.parquet").write_bytes(lying(40, claim))
        command = [sys.executable, "-c", MEASURED, str(tmp_path / "log.parquet")]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        code, megabytes = ended.stdout.split()
        assert code in (InputCorruptError.code, InputTooLargeError.code)
        assert int(megabytes) < MEGABYTES

    @pytest.mark.parametrize("size", [0, 2**31, 2**32 - 1])
    def test_a_footer_of_another_size(self, tmp_path: Path, size: int) -> None:
        raw = lying(40, 40)
        (tmp_path / "log.parquet").write_bytes(raw[:-8] + struct.pack("<I", size) + b"PAR1")
        with pytest.raises(InputCorruptError):
            read(tmp_path / "log.parquet")

    def test_one_row_again_and_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "UNPACKED_ROWS", 1000)
        pl.DataFrame({"user": ["a"] * 10**6, "item": ["x"] * 10**6}).write_parquet(tmp_path / "log.parquet")
        with pytest.raises(InputTooLargeError, match="1,000,000 rows"):
            read(tmp_path / "log.parquet")


@pytest.mark.parametrize(
    "value", ["[" * 10**5, "-" * 10**5 + "1", "1+" * 10**5 + "1j", "f()" * 3000, "9" * 10**5, "not " * 10**5 + "1"]
)
def test_a_python_dictionary_that_is_none(tmp_path: Path, value: str) -> None:
    (tmp_path / "log.json").write_text("{u'user': 'a', u'item': " + value + "}\n")
    with pytest.raises(BadJsonLineError):
        read(tmp_path / "log.json")


def test_half_a_character_in_a_python_dictionary(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text("{u'user': '\\ud800', u'item': 'x'}\n")
    with pytest.raises(BadJsonLineError, match="line 1: it holds half a character"):
        read(tmp_path / "log.json")


COLUMNS = {
    "lists": [["a"]] * 40,
    "structs": [{"a": 1}] * 40,
    "bytes": [b"\xff"] * 40,
    "durations": [timedelta(1)] * 40,
    "times of day": [time(1, 2)] * 40,
    "decimals": [Decimal("1.5")] * 40,
    "nothing": [None] * 40,
    "infinite": [float("inf")] * 40,
    "truths": [True] * 40,
    "beyond 64 bits": pl.Series([2**100] * 40, dtype=pl.Int128),
    "unsigned": pl.Series([2**64 - 1] * 40, dtype=pl.UInt64),
    "the last day": [date(9999, 12, 31)] * 40,
}


@pytest.mark.parametrize("name", ["user", "item", "rating", "timestamp", "title"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_any_type_is_read_or_refused(tmp_path: Path, name: str, kind: str) -> None:
    table = pl.read_csv(LOG.encode()).with_columns(pl.Series(name, COLUMNS[kind], strict=False))
    table.write_parquet(tmp_path / "log.parquet")
    try:
        found = read(tmp_path / "log.parquet").events
    except DuetError as refusal:
        assert name != "title"
        assert "\n" not in refusal.message  # noqa: PT017
    else:
        assert len(found) == 40


class TestMemory:
    def test_titles_that_differ_in_every_event_are_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "TITLES_BYTES", 500)
        lines = LOG.splitlines()
        text = "\n".join([f"{lines[0]},title", *(f"{line},{i:060}" for i, line in enumerate(lines[1:]))])
        (tmp_path / "log.csv").write_text(text)
        log = read(tmp_path / "log.csv")
        assert log.titles is None
        assert any("more text than titles of items would" in remark for remark in log.remarks)

    def test_behaviours_that_differ_in_every_event(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "MOST_BEHAVIOURS", 39)
        lines = LOG.splitlines()
        text = "\n".join([f"{lines[0]},behaviour", *(f"{line},b{i}" for i, line in enumerate(lines[1:]))])
        (tmp_path / "log.csv").write_text(text)
        with pytest.raises(BadSettingError, match="more than 39 different values"):
            read(tmp_path / "log.csv")

    def test_objects_that_have_other_fields_each(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(objects, "MOST_FIELDS", 300)
        (tmp_path / "log.json").write_text("".join(f'{{"user": 1, "item": 2, "f{i}": 3}}\n' for i in range(400)))
        with pytest.raises(BadJsonLineError, match="more than 300 different fields"):
            read(tmp_path / "log.json")


PACKED = {
    "zip": zipped(LOG.encode()),
    "tar": tar_of([(member("set/log.csv"), LOG.encode()), (member("set/README"), b"x")]),
    "tar.gz": gzip.compress(tar_of([(member("log.csv"), LOG.encode())]), mtime=0),
    "gz": gzip.compress(LOG.encode(), mtime=0),
    "bz2": bz2.compress(LOG.encode()),
    "xz": lzma.compress(LOG.encode()),
    "zst": zstandard.compress(LOG.encode()),
}


@pytest.mark.parametrize("kind", PACKED)
@given(data=st.data())
def test_any_bytes_of_an_archive_give_a_dataset_or_a_refusal(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And never half a folder, nor anything beside it."""
    raw = PACKED[kind]
    at, cut = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 20))
    changed = raw[:at] + data.draw(st.binary(max_size=8)) + raw[at + cut :]
    root = tmp_path_factory.mktemp("fuzz")
    (root / f"log.{kind}").write_bytes(changed[: data.draw(st.integers(1, max(1, len(changed))))])
    out = root / "made/dataset"
    try:
        manifest = prepare(root / f"log.{kind}", out)
    except DuetError as refusal:
        assert refusal.message  # noqa: PT017
        assert not out.exists()
        assert [path for path in root.rglob("*") if path.name.endswith(".duet")] == []
    else:
        assert manifest.counts.events > 0
