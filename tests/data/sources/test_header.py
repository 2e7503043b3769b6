import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.sources import detect, read
from duetgen.data.sources.header import find_columns, header_of, is_header, numbered_columns
from duetgen.data.sources.log import Columns, Reading
from duetgen.errors import DuetError

from ..conftest import Write

PATH = Path("log.csv")
NOON = 1_600_000_000


class TestNames:
    @pytest.mark.parametrize(
        ("line", "user", "item"),
        [
            ("user,item", 0, 1),
            ("ts\tuserId\tmovieId", 1, 2),
            ('"User-ID";"ISBN";"Book-Rating"', 0, 1),
            ("user_id:token\titem_id:token\trating:float", 0, 1),
            ("USER ID|Product ID", 0, 1),
            ("session_id,item_id,user_id", 2, 1),
            ("user item timestamp", 0, 1),
        ],
    )
    def test_usual_ones_are_found(self, line: str, user: int, item: int) -> None:
        found = find_columns(header_of(line)[1], PATH)
        assert (found.roles["user"], found.roles["item"]) == (user, item)

    def test_types_are_left_out_only_where_every_name_has_one(self) -> None:
        assert header_of("user_id:token\titem_id:token")[1] == ["user_id", "item_id"]
        assert header_of("user:token,item")[1] == ["user:token", "item"]

    @pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\ufeff", "\u200b"])
    def test_marks_without_width_are_no_part_of_them(self, mark: str) -> None:
        assert header_of(f"{mark}user, item{mark}")[1] == ["user", "item"]

    def test_one_that_is_there_twice_cannot_be_chosen(self) -> None:
        with pytest.raises(errors.AmbiguousColumnError, match="2 columns called 'who': columns 1 and 3"):
            find_columns(["who", "item", "who"], PATH, Columns(user="who"))

    @pytest.mark.parametrize("role", ["user", "item", "rating", "timestamp"])
    def test_one_that_is_found_twice_is_told_by_its_numbers_and_no_option(self, role: str) -> None:
        names = [*dict.fromkeys(["user", "item", role]), role]
        first = names.index(role) + 1
        with pytest.raises(errors.AmbiguousColumnError, match=f"columns {first} and {len(names)}$") as caught:
            find_columns(names, PATH)
        assert "give each a name of its own" in caught.value.hint

    def test_one_that_nobody_wants_may_be_there_twice(self) -> None:
        assert find_columns(["user", "note", "item", "note"], PATH).roles == {"user": 0, "item": 2}

    def test_a_column_without_a_name_is_told_by_its_number(self) -> None:
        assert find_columns(["", "user", "item", ""], PATH).unused == ["column 1", "column 4"]

    def test_what_is_not_used_is_known(self) -> None:
        found = find_columns(["user", "price", "item", "shop"], PATH)
        assert found.unused == ["price", "shop"]

    def test_both_that_lack_are_named_with_their_options(self) -> None:
        with pytest.raises(errors.MissingColumnError, match=r"the user and the item; .*: a, b") as caught:
            find_columns(["a", "b"], PATH)
        assert "--user-column NAME and --item-column NAME" in caught.value.hint

    def test_an_ignored_column_is_not_found(self) -> None:
        names = ["user", "item", "rating"]
        assert "rating" not in find_columns(names, PATH, Columns(ignore=("rating",))).roles
        with pytest.raises(errors.MissingColumnError, match="no column 'stars'"):
            find_columns(names, PATH, Columns(ignore=("stars",)))

    @given(st.text(max_size=40).map(lambda text: text.replace("\n", "")))
    def test_any_line_is_a_header_or_refused(self, line: str) -> None:
        try:
            found = find_columns(header_of(line)[1], PATH)
        except DuetError:
            return
        assert {"user", "item"} <= set(found.roles)

    @pytest.mark.parametrize(
        ("line", "expected"), [("a,b", True), ("a,1", False), ("a,a", False), ("a", False), ("hello world", False)]
    )
    def test_what_looks_like_one(self, line: str, expected: bool) -> None:
        assert is_header(line) == expected


