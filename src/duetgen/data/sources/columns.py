"""From columns of text (or of Parquet) to the event table's types, refusing what is no id, rating or time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import polars as pl

from duetgen.data.errors import BadIdError, BadRatingError, BadTimestampError, MixedTimeUnitsError
from duetgen.wire import limits

MILLISECONDS_FROM: Final = 10**11
"""As seconds this is the year 5138: larger timestamps are in a finer unit."""

UNITS: Final = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
DATE_FORMATS: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d")


def typed(frame: pl.DataFrame, path: Path, where: str = "line") -> pl.DataFrame:
    """The event table of raw columns: user and item as text, rating as float64, timestamp as it stands.

    Args:
        frame: columns `user`, `item`, `line` and perhaps `rating`, `timestamp`.
        path: of the file, for refusals.
        where: what `line` counts.

    Returns:
        The columns without `line`; timestamps are int64, or float64 if any has a fraction, in the unit of the file.

    Raises:
        BadIdError, BadRatingError, BadTimestampError: naming the first line that is wrong.
    """
    for name in ("user", "item"):
        frame = _ids(frame, name, path, where)
    if "rating" in frame.columns:
        frame = _ratings(frame, path, where)
    if "timestamp" in frame.columns:
        frame = _timestamps(frame, path, where)
    return frame.select(name for name in ("user", "item", "rating", "timestamp") if name in frame.columns)


def _first(frame: pl.DataFrame, name: str, wrong: pl.Expr) -> tuple[int, Any] | None:
    hit = frame.filter(wrong).select("line", name).head(1)
    return hit.row(0) if len(hit) else None


def _shown(value: object) -> str:
    text = "an empty field" if value is None or value == "" else repr(value)
    return text if len(text) <= 40 else text[:37] + "…'"


def _ids(frame: pl.DataFrame, name: str, path: Path, where: str) -> pl.DataFrame:
    kind = frame.schema[name]
    if kind != pl.String:
        if kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Null):
            raise BadIdError(f"{path}: the {name} column holds {kind}, not ids", "name a column of text or integers")
        frame = frame.with_columns(pl.col(name).cast(pl.String))
    if hit := _first(frame, name, pl.col(name).is_null() | (pl.col(name).str.strip_chars() == "")):
        raise BadIdError(f"{path} {where} {hit[0]} has no {name} id", "remove the event or give it an id")
    if hit := _first(frame, name, pl.col(name).str.len_bytes() > limits.MAX_ID_BYTES):
        raise BadIdError(
            f"{path} {where} {hit[0]}: a {name} id of {len(hit[1].encode()):,} bytes; at most {limits.MAX_ID_BYTES}",
            "shorten the ids, for example by hashing them",
        )
    if hit := _first(frame, name, pl.col(name).str.contains("\0", literal=True)):
        raise BadIdError(f"{path} {where} {hit[0]}: a {name} id with a NUL byte", "remove it from the id")
    return frame


def _ratings(frame: pl.DataFrame, path: Path, where: str) -> pl.DataFrame:
    rating = pl.col("rating")
    if frame.schema["rating"] == pl.String:
        rating = rating.str.strip_chars().cast(pl.Float64, strict=False)
    elif frame.schema["rating"].is_numeric() or frame.schema["rating"] == pl.Boolean:
        rating = rating.cast(pl.Float64)
    else:
        raise BadRatingError(
            f"{path}: the rating column holds {frame.schema['rating']}", "name another column with --rating-column"
        )
    frame = frame.with_columns(number=rating)
    if hit := _first(frame, "rating", pl.col("number").is_null() | ~pl.col("number").is_finite()):
        raise BadRatingError(
            f"{path} {where} {hit[0]}: the rating is {_shown(hit[1])}, not a finite number",
            "mend the line, or check that the source named is the right one",
        )
    return frame.with_columns(rating=pl.col("number")).drop("number")


def _timestamps(frame: pl.DataFrame, path: Path, where: str) -> pl.DataFrame:
    kind = frame.schema["timestamp"]
    time = pl.col("timestamp")
    if isinstance(kind, pl.Datetime):
        values = frame.select(time.dt.epoch("us") / 10**6).to_series() if len(frame) else frame["timestamp"]
        values = values.cast(pl.Float64)
    elif kind == pl.Date:
        values = frame.select(time.dt.epoch("s")).to_series()
    elif kind == pl.String:
        values = _parse_times(frame["timestamp"].str.strip_chars())
    elif kind.is_integer():
        values = frame["timestamp"].cast(pl.Int64, strict=False)
    elif kind.is_float():
        values = frame["timestamp"].cast(pl.Float64)
    else:
        raise BadTimestampError(f"{path}: the timestamp column holds {kind}", "name a column of numbers or dates")
    frame = frame.with_columns(values.alias("number"))
    number = pl.col("number")
    wrong = number.is_null() | (number.cast(pl.Float64).abs() >= float(limits.MAX_TIMESTAMP))
    if values.dtype.is_float():
        wrong = wrong | ~number.is_finite()
    if hit := _first(frame, "timestamp", wrong):
        numeric = str(hit[1]).strip().lstrip("+-").isdigit()
        what = "out of range" if numeric else "no number or ISO date"
        raise BadTimestampError(
            f"{path} {where} {hit[0]}: the timestamp {_shown(hit[1])} is {what}",
            "timestamps are Unix seconds; mend the line, or check the source named",
        )
    if values.dtype.is_float() and not (values % 1 != 0).any():
        frame = frame.with_columns(number.cast(pl.Int64))
    return frame.with_columns(timestamp=number).drop("number")


def _parse_times(text: pl.Series) -> pl.Series:
    """Integers; if there are others, floats; if no value is a number, ISO dates in UTC."""
    whole = text.cast(pl.Int64, strict=False)
    if not whole.null_count():
        return whole
    # Integers too large for int64 become floats here and are refused by their range.
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() < len(numbers):
        return numbers
    bare = pl.col("t").str.strip_suffix("Z")
    parsed = [bare.str.to_datetime(form, strict=False, time_unit="us") for form in DATE_FORMATS]
    seconds = text.to_frame("t").select(pl.coalesce(parsed).dt.epoch("us") / 10**6).to_series()
    return seconds.cast(pl.Float64)


def in_seconds(events: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, str | None]:
    """The event table with timestamps as int64 seconds, and a note if that changed them.

    Finer units are told by their size. Rounding to seconds must not lose the order inside a second, so such a table
    is first put in order of time (stable).

    Raises:
        MixedTimeUnitsError: some timestamps are in seconds and some in a finer unit.
    """
    if "timestamp" not in events.columns or not len(events):
        return events, None
    size = events["timestamp"].abs()
    low, high = float(size.min() or 0), float(size.max() or 0)  # type: ignore[arg-type]
    of_low, of_high = (sum(value >= MILLISECONDS_FROM * 10 ** (3 * i) for i in range(3)) for value in (low, high))
    if of_low != of_high:
        units = f"{UNITS[of_low][0]} ({low:.0f}) and {UNITS[of_high][0]} ({high:.0f})"
        raise MixedTimeUnitsError(f"{path}: timestamps look like both {units}", "bring them all to Unix seconds")
    unit, divisor = UNITS[of_high]
    exact = events.schema["timestamp"] == pl.Int64
    if exact and divisor == 1:
        return events, None
    time = pl.col("timestamp") if exact else pl.col("timestamp").floor().cast(pl.Int64)
    events = events.sort("timestamp", maintain_order=True).with_columns(timestamp=time // divisor)
    if divisor == 1:
        return events, "timestamps with fractions were put in order and rounded down to seconds"
    return events, f"timestamps in {unit} were put in order and converted to seconds"
