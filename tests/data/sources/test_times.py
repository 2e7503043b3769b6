from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.log import Reading
from duetgen.data.sources import read
from duetgen.data.sources.iso import parse_iso
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
    return times.settle(frame, [(PATH, "line")])["timestamp"].to_list(), times.remark


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
        ],
    )
    def test_what_is_none_names_the_line(self, bad: str) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* is no number or ISO date"):
            seconds(["2020-09-13", bad])

    @given(
        st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1)).map(lambda t: t.replace(microsecond=0)),
        st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters))),
        st.sampled_from(["T", " "]),
    )
    def test_any_time_in_any_zone(self, time: datetime, zone: timezone, between: str) -> None:
        moment = time.replace(tzinfo=zone)
        text = moment.isoformat(between)
        assert parse_iso(text) == int(moment.timestamp()) * 10**6
        assert seconds([text])[0] == [int(moment.timestamp())]

    @given(st.text(st.sampled_from("0123456789-:TZ +./, UTCGM[]W"), max_size=30))
    def test_any_text_is_a_time_or_none(self, text: str) -> None:
        found = parse_iso(text)
        assert found is None or isinstance(found, int)

    @pytest.mark.parametrize(
        "placeholder",
        ["1970-01-01", "1970-01-01T00:00:00Z", "1969-12-31 19:00:00", "1900-01-01", "0001-01-01 00:00:00"],
    )
    def test_dates_that_stand_for_none(self, placeholder: str) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* stands for no date"):
            seconds(["2020-09-13", placeholder])
        assert seconds(["2020-09-13", placeholder], drop=True)[0] == [NOON - 44_800, None]

    @pytest.mark.parametrize("word", ["0", "-1", "0000-00-00", "0000-00-00 00:00:00", "NULL"])
    def test_other_words_for_none_among_dates(self, word: str) -> None:
        with pytest.raises(errors.BadTimestampError, match="line 3"):
            seconds(["2020-09-13", word])
        assert seconds(["2020-09-13", word], drop=True)[0] == [NOON - 44_800]

    def test_dates_before_1971_are_dates(self) -> None:
        assert seconds(["1970-01-02", "1969-06-01"])[0] == [86_400, -214 * 86_400]

    def test_dates_after_2099_are_refused(self) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* 9999-12-31.* out of range"):
            seconds(["2020-09-13", "9999-12-31"])


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
        assert seconds([(NOON + 1) * 1000, NOON * 1000]) == ([NOON + 1, NOON], "times are read as milliseconds")

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

    @pytest.mark.parametrize("bad", ["yesterday", "nan", "inf", "NULL"])
    def test_that_are_none_name_the_line(self, bad: str) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* is no number or ISO date"):
            seconds([str(NOON), bad])

    @pytest.mark.parametrize("empty", ["", None])
    def test_that_are_empty_name_the_line(self, empty: str | None) -> None:
        with pytest.raises(errors.BadTimestampError, match="line 3 has no time"):
            seconds([str(NOON), empty])

    def test_numbers_and_dates_do_not_mix(self) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* is a date where others are numbers"):
            seconds([str(NOON), "2020-09-13"])

    @pytest.mark.parametrize("values", [[0, 0], [-1, -1], [0, -1]])
    def test_nothing_but_words_for_none(self, values: list[object]) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 2: .* stands for no time"):
            seconds(values)

    @pytest.mark.parametrize("values", [[20200913, 0], [20200913.0, -1.0], ["20200913", "0"]])
    def test_a_small_number_among_those_that_write_a_date(self, values: list[object]) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 3: .* stands for no date"):
            seconds(values)
        assert seconds(values, drop=True)[0] == [NOON - 44_800, None]

    # 2020-09-13 as Windows counts (since 1601) and as .NET does (since year 1), in units of 100 nanoseconds.
    @pytest.mark.parametrize("ticks", [132_444_736_000_000_000, 637_355_968_000_000_000])
    def test_ticks_are_not_taken_for_nanoseconds(self, ticks: int) -> None:
        with pytest.raises(errors.BadTimestampError, match="may count 100 nanoseconds"):
            seconds([ticks])

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