class TestNumbers:
    def test_count_from_one(self) -> None:
        assert numbered_columns(3, PATH, Columns(user="3", item="1")).roles == {"user": 2, "item": 0}

    @pytest.mark.parametrize(
        ("columns", "error"),
        [
            (Columns(user="1"), errors.MissingColumnError),
            (Columns(user="1", item="4"), errors.MissingColumnError),
            (Columns(user="0", item="1"), errors.MissingColumnError),
            (Columns(user="1", item="item"), errors.BadSettingError),
            (Columns(user="1", item="1"), errors.BadSettingError),
        ],
    )
    def test_that_are_none(self, columns: Columns, error: type[DuetError]) -> None:
        with pytest.raises(error):
            numbered_columns(3, PATH, columns)

    @pytest.mark.parametrize(
        ("content", "separator"),
        [
            ("a x 5\nb y 6\n", None),
            ("a,x,5\nb,y,6\n", None),
            ("a\tx\t5\nb\ty\t6\n", None),
            ("a::x::5\nb::y::6\n", "::"),
            ("a#x#5\nb#y#6\n", "#"),
            ("a,x,5\nb,y,6\n", "comma"),
            ("a  x \t5\nb y 6\n", "blanks"),
        ],
    )
    def test_a_table_without_a_header(self, write: Write, content: str, separator: str | None) -> None:
        reading = Reading(header=False, separator=separator)
        log = read(write("log", content), columns=Columns(user="1", item="2", timestamp="3"), reading=reading)
        assert (log.kind, log.events.rows()) == ("table", [("a", "x", 5), ("b", "y", 6)])

    def test_no_such_separator(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError, match="no separator"):
            read(write("log", "a,b\n"), reading=Reading(separator="and"))


class TestDetection:
    def test_a_log_without_a_header_is_told_how_it_is_read(self, write: Write) -> None:
        with pytest.raises(errors.SourceUndetectedError) as caught:
            detect(write("log.txt", "0 18\n0 11\n"))
        assert caught.value.hint.endswith("--no-header --user-column 1 --item-column 2")

    @pytest.mark.parametrize(
        ("line", "options"),
        [
            ("2020-09-13,a,x", "--user-column 2 --item-column 3 --time-column 1"),
            ("a,2020-09-13 12:26:40,x,5", "--user-column 1 --item-column 3 --time-column 2"),
            ("a;x;5;1600000000123", "--user-column 1 --item-column 2 --time-column 4"),
            ("a\tx\t5", "--user-column 1 --item-column 2 --time-column N where there is time"),
        ],
    )
    def test_the_hint_takes_a_column_of_times_for_what_it_is(self, write: Write, line: str, options: str) -> None:
        with pytest.raises(errors.SourceUndetectedError) as caught:
            detect(write("log.txt", f"{line}\n{line}\n"))
        assert caught.value.hint.endswith(f"--no-header {options}")

    def test_a_line_of_one_id_and_a_date_is_no_event(self, write: Write) -> None:
        with pytest.raises(errors.SourceUndetectedError) as caught:
            detect(write("log.txt", "a,2020-09-13\n"))
        assert "--no-header" not in caught.value.hint

    def test_an_array_of_json_is_told(self, write: Write) -> None:
        with pytest.raises(errors.SourceUndetectedError) as caught:
            detect(write("log.json", '[{"user": 1, "item": 2}]\n'))
        assert "one object a line" in caught.value.hint

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            ("user,item,score,stars\na,x,1,2\n", errors.AmbiguousColumnError),
            ("listener,track\na,x\n", errors.MissingColumnError),
            ("user,item,item\na,x,y\n", errors.AmbiguousColumnError),
            ("user,item\na,x\n".encode("utf-16-le"), errors.NotTextError),
            ("user,item\na,x\n".encode("utf-16-be"), errors.NotTextError),
            ("user,item\ra,x\rb,y\r", errors.NotTextError),
            ("user,item\na,x,1\n", errors.RaggedRowError),
            ('user,item\n"a,x\n', errors.BadQuotesError),
            ("user,item\n,x\n", errors.BadIdError),
            ('{"user": "a", "item": "x"}\n{"user": "a"\n', errors.BadJsonLineError),
            ('{"who": "a", "what": "x"}\n', errors.MissingColumnError),
            ('{"user": "a", "item": [["x"]]}\n', errors.BadJsonLineError),
            ('{"user": true, "item": "x"}\n', errors.BadJsonLineError),
            ("{\n", errors.BadJsonLineError),
        ],
    )
    def test_the_exact_reason_is_told_under_auto(
        self, write: Write, content: str | bytes, error: type[DuetError]
    ) -> None:
        with pytest.raises(error):
            read(write("log.csv", content))

    def test_column_options_make_any_file_a_table(self, write: Write) -> None:
        fixed = write("u.data", f"1\t7\t5\t{NOON}\n")
        log = read(fixed, columns=Columns(user="2", item="1"), reading=Reading(header=False))
        assert (log.kind, log.events.rows()) == ("table", [("7", "1")])
        reviews = write(
            "r.json", f'{{"reviewerID": "a", "asin": "x", "overall": 5.0, "unixReviewTime": {NOON}, "shop": "s"}}\n'
        )
        assert read(reviews).kind == "amazon-reviews"
        log = read(reviews, columns=Columns(item="shop"))
        assert (log.kind, log.events["item"].to_list()) == ("table", ["s"])


