import bz2
import gzip
import io
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.sources import archive, files, read
from duetgen.data.sources.files import parts_of
from duetgen.errors import DuetError
from duetgen.wire import limits

from ..conftest import Write

LOG = "user,item\na,x\nb,y\n"
EVENTS = [("a", "x"), ("b", "y")]


def zipped(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return buffer.getvalue()


class TestPacked:
    @pytest.mark.parametrize(
        "pack",
        [
            gzip.compress,
            bz2.compress,
            lzma.compress,
            lambda data: zipped({"log.csv": data}),
            lambda data: zipped({"deep/log.csv.gz": gzip.compress(data)}),
            lambda data: zipped({"d/": "", "d/log.csv": data, "__MACOSX/d/._log.csv": "x", ".DS_Store": "x"}),
        ],
    )
    def test_is_told_by_content_not_by_name(self, write: Write, pack: Callable[[bytes], bytes]) -> None:
        assert read(write("log", pack(LOG.encode()))).events.rows() == EVENTS

    @pytest.mark.parametrize(
        "pack", [gzip.compress, bz2.compress, lzma.compress, lambda data: zipped({"log.csv": data})]
    )
    @pytest.mark.parametrize("keep", [0.3, 0.9])
    def test_cut_is_refused(self, write: Write, pack: Callable[[bytes], bytes], keep: float) -> None:
        packed = pack("".join(f"{i},{i * 7919}\n" for i in range(9999)).encode())
        with pytest.raises((errors.InputTruncatedError, errors.InputCorruptError)):
            read(write("log", packed[: int(len(packed) * keep)]))

    @pytest.mark.parametrize(
        "start", [b"ARROW1\0\0", b"SQLite format 3\0", b"\x89HDF\r\n", b"Obj\x01", b"\x80\x04\x95"]
    )
    def test_known_kinds_that_are_no_log_are_named(self, write: Write, start: bytes) -> None:
        with pytest.raises(errors.NotTextError, match="not a log that is read here"):
            read(write("log", start + b"x" * 600))

    @pytest.mark.parametrize(
        ("start", "what"),
        [
            (b"\n<!DOCTYPE html><html>\n", "a web page"),
            (b"\xef\xbb\xbf<html lang='en'>\n", "a web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        ],
    )
    def test_what_comes_in_place_of_a_log_is_named(self, write: Write, start: bytes, what: str) -> None:
        plain = write("log.csv", start)
        misnamed = [plain.with_name(name) for name in ("other.csv.gz", "log.zip", "log.parquet")]
        for path in misnamed:
            path.write_bytes(start)
        for path in (plain, write("log.csv.gz", start), *misnamed):
            with pytest.raises(errors.NotTextError, match=f"is {what}, not a log"):
                read(path)


class TestZip:
    @pytest.mark.parametrize(
        "data",
        [
            zipped({"log.zip": zipped({"log.csv": LOG})}),
            gzip.compress(gzip.compress(LOG.encode())),
            gzip.compress(zipped({"log.csv": LOG})),
        ],
        ids=["zip in zip", "gzip in gzip", "zip in gzip"],  # Not the bytes, which hold the time.
    )
    def test_what_is_packed_twice_is_told(self, write: Write, data: bytes) -> None:
        with pytest.raises(errors.NotTextError, match=r"packed twice|zip in a zip"):
            read(write("log.packed", data))

    def test_several_files_are_listed(self, write: Write) -> None:
        with pytest.raises(errors.ArchiveMembersError, match=r"2 files: a\.csv, b/c\.csv"):
            read(write("log.zip", zipped({"a.csv": LOG, "b/c.csv": LOG})))

    @pytest.mark.parametrize(
        "name", ["../log.csv", "a/../../log.csv", "/log.csv", "C:\\log.csv", "..\\log.csv", "a\\..\\b"]
    )
    def test_a_path_that_climbs_out_is_refused(self, write: Write, name: str) -> None:
        with pytest.raises(errors.ArchiveUnsafeError, match="leads out"):
            read(write("log.zip", zipped({name: LOG})))
        with pytest.raises(errors.ArchiveUnsafeError):
            read(write("log.zip", zipped({"log.csv": LOG, name: LOG})))

    @pytest.mark.parametrize("name", ["a..b.csv", "..a.csv/log.csv", "a/b..csv"])
    def test_two_points_in_a_name_climb_nowhere(self, write: Write, name: str) -> None:
        try:
            assert read(write("log.zip", zipped({name: LOG}))).events.rows() == EVENTS
        except errors.InputEmptyError:
            assert name.startswith(".")

    def test_a_link_is_refused(self, write: Write) -> None:
        link = zipfile.ZipInfo("log.csv")
        link.external_attr = 0o120777 << 16
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr(link, "/etc/passwd")
        with pytest.raises(errors.ArchiveUnsafeError):
            read(write("log.zip", buffer.getvalue()))

    def test_a_workbook_is_named(self, write: Write) -> None:
        with pytest.raises(errors.ArchiveMembersError, match="Office document"):
            read(write("log.xlsx", zipped({"[Content_Types].xml": "x", "xl/sheet1.xml": "x"})))

    def test_no_file(self, write: Write) -> None:
        with pytest.raises(errors.InputEmptyError, match="no file"):
            read(write("log.zip", zipped({})))

    def test_behind_a_password(self, write: Write) -> None:
        data = bytearray(zipped({"log.csv": LOG}))
        for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(magic) + at] |= 1
        with pytest.raises(errors.ArchiveMembersError, match="password"):
            read(write("log.zip", bytes(data)))

    def test_too_many_members(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive.limits, "MAX_ARCHIVE_MEMBERS", 2)
        with pytest.raises(errors.InputTooLargeError, match="3 files"):
            read(write("log.zip", zipped({"a": "", "b": "", "c": ""})))

    def test_a_bomb_stops_at_the_limit(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MAX_DECOMPRESSED_BYTES", 10_000)
        with pytest.raises(errors.InputTooLargeError):
            read(write("log.zip", zipped({"log.csv": "user,item\n" + "a,x\n" * 5000})))

    def test_a_member_without_a_name_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "log.zip"
        path.write_bytes(zipped({"log.csv": LOG}).replace(b"log.csv", b"\0og.csv"))
        with pytest.raises(errors.InputCorruptError, match="has no name"):
            read(path)

    @given(at=st.integers(0, 140), noise=st.binary(min_size=1, max_size=4))
    def test_damaged_is_read_or_refused(self, at: int, noise: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
        path = tmp_path_factory.mktemp("zip") / "log.zip"
        raw = zipped({"log.csv": LOG})
        path.write_bytes(raw[:at] + noise + raw[at + len(noise) :])
        try:
            found = read(path).events.rows()
        except DuetError:
            return
        assert len(found) == 2


class TestParts:
    def test_are_one_log_in_the_order_of_their_numbers(self, write: Write) -> None:
        for number in (10, 2, 1):
            folder = write(f"log/part-{number}.csv", f"user,item\na,{number}\n").parent
        write("log/_SUCCESS", "")
        write("log/.part-1.csv.crc", "x")
        log = read(folder)
        assert (log.kind, log.events["item"].to_list()) == ("table", ["1", "2", "10"])
        assert [file.name for file in log.files] == ["part-1.csv", "part-2.csv", "part-10.csv"]

    def test_of_parquet_with_ids_of_two_types(self, tmp_path: Path) -> None:
        (tmp_path / "log").mkdir()
        pl.DataFrame({"user": ["a"], "item": [1]}).write_parquet(tmp_path / "log/part-0.parquet")
        pl.DataFrame({"user": ["a"], "item": [2.0]}).write_parquet(tmp_path / "log/part-1.parquet")
        assert read(tmp_path / "log").events["item"].to_list() == ["1", "2"]

    def test_in_folders_inside(self, write: Write) -> None:
        write("log/day=1/part-0.csv", "user,item\na,x\n")
        write("log/day=2/part-0.csv", "user,item\nb,y\n")
        assert read(write("log/_x", "").parent).events.rows() == EVENTS

    def test_of_json_and_packed(self, write: Write) -> None:
        write("log/part-0.json.gz", '{"user": "a", "item": "x"}\n')
        folder = write("log/part-1.json.gz", '{"item": "y", "user": "b"}\n').parent
        assert read(folder).events.rows() == EVENTS

    def test_without_a_header(self, write: Write) -> None:
        from duetgen.data.sources.log import Columns, Reading

        write("log/part-00000", "a x\n")
        folder = write("log/part-00001", "b y\n").parent
        log = read(folder, columns=Columns(user="1", item="2"), reading=Reading(header=False))
        assert log.events.rows() == EVENTS

    def test_with_other_columns_are_refused(self, write: Write) -> None:
        write("log/part-0.csv", "user,item\na,x\n")
        folder = write("log/part-1.csv", "user,item,rating\nb,y,1\n").parent
        with pytest.raises(
            errors.BadSettingError, match=r"part-0.csv has user, item and part-1.csv user, item, rating"
        ):
            read(folder)

    def test_a_folder_as_it_is_published_is_its_log(self, write: Write) -> None:
        write("ml/u.item", "2|Two|x\n")
        write("ml/u1.base", "1\t3\t3\t1600000000\n")
        log = read(write("ml/u.data", "1\t2\t3\t1600000000\n").parent)
        assert log.events["item"].to_list() == ["2"]
        assert [file.name for file in log.files] == ["u.data", "u.item"]

    def test_the_log_that_lies_highest_is_meant(self, write: Write) -> None:
        write("ml/raw/u.data", "1\t3\t3\t1600000000\n")
        assert read(write("ml/interactions.csv.gz", LOG).parent).kind == "table"

    def test_several_logs_are_named(self, write: Write) -> None:
        write("d/README", "x")
        for name in ("book", "movie"):
            path = write(f"d/{name}/douban_{name}.tsv", "UserId\tItemId\tRating\tTimestamp\n1\t2\t3\t1600000000\n")
        with pytest.raises(errors.InputIsFolderError, match=r"2 logs: book/douban_book\.tsv, movie") as caught:
            read(path.parent.parent)
        assert "book/douban_book.tsv" in caught.value.hint

    def test_of_two_forms_are_refused_by_their_endings(self, write: Write) -> None:
        write("log/a.csv", LOG)
        with pytest.raises(errors.InputIsFolderError, match=r"files with the endings \.csv, \.txt"):
            read(write("log/notes.txt", "hello\n").parent)

    @pytest.mark.parametrize("name", ["README", "readme.md", "LICENSE.txt", "log/README.rst"])
    def test_what_describes_a_log_is_no_part(self, write: Write, tmp_path: Path, name: str) -> None:
        write("log/a.csv", LOG)
        write(f"log/{name}", "hello\n")
        assert read(tmp_path / "log").events.rows() == EVENTS

    def test_titles_and_a_licence_in_an_archive_are_no_logs(self, write: Write) -> None:
        members: dict[str, str | bytes] = {"d/log.csv": LOG, "d/items.csv": "item,title\nx,Ex\n", "d/LICENSE": "free"}
        log = read(write("log.zip", zipped(members)))
        assert log.events.rows() == EVENTS
        assert log.titles is not None
        assert log.titles.rows() == [("x", "Ex")]

    def test_alone_it_is_the_log(self, write: Write) -> None:
        assert read(write("log/readme.csv", LOG).parent).events.rows() == EVENTS

    def test_an_empty_folder_is_told_as_such(self, tmp_path: Path) -> None:
        with pytest.raises(errors.InputIsFolderError, match="holds no file"):
            read(tmp_path)

    def test_a_link_to_nothing_is_no_part_to_leave_out(self, write: Write) -> None:
        folder = write("log/a.csv", LOG).parent
        (folder / "b.csv").symlink_to(folder / "gone.csv")
        with pytest.raises(errors.InputMissingError, match=r"b\.csv"):
            read(folder)

    def test_a_link_to_a_folder_ends_no_round(self, write: Write) -> None:
        folder = write("log/a.csv", LOG).parent
        (folder / "round").symlink_to(folder)
        with pytest.raises(errors.InputIsFolderError, match="round"):
            read(folder)

    def test_a_pipe_is_no_part_and_is_not_waited_for(self, write: Write) -> None:
        folder = write("log/a.csv", LOG).parent
        os.mkfifo(folder / "b.csv")
        with pytest.raises(errors.InputUnreadableError, match=r"b\.csv is not a regular file"):
            read(folder)

    def test_titles_among_the_parts_are_titles(self, write: Write) -> None:
        write("log/part-0.csv", LOG)
        log = read(write("log/items.csv", "item,title\nx,Xylophone\n").parent)
        assert [row[:2] for row in log.events.rows()] == EVENTS
        assert log.titles is not None
        assert log.titles.rows() == [("x", "Xylophone")]

    def test_too_many(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files.limits, "MAX_PARTS", 1)
        write("log/a.csv", LOG)
        with pytest.raises(errors.InputTooLargeError):
            parts_of(write("log/b.csv", LOG).parent)

    def test_of_a_log_that_came_divided(self, write: Write) -> None:
        train = write("train/a.csv", LOG).parent
        log = read(train, test_input=write("test/a.csv", "user,item\na,z\n").parent)
        assert log.events.rows() == [("a", "x", 0), ("b", "y", 0), ("a", "z", 2)]


class TestFoldersOfParts:
    def test_an_empty_part_is_none(self, write: Write) -> None:
        write("log/part-0.csv", "user,item\na,x\n")
        folder = write("log/part-1.csv", "").parent
        assert read(folder).events.rows() == [("a", "x")]

    def test_columns_that_folders_name_are_told_and_not_read(self, write: Write, tmp_path: Path) -> None:
        for day, kind, line in ((1, "click", "a,x"), (10, "buy", "b,y")):
            write(f"log/date=2024-01-{day:02}/kind={kind}/part-0.csv", f"user,item\n{line}\n")
        log = read(tmp_path / "log")
        assert log.events.rows() == EVENTS
        assert log.remarks[0] == "columns that the names of folders tell are not read: date, kind"
        assert read(tmp_path / "log/date=2024-01-01").remarks[0].endswith(": kind")
        assert not any("folders" in remark for remark in read(tmp_path / "log/date=2024-01-01/kind=click").remarks)

    def test_parts_of_different_kinds_are_named(self, write: Write) -> None:
        write("log/costs.csv", "sku,price\nx,3\n")
        folder = write("log/log.csv", "user,item\na,x\n").parent
        with pytest.raises(errors.InputIsFolderError, match=r"costs\.csv, log\.csv"):
            read(folder)


@pytest.mark.parametrize(
    ("train", "test"),
    [("train.csv", "test.csv"), ("ml.train.csv", "ml_test.csv"), ("training/part-0.csv", "test/part-0.csv")],
)
def test_a_folder_that_came_divided_is_no_one_log(write: Write, tmp_path: Path, train: str, test: str) -> None:
    write(f"log/{train}", LOG)
    write(f"log/{test}", LOG)
    with pytest.raises(errors.InputIsFolderError, match="came divided") as refusal:
        read(tmp_path / "log")
    assert f"{train} --test-input" in refusal.value.hint


def test_words_that_begin_so_divide_nothing(write: Write, tmp_path: Path) -> None:
    write("log/trains-0.csv", LOG)
    write("log/testers-1.csv", LOG)
    assert read(tmp_path / "log").events.select("user", "item").rows() == EVENTS * 2
