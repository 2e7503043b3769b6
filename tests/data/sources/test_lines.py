import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.sources import files
from duetgen.data.sources import lines as lines_module
from duetgen.data.sources.files import open_input
from duetgen.data.sources.lines import Block, blocks, fields, sample
from duetgen.errors import DuetError

from ..conftest import Write


def lines_of(path: Path, **options: object) -> list[str]:
    return [line for block in blocks(path, **options) for line in block.lines]  # type: ignore[arg-type]


class TestInputs:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(errors.InputMissingError):
            lines_of(tmp_path / "none")

    def test_path_through_a_file(self, write: Write) -> None:
        with pytest.raises(errors.InputMissingError):
            lines_of(write("a", "x") / "b")

    def test_name_with_a_nul_byte(self, tmp_path: Path) -> None:
        with pytest.raises(DuetError):
            lines_of(tmp_path / "a\0b")

    def test_name_that_is_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(errors.InputUnreadableError):
            lines_of(tmp_path / ("a" * 5000))

    def test_a_folder_is_no_file(self, write: Write) -> None:
        folder = write("ml-100k/u.data", "1\t2\t3\t4\n").parent
        with pytest.raises(errors.InputIsFolderError):
            lines_of(folder)

    def test_empty_file(self, write: Write) -> None:
        with pytest.raises(errors.InputEmptyError):
            lines_of(write("empty.csv", ""))

    def test_empty_gzip_is_empty(self, write: Write) -> None:
        with pytest.raises(errors.InputEmptyError):
            sample(write("empty.csv.gz", ""))

    def test_device_is_no_log(self) -> None:
        with pytest.raises(errors.InputUnreadableError):
            lines_of(Path("/dev/null"))

    def test_file_above_the_limit(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files.limits, "MAX_INPUT_BYTES", 3)
        with pytest.raises(errors.InputTooLargeError):
            lines_of(write("a.csv", "1234"))


class TestGzip:
    def test_is_told_by_content_not_by_name(self, tmp_path: Path) -> None:
        path = tmp_path / "log.csv"
        path.write_bytes(gzip.compress(b"a\nb\n"))
        assert lines_of(path) == ["a", "b"]

    def test_truncated(self, tmp_path: Path) -> None:
        path = tmp_path / "log.gz"
        path.write_bytes(gzip.compress(b"abc\n" * 1000)[:-10])
        with pytest.raises(errors.InputTruncatedError):
            lines_of(path)

    def test_damaged(self, tmp_path: Path) -> None:
        path = tmp_path / "log.gz"
        data = bytearray(gzip.compress(bytes(range(256)) * 40))
        data[-6] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(errors.InputCorruptError), open_input(path) as stream:
            stream.read()

    def test_members_one_after_the_other_are_one_log(self, tmp_path: Path) -> None:
        path = tmp_path / "log.gz"
        path.write_bytes(gzip.compress(b"a\n") + gzip.compress(b"b\n"))
        assert lines_of(path) == ["a", "b"]

    def test_bomb_of_many_lines_stops_at_the_limit(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines_module.limits, "MAX_DECOMPRESSED_BYTES", 10_000)
        with pytest.raises(errors.InputTooLargeError):
            lines_of(write("bomb.gz", b"\n" * 10_001))

    def test_bomb_of_one_line_stops_after_a_block(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines_module, "BLOCK_BYTES", 1024)
        monkeypatch.setattr(lines_module.limits, "MAX_LINE_BYTES", 512)
        with pytest.raises(errors.LineTooLongError, match="line 1 "):
            lines_of(write("bomb.gz", b"a" * 10**6))


