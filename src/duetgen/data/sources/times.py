"""What a time is: the one place that decides it, for every source.

- Numbers: the unit is told by their size, over the whole log, and named in the output. Numbers that write a calendar
  date (`20200913`, `20200913122640`) are read as that date.
- Numbers before 1971, as seconds, are no times of a clock. Where all are so, and whole, they are taken for what they
  are: a count that orders the events, and the output says so. Day numbers, and fractions, are refused unless
  `time_unit` says what they are. Where only some are so (0, -1), these events have no time.
- Text and dates: ISO 8601 with `T` or a blank, with or without seconds, fractions and offset; `Z`, `UTC` and `GMT`
  behind it. Without an offset it is UTC.
- A missing time is refused, or its event is dropped and counted if asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from duetgen.data.errors import BadSettingError, BadTimestampError, MixedTimeUnitsError
from duetgen.data.sources.ids import AROUND, first, is_missing, shown
from duetgen.data.sources.iso import MICRO, NO_DATE, date_of, parse_column, parse_iso, placeholder
from duetgen.wire import limits

CLOCK_FROM: Final = 31_536_000
"""Seconds from 1970 to 1971: a smaller number is a count, a day, a date or a word for no time."""

CLOCK_TO: Final = 4_102_444_800
"""Seconds from 1970 to 2100: a larger number is no time of a log."""

MILLISECONDS_FROM: Final = 10**11
"""As seconds this is the year 5138: larger numbers are in a finer unit."""

NANOSECONDS_FROM: Final = 650_000_000 * 10**9
"""Before August 1990 as nanoseconds: the ticks of Windows and .NET look so, of 100 nanoseconds since 1601 or year 1."""

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
TELL: Final = f"say what they are with --time-unit ({', '.join(UNITS)})"
Places = Sequence[tuple[Path, str]]


class Times:
    """Reads the times of a log, a block at a time; what they mean is settled when all are there.

    Args:
        unit: one of `UNITS`, or None: told by their size.
        drop: whether events without a time are dropped and counted, and not refused.
    """

    def __init__(self, unit: str | None = None, *, drop: bool = False) -> None:
        if unit is not None and unit not in UNITS:
            raise BadSettingError(f"there is no time unit {unit!r}", f"choose one of {', '.join(UNITS)}")
        self.unit, self.drop = unit, drop
        self.remark: str | None = None
        self._dates: bool | None = None

    def read(self, frame: pl.DataFrame, path: Path, where: str) -> pl.Series:
        """The column `timestamp` as numbers in the unit of the file (dates: int64 microseconds); null where missing.

        Raises:
            BadTimestampError: naming the first line that is wrong.
        """
        kind, column = frame.schema["timestamp"], frame["timestamp"]
        if isinstance(kind, pl.Datetime) or kind == pl.Date:
            self._dates = True
            values = column.cast(pl.Datetime("us")) if kind == pl.Date else column
            return self._checked(frame, values.dt.epoch("us"), column.is_null(), path, where)
        if kind == pl.Null:
            return self._checked(frame, column.cast(pl.Int64), column.is_null(), path, where)
        if kind == pl.String:
            values = self._parse(column)
            time = pl.col("timestamp")
            if values.dtype.is_integer() and not values.null_count():
                missing = pl.lit(False)
            elif self._dates:
                missing = is_missing(time) | time.str.strip_chars().is_in(NO_DATE)
            else:
                missing = is_missing(time)
            return self._checked(frame, values, missing, path, where)
        if not (kind.is_numeric()):
            raise BadTimestampError(f"{path}: the timestamp column holds {kind}", "name a column of numbers or dates")
        self._dates = False
        values = column.cast(pl.Int64 if kind.is_integer() else pl.Float64, strict=False)
        absent = column.is_null() | column.is_nan() if kind.is_float() else column.is_null()
        return self._checked(frame, values, absent, path, where)

    def _parse(self, text: pl.Series) -> pl.Series:
        """Integers, else floats, else dates: what the first block has, the others must have."""
        if not self._dates:
            whole = text.cast(pl.Int64, strict=False)
            if len(whole) and not whole.null_count():  # The common case, at little cost.
                self._dates = False
                return whole
        text = text.to_frame("t").select(pl.col("t").str.replace_all(AROUND, "")).to_series()
        if not self._dates:
            whole = text.cast(pl.Int64, strict=False)
            numbers = whole if whole.null_count() == text.null_count() else text.cast(pl.Float64, strict=False)
            # Among dates, 0 and -1 are no numbers but stand for none.
            meant = text.filter(numbers.is_not_null() & ~numbers.is_nan().fill_null(False) & ~text.is_in(NO_DATE))
            if len(meant) or self._dates is False:
                self._dates = False
                return numbers
        micro = parse_column(text)
        if micro.null_count() < len(micro):
            self._dates = True
            return micro
        return micro if self._dates else numbers

    def _checked(
        self, frame: pl.DataFrame, values: pl.Series, missing: pl.Series | pl.Expr, path: Path, where: str
    ) -> pl.Series:
        """The values, null where missing, if the others are numbers in range."""
        frame = frame.select("line", "timestamp").with_columns(values.alias("number"))
        number = pl.col("number")
        wrong = number.is_null() | (number.cast(pl.Float64).abs() >= float(limits.MAX_TIMESTAMP))
        if values.dtype.is_float():
            wrong = wrong | ~number.is_finite()
        if isinstance(missing, pl.Series):
            missing = pl.lit(missing)
        if self.drop:
            wrong = wrong & ~missing
        if hit := first(frame, "timestamp", wrong):
            empty = hit[1] is None or hit[1] == ""
            what = " has no time" if empty else f": the timestamp {shown(hit[1])} is {self._what(hit[1])}"
            raise BadTimestampError(
                f"{path} {where} {hit[0]}{what}",
                "write Unix seconds or ISO 8601 (2020-09-13 12:26:40); --drop-missing leaves out events without a time",
            )
        return frame.select(pl.when(~missing).then(number).alias("timestamp")).to_series()

    def _what(self, value: object) -> str:
        """What is wrong with a value that is no time, for a refusal."""
        text = str(value).strip()
        if self._dates is False and parse_iso(text) is not None and not text.isdigit():
            return "a date where others are numbers"
        if not text.lstrip("+-").isdigit():
            return "no number or ISO date"
        return "a number where others are dates" if self._dates else "out of range"

    def settle(self, events: pl.DataFrame, places: Places) -> pl.DataFrame:
        """The event table with timestamps as int64 seconds; `remark` says how they were read.

        Rounding to seconds must not lose the order inside a second, so such a table is first put in order of time
        (stable). Events that turn out to have no time get null, if they are to be dropped.

        Args:
            events: with `timestamp`, `line` and `source`, a place among `places`.
            places: files, and what `line` counts in them.

        Raises:
            BadTimestampError, MixedTimeUnitsError: naming a line.
        """
        time = pl.col("timestamp")
        if events.schema["timestamp"].is_float() and events.select((time % 1 == 0).all()).item():
            events = events.with_columns(time.cast(pl.Int64))
        if self._dates:
            events = self._without(events, placeholder(pl.col("timestamp")), "stands for no date", places)
            self.remark = "times are dates, read as UTC where no offset stands"
            return self._rounded(self._in_range(events, MICRO, places), MICRO)
        if self.unit is not None:
            return self._told(events, self.unit, places)
        if (dates := _calendar(events["timestamp"])) is not None:
            events = self._without(events, time <= 0, "stands for no date", places)
            example = str(events["timestamp"].max())
            self.remark = f"times are numbers that write a date, such as {example}: read as dates in UTC"
            return self._rounded(events.with_columns(timestamp=pl.when(time.is_not_null()).then(dates)), MICRO)
        early = time < CLOCK_FROM
        if events.select(early.all()).item():
            return self._count(events, places)
        events = self._without(events, early, "is before 1971, which stands for no time", places)
        unit, divisor = self._finer(events, places)
        if divisor > 1:
            self.remark = f"times are read as {unit}"
        return self._rounded(self._in_range(events, divisor, places), divisor)

    def _without(self, events: pl.DataFrame, wrong: pl.Expr, what: str, places: Places) -> pl.DataFrame:
        """The table with null for times that are none, if that is asked for."""
        if self.drop:
            return events.with_columns(timestamp=pl.when(~wrong).then(pl.col("timestamp")))
        if hit := _first_place(events, wrong, places):
            raise BadTimestampError(
                f"{hit[0]}: the timestamp {self._shown(hit[1])} {what}",
                f"leave such events out, counted, with --drop-missing, or {TELL}",
            )
        return events

    def _shown(self, value: object) -> str:
        return date_of(value) if self._dates else str(value)

    def _count(self, events: pl.DataFrame, places: Places) -> pl.DataFrame:
        """Numbers that are no times of a clock, but may order the events."""
        time = pl.col("timestamp")
        low, high = _ends(events.filter(time >= 0))
        days = DAY_NUMBERS[0] <= low <= high <= DAY_NUMBERS[1]
        whole = events.schema["timestamp"].is_integer()
        if (days or not whole) and (hit := _first_place(events, time.is_not_null(), places)):
            kind = "a day number" if days else "no time of a clock"
            raise BadTimestampError(f"{hit[0]}: the timestamp {hit[1]} looks like {kind}", TELL)
        none = time < 0 if high > 0 else time <= 0
        events = self._without(events, none, "is before 1971, which stands for no time", places)
        self.remark = (
            f"times are small numbers ({low:.0f} to {high:.0f}), no clock's: they only order the events; "
            "--time-unit says if they are more"
        )
        return events

    def _finer(self, events: pl.DataFrame, places: Places) -> tuple[str, int]:
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
        if of_high == len(FINER) - 1 and ends[0] < NANOSECONDS_FROM:
            lowest = pl.col("timestamp").cast(pl.Float64) == ends[0]
            place, value = _first_place(events, lowest, places) or ("", 0)
            raise BadTimestampError(f"{place}: the timestamp {value} may count 100 nanoseconds, as Windows does", TELL)
        return FINER[of_high]

    def _in_range(self, events: pl.DataFrame, divisor: int, places: Places) -> pl.DataFrame:
        beyond = pl.col("timestamp").cast(pl.Float64) / divisor >= CLOCK_TO
        if hit := _first_place(events, beyond, places):
            raise BadTimestampError(
                f"{hit[0]}: the timestamp {self._shown(hit[1])} is out of range, after the year 2099",
                "mend it" if self._dates else TELL,
            )
        return events

    def _told(self, events: pl.DataFrame, unit: str, places: Places) -> pl.DataFrame:
        """Numbers whose unit was named: as they are, whatever their size."""
        self.remark = f"times are read as {unit}, as told"
        divisor = dict(FINER).get(unit)
        if divisor is not None:
            return self._rounded(events, divisor)
        since = SPREADSHEET_EPOCH if unit == "spreadsheet-days" else 0
        days = pl.col("timestamp").cast(pl.Float64) - since
        if hit := _first_place(events, days.abs() >= CLOCK_TO / DAY, places):
            raise BadTimestampError(f"{hit[0]}: the timestamp {hit[1]} is no day number", TELL)
        # A fraction of a day is a second only nearly, so the nearest one is meant.
        events = events.sort("timestamp", maintain_order=True)
        return events.with_columns(timestamp=(days * DAY).round().cast(pl.Int64))

    def _rounded(self, events: pl.DataFrame, divisor: int) -> pl.DataFrame:
        """Whole seconds; put in order first where fractions of a second are lost."""
        time = pl.col("timestamp")
        if events.schema["timestamp"].is_integer():
            lost, seconds = (time % divisor != 0).any(), time // divisor
        else:
            lost, seconds = (time % divisor != 0).any(), (time / divisor).floor().cast(pl.Int64)
        if events.select(lost).item():
            events = events.sort("timestamp", maintain_order=True)
            self.remark = "; ".join(
                part for part in (self.remark, "put in order, then rounded down to whole seconds") if part
            )
        return events.with_columns(timestamp=seconds)


def _ends(events: pl.DataFrame) -> tuple[float, float]:
    """Smallest and largest timestamp; 0 where there is none."""
    time = pl.col("timestamp")
    low, high = events.select(time.min().alias("low"), time.max().alias("high")).row(0)
    return float(low or 0), float(high or 0)


def _first_place(events: pl.DataFrame, wrong: pl.Expr, places: Places) -> tuple[str, object] | None:
    """Where the first timestamp is for which `wrong` holds, and what it is."""
    hit = events.filter(wrong).select("source", "line", "timestamp").head(1)
    if not len(hit):
        return None
    source, line, value = hit.row(0)
    path, where = places[source]
    return f"{path} {where} {line}", value


def _calendar(times: pl.Series) -> pl.Series | None:
    """Microseconds since 1970 of numbers that all write a date, but for those of 0 or less; None if they do not."""
    if not times.dtype.is_integer() or not len(times):
        return None
    meant = times.filter(times > 0)
    low, high = str(meant.min()), str(meant.max())
    if len(low) != len(high) or len(low) not in CALENDAR_DIGITS or not "1970" <= low[:4] <= high[:4] <= "2099":
        return None
    if _written_dates(meant.head(100)).null_count() or _written_dates(meant).null_count():
        return None
    return _written_dates(times)


def _written_dates(times: pl.Series) -> pl.Series:
    text = times.cast(pl.String).str.pad_end(len("YYYYmmddHHMMSSfff"), "0")
    return text.str.to_datetime(CALENDAR, strict=False, time_unit="us").dt.epoch("us")
