"""What a date is, as text: ISO 8601 with `T` or a blank, with or without seconds, fractions and offset; `Z`, `UTC` and
`GMT` behind it; or a date with the English name of a month. Without an offset it is UTC.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

FORMATS: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d")
WHOLE_YEAR: Final = r"^\d{4}-"
"""How a date of these formats begins; `%Y` alone takes `20-09-13` for the year 20."""
UTC_BEHIND: Final = r"(?i)\s*(Z|UTC|GMT|\+00:?00|\+00)$"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NAMED_UTC: Final = re.compile(r"\s*(?:Z|UTC|GMT)$", re.IGNORECASE)
NAMED_ZONE: Final = re.compile(
    r"(?:(?<=Z)|(?<=[+-]\d\d:\d\d)|(?<=[+-]\d{4}))\[[^\]]*\]$|\[(?:Etc/)?(?:UTC|GMT)\]$", re.IGNORECASE
)
"""A zone by its name, behind the offset that it has; without one only UTC is known."""
BLANK_OFFSET: Final = re.compile(r"\s+([+-]\d)")
YEAR_FIRST: Final = re.compile(r"^(\d{4})/(\d{2})/(\d{2})")
WEEKDAY: Final = re.compile(r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +", re.IGNORECASE)
MONTH: Final = re.compile(
    r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)(?:r?uary|ch|il|e|y|ust|t?ember|ober)?\b", re.IGNORECASE
)
MONTH_NAMED: Final = (
    "%b %d %H:%M:%S %z %Y",
    "%b %d %H:%M:%S UTC %Y",
    "%b %d %H:%M:%S %Y",
    "%d %b %Y %H:%M:%S %z",
    "%d %b %Y %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S %z",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
)
"""Dates with the English name of a month: of C and social networks, of mail and the web, of a server's log; days."""
BARE_DATE: Final = re.compile(r"^(\d{4}-\d{2}-\d{2})([+-]\d{2}:?\d{2})$")


def parse_date(text: str) -> int | None:
    """Microseconds since 1970 of a time in ISO 8601 or with a month's name; None if it is none.

    It is in UTC where no offset stands.
    """
    text = NAMED_UTC.sub(" +00:00", NAMED_ZONE.sub("", text.strip()))
    iso = YEAR_FIRST.sub(r"\1-\2-\3", BLANK_OFFSET.sub(r"\1", text))
    try:
        moment = datetime.fromisoformat(BARE_DATE.sub(r"\1T00:00\2", iso))
    except ValueError:
        named = _month_named(text)
        if named is None:
            return None
        moment = named
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)


def _month_named(text: str) -> datetime | None:
    """A date with the name of a month."""
    if not MONTH.search(text):
        return None
    text = MONTH.sub(r"\1", WEEKDAY.sub("", text))
    for form in MONTH_NAMED:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form)
    return None


def parse_dates(text: pl.Series) -> pl.Series:
    """The same of each text, null where it is none; the common formats at little cost."""
    bare = pl.when(pl.col("t").str.contains(WHOLE_YEAR)).then(pl.col("t").str.replace(UTC_BEHIND, ""))
    parsed = [bare.str.to_datetime(form, strict=False, time_unit="us") for form in FORMATS]
    micro = text.to_frame("t").select(pl.coalesce(parsed).dt.epoch("us")).to_series()
    left = text.filter(micro.is_null()).drop_nulls().unique()
    if not len(left):
        return micro
    found = pl.Series([parse_date(value) for value in left], dtype=pl.Int64)
    return micro.zip_with(micro.is_not_null(), text.replace_strict(left, found, default=None, return_dtype=pl.Int64))


def date_of(micro: object) -> str:
    """Microseconds since 1970 as a date, where Python has one."""
    try:
        return (EPOCH + timedelta(microseconds=int(str(micro)))).isoformat()
    except OverflowError:
        return f"{micro} microseconds"
