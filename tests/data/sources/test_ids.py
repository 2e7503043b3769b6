from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.sources import read
from duetgen.data.sources.ids import MISSING, Ids, canonical, of_alike, of_one_user
from duetgen.data.sources.log import Reading

from ..conftest import Write

PATH = Path("log.csv")


def ids(values: list[object] | pl.Series, dtype: pl.DataType | None = None) -> list[str | None]:
    column = pl.Series("item", values, dtype=dtype, strict=False)
    frame = column.to_frame().with_columns(line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
    return Ids("item").read(frame, PATH, "line").to_list()


class TestText:
    def test_stays_as_it_is_whatever_number(self) -> None:
        values = ["-5", "0", "007", "7", "99999999999999999999999", "v1.5", "1.50", "a b", "1e5", "é"]
        assert ids(values) == values

    @pytest.mark.parametrize(
        "around", [" ", "\t", "\u00a0", "\u3000", "\ufeff", "\u200b", " \u2060 ", "\u200e", "\u00ad"]
    )
    def test_blanks_around_are_no_part_of_it(self, around: str) -> None:
        assert ids([f"{around}i1", f"i1{around}", "i1"]) == ["i1"] * 3

    def test_a_whole_number_with_a_point_is_that_number(self) -> None:
        assert ids(["12.0", "12", " 12.00", "-3.0", "12.5", "1.0.0", "12."]) == [
            *("12", "12", "12", "-3", "12.5", "1.0.0", "12")
        ]

    @pytest.mark.parametrize(
        "word", ["NULL", "null", "None", "NaN", "nan", "\\N", "", "  ", "<NA>", "N/A", " NULL ", None]
    )
    def test_words_for_a_missing_value_are_none(self, word: str | None) -> None:
        assert ids(["a", word]) == ["a", None]

    def test_longest_is_accepted_and_one_byte_more_is_not(self) -> None:
        assert ids(["é" * 256]) == ["é" * 256]
        with pytest.raises(errors.BadIdError, match="line 2: an item id longer than 512 bytes"):
            ids(["b", "é" * 256 + "a"])

    @pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b", "a\x1bb", "a\u2028b"])
    def test_control_characters_inside_name_the_line(self, bad: str) -> None:
        with pytest.raises(errors.BadIdError, match=r"line 2: .* line break or another control character"):
            ids(["a", bad])

    @pytest.mark.parametrize("bad", ["9007199254740992.0", "-9007199254740993.0", "123456789012345678.00"])
    def test_floats_that_have_merged_name_the_line(self, bad: str) -> None:
        with pytest.raises(errors.BadIdError, match=r"line 2: .* float of 2\^53"):
            ids(["9007199254740991.0", bad])

    @pytest.mark.parametrize("bad", ["9.78E+12", "1e+16", "9.007199254740993e15", "-1.5E+20"])
    def test_scientific_notation_names_the_line(self, bad: str) -> None:
        with pytest.raises(errors.BadIdError, match=r"line 2: .* scientific notation"):
            ids(["1", bad])

    @given(st.lists(st.text(max_size=8)))
    def test_what_is_read_is_read_again_as_itself(self, values: list[str]) -> None:
        once = canonical(pl.Series(values, dtype=pl.String))
        assert canonical(once).to_list() == once.to_list()
        for raw, found in zip(values, once):
            assert found is None or (found == found.strip(" \t\n") and found.lower() not in MISSING)
            assert found is None or found in raw


class TestColumns:
    def test_integers(self) -> None:
        assert ids([-1, 2**62, None]) == ["-1", str(2**62), None]

    def test_whole_floats_are_integers_and_nan_is_missing(self) -> None:
        assert ids([12.0, float("nan"), None, -0.0, 2.0**53 - 1]) == ["12", None, None, "0", "9007199254740991"]

    @pytest.mark.parametrize(("dtype", "bits"), [(pl.Float64(), 53), (pl.Float32(), 24)])
    def test_floats_beyond_what_is_exact_are_refused(self, dtype: pl.DataType, bits: int) -> None:
        assert ids([2.0**bits - 1], dtype) == [str(2**bits - 1)]
        with pytest.raises(errors.BadIdError, match=rf"line 2: .* float of 2\^{bits} or more"):
            ids([1.0, 2.0**bits], dtype)

    @pytest.mark.parametrize("bad", [1.5, float("inf")])
    def test_floats_that_are_not_whole_are_no_ids(self, bad: float) -> None:
        with pytest.raises(errors.BadIdError, match=r"line 2: .* no whole number"):
            ids([1.0, bad])

    def test_categories_are_text(self) -> None:
        assert ids(["a", "b"], pl.Categorical()) == ["a", "b"]

    @pytest.mark.parametrize("values", [[["a"]], [True, False], [b"a"]])
    def test_lists_truths_and_bytes_are_no_ids(self, values: list[object]) -> None:
        with pytest.raises(errors.BadIdError, match="not ids"):
            ids(pl.Series("item", values))


class TestLogs:
    @pytest.mark.parametrize("word", ["NULL", "nan", "None", "\\N", " ", ""])
    def test_missing_is_refused_with_its_line_or_dropped_and_counted(self, write: Write, word: str) -> None:
        path = write("log.csv", f"user,item\na,x\n{word},y\na,{word}\na,z\n")
        with pytest.raises(errors.BadIdError, match="line 3 has no user id") as caught:
            read(path)
        assert "--drop-missing" in caught.value.hint
        log = read(path, reading=Reading(drop_missing=True))
        assert log.events.rows() == [("a", "x"), ("a", "z")]
        assert [(note.reason, note.events_in, note.events_out) for note in log.notes] == [
            ("no user id", 4, 3),
            ("no item id", 3, 2),
        ]

    def test_nan_of_parquet_is_missing(self, tmp_path: Path) -> None:
        pl.DataFrame({"user": ["a", "b"], "item": [1.0, float("nan")]}).write_parquet(tmp_path / "log.parquet")
        with pytest.raises(errors.BadIdError, match="row 2 has no item id"):
            read(tmp_path / "log.parquet")
        log = read(tmp_path / "log.parquet", reading=Reading(drop_missing=True))
        assert log.events.rows() == [("a", "1")]

    def test_everything_missing_leaves_no_event(self, write: Write) -> None:
        with pytest.raises(errors.InputEmptyError, match=r"no event \(1 dropped\)"):
            read(write("log.csv", "user,item\nNULL,x\n"), reading=Reading(drop_missing=True))

    def test_joined_ids_are_told(self, write: Write) -> None:
        log = read(write("log.csv", "user,item\nu, i1\nu,i1\nu,i2 \nu,7.0\nu,7\n"))
        assert log.events["item"].to_list() == ["i1", "i1", "i2", "7", "7"]
        (remark,) = log.remarks
        assert "left out in 3 events" in remark
        assert "joined 2 ids" in remark

    def test_blanks_that_join_nothing_are_told_too(self, write: Write) -> None:
        (remark,) = read(write("log.csv", "user,item\nu, i1\nu,i2\n")).remarks
        assert "joined" not in remark

    def test_stray_quotes_that_swallow_lines_are_bad_quotes(self, write: Write) -> None:
        log = 'user,item,rating\na,x,1\nb,"y,2\nc,z,3\nd,w",4\n'
        with pytest.raises(errors.BadQuotesError, match="line 3"):
            read(write("log.csv", log))

    def test_line_breaks_in_a_column_that_is_not_used_are_told(self, write: Write) -> None:
        log = read(write("log.csv", 'user,item,text\na,x,"one\ntwo"\nb,y,z\n'))
        assert log.events.rows() == [("a", "x"), ("b", "y")]
        assert "1 events have a line break inside quotes" in log.remarks[1]

    @pytest.mark.parametrize("again", ["user,item", "User, Item", "user_id,item_id", "userId,movieId"])
    def test_a_header_in_the_middle_is_dropped_and_counted(self, write: Write, again: str) -> None:
        log = read(write("log.csv", f"user,item\na,x\n{again}\nb,y\n"))
        assert log.events.rows() == [("a", "x"), ("b", "y")]
        assert [(note.name, note.events_in, note.events_out) for note in log.notes] == [("header", 3, 2)]

    def test_a_header_with_its_own_names_is_known_again(self, write: Write) -> None:
        from duetgen.data.sources.log import Columns

        path = write("log.csv", "who,what,when\na,x,1700000000\nwho,what,when\nb,y,1700000001\n")
        log = read(path, columns=Columns(user="who", item="what", timestamp="when"))
        assert log.events["user"].to_list() == ["a", "b"]

    def test_a_header_in_another_order_is_refused_with_its_line(self, write: Write) -> None:
        with pytest.raises(errors.BadIdError, match=r"line 3 is a header .* another order"):
            read(write("log.csv", "user,item\na,x\nitem,user\ny,b\n"))

    def test_a_header_of_a_fixed_format_too(self, write: Write) -> None:
        header, event = "userId,movieId,rating,timestamp\n", "1,2,5,1700000000\n"
        log = read(write("ratings.csv", header + event + header + event))
        assert (log.kind, len(log.events)) == ("movielens-csv", 2)

    @pytest.mark.parametrize("parts", [("12", "12.0"), ("12.0", "12")])
    def test_parts_written_by_two_programs_have_the_same_ids(self, write: Write, parts: tuple[str, str]) -> None:
        for number, item in enumerate(parts):
            folder = write(f"log/part-{number}.csv", f"user,item\na,{item}\n").parent
        assert read(folder).events["item"].to_list() == ["12", "12"]

    @pytest.mark.parametrize("text", ["inf", "-Inf"])
    def test_what_is_no_number_is_refused(self, text: str) -> None:
        with pytest.raises(errors.BadIdError, match="line 2: an item id that is no number"):
            ids(["a", text])

    def test_flags_that_differ_by_marks_behind_them_stay_two(self) -> None:
        flags = [
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e007f",
            "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e007f",
        ]
        assert ids(flags) == flags


class TestAlike:
    @pytest.mark.parametrize(
        ("one", "other"), [("007", "7"), ("i\u200b1", "i1"), ("i\u00ad1", "i1"), ("cafe\u0301", "caf\u00e9")]
    )
    def test_ids_stay_apart_and_are_told(self, write: Write, one: str, other: str) -> None:
        log = read(write("log.csv", f"user,item\na,{one}\na,{other}\na,z\n"))
        assert log.events["item"].to_list() == [one, other, "z"]
        [remark] = log.remarks
        assert remark.startswith("2 item ids differ only in")
        assert remark.isascii()

    def test_zeros_alone_and_inside_are_no_leading_ones(self) -> None:
        assert of_alike(pl.Series(["0", "10", "100", "a0", "a00", "1.05", "1.5"]), "item") is None

    def test_every_id_of_a_group_counts(self) -> None:
        remark = of_alike(pl.Series(["7", "07", "007", "8", "9", "09"]), "user")
        assert remark is not None
        assert remark.startswith("5 user ids differ")
        assert "as '007' and '07'" in remark


def counts(users: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"id": users}).group_by("id").len("events")


class TestOneUser:
    def test_who_has_far_more_events_than_others_is_told(self) -> None:
        remark = of_one_user(counts([str(i) for i in range(60)] + ["unknown"] * 60))
        assert remark == "the user 'unknown' has 50% of the events: a word for nobody, perhaps"

    def test_who_has_many_among_people_with_many_is_not(self) -> None:
        assert of_one_user(counts(["a"] * 60 + ["b"] * 40)) is None

    def test_who_has_a_small_share_is_not(self) -> None:
        assert of_one_user(counts([str(i) for i in range(2000)] + ["busy"] * 60)) is None
