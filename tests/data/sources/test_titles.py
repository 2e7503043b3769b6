from pathlib import Path

import polars as pl
import pytest

from duetgen.data import errors
from duetgen.data.sources import read
from duetgen.data.sources.log import Columns, Reading
from duetgen.data.sources.titles import find_titles
from duetgen.wire.limits import MAX_TITLE_BYTES

from ..conftest import Write

LOG = "user,item\nu,7\nu,8\n"
RIGHT = [("7", "Seven"), ("8", "Eight")]


class TestBeside:
    @pytest.mark.parametrize(
        "table",
        [
            "item,title\n7,Seven\n8,Eight\n",
            "title,item\nSeven,7\nEight,8\n",
            ",item,title\n0,7,Seven\n1,8,Eight\n",
            "Unnamed: 0,item_id,title\n0,7,Seven\n1,8,Eight\n",
            "item,price,name\n7,0.99,Seven\n8,1.99,Eight\n",
            "id,title\n7,Seven\n8,Eight\n",
            "item;title\n7;Seven\n8;Eight\n",
            "item\tgenre\ttitle\n7\tx\tSeven\n8\ty\tEight\n",
            "id,movieId,movie title\n1,7.0,Seven\n2,8.0,Eight\n",
            "name,itemName,item\nx,Seven, 7\nx,Eight,8 \n",
        ],
    )
    def test_titles_go_by_the_names_of_the_columns(self, write: Write, table: str) -> None:
        path = write("log.csv", LOG)
        write("items.csv", table)
        titles = read(path).titles
        assert titles is not None
        assert titles.rows() == RIGHT

    @pytest.mark.parametrize(
        ("table", "reason"),
        [
            ("item,price\n7,0.99\n", "no columns of titles"),
            ("a,b\n7,0.99\n", "no columns of items"),
            ("item,first name,last name\n7,a,b\n", "2 columns of titles"),
            ("item,title\n7,a,b\n", "3 fields"),
            ('item,title\n7,"a\n', "unexpected end"),
            ("\n", "blank lines"),
            (b"item,title\n7,\xe9\n", "UTF-8"),
            (b"\x89PNG\0\0\0\0", "NUL"),
        ],
    )
    def test_a_table_that_nobody_named_stops_nothing(self, write: Write, table: str | bytes, reason: str) -> None:
        path = write("log.csv", LOG)
        write("items.csv", table)
        log = read(path)
        assert log.titles is None
        assert [file.name for file in log.files] == ["log.csv"]
        (remark,) = log.remarks
        assert "items.csv beside the log gives no titles" in remark
        assert reason in remark

    def test_of_another_layout_stops_nothing_either(self, write: Write) -> None:
        path = write("u.data", "1\t7\t5\t1600000000\n")
        write("u.item", "7\n")
        assert read(path).titles is None

    def test_the_logs_own_name_of_the_items_finds_them(self, write: Write) -> None:
        path = write("log.csv", "who,track\nu,7\n")
        write("items.csv", "item,track,title\n1,7,Seven\n")
        titles = read(path, columns=Columns(user="who", item="track")).titles
        assert titles is not None
        assert titles.rows() == [("7", "Seven")]

    def test_of_recbole(self, write: Write) -> None:
        path = write("ml.inter", "user_id:token\titem_id:token\n1\t7\n")
        write("ml.item", "item_id:token\tmovie_title:token_seq\trelease_year:token\n7\tSeven\t1995\n")
        titles = read(path).titles
        assert titles is not None
        assert titles.rows() == [("7", "Seven")]


class TestText:
    @pytest.mark.parametrize("in_the_log", [False, True])
    def test_words_for_none_are_none_and_a_title_is_one_line(self, write: Write, in_the_log: bool) -> None:
        titles = {"7": '"Se\nven\t\x1b[31m "', "8": "NULL", "9": "nan", "10": "", "11": '"x' + "y" * 1_000_000 + '"'}
        rows = "".join(f"u,{item},{title}\n" for item, title in titles.items())
        if in_the_log:
            log = read(write("log.csv", f"user,item,title\n{rows}"))
        else:
            write("items.csv", f"user,item,title\n{rows}")
            log = read(write("log.csv", "user,item\nu,7\nu,8\nu,9\nu,10\nu,11\n"))
        assert log.titles is not None
        found = dict(log.titles.rows())
        assert (found.pop("7"), len(found.pop("11").encode()) <= MAX_TITLE_BYTES) == ("Se ven [31m", True)
        assert found == {}


class TestNamed:
    def test_is_read(self, write: Write, tmp_path: Path) -> None:
        pl.DataFrame({"title": ["Seven"], "item": [7]}).write_parquet(tmp_path / "t.parquet")
        write("items.csv", "item,title\n7,Wrong\n")
        log = read(write("log.csv", LOG), reading=Reading(titles=str(tmp_path / "t.parquet")))
        assert log.titles is not None
        assert log.titles.rows() == [("7", "Seven")]

    def test_is_refused_if_it_cannot_be(self, write: Write) -> None:
        titles = write("t.csv", "item,price\n7,1\n")
        with pytest.raises(errors.MissingColumnError, match="columns of titles"):
            read(write("log.csv", LOG), reading=Reading(titles=str(titles)))

    @pytest.mark.parametrize("named", [True, False])
    def test_titles_of_no_item_are_told_with_an_item_of_either(self, write: Write, named: bool) -> None:
        titles = write("t.csv" if named else "items.csv", "item,title\ni7,Seven\ni8,Eight\ni9,\n")
        log = read(write("log.csv", LOG), reading=Reading(titles=str(titles) if named else None))
        assert log.remarks == [
            "2 titles were read, and none is of an item of the log: they are of items such as 'i7', the log has '7'"
        ]

    def test_one_that_fits_is_enough_to_say_nothing(self, write: Write) -> None:
        write("items.csv", "item,title\ni7,Seven\n8,Eight\n")
        assert read(write("log.csv", LOG)).remarks == []


class TestColumnOfTheLog:
    def test_gives_the_titles(self, write: Write) -> None:
        write("items.csv", "item,title\n7,Wrong\n")
        titles = read(write("log.csv", "user,item,title\nu,7,Seven\nu,8,\nv,7,Seven\nv,8,Eight\n")).titles
        assert titles is not None
        assert titles.rows() == RIGHT

    def test_that_differs_within_items_is_of_something_else(self, write: Write) -> None:
        log = read(write("log.csv", "user,item,title\nu,7,Great\nv,7,Bad\n"))
        assert log.titles is None
        assert "several for one item" in log.remarks[0]

    def test_under_another_name(self, write: Write) -> None:
        titles = read(write("log.csv", "user,item,label\nu,7,Seven\n"), columns=Columns(title="label")).titles
        assert titles is not None
        assert titles.rows() == [("7", "Seven")]


def test_the_column_of_titles_is_never_that_of_items() -> None:
    with pytest.raises(errors.MissingColumnError):
        find_titles(["item", "price"], Path("items.csv"))