class TestUnusedTimes:
    """A column of times under a name that nobody knows is told with the option that makes it the time."""

    TOLD = "the column bought reads as times: --time-column bought makes it the time"

    @pytest.mark.parametrize("value", ["2020-09-13", "2020-09-13T12:26:40Z", "1600000000", "1600000000123.5"])
    def test_is_told_in_every_form(self, write: Write, tmp_path: Path, value: str) -> None:
        text = write("log.csv", f'user,item,bought,price\na,x,{value},9\nb,"y,",{value},7\nb,y,,7\n')
        lines = write("log.jsonl", f'{{"user": "a", "item": "x", "bought": "{value}", "deep": [1]}}\n')
        pl.DataFrame({"user": ["a"], "item": ["x"], "bought": [value], "deep": [[1]]}).write_parquet(tmp_path / "p")
        for path in (text, lines, tmp_path / "p"):
            assert self.TOLD in read(path).remarks
            named = read(path, columns=Columns(timestamp="bought"), reading=Reading(drop_missing=True))
            assert "timestamp" in named.events.columns

    def test_is_told_of_dates_and_numbers_that_are_typed(self, tmp_path: Path) -> None:
        moment = datetime(2020, 9, 13, 12, 26, 40)
        for values in ([moment], [moment.date()], [1_600_000_000]):
            pl.DataFrame({"user": ["a"], "item": ["x"], "bought": values}).write_parquet(tmp_path / "p")
            assert self.TOLD in read(tmp_path / "p").remarks

    def test_is_told_by_number_without_a_header(self, write: Write) -> None:
        numbers = Columns(user="1", item="2")
        log = read(write("log.csv", "a,x,2020-09-13\n"), columns=numbers, reading=Reading(header=False))
        assert "the column 3 reads as times: --time-column 3 makes it the time" in log.remarks

    def test_is_told_where_the_time_has_days_alone(self, write: Write) -> None:
        path = write("log.csv", "user,item,day,date,bought\na,x,2020-09-14,20200913,1600000000123\n")
        told = "the column bought reads as times: --time-column bought takes it for date, which has days alone"
        assert [line for line in read(path).remarks if "reads as times" in line] == [told]
        assert not [line for line in read(path, columns=Columns(timestamp="date")).remarks if "reads as times" in line]

    @pytest.mark.parametrize("name", ["time", "time_ms", "timestamp", "event_time", "UTC time"])
    def test_a_date_is_the_day_of_the_time_beside_it(self, name: str, write: Write) -> None:
        log = read(write("log.csv", f"user,item,date,{name}\na,x,20200913,1600000000123\n"))
        assert log.events["timestamp"].to_list() == [1_600_000_000]

    @pytest.mark.parametrize(
        ("header", "row", "ignored"),
        [
            ("user,item,time,bought", "a,x,1600000000,2020-09-13", ()),
            ("user,item,date,bought", "a,x,2020-09-13,2020-09-14", ()),
            ("user,item,bought", "a,x,2020-09-13", ("bought",)),
            ("user,item,year", "a,x,2020", ()),
            ("user,item,price", "a,x,12.50", ()),
            ("user,item,note", "a,x,", ()),
        ],
    )
    def test_is_not_told_otherwise(self, write: Write, header: str, row: str, ignored: tuple[str, ...]) -> None:
        log = read(write("log.csv", f"{header}\n{row}\n"), columns=Columns(ignore=ignored))
        assert not [line for line in log.remarks if "reads as times" in line]


