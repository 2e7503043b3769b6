from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.sources import read
from duetgen.data.sources.dates import parse_date
from duetgen.data.sources.log import Reading
from duetgen.data.sources.times import UNITS, Times

from ..conftest import Write

PATH = Path("log.csv")
NOON = 1_600_000_000
"""2020-09-13 12:26:40 UTC."""


def seconds(
    values: list[object], unit: str | None = None, *, drop: bool = False
) -> tuple[list[int | None], str | None]:
    """Times and the remark, in the order that the event table has then."""
    times = Times(unit, drop=drop)
    frame = pl.DataFrame({"timestamp": values}, strict=False).with_columns(
        line=pl.int_range(2, len(values) + 2, dtype=pl.Int64), source=pl.lit(0, pl.UInt32)
    )
    frame = frame.with_columns(times.read(frame, PATH, "line")).filter(pl.col("timestamp").is_not_null())
    settled = times.settle(frame.lazy(), [(PATH, "line")]).collect()
    settled = settled.sort("moment", maintain_order=True) if "moment" in settled.columns else settled
    return settled["timestamp"].to_list(), times.remark


class TestIso:
    @pytest.mark.parametrize(
        ("text", "second"),
        [
            ("2020-09-13 12:26:40", NOON),
            ("2020-09-13T12:26:40", NOON),
            ("2020-09-13T12:26:40Z", NOON),
            ("2020-09-13 12:26:40 UTC", NOON),
            ("2020-09-13 12:26:40 utc", NOON),
            ("2020-09-13 12:26:40 GMT", NOON),
            ("2020-09-13 12:26:40+00:00", NOON),
            ("2020-09-13 12:26:40+00", NOON),
            ("2020-09-13 12:26:40-00:00", NOON),
            ("2020-09-13T14:26:40+02:00", NOON),
            ("2020-09-13 17:56:40 +0530", NOON),
            ("2020-09-13T05:26:40-0700", NOON),
            ("2020-09-13T14:26:40+02:00[Europe/Berlin]", NOON),
            ("2020-09-13T12:26:40Z[UTC]", NOON),
            ("2020-09-13T12:26:40[Etc/UTC]", NOON),
            ("20200913T122640Z", NOON),
            ("2020/09/13 12:26:40", NOON),
            ("2020-09-13 12:26", NOON - 40),
            ("2020-09-13T12:26Z", NOON - 40),
            ("2020-09-13T14:26+02:00", NOON - 40),
            ("2020-09-13T12", NOON - 26 * 60 - 40),
            ("2020-09-13", NOON - 44_800),
            ("2020-09-13Z", NOON - 44_800),
            ("2020-09-13+02:00", NOON - 44_800 - 7200),
            ("2020-W37-7", NOON - 44_800),
            (" 2020-09-13 12:26:40 ", NOON),
        ],
    )
    def test_its_usual_forms(self, text: str, second: int) -> None:
        assert seconds([text])[0] == [second]

    @pytest.mark.parametrize(
        "text", ["2020-09-13 12:26:40.5", "2020-09-13 12:26:40,5Z", "2020-09-13T12:26:40.500000000"]
    )
    def test_fractions_are_rounded_down_in_order_and_it_is_told(self, text: str) -> None:
        found, remark = seconds([text, "2020-09-13 12:26:39"])
        assert found == [NOON - 1, NOON]
        assert remark is not None
        assert "put in order, then rounded down" in remark

    def test_forms_may_be_mixed(self) -> None:
        assert seconds(["2020-09-13", "2020-09-13 12:26:40+00:00", "2020-09-13T12:26Z"])[0] == [
            NOON - 44_800,
            NOON,
            NOON - 40,
        ]

    @pytest.mark.parametrize(
        "bad",
        [
            "yesterday",
            "13.09.2020",
            "09/13/2020",
            "2020-13-01",
            "2020-09-13 25:00:00",
            "2020-09",
            "2020-09-13 12:26:40 CET",
            "2020-09-13T12:26:40[Europe/Berlin]",
            "20-09-13",
            "13 Sep 20",
            "Sep 13 12:26:40",
            "Sun Sep 13 12:26:40 CET 2020",
            "31 Sep 2020",
            "Sept 13, 2020 noon",
            "13-09-20 12:26:40",
        ],
    )
    def test_what_is_none_names_the_line(self, bad: str) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* is no number or ISO date"):
            seconds(["2020-09-13", bad])

    @pytest.mark.parametrize(
        "text",
        [
            *("Sun Sep 13 12:26:40 +0000 2020", "Sun Sep 13 05:26:40 -0700 2020", "Sun Sep 13 12:26:40 2020"),
            *("Sun Sep 13 12:26:40 UTC 2020", "Sun, 13 Sep 2020 12:26:40 GMT", "13 Sep 2020 17:56:40 +0530"),
            *("13/Sep/2020:12:26:40 +0000", "Sunday, 13 September 2020 12:26:40"),
        ],
    )
    def test_a_month_by_its_name(self, text: str) -> None:
        assert seconds([text, "2020-09-13"])[0] == [NOON, NOON - 44_800]

    @pytest.mark.parametrize("text", ["13 Sep 2020", "13-Sep-2020", "Sep 13, 2020", "September 13, 2020"])
    def test_a_day_of_a_month_by_its_name(self, text: str) -> None:
        assert seconds([text])[0] == [NOON - 44_800]

    @given(
        st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1)).map(lambda t: t.replace(microsecond=0)),
        st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters))),
        st.sampled_from(["T", " "]),
    )
    def test_any_time_in_any_zone(self, time: datetime, zone: timezone, between: str) -> None:
        moment = time.replace(tzinfo=zone)
        text = moment.isoformat(between)
        assert parse_date(text) == int(moment.timestamp()) * 10**6
        assert seconds([text])[0] == [int(moment.timestamp())]

    @given(st.text(st.sampled_from("0123456789-:TZ +./, UTCGM[]W"), max_size=30))
    def test_any_text_is_a_time_or_none(self, text: str) -> None:
        found = parse_date(text)
        assert found is None or isinstance(found, int)

    @pytest.mark.parametrize(
        "placeholder",
        [
            *("1970-01-01", "1970-01-01T00:00:00Z", "1969-12-31 19:00:00", "1900-01-01", "0001-01-01 00:00:00"),
            *("1969-12-31T23:59:59Z", "1969-12-31 18:59:59", "9999-12-31", "9999-12-31T23:59:59"),
        ],
    )
    def test_dates_that_stand_for_none(self, placeholder: str) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* stands for no date"):
            seconds(["2020-09-13", placeholder])
        assert seconds(["2020-09-13", placeholder], drop=True)[0] == [NOON - 44_800, None]

    def test_dates_before_1971_are_dates(self) -> None:
        times, remark = seconds(["1970-01-02", "1969-06-01"])
        assert times == [86_400, -214 * 86_400]
        assert remark is not None
        assert "2 are before 1971, the first 1969-06-01" in remark

    def test_the_zero_date_of_mysql_is_missing(self) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3 has no time: '0000-00-00 00:00:00'"):
            seconds(["2020-09-13", "0000-00-00 00:00:00"])
        assert seconds(["2020-09-13", "0000-00-00"], drop=True)[0] == [NOON - 44_800]

    def test_a_date_among_numbers_and_a_number_among_dates_are_told_as_such(self) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* is a date where others are numbers"):
            seconds(["1600000000", "2020-09-13"])
        times = Times()
        times.read(pl.DataFrame({"timestamp": ["2020-09-13"], "line": [2]}), PATH, "line")
        with pytest.raises(errors.BadTimestampError, match=r"line 2: .* is a number where others are dates"):
            times.read(pl.DataFrame({"timestamp": ["1600000000"], "line": [2]}), PATH, "line")

    @pytest.mark.parametrize("dates_first", [True, False])
    def test_a_part_of_dates_and_a_part_of_numbers_are_no_one_log(self, dates_first: bool) -> None:
        parts = [pl.Series([datetime(2020, 9, 13)]), pl.Series([NOON])]
        times = Times()
        first, second = parts if dates_first else reversed(parts)
        times.read(pl.DataFrame({"timestamp": first, "line": [1]}), PATH, "row")
        with pytest.raises(errors.BadTimestampError, match="in the parts before it"):
            times.read(pl.DataFrame({"timestamp": second, "line": [1]}), PATH, "row")

    def test_a_unit_is_for_numbers(self) -> None:
        for time in ("2020-09-13 12:26:40", datetime(2020, 9, 13, tzinfo=UTC)):
            with pytest.raises(errors.BadSettingError, match="the times are dates, and the time unit days is for num"):
                seconds([time], "days")

    def test_dates_after_2099_are_refused(self) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* 2101-01-01.* out of range"):
            seconds(["2020-09-13", "2101-01-01"])


