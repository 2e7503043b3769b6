from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from duetgen.data import errors
from duetgen.data.sources.columns import in_seconds, typed

PATH = Path("log.csv")


def table(**columns: list[object]) -> pl.DataFrame:
    size = len(next(iter(columns.values())))
    whole = {"user": ["u"] * size, "item": ["i"] * size} | columns
    return pl.DataFrame(whole, strict=False).with_columns(line=pl.int_range(1, size + 1, dtype=pl.Int64))


class TestIds:
    def test_are_text_whatever_number(self) -> None:
        frame = typed(table(user=["-5", "0", "99999999999999999999999"]), PATH)
        assert frame["user"].to_list() == ["-5", "0", "99999999999999999999999"]

    def test_numbers_of_parquet_become_text(self) -> None:
        assert typed(table(user=[-1, 2**62]), PATH)["user"].to_list() == ["-1", str(2**62)]

    @pytest.mark.parametrize("empty", ["", "  ", None])
    def test_missing(self, empty: str | None) -> None:
        with pytest.raises(errors.BadIdError, match="line 2 has no item id"):
            typed(table(item=["a", empty]), PATH)

    def test_longest_is_accepted_and_one_byte_more_is_not(self) -> None:
        assert typed(table(user=["é" * 256]), PATH).height == 1
        with pytest.raises(errors.BadIdError, match="line 1: a user id of 513 bytes"):
            typed(table(user=["é" * 256 + "a"]), PATH)

    def test_lists_are_no_ids(self) -> None:
        with pytest.raises(errors.BadIdError, match="List"):
            typed(table(user=[["a"]]), PATH)


class TestRatings:
    def test_are_numbers(self) -> None:
        assert typed(table(rating=["5", " 0.5 ", "-1e2"]), PATH)["rating"].to_list() == [5.0, 0.5, -100.0]

    @pytest.mark.parametrize("bad", ["good", "", None, "nan", "inf", "-Infinity", "1,5"])
    def test_that_are_none_name_the_line(self, bad: str | None) -> None:
        with pytest.raises(errors.BadRatingError, match="line 2: the rating is"):
            typed(table(rating=["1", bad]), PATH)

    def test_nan_of_parquet(self) -> None:
        with pytest.raises(errors.BadRatingError):
            typed(table(rating=[1.0, float("nan")]), PATH)


class TestTimestamps:
    def test_before_1970_are_fine(self) -> None:
        assert typed(table(timestamp=["-5", "0"]), PATH)["timestamp"].to_list() == [-5, 0]

    def test_whole_floats_are_integers(self) -> None:
        frame = typed(table(timestamp=["1.0", "2e3"]), PATH)
        assert frame["timestamp"].to_list() == [1, 2000]
        assert frame.schema["timestamp"] == pl.Int64

    def test_dates_are_utc(self) -> None:
        frame = typed(table(timestamp=["1970-01-02", "1970-01-02 00:00:01", "1970-01-02T00:00:02Z"]), PATH)
        assert frame["timestamp"].to_list() == [86_400, 86_401, 86_402]

    def test_datetimes_and_dates_of_parquet(self) -> None:
        times = [datetime(1970, 1, 1, 0, 1, tzinfo=UTC)]
        assert typed(table(timestamp=times), PATH)["timestamp"].to_list() == [60]
        assert typed(table(timestamp=[date(1970, 1, 2)]), PATH)["timestamp"].to_list() == [86_400]

    def test_numbers_of_parquet(self) -> None:
        assert typed(table(timestamp=[5, 6]), PATH)["timestamp"].to_list() == [5, 6]
        assert typed(table(timestamp=[5.0, 6.5]), PATH)["timestamp"].to_list() == [5.0, 6.5]

    def test_column_of_another_kind(self) -> None:
        with pytest.raises(errors.BadTimestampError, match="List"):
            typed(table(timestamp=[[1]]), PATH)
        with pytest.raises(errors.BadRatingError, match="List"):
            typed(table(rating=[[1]]), PATH)

    @pytest.mark.parametrize("bad", ["yesterday", "", None, "nan", "inf", "1970-13-01"])
    def test_that_are_none_name_the_line(self, bad: str | None) -> None:
        with pytest.raises(errors.BadTimestampError, match=r"line 2: .* is no number or ISO date"):
            typed(table(timestamp=["1", bad]), PATH)

    @pytest.mark.parametrize("bad", [str(2**62), "9" * 30, "-" + "9" * 30])
    def test_out_of_range(self, bad: str) -> None:
        with pytest.raises(errors.BadTimestampError, match="out of range"):
            typed(table(timestamp=["1", bad]), PATH)


class TestUnits:
    def seconds(self, times: list[float]) -> tuple[list[str], list[int], str | None]:
        frame = pl.DataFrame({"item": [str(i) for i in range(len(times))], "timestamp": times})
        frame, note = in_seconds(frame, PATH)
        return frame["item"].to_list(), frame["timestamp"].to_list(), note

    def test_seconds_stay_as_they_are(self) -> None:
        assert self.seconds([99_999_999_999, 5]) == (["0", "1"], [99_999_999_999, 5], None)

    @pytest.mark.parametrize(
        ("unit", "factor"), [("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]
    )
    def test_finer_units_are_converted_and_noted(self, unit: str, factor: int) -> None:
        items, times, note = self.seconds([1_700_000_001 * factor + 7, 1_700_000_000 * factor])
        assert (items, times) == (["1", "0"], [1_700_000_000, 1_700_000_001])
        assert note is not None
        assert unit in note

    def test_order_within_a_second_is_kept(self) -> None:
        items, times, _ = self.seconds([1_700_000_000_900, 1_700_000_000_100, 1_700_000_000_100])
        assert (items, times) == (["1", "2", "0"], [1_700_000_000] * 3)

    def test_fractions_are_rounded_down_in_order(self) -> None:
        assert self.seconds([1.75, 1.25, 0.0])[:2] == (["2", "1", "0"], [0, 1, 1])

    def test_units_mixed(self) -> None:
        with pytest.raises(errors.MixedTimeUnitsError, match=r"seconds .* milliseconds"):
            self.seconds([1_700_000_000, 1_700_000_000_000])
