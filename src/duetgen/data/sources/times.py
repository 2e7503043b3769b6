"""What a time is: the one place that decides it, for every source.

- Numbers: the unit is told by their size, over the whole log, and named in the output. Numbers that write a calendar
  date (`20200913`, `20200913122640`) are read as that date.
- Numbers before 1971, as seconds, are no times of a clock. Where all are so, and whole, they are taken for what they
  are: a count that orders the events, and the output says so. Day numbers, and fractions, are refused unless
  `time_unit` says what they are. Where only some are so (0, -1), these events have no time.
- Text is read as `dates` has it.
- Decimal commas are read as points, where they can be nothing else.
- Numbers in scientific notation are read where their digits tell the second, and refused as rounded elsewhere.
- Times that have not come yet are read, and told.
- A missing time is refused, or its event is dropped and counted if asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from duetgen.data.errors import BadSettingError, BadTimestampError, MixedTimeUnitsError
from duetgen.data.sources.dates import date_of, parse_date, parse_dates
from duetgen.data.sources.ids import AROUND, first, is_missing, shown
from duetgen.data.sources.lines import with_point
from duetgen.wire import limits

CLOCK_FROM: Final = 31_536_000
"""Seconds from 1970 to 1971: a smaller number is a count, a day, a date or a word for no time."""

CLOCK_TO: Final = 4_102_444_800
"""Seconds from 1970 to 2100: a larger number is no time of a log."""

LOGS_FROM: Final = 788_918_400
"""Seconds from 1970 to 1995: earlier times are of no log, mostly, and are told with their days."""

MILLISECONDS_FROM: Final = 10**11
"""As seconds this is the year 5138: larger numbers are in a finer unit."""

FINER: Final = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
UNITS: Final = (*(name for name, _ in FINER), "days", "spreadsheet-days")
"""Values of `time_unit`: days count from 1970-01-01, those of a spreadsheet from 1899-12-30."""

DAY: Final = 86_400
SPREADSHEET_EPOCH: Final = 25_569
"""1970-01-01 as the day number of a spreadsheet."""

DAY_NUMBERS: Final = (10_000, 80_000)
"""As days since 1970 the years 1997 to 2189, as days of a spreadsheet 1927 to 2119."""

CALENDAR_DIGITS: Final = (8, 10, 12, 14, 17)
"""How many digits a number has that writes a date: to the day, hour, minute, second, millisecond."""

CALENDAR: Final = "%Y%m%d%H%M%S%3f"
PLACEHOLDERS: Final = (
    *("0001-01-01", "1601-01-01", "1753-01-01", "1899-12-30", "1899-12-31", "1900-01-01"),
    *("9999-12-31", "9999-12-31 23:59:59"),
)
"""Times that programs write for no date; the first moment of 1970 and the second before it, in any zone, are others."""

ZERO_DATE: Final = r"^0000-00-00"
"""What MySQL writes for no date."""

LARGEST: Final = 2**31 - 1
"""As seconds, what programs write for no end."""

FLOAT32_EXACT: Final = 2**24

TELL: Final = f"say what they are with --time-unit ({', '.join(UNITS)})"
MICRO: Final = 10**6
Places = Sequence[tuple[Path, str]]
DAY_ALONE: Final = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}")
CLOCK_NUMBER: Final = re.compile(r"[1-4]\d{9}(\d{3}|\d{6}|\d{9})?(\.\d*)?")
"""A number from 2001 on, as seconds or in a finer unit."""
SCIENTIFIC: Final = r"^[+-]?\d+(?:\.(\d*))?[eE]\+?(\d+)$"
EXACT_DECIMALS: Final = 9
"""So many digits behind the point of a number in scientific notation tell the second, whatever the unit."""


def look_like_times(values: Sequence[str]) -> bool:
    """Whether all of some values are dates, or numbers of the size of Unix times; False of none."""
    return bool(values) and all(
        CLOCK_NUMBER.fullmatch(value) or (not value.isdigit() and parse_date(value) is not None) for value in values
    )


def of_days(values: Sequence[str]) -> bool:
    """Whether all of some values are days without a time."""
    return all(DAY_ALONE.fullmatch(value) for value in values)


class Times:
    """Reads the times of a log, a block at a time; what they mean is settled when all are there.

    Args:
        unit: one of `UNITS`, or None: told by their size.
        drop: whether events without a time are dropped and counted, and not refused.
        numbers: whether the unit says that they are numbers; else it is for those that are.
    """

    def __init__(self, unit: str | None = None, *, drop: bool = False, numbers: bool = True) -> None:
        if unit is not None and unit not in UNITS:
            raise BadSettingError(f"there is no time unit {unit!r}", f"choose one of {', '.join(UNITS)}")
        self.unit, self.drop, self._numbers = unit, drop, numbers
        self.remark: str | None = None
        self._dates: bool | None = None
        self._rough = False

    def read(self, frame: pl.DataFrame, path: Path, where: str) -> pl.Series:
        """The column `timestamp` as numbers in the unit of the file (dates: int64 microseconds); null where missing.

        Raises:
            BadTimestampError: naming the first line that is wrong.
        """
        kind, column = frame.schema["timestamp"], frame["timestamp"]
        if isinstance(kind, pl.Datetime) or kind == pl.Date:
            self._all_alike(True, path)
            values = column.cast(pl.Datetime("us")) if kind == pl.Date else column
            return self._checked(frame, values.dt.epoch("us"), column.is_null(), path, where)
        if kind == pl.Null:
            return self._checked(frame, column.cast(pl.Int64), column.is_null(), path, where)
        if kind == pl.String:
            values = self._parse(column)
            whole = values.dtype.is_integer() and not values.null_count()
            text = pl.col("timestamp")
            missing = pl.lit(False) if whole else is_missing(text) | text.str.contains(ZERO_DATE).fill_null(False)
            return self._checked(frame, values, missing, path, where)
        if not (kind.is_numeric()):
            raise BadTimestampError(f"{path}: the timestamp column holds {kind}", "name a column of numbers or dates")
        self._all_alike(False, path)
        self._rough = self._rough or (kind == pl.Float32 and float(column.max() or 0) >= FLOAT32_EXACT)  # type: ignore[arg-type]
        values = column.cast(pl.Int64 if kind.is_integer() else pl.Float64, strict=False)
        absent = column.is_null() | column.is_nan() if kind.is_float() else column.is_null()
        return self._checked(frame, values, absent, path, where)

    def _all_alike(self, dates: bool, path: Path) -> None:
        """Dates in one part and numbers in another would be taken for each other."""
        if self._dates is not None and self._dates != dates:
            kinds = ("numbers", "dates")
            raise BadTimestampError(
                f"{path}: the times are {kinds[dates]}, and {kinds[not dates]} in the parts before it",
                "write all of them in one form",
            )
        self._dates = dates

    def _parse(self, text: pl.Series) -> pl.Series:
        """Integers, else floats, else dates: what the first block has, the others must have."""
        if not self._dates:
            whole = text.cast(pl.Int64, strict=False)
            if len(whole) and not whole.null_count():  # The common case, at little cost.
                self._dates = False
                return whole
        text = text.to_frame("t").select(pl.col("t").str.replace_all(AROUND, "")).to_series()
        if not self._dates:
            text = text.to_frame("t").select(with_point(pl.col("t"))).to_series()
            whole = text.cast(pl.Int64, strict=False)
            numbers = whole if whole.null_count() == text.null_count() else text.cast(pl.Float64, strict=False)
            if numbers.null_count() < len(numbers) or self._dates is False:
                self._dates = False
                return numbers
        micro = parse_dates(text)
        if micro.null_count() < len(micro):
            self._dates = True
        return micro

    def _checked(
        self, frame: pl.DataFrame, values: pl.Series, missing: pl.Series | pl.Expr, path: Path, where: str
    ) -> pl.Series:
        """The values, null where missing, if the others are numbers in range."""
        if self._dates and self.unit is not None and self._numbers:
            raise BadSettingError(
                f"{path}: the times are dates, and the time unit {self.unit} is for numbers", "leave --time-unit out"
            )
        frame = frame.select("line", "timestamp").with_columns(values.alias("number"))
        number = pl.col("number")
        wrong = number.is_null() | (number.cast(pl.Float64).abs() >= float(limits.MAX_TIMESTAMP))
        rounded = pl.lit(False)
        if values.dtype.is_float():
            if frame.schema["timestamp"] == pl.String:
                rounded = _rounded_by_notation(pl.col("timestamp"))
            wrong = wrong | ~number.is_finite() | rounded
        if isinstance(missing, pl.Series):
            missing = pl.lit(missing)
        if self.drop:
            wrong = wrong & ~missing
        if hit := first(frame, "timestamp", wrong):
            line, value = hit
            if frame.filter(missing & (pl.col("line") == line)).height:
                raise BadTimestampError(
                    f"{path} {where} {line} has no time: {shown(value)}",
                    "mend it, or leave such events out, counted, with --drop-missing",
                )
            if frame.filter(rounded & (pl.col("line") == line)).height:
                raise BadTimestampError(
                    f"{path} {where} {line}: the timestamp {shown(value)} is in scientific notation, which rounds",
                    "write the number out: a spreadsheet does so in a column of format number",
                )
            numeric = str(value).strip().lstrip("+-").isdigit()
            what = "is out of range" if numeric else "is no number or ISO date"
            if not self._dates and parse_date(str(value)) is not None and not numeric:
                what = "is a date where others are numbers"
            elif self._dates and numeric:
                what = "is a number where others are dates"
            raise BadTimestampError(
                f"{path} {where} {line}: the timestamp {shown(value)} {what}",
                "write Unix seconds or ISO 8601 (2020-09-13 12:26:40), the same in all lines",
            )
        return frame.select(pl.when(~missing).then(number).alias("timestamp")).to_series()

    def settle(self, events: pl.LazyFrame, places: Places) -> pl.LazyFrame:
        """The event table with timestamps as int64 seconds; `remark` says how they were read.

        Rounding to seconds must not lose the order inside a second: where it would, the table gets a column `moment`,
        the time before it was rounded. Events that turn out to have no time get null, if they are to be dropped.

        Args:
            events: with `timestamp`, `line` and `source`, a place among `places`.
            places: files, and what `line` counts in them.

        Raises:
            BadTimestampError, MixedTimeUnitsError: naming a line.
        """
        settled = self._settle_dates(events, places) if self._dates else self._settle_numbers(events, places)
        self._tell_future(settled)
        return settled

    def _settle_numbers(self, events: pl.LazyFrame, places: Places) -> pl.LazyFrame:
        """Numbers of any unit to seconds."""
        time = pl.col("timestamp")
        if not _is_integer(events) and _of(events, ((time == time.floor()) & (time.abs() < 2.0**62)).all()):
            events = events.with_columns(time.cast(pl.Int64))
        if self.unit is not None:
            return self._told(events, self.unit, places)
        if (example := _calendar(events)) is not None:
            self.remark = f"times are numbers that write a date, such as {example}: read as dates in UTC"
            events = self._without(events, time <= 0, "stands for no time among numbers that write a date", places)
            return self._rounded(events.with_columns(timestamp=_written_date()), MICRO)
        early = time < CLOCK_FROM
        if _of(events, early.all()):
            return self._count(events, places)
        events = self._without(events, early, "is before 1971, which stands for no time", places)
        events = self._without(events, time == LARGEST, "is the largest of 32 bits, which stands for no time", places)
        unit, divisor = self._finer(events, places)
        low, high = (value / divisor for value in _ends(events))
        if divisor > 1 or low < LOGS_FROM:
            self.remark = f"times are read as {unit}: {_days(low, high)}"
        if self._rough:
            self.remark = "; ".join(filter(None, (self.remark, "times are floats of 32 bits, exact to 128 seconds")))
        return self._rounded(self._in_range(events, divisor, places), divisor)

    def _tell_future(self, events: pl.LazyFrame) -> None:
        """Remark on times that have not come yet, by more than any zone is ahead."""
        second = pl.col("timestamp")
        ahead = second.filter(second > datetime.now(UTC).timestamp() + DAY)
        if count := _of(events, ahead.len()):
            last = date_of(_of(events, ahead.max()) * MICRO)[:10]
            told = f"{count:,} events are in the future, the last on {last}: clocks that were wrong, or another unit"
            self.remark = "; ".join(filter(None, (self.remark, told)))

    def _settle_dates(self, events: pl.LazyFrame, places: Places) -> pl.LazyFrame:
        """Dates: microseconds to seconds, without the days that stand for none; a unit is for numbers."""
        events = self._without(events, _placeholder(pl.col("timestamp")), "stands for no date", places)
        self.remark = "times are dates, read as UTC where no offset stands"
        if self.unit is not None:
            self.remark += f"; the time unit {self.unit}, which is for numbers, is not used"
        early = pl.col("timestamp").filter(pl.col("timestamp") < CLOCK_FROM * MICRO)
        if count := _of(events, early.len()):
            self.remark += f"; {count:,} are before 1971, the first {date_of(_of(events, early.min()))}"
        return self._rounded(self._in_range(events, MICRO, places), MICRO)

    def _without(self, events: pl.LazyFrame, wrong: pl.Expr, what: str, places: Places) -> pl.LazyFrame:
        """The table with null for times that are none, if that is asked for."""
        if self.drop:
            return events.with_columns(timestamp=pl.when(~wrong).then(pl.col("timestamp")))
        if hit := _first_place(events, wrong, places):
            raise BadTimestampError(
                f"{hit[0]}: the timestamp {self._shown(hit[1])} {what}",
                "leave such events out, counted, with --drop-missing"
                + (f", or {TELL}" if self.unit is None and not self._dates else ""),
            )
        return events

    def _shown(self, value: object) -> str:
        return date_of(value) if self._dates else str(value)

    def _count(self, events: pl.LazyFrame, places: Places) -> pl.LazyFrame:
        """Numbers that are no times of a clock, but may order the events."""
        time = pl.col("timestamp")
        low, high = _ends(events.filter(time > 0))
        kind, hint = "" if _is_integer(events) else "no time of a clock", TELL
        if DAY_NUMBERS[0] <= low <= high <= DAY_NUMBERS[1]:
            kind = "a day number"
        elif low and _of(events.filter(time > 0), _year_last().all()):
            kind, hint = "a date with its year last, which does not order", "write it as 20200913, or in ISO 8601"
        if kind and (hit := _first_place(events, time.is_not_null(), places)):
            raise BadTimestampError(f"{hit[0]}: the timestamp {hit[1]} looks like {kind}", hint)
        events = self._without(events, time < 0, "is before 1971, which stands for no time", places)
        low, high = _ends(events)
        self.remark = (
            f"times are small numbers ({low:.0f} to {high:.0f}), no clock's: they only order the events; "
            "--time-unit says if they are more"
        )
        return events

    def _finer(self, events: pl.LazyFrame, places: Places) -> tuple[str, int]:
        """The unit of the numbers, by their size.

        Raises:
            MixedTimeUnitsError: some are in seconds and some in a finer unit.
        """
        ends = _ends(events)
        of_low, of_high = (sum(value >= MILLISECONDS_FROM * 10 ** (3 * i) for i in range(3)) for value in ends)
        if of_low != of_high:
            low, high = (_first_place(events, pl.col("timestamp") == value, places) or ("", value) for value in ends)
            raise MixedTimeUnitsError(
                f"timestamps look like both {FINER[of_low][0]} ({low[0]}: {low[1]}) and "
                f"{FINER[of_high][0]} ({high[0]}: {high[1]})",
                "bring them all to Unix seconds",
            )
        name, divisor = FINER[of_high]
        if name == "nanoseconds" and ends[1] < LOGS_FROM * divisor:
            place, value = _first_place(events, pl.col("timestamp") == ends[1], places) or ("", ends[1])
            raise BadTimestampError(
                f"{place}: the timestamp {value} looks like ticks of 100 nanoseconds, which count from another year "
                "than 1970",
                "bring them all to Unix seconds; if they are nanoseconds, say so with --time-unit",
            )
        return name, divisor

    def _in_range(self, events: pl.LazyFrame, divisor: int, places: Places) -> pl.LazyFrame:
        beyond = pl.col("timestamp").cast(pl.Float64) / divisor >= CLOCK_TO
        if hit := _first_place(events, beyond, places):
            raise BadTimestampError(
                f"{hit[0]}: the timestamp {self._shown(hit[1])} is out of range, after the year 2099",
                "mend it" if self._dates else TELL,
            )
        return events

    def _told(self, events: pl.LazyFrame, unit: str, places: Places) -> pl.LazyFrame:
        """Numbers whose unit was named: as they are, whatever their size."""
        divisor = dict(FINER).get(unit)
        since = SPREADSHEET_EPOCH if unit == "spreadsheet-days" else 0
        second = (pl.col("timestamp").cast(pl.Float64) - since) * DAY
        if divisor is not None:
            second = pl.col("timestamp").cast(pl.Float64) / divisor
        # Where all others are of a clock, 0 and -1 are none, whatever the unit.
        least = _of(events.filter(pl.col("timestamp") > 0), second.min())
        if least is not None and least >= CLOCK_FROM:
            events = self._without(
                events, (pl.col("timestamp") == 0) | (pl.col("timestamp") == -1), "stands for no time", places
            )
        if hit := _first_place(events, second.abs() >= CLOCK_TO, places):
            raise BadTimestampError(f"{hit[0]}: the timestamp {hit[1]} is out of range as {unit}", TELL)
        self.remark = (
            f"times are read as {unit}, as told: {_days(_of(events, second.min()), _of(events, second.max()))}"
        )
        if divisor is not None:
            return self._rounded(events, divisor)
        # A fraction of a day is a second only nearly, so the nearest one is meant.
        return events.with_columns(timestamp=second.round().cast(pl.Int64), moment=pl.col("timestamp"))

    def _rounded(self, events: pl.LazyFrame, divisor: int) -> pl.LazyFrame:
        """Whole seconds; what they were before, too, where fractions of a second are lost."""
        time = pl.col("timestamp")
        seconds = time // divisor if _is_integer(events) else (time / divisor).floor().cast(pl.Int64)
        if not _of(events, (time % divisor != 0).any()):
            return events.with_columns(timestamp=seconds)
        self.remark = "; ".join(
            part for part in (self.remark, "put in order, then rounded down to whole seconds") if part
        )
        return events.with_columns(timestamp=seconds, moment=time)


def _of(events: pl.LazyFrame, value: pl.Expr) -> Any:
    """One value of the whole table."""
    return events.select(value).collect(engine="streaming").item()


def _is_integer(events: pl.LazyFrame) -> bool:
    return events.collect_schema()["timestamp"].is_integer()


def _ends(events: pl.LazyFrame) -> tuple[float, float]:
    """Smallest and largest timestamp; 0 where there is none."""
    time = pl.col("timestamp")
    return float(_of(events, time.min()) or 0), float(_of(events, time.max()) or 0)


def _first_place(events: pl.LazyFrame, wrong: pl.Expr, places: Places) -> tuple[str, object] | None:
    """Where the first timestamp is for which `wrong` holds, and what it is."""
    hit = events.filter(wrong).select("source", "line", "timestamp").head(1).collect(engine="streaming")
    if not len(hit):
        return None
    source, line, value = hit.row(0)
    path, where = places[source]
    return f"{path} {where} {line}", value


def _days(first: float | None, last: float | None) -> str:
    """From which day to which, of seconds since 1970."""
    begin, end = (date_of(round(second or 0) * MICRO)[:10] for second in (first, last))
    return f"from {begin} to {end}"


def _placeholder(micro: pl.Expr) -> pl.Expr:
    """Whether a date is one that programs write for none."""
    days = [parse_date(day) for day in PLACEHOLDERS]
    quarter, near = 900 * MICRO, micro.abs() <= 14 * 3600 * MICRO
    around_epoch = near & ((micro % quarter == 0) | (micro % quarter == quarter - MICRO))
    return micro.is_in(days) | around_epoch


def _written_date() -> pl.Expr:
    """Microseconds since 1970 of numbers that write a date; null of others."""
    text = pl.col("timestamp").cast(pl.String).str.pad_end(len("YYYYmmddHHMMSSfff"), "0")
    return text.str.to_datetime(CALENDAR, strict=False, time_unit="us").dt.epoch("us")


def _year_last() -> pl.Expr:
    """Whether a number writes day, month and year, or month, day and year."""
    time = pl.col("timestamp")
    of_years = (time % 10_000).is_between(1970, 2099)
    return of_years & (time // 10_000 % 100).is_between(1, 31) & (time // 1_000_000).is_between(1, 31)


def _calendar(events: pl.LazyFrame) -> int | None:
    """The first of numbers that all write a date, but for those that are none; None if they do not."""
    if not _is_integer(events):
        return None
    events = events.filter(pl.col("timestamp") > 0).select("timestamp")
    low, high = (str(_of(events, end)) for end in (pl.col("timestamp").min(), pl.col("timestamp").max()))
    if len(low) != len(high) or len(low) not in CALENDAR_DIGITS or not "1970" <= low[:4] <= high[:4] <= "2099":
        return None
    for some in (events.head(100), events):
        if _of(some, _written_date().null_count()):
            return None
    return int(_of(events, pl.col("timestamp").first()))


def _rounded_by_notation(text: pl.Expr) -> pl.Expr:
    """Whether a number in scientific notation has too few digits to tell the second."""
    parts = text.str.strip_chars().str.extract_groups(SCIENTIFIC)
    decimals = parts.struct[0].str.len_chars().fill_null(0)
    power = parts.struct[1].cast(pl.Int64, strict=False)
    return (decimals < power.clip(upper_bound=EXACT_DECIMALS)).fill_null(False)