class TestBlocks:
    def test_crlf_bom_and_no_last_line_end(self, write: Write) -> None:
        assert lines_of(write("a", b"\xef\xbb\xbfone\r\ntwo\nthree")) == ["one", "two", "three"]

    def test_unusual_separators_are_no_line_ends(self, write: Write) -> None:
        assert lines_of(write("a", "a\x0bb\u2028c\x85d\n")) == ["a\x0bb\u2028c\x85d"]

    def test_latin1_in_utf8_names_the_line(self, write: Write) -> None:
        with pytest.raises(errors.WrongEncodingError, match="line 3 is not valid UTF-8 \\(byte 0xe9\\)"):
            lines_of(write("a", b"a\nb\ncaf\xe9\n"))

    def test_latin1_where_the_format_says_so(self, write: Write) -> None:
        assert lines_of(write("a", b"caf\xe9\n"), encoding="latin-1") == ["café"]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
    def test_a_byte_order_mark_names_the_encoding(self, write: Write, encoding: str) -> None:
        assert lines_of(write("a", "user,item\r\nkäufer,x\n".encode(encoding))) == ["user,item", "käufer,x"]

    @pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "sep=\t\r\n", "\ufeffsep=;\n"])
    def test_a_line_that_tells_spreadsheets_the_separator_is_blank(self, write: Write, first: str) -> None:
        path = write("a", f"{first}user;item\nu1;i1\n")
        assert sample(path) == ["user;item", "u1;i1"]
        assert lines_of(path) == ["", "user;item", "u1;i1"]

    @pytest.mark.parametrize("first", ["sep=;x", "sep,item", "user;sep=;"])
    def test_what_only_looks_like_it_stays(self, write: Write, first: str) -> None:
        assert lines_of(write("a", f"{first}\nsep=;\n")) == [first, "sep=;"]

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    def test_utf16_without_its_mark_is_named(self, write: Write, encoding: str) -> None:
        with pytest.raises(errors.NotTextError, match=r"line 1 .* UTF-16 without its mark"):
            lines_of(write("a", "user,item\n".encode(encoding)))

    def test_utf16_that_is_cut(self, write: Write) -> None:
        with pytest.raises(errors.WrongEncodingError, match="UTF-16"):
            lines_of(write("a", "user,item\n".encode("utf-16")[:-1]))

    @given(text_=st.text(st.sampled_from("ab,ä\u20ac\U0001f600\n"), min_size=1), size=st.integers(4, 9))
    def test_cut_anywhere_utf16_gives_the_lines_of_utf8(
        self, text_: str, size: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        root = tmp_path_factory.mktemp("wide")
        (root / "wide").write_bytes(text_.encode("utf-16"))
        (root / "plain").write_bytes(text_.encode())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines_module, "BLOCK_BYTES", size)
            assert lines_of(root / "wide") == lines_of(root / "plain")

    def test_line_above_the_limit_names_it(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines_module.limits, "MAX_LINE_BYTES", 5)
        with pytest.raises(errors.LineTooLongError, match="line 2 "):
            lines_of(write("a", "12345\n123456\n1\n"))

    def test_quote_that_never_closes(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines_module, "BLOCK_BYTES", 64)
        monkeypatch.setattr(lines_module.limits, "MAX_LINE_BYTES", 40)
        with pytest.raises(errors.LineTooLongError):
            lines_of(write("a", 'a,"b\n' + "c,d\n" * 100), quoted=True)

    def test_line_numbers_run_on_over_blocks(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines_module, "BLOCK_BYTES", 8)
        found = list(blocks(write("a", "aa\nbb\ncc\ndd\nee\n")))
        assert len(found) > 1
        assert [block.line + i for block in found for i in range(len(block.lines))] == [1, 2, 3, 4, 5]

    @given(
        rows=st.lists(st.lists(st.text(st.sampled_from('ab,"\n '), max_size=6), min_size=3, max_size=3), min_size=1),
        size=st.integers(1, 50),
    )
    def test_cut_anywhere_the_fields_are_those_of_the_csv_module(
        self, rows: list[list[str]], size: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        import csv

        path = tmp_path_factory.mktemp("csv") / "a.csv"
        with path.open("w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines_module, "BLOCK_BYTES", size)
            found = [fields(block, ",", 3, quoted=True).drop("line").rows() for block in blocks(path, quoted=True)]
        assert [list(row) for block in found for row in block] == rows


def block_of(line: int, lines: list[str], quotes: bool) -> Block:
    return Block(Path("a"), line, pl.Series("text", lines), quotes)


class TestFields:
    def test_blank_lines_are_left_out_and_counted(self) -> None:
        frame = fields(block_of(7, ["1,2", "", "  ", "3,4"], False), ",", 2)
        assert frame.rows() == [("1", "2", 7), ("3", "4", 10)]

    def test_blanks_are_one_separator_or_many(self) -> None:
        frame = fields(block_of(1, [" 1 2", "3 \t4 "], False), "blanks", 2)
        assert frame.rows() == [("1", "2", 1), ("3", "4", 2)]

    def test_separator_of_two_characters(self) -> None:
        assert fields(block_of(1, ["1::2::3"], False), "::", 3).rows() == [("1", "2", "3", 1)]

    @pytest.mark.parametrize("quotes", [False, True])
    @pytest.mark.parametrize(("line", "count"), [("1", 1), ("1,2,3", 3)])
    def test_ragged_row_names_the_line(self, line: str, count: int, quotes: bool) -> None:
        with pytest.raises(errors.RaggedRowError, match=f"line 2 has {count} fields? where 2 are expected"):
            fields(block_of(1, ["1,2", line], quotes), ",", 2, quoted=True)

    def test_quoted_fields_hold_separators_quotes_and_line_ends(self) -> None:
        frame = fields(block_of(1, ['"a,b","c""d"', '"e', 'f",g', "h,i"], True), ",", 2, quoted=True)
        assert frame.rows() == [("a,b", 'c"d', 1), ("e\nf", "g", 2), ("h", "i", 4)]

    def test_quotes_that_do_not_pair_up(self) -> None:
        with pytest.raises(errors.BadQuotesError, match="line 2"):
            fields(block_of(1, ["a,b", '"c"d,e'], True), ",", 2, quoted=True)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("user,item\na,x\n".encode("utf-16-le"), "looks like UTF-16"),
        ("user,item\na,x\n".encode("utf-16-be"), "looks like UTF-16"),
        ("user,item\na,x\n".encode("utf-32-le"), "looks like UTF-32"),
        ("user,item\na,x\n".encode("utf-32-be"), "looks like UTF-32"),
        (b"\0\0\x08\x03" + bytes(60), "is no UTF-8 text"),
        (b"user,item\na,\0\n", "is no UTF-8 text"),
    ],
)
def test_nul_bytes_name_the_encoding_that_they_look_like(write: Write, data: bytes, what: str) -> None:
    with pytest.raises(errors.NotTextError, match=what):
        sample(write("log.csv", data))


def test_a_field_in_quotes_may_be_as_long_as_a_line(write: Write) -> None:
    path = write("log.csv", f'7,"{"x" * 200_000}"\n8,short\n')
    (block,) = blocks(path, quoted=True)
    assert fields(block, ",", 2, quoted=True)["0"].to_list() == ["7", "8"]
