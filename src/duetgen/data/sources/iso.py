"""Dates and times as text: ISO 8601 in its usual forms."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

FORMATS: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d")
UTC_BEHIND: Final = r"(?i)\s*(Z|UTC|GMT|\+00:?00|\+00)$"
NO_DATE: Final = ("0", "-1", "0.0", "-1.0", "0000-00-00", "0000-00-00 00:00:00", "0000-00-00T00:00:00")
"""What stands for a missing date among dates, besides the words for a missing value."""

PLACEHOLDERS: Final = ("0001-01-01", "1601-01-01", "1753-01-01", "1899-12-30", "1899-12-31", "1900-01-01")
"""Days that programs write for no date; the first moment of 1970, in any zone, is another."""

MICRO: Final = 10**6
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NAMED_UTC: Final = re.compile(r"\s*(?:Z|UTC|GMT)$", re.IGNORECASE)
NAMED_ZONE: Final = re.compile(r"\[[^\]]*\]$")
BLANK_OFFSET: Final = re.compile(r"\s+([+-]\d)")
YEAR_FIRST: Final = re.compile(r"^(\d{4})/(\d{2})/(\d{2})")
BARE_DATE: Final = re.compile(r"^(\d{4}-\d{2}-\d{2})([+-]\d{2}:?\d{2})$")


def parse_iso(text: str) -> int | None:
    """Microseconds since 1970 of a time in ISO 8601, in UTC where no offset stands; None if it is none."""
    text = NAMED_UTC.sub("+00:00", NAMED_ZONE.sub("", text.strip()))
    text = YEAR_FIRST.sub(r"\1-\2-\3", BLANK_OFFSET.sub(r"\1", text))
    try:
        moment = datetime.fromisoformat(BARE_DATE.sub(r"\1T00:00\2", text))
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)


def parse_column(text: pl.Series) -> pl.Series:
    """Microseconds since 1970 of a column of times; null where there is none. The common forms go the fast way."""
    bare = pl.col("t").str.replace(UTC_BEHIND, "")
    parsed = [bare.str.to_datetime(form, strict=False, time_unit="us") for form in FORMATS]
    micro = text.to_frame("t").select(pl.coalesce(parsed).dt.epoch("us")).to_series()
    left = text.filter(micro.is_null()).drop_nulls().unique()
    if not len(left):
        return micro
    found = pl.Series([parse_iso(value) for value in left], dtype=pl.Int64)
    return micro.zip_with(micro.is_not_null(), text.replace_strict(left, found, default=None, return_dtype=pl.Int64))


def placeholder(micro: pl.Expr) -> pl.Expr:
    """Whether a date, in microseconds, is one that programs write for none."""
    around_epoch = (micro.abs() <= 14 * 3600 * MICRO) & (micro % (900 * MICRO) == 0)
    return micro.is_in([parse_iso(day) for day in PLACEHOLDERS]) | around_epoch


def date_of(micro: object) -> str:
    """Microseconds since 1970 as a date, where Python has one."""
    try:
        return (EPOCH + timedelta(microseconds=int(str(micro)))).isoformat()
    except OverflowError:
        return f"{micro} microseconds"