class TestJsonLines:
    def test_a_time_that_only_late_lines_have_is_not_passed_over(self, write: Write) -> None:
        lines = ['{"user": "a", "item": "x"}\n'] * 150 + ['{"user": "a", "item": "x", "ts": 1600000000}\n']
        with pytest.raises(errors.BadTimestampError, match="line 1 has no time"):
            read(write("log.jsonl", "".join(lines)))

    def test_a_column_that_only_late_lines_have_can_be_named(self, write: Write) -> None:
        lines = ['{"user": "a", "item": "x"}\n'] * 150 + ['{"user": "a", "item": "x", "at": 1600000000}\n']
        log = read(
            write("log.jsonl", "".join(lines)), columns=Columns(timestamp="at"), reading=Reading(drop_missing=True)
        )
        assert log.events.rows() == [("a", "x", 1_600_000_000)]

    @pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
    def test_words_that_are_no_json_stand_for_nothing(self, write: Write, word: str) -> None:
        path = write("log.jsonl", f'{{"user": "a: NaN,", "item": "x"}}\n{{"user": "b", "item": {word}}}\n')
        with pytest.raises(errors.BadIdError, match="line 2 has no item id"):
            read(path)
        assert read(path, reading=Reading(drop_missing=True)).events.rows() == [("a: NaN,", "x")]

    def test_a_name_with_a_quote_is_refused(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError, match="has a name that cannot be read"):
            read(write("log.jsonl", '{"my \\"user": "a", "item": "x"}\n'), columns=Columns(user='my "user'))

    def test_fields_are_columns(self, write: Write) -> None:
        lines = (
            f'{{"user": "a", "item": 7, "timestamp": {NOON}, "extra": {{"deep": [1]}}}}\n\n'
            f'{{"timestamp": {NOON}.0, "item": 7.0, "user": "b", "rating": 4}}\n'
        )
        log = read(write("log.jsonl", lines))
        assert log.events.rows() == [("a", "7", None, NOON), ("b", "7", 4.0, NOON)]
        assert log.kind == "table"
        assert "columns not used: extra.deep" in log.remarks

    def test_fields_of_objects_inside_are_columns(self, write: Write, tmp_path: Path) -> None:
        rows = [
            {"user": {"id": "a", "name": "A"}, "at": {"sent": NOON}, "what": {"product": {"sku": "x"}}},
            {"user": {"id": "b", "name": "B"}, "at": {"sent": NOON + 1}, "what": {"product": {"sku": "y"}}},
        ]
        pl.DataFrame(rows).write_parquet(tmp_path / "p")
        json_lines = write("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        python_lines = write("log.txt", "".join(f"{row}\n" for row in rows))
        for path in (json_lines, python_lines, tmp_path / "p"):
            with pytest.raises(errors.MissingColumnError, match=r"for the item; its columns are: .*what\.product\.sku"):
                read(path)
            log = read(path, columns=Columns(item="what.product.sku"))
            assert log.events.rows() == [("a", "x"), ("b", "y")]
            assert "the column at.sent reads as times: --time-column at.sent makes it the time" in log.remarks
            log = read(path, columns=Columns(item="what.product.sku", timestamp="at.sent"))
            assert log.events.rows() == [("a", "x", NOON), ("b", "y", NOON + 1)]

    def test_lists_give_an_event_for_each_of_their_entries(self, write: Write, tmp_path: Path) -> None:
        rows = [
            {"user": "a", "item": ["x", "y"], "at": [NOON, NOON + 1], "more": [[1], [2]]},
            {"user": "b", "item": ["z"], "at": [NOON + 2], "more": [[3]]},
        ]
        inside = [
            {"user": one["user"], "events": [{"item": i, "at": t} for i, t in zip(one["item"], one["at"])]}
            for one in rows
        ]
        for names, kept in ((("item", "at"), rows), (("events.item", "events.at"), inside)):
            pl.DataFrame(kept).write_parquet(tmp_path / "p")
            json_lines = write("log.jsonl", "".join(json.dumps(row) + "\n" for row in kept))
            python_lines = write("log.txt", "".join(f"{row}\n" for row in kept))
            for path in (json_lines, python_lines, tmp_path / "p"):
                log = read(path, columns=Columns(item=names[0]))
                assert log.events.rows() == [("a", "x"), ("a", "y"), ("b", "z")]
                assert "lists give an event for each of their entries, in their order" in log.remarks
                assert (
                    f"the column {names[1]} reads as times: --time-column {names[1]} makes it the time" in log.remarks
                )
                log = read(path, columns=Columns(item=names[0], timestamp=names[1]))
                assert log.events.rows() == [("a", "x", NOON), ("a", "y", NOON + 1), ("b", "z", NOON + 2)]

    def test_lists_of_different_lengths(self, write: Write, tmp_path: Path) -> None:
        rows = [{"user": "a", "item": ["x"], "time": [NOON]}, {"user": "a", "item": ["x", "y"], "time": [NOON]}]
        pl.DataFrame(rows).write_parquet(tmp_path / "p")
        for path in (write("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows)), tmp_path / "p"):
            with pytest.raises(
                errors.RaggedRowError, match=r"(line|row) 2: the lists item, time have different lengths"
            ):
                read(path)

    def test_an_empty_list(self, write: Write, tmp_path: Path) -> None:
        rows = [{"user": "a", "item": ["x"]}, {"user": "b", "item": []}, {"user": "c", "item": None}]
        pl.DataFrame(rows).write_parquet(tmp_path / "p")
        for path in (write("log.jsonl", "".join(json.dumps(row) + "\n" for row in rows)), tmp_path / "p"):
            with pytest.raises(errors.BadIdError, match=r"(line|row) 2 has no item id"):
                read(path)
            log = read(path, reading=Reading(drop_missing=True))
            assert log.events.rows() == [("a", "x")]
            assert [note.events_in - note.events_out for note in log.notes] == [2]

    def test_lists_in_lists_are_no_ids(self, write: Write, tmp_path: Path) -> None:
        rows = [{"user": "a", "item": [["x"]]}]
        pl.DataFrame(rows).write_parquet(tmp_path / "p")
        for path in (write("log.jsonl", json.dumps(rows[0]) + "\n"), tmp_path / "p"):
            with pytest.raises((errors.BadIdError, errors.BadJsonLineError)):
                read(path)

    def test_an_object_that_some_lines_lack(self, write: Write) -> None:
        path = write("log.jsonl", '{"user": "a", "in": {"item": "x"}}\n{"user": "b", "in": null}\n{"user": "c"}\n')
        with pytest.raises(errors.BadIdError, match="line 2 has no item id"):
            read(path, columns=Columns(item="in.item"))
        log = read(path, columns=Columns(item="in.item"), reading=Reading(drop_missing=True))
        assert log.events.rows() == [("a", "x")]

    def test_a_name_with_a_point_is_a_name(self, write: Write) -> None:
        path = write("log.jsonl", '{"user.id": "a", "in.item": "x", "in": {"item": "y"}}\n')
        assert read(path, columns=Columns(item="in.item")).events.rows() == [("a", "x")]

    def test_objects_in_objects_without_end(self, write: Write) -> None:
        path = write("log.jsonl", '{"user": "a", "item": "x", "deep": ' + '{"d": ' * 200 + "1" + "}" * 200 + "}\n")
        assert read(path).events.rows() == [("a", "x")]

    @pytest.mark.parametrize("item", ["null", '""', '"NaN"'])
    def test_missing_ids(self, write: Write, item: str) -> None:
        with pytest.raises(errors.BadIdError, match="line 2 has no item id"):
            read(write("log.jsonl", f'{{"user": "a", "item": "x"}}\n{{"user": "a", "item": {item}}}\n'))

    def test_a_float_that_has_merged(self, write: Write) -> None:
        with pytest.raises(errors.BadIdError, match=r"2\^53"):
            read(write("log.jsonl", '{"user": "a", "item": 9007199254740993.0}\n'))

    def test_a_large_integer_is_exact(self, write: Write) -> None:
        item = 2**70 + 1
        assert read(write("log.jsonl", f'{{"user": "a", "item": {item}}}\n')).events["item"].to_list() == [str(item)]

    def test_a_line_break_inside_an_id(self, write: Write) -> None:
        with pytest.raises(errors.BadIdError, match="control character"):
            read(write("log.jsonl", '{"user": "a", "item": "x\\ny"}\n'))


class TestBehaviours:
    LOG = f"user,item,event_type,time\na,x,view,{NOON}\na,y,cart,{NOON}\na,z,buy,{NOON}\na,x, view ,{NOON}\n"

    def test_count_alike_and_are_named(self, write: Write) -> None:
        log = read(write("log.csv", self.LOG))
        assert len(log.events) == 4
        assert "behaviours that count alike: view 2, buy 1, cart 1; --keep-behaviours chooses" in log.remarks

    def test_some_are_kept_and_the_others_counted(self, write: Write) -> None:
        log = read(write("log.csv", self.LOG), reading=Reading(keep_behaviours=("buy", "cart")))
        assert log.events["item"].to_list() == ["y", "z"]
        assert [(note.name, note.events_in, note.events_out) for note in log.notes] == [("behaviours", 4, 2)]

    def test_one_that_does_not_occur_is_refused(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError, match="behaviour purchase") as caught:
            read(write("log.csv", self.LOG), reading=Reading(keep_behaviours=("buy", "purchase")))
        assert "view 2, buy 1, cart 1" in caught.value.hint

    def test_without_such_a_column(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError, match="no column of behaviours"):
            read(write("log.csv", "user,item\na,x\n"), reading=Reading(keep_behaviours=("buy",)))

    def test_by_number(self, write: Write) -> None:
        path = write("log.csv", f"1,2,3,pv,{NOON}\n1,4,3,buy,{NOON}\n")
        columns = Columns(user="1", item="2", behaviour="4", timestamp="5")
        log = read(path, columns=columns, reading=Reading(header=False, keep_behaviours=("buy",)))
        assert log.events.rows() == [("1", "4", NOON)]


class TestRatings:
    @pytest.mark.parametrize("empty", ["", " ", "NULL", "nan"])
    def test_may_be_missing_in_some_events(self, write: Write, empty: str) -> None:
        log = read(write("log.csv", f"user,item,rating\na,x,{empty}\na,y,4.5\n"))
        assert log.events["rating"].to_list() == [None, 4.5]
        assert log.remarks == ["1 events have no rating"]

    @pytest.mark.parametrize("bad", ["good", "inf", "-Infinity", "1 5"])
    def test_that_are_no_numbers_name_the_line(self, write: Write, bad: str) -> None:
        path = write("log.csv", f"user,item,rating\na,x,1\na,y,{bad}\n")
        with pytest.raises(errors.BadRatingError, match="line 3") as caught:
            read(path)
        assert "--ignore-columns" in caught.value.hint
        assert read(path, columns=Columns(ignore=("rating",))).events.columns == ["user", "item"]

    @pytest.mark.parametrize(("text", "rating"), [("4,5", 4.5), (" 0,25 ", 0.25), ("-1,0", -1), ("3,14159", 3.14159)])
    def test_a_decimal_comma_is_a_point(self, write: Write, text: str, rating: float) -> None:
        assert read(write("log.csv", f"user;item;rating\na;x;{text}\n")).events["rating"].to_list() == [rating]

    def test_what_may_be_a_thousand_is_refused(self, write: Write) -> None:
        with pytest.raises(errors.BadRatingError, match="'1,234'"):
            read(write("log.csv", "user;item;rating\na;x;1,234\n"))


class TestFirstContact:
    """What a first file has wrong is told, not guessed around."""

    def test_a_column_that_is_chosen_and_there_twice(self, write: Write) -> None:
        path = write("log.csv", "who,what,who\na,x,b\nc,y,d\n")
        with pytest.raises(errors.AmbiguousColumnError, match="2 columns called 'who'"):
            read(path, columns=Columns(user="who", item="what"))

    def test_dates_are_no_header(self, write: Write) -> None:
        with pytest.raises(errors.SourceUndetectedError):
            read(write("log.csv", "a,x,2020-09-13\nb,y,2020-09-14\n"))

    def test_quotes_in_a_column_nobody_reads_that_hold_events_are_refused_at_their_line(self, write: Write) -> None:
        path = write("log.csv", f'user,item,timestamp,note\na,x,{NOON},"\nb,y,{NOON},fine\nc,z,{NOON},"\nd,x,{NOON},\n')
        with pytest.raises(errors.BadQuotesError, match="line 2"):
            read(path)

    def test_a_note_of_several_lines_stays_one_event(self, write: Write) -> None:
        log = read(write("log.csv", f'user,item,timestamp,note\na,x,{NOON},"one\ntwo"\nb,y,{NOON},fine\n'))
        assert log.events["user"].to_list() == ["a", "b"]