class TestNumbers:
    def test_seconds_stay_as_they_are_and_nothing_is_told(self) -> None:
        assert seconds([NOON + 5, NOON]) == ([NOON + 5, NOON], None)
        assert seconds([f"{NOON}", f" {NOON + 1} ", f"{NOON}.0"]) == ([NOON, NOON + 1, NOON], None)

    @pytest.mark.parametrize(
        ("unit", "factor"), [("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]
    )
    def test_finer_units_are_told_by_size_and_named(self, unit: str, factor: int) -> None:
        found, remark = seconds([(NOON + 1) * factor + 7, NOON * factor])
        assert found == [NOON, NOON + 1]
        assert remark is not None
        assert f"read as {unit}" in remark

    def test_whole_seconds_in_a_finer_unit_stay_in_the_order_of_the_file(self) -> None:
        assert seconds([(NOON + 1) * 1000, NOON * 1000]) == (
            [NOON + 1, NOON],
            "times are read as milliseconds: from 2020-09-13 to 2020-09-13",
        )

    def test_order_within_a_second_is_kept(self, write: Write) -> None:
        rows = "".join(f"u,{item},{NOON}{ms}\n" for item, ms in (("c", 900), ("a", 100), ("b", 100)))
        assert read(write("log.csv", f"user,item,ts\n{rows}")).events["item"].to_list() == ["a", "b", "c"]

    def test_fractions_of_a_second(self) -> None:
        assert seconds([NOON + 1.75, NOON + 1.25])[0] == [NOON + 1, NOON + 1]

    @pytest.mark.parametrize(
        ("number", "second"),
        [
            (20200913, NOON - 44_800),
            (2020091312, NOON - 26 * 60 - 40),
            (202009131226, NOON - 40),
            (20200913122640, NOON),
            (20200913122640000, NOON),
        ],
    )
    def test_numbers_that_write_a_date(self, number: int, second: int) -> None:
        for value in (number, str(number)):
            found, remark = seconds([value])
            assert found == [second]
            assert remark is not None
            assert str(number) in remark

    @pytest.mark.parametrize("word", [-1, 0, 5, 19_700_101])
    def test_a_small_number_among_times_stands_for_none(self, word: int) -> None:
        with pytest.raises(errors.BadTimestampError, match=f"line 3: the timestamp {word} is before 1971") as caught:
            seconds([NOON, word])
        assert "--drop-missing" in caught.value.hint
        assert seconds([NOON, word], drop=True)[0] == [NOON, None]

    def test_the_same_among_milliseconds(self) -> None:
        assert seconds([NOON * 1000, -1], drop=True)[0] == [NOON, None]

    def test_small_whole_numbers_only_order_and_it_is_told(self) -> None:
        found, remark = seconds([3, 1, 20])
        assert found == [3, 1, 20]
        assert remark is not None
        assert "only order the events" in remark

    @pytest.mark.parametrize("values", [[44087.518519, 44088.25], [44087, 44088], ["44087.518519"], [18518, 18519]])
    def test_day_numbers_are_refused(self, values: list[object]) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 2: .* looks like a day number") as caught:
            seconds(values)
        assert "--time-unit" in caught.value.hint

    def test_small_fractions_are_refused(self) -> None:
        with pytest.raises(errors.BadTimestampError, match="no time of a clock"):
            seconds([1.75, 1.25, 0.0])

    def test_negative_numbers_among_small_ones_are_none(self) -> None:
        with pytest.raises(errors.BadTimestampError, match="line 3"):
            seconds([7, -1])

    def test_day_numbers_when_told(self) -> None:
        # 0.518519 of a day is 44,800.04 seconds.
        found, remark = seconds([44087.518519, 44087.0], "spreadsheet-days")
        assert found == [NOON - 44_800, NOON]
        assert remark is not None
        assert "spreadsheet-days, as told" in remark
        assert seconds([18518], "days")[0] == [NOON - 44_800]

    def test_units_when_told_are_heeded_whatever_the_size(self) -> None:
        assert seconds([-1, 0, 7], "seconds")[0] == [-1, 0, 7]
        assert seconds([5000, 7000], "milliseconds")[0] == [5, 7]

    def test_no_such_unit(self) -> None:
        with pytest.raises(errors.BadSettingError, match="fortnights"):
            Times("fortnights")

    def test_units_mixed_name_two_lines(self) -> None:
        with pytest.raises(
            errors.MixedTimeUnitsError, match=r"seconds \(log.csv line 2: .* milliseconds \(log.csv line 3"
        ):
            seconds([NOON, NOON * 1000])

    @pytest.mark.parametrize("number", [99_999_999_999, 4_102_444_800, 2_600_000_000_000_001])
    def test_after_2099_is_refused(self, number: int) -> None:
        unlikely = number if number < 10**12 else 9_999_999_999_999
        with pytest.raises(errors.BadTimestampError, match="out of range"):
            seconds([unlikely])

    def test_seconds_from_another_year_are_told_with_their_days(self) -> None:
        # Seconds since 2001, as Apple counts them.
        assert seconds([NOON - 978_307_200])[1] == "times are read as seconds: from 1989-09-13 to 1989-09-13"

    @pytest.mark.parametrize("year_1970", [11_644_473_600, 62_135_596_800])
    def test_ticks_since_the_years_1601_and_1_are_no_nanoseconds(self, year_1970: int) -> None:
        ticks = (NOON + year_1970) * 10**7
        with pytest.raises(errors.BadTimestampError, match=r"line 2: .* ticks of 100 nanoseconds"):
            seconds([ticks, ticks + 1])
        assert seconds([ticks], "nanoseconds")[0] == [ticks // 10**9]

    @pytest.mark.parametrize("values", [[13092020, 1102020], [9132020, 10012020, 0]])
    def test_dates_with_the_year_last_do_not_order(self, values: list[object]) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 2: .* its year last"):
            seconds(values)

    def test_years_and_other_counts_order(self) -> None:
        assert seconds([1998, 2020])[0] == [1998, 2020]
        assert seconds([13_092_020, 13_092_120])[0] == [13_092_020, 13_092_120]
        assert seconds([0, 0])[0] == [0, 0]

    @pytest.mark.parametrize("bad", ["yesterday", "inf"])
    def test_that_are_none_name_the_line(self, bad: str) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* is no number or ISO date"):
            seconds([str(NOON), bad])

    @pytest.mark.parametrize("missing", ["", None, "nan"])
    def test_that_are_missing_name_the_line(self, missing: str | None) -> None:
        with pytest.raises(errors.BadTimestampError, match="line 3 has no time: "):
            seconds([str(NOON), missing])

    @pytest.mark.parametrize("bad", [str(2**62), "9" * 30, "-" + "9" * 30])
    def test_out_of_range(self, bad: str) -> None:
        with pytest.raises(errors.BadTimestampError, match="out of range"):
            seconds([str(NOON), bad])

    @given(
        st.lists(st.integers(-(2**40), 2**40) | st.integers(10**17, 2**60), min_size=1), st.sampled_from([*UNITS, None])
    )
    def test_any_numbers_are_times_or_refused(self, values: list[int], unit: str | None) -> None:
        try:
            found, remark = seconds(list(values), unit)
        except (errors.BadTimestampError, errors.MixedTimeUnitsError):
            return
        assert len(found) == len(values)
        # Nothing but Unix seconds of our days goes without a word.
        assert remark or all(31_536_000 <= (value or 0) < 4_102_444_800 for value in found)


class TestFuture:
    @pytest.mark.parametrize("form", ["seconds", "milliseconds", "dates", "told"])
    def test_it_is_told(self, form: str) -> None:
        ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
        times = [NOON, NOON + 1, int(ahead.timestamp())]
        values: list[object] = {
            "seconds": times,
            "told": times,
            "milliseconds": [time * 1000 for time in times],
            "dates": [datetime.fromtimestamp(time, UTC).isoformat() for time in times],
        }[form]
        found, remark = seconds(values, "seconds" if form == "told" else None)
        assert found == times
        assert remark is not None
        assert f"1 events are in the future, the last on {ahead.date()}" in remark

    def test_what_a_zone_may_be_ahead_is_not(self) -> None:
        assert seconds([NOON, int(datetime.now(UTC).timestamp()) + 14 * 3600])[1] is None

    def test_what_is_dropped_is_not(self) -> None:
        assert seconds([NOON, 2**31 - 1], drop=True) == ([NOON, None], None)


class TestColumns:
    def test_datetimes_and_dates_of_parquet(self) -> None:
        assert seconds([datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)])[0] == [NOON]
        assert seconds([datetime(2020, 9, 13, 12, 26, 40)])[0] == [NOON]
        assert seconds([date(2020, 9, 13)])[0] == [NOON - 44_800]

    def test_a_zone_of_parquet_is_heeded(self) -> None:
        zone = (
            pl.Series([datetime(2020, 9, 13, 12, 26, 40)])
            .dt.replace_time_zone("UTC")
            .dt.convert_time_zone("Asia/Tokyo")
        )
        assert seconds(zone.to_list())[0] == [NOON]

    def test_of_another_kind(self) -> None:
        with pytest.raises(errors.BadTimestampError, match="List"):
            seconds([[1]])


class TestLogs:
    def test_missing_times_are_dropped_and_counted_when_asked(self, write: Write) -> None:
        path = write("log.csv", f"user,item,time\na,x,{NOON}\na,y,\na,z,-1\na,w,{NOON + 1}\n")
        with pytest.raises(errors.BadTimestampError, match="line 3"):
            read(path)
        log = read(path, reading=Reading(drop_missing=True))
        assert log.events["item"].to_list() == ["x", "w"]
        assert [(note.reason, note.events_in, note.events_out) for note in log.notes] == [("no time", 4, 2)]

    def test_numbers_in_one_part_and_dates_in_another(self, write: Write) -> None:
        write("log/part-0.csv", f"user,item,time\na,x,{NOON}\n")
        folder = write("log/part-1.csv", "user,item,time\na,y,2020-09-13\n").parent
        with pytest.raises(errors.BadTimestampError, match=r"part-1.csv line 2"):
            read(folder)

    def test_a_refusal_names_the_part(self, write: Write) -> None:
        write("log/part-0.csv", f"user,item,time\na,x,{NOON}\n")
        folder = write("log/part-1.csv", "user,item,time\na,y,0\n").parent
        with pytest.raises(errors.BadTimestampError, match=r"part-1.csv line 2: the timestamp 0"):
            read(folder)


class TestNeighbours:
    """What stands for no time among numbers that are read otherwise than as seconds."""

    @pytest.mark.parametrize("none", [0, -1])
    def test_among_calendar_numbers(self, none: int) -> None:
        values = [20200913, none, 20200914]
        with pytest.raises(errors.BadTimestampError, match=rf"line 3: the timestamp {none} stands for no time"):
            seconds(values)
        times, remark = seconds(values, drop=True)
        assert times == [NOON - 44_800, None, NOON - 44_800 + 86_400]
        assert remark is not None
        assert "such as 20200913" in remark

    def test_calendar_numbers_that_were_kept_as_floats(self) -> None:
        assert seconds([20200913.0, 20200914.0])[0] == [NOON - 44_800, NOON - 44_800 + 86_400]
        assert seconds(["20200913.0"])[0] == [NOON - 44_800]

    def test_counts_that_were_kept_as_floats_are_counts(self) -> None:
        assert seconds([1.0, 2.0, 3.0])[0] == [1, 2, 3]

    @pytest.mark.parametrize("none", [0, -1])
    def test_among_day_numbers(self, none: int) -> None:
        with pytest.raises(errors.BadTimestampError, match="looks like a day number"):
            seconds([18518, none, 18519])
        with pytest.raises(errors.BadTimestampError, match=rf"line 3: the timestamp {none}.* stands for no time"):
            seconds([18518, none], "days")
        assert [time for time in seconds([18518, none], "days", drop=True)[0] if time] == [18518 * 86_400]

    @pytest.mark.parametrize(("unit", "scale"), [("seconds", 1), ("milliseconds", 1000)])
    def test_among_numbers_whose_unit_was_told(self, unit: str, scale: int) -> None:
        with pytest.raises(errors.BadTimestampError, match="line 3: the timestamp -1 stands for no time"):
            seconds([NOON * scale, -1], unit)
        assert seconds([NOON * scale, 0], unit, drop=True)[0] == [NOON, None]

    def test_zero_is_a_time_where_seconds_are_told_to_start_there(self) -> None:
        assert seconds([0, 60, 40_000_000], "seconds")[0] == [0, 60, 40_000_000]

    def test_a_unit_that_was_told_shows_what_comes_of_it(self) -> None:
        assert seconds([NOON], "milliseconds") == (
            [1_600_000],
            "times are read as milliseconds, as told: from 1970-01-19 to 1970-01-19",
        )
        with pytest.raises(errors.BadTimestampError, match=r"line 2: .* is out of range as seconds"):
            seconds([NOON * 1000], "seconds")

    def test_the_largest_of_32_bits_stands_for_no_time(self) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: the timestamp 2147483647 .* stands for no time"):
            seconds([NOON, 2**31 - 1])
        assert seconds([NOON, 2**31 - 1], drop=True)[0] == [NOON, None]

    def test_decimal_commas(self) -> None:
        assert seconds(["1600000000,5", "1600000001,25"])[0] == [NOON, NOON + 1]
        assert seconds(["44087,5"], "spreadsheet-days")[0] == [NOON - 44_800 + 43_200]
        with pytest.raises(errors.BadTimestampError, match="is no number"):
            seconds(["1,600,000,000"])

    @pytest.mark.parametrize(
        ("text", "second"),
        [
            ("1.600000000e9", NOON),
            ("1.600000000E+09", NOON),
            ("16000000000e-1", NOON),
            ("1.600000000123E+12", NOON),
            ("1.600000000E+12", NOON),
            ("1.6000000001234568e+18", NOON),
            ("4.4e1", 44),
        ],
    )
    def test_scientific_notation_that_tells_the_second(self, text: str, second: int) -> None:
        assert seconds([text])[0] == [second]

    @pytest.mark.parametrize("text", ["1.6e9", "1.6E+12", "1.6000000e12", "16e8", "+1.600000E+18"])
    @pytest.mark.parametrize("drop", [False, True])
    def test_scientific_notation_that_rounds_names_the_line(self, text: str, drop: bool) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* in scientific notation, which rounds"):
            seconds([f"{NOON}", text], drop=drop)

    @pytest.mark.parametrize("number", ["1.6e9", "1600000000.0", "1.6e18", "1600000000000000000.0"])
    def test_a_number_of_json_has_its_value_however_it_is_written(self, write: Write, number: str) -> None:
        log = read(write("log.jsonl", f'{{"user": "a", "item": "x", "timestamp": {number}}}\n'))
        assert log.events["timestamp"].to_list() == [NOON]

    def test_floats_of_32_bits_are_told(self) -> None:
        times = Times()
        frame = pl.DataFrame({"timestamp": pl.Series([NOON], dtype=pl.Float32), "line": [1], "source": [0]})
        times.settle(frame.lazy().with_columns(times.read(frame, PATH, "row")), [(PATH, "row")])
        assert times.remark is not None
        assert "exact to 128 seconds" in times.remark
