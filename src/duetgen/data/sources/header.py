"""Which column of a table is what: by the name given, else by its usual names."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from duetgen.data.errors import AmbiguousColumnError, BadSettingError, MissingColumnError
from duetgen.data.sources.dates import parse_date
from duetgen.data.sources.lines import BLANKS
from duetgen.data.sources.log import Columns

SYNONYMS: Final = {
    "user": (
        *("user", "userid", "uid", "reviewerid", "customerid", "visitorid", "deviceid", "device"),
        *("sessionid", "session", "accountid", "memberid", "profileid", "clientid", "userpseudoid", "anonymousid"),
    ),
    "item": (
        *("item", "itemid", "iid", "movieid", "asin", "productid", "articleid", "artistid", "businessid", "trackid"),
        *("bookid", "newsid", "product", "isbn", "songid", "videoid", "gameid", "recipeid", "parentasin", "sku"),
        *("musicid", "animeid", "venueid", "contentid"),
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall", "bookrating", "userrating"),
    "timestamp": (
        *("timestamp", "time", "ts", "unixreviewtime", "unixtime", "date", "datetime", "eventtime", "createdat"),
        *("timems", "timestampms", "eventtimestamp", "utctime"),
    ),
    "behaviour": (
        *("behaviour", "behavior", "behaviourtype", "behaviortype", "event", "eventtype", "eventname"),
        *("action", "actiontype", "interaction", "interactiontype"),
    ),
    "title": ("title", "itemtitle", "itemname", "movietitle", "booktitle", "productname", "producttitle"),
}
"""Usual names of the columns, see `plain`."""

OPTIONS: Final = {role: f"--{role}-column" for role in SYNONYMS}
SEPARATORS: Final = (",", "\t", ";", "|")
TYPED_NAME: Final = re.compile(r"(.*):(token|float|token_seq|float_seq)")
"""How RecBole writes a column's name, with its type."""


NAME_MARKS: Final = r"[\s_.-]"
"""What tells two names of one thing apart, and counts for nothing."""

AROUND_NAME: Final = re.compile(r"^[\s\ufeff\u200b\u2060]+|[\s\ufeff\u200b\u2060]+$")
"""Blanks around a column's name, and marks without width."""


def plain(name: str) -> str:
    """A column's name without case, spaces, underscores, hyphens and points."""
    return re.sub(NAME_MARKS, "", name).lower()


def separator_of(line: str) -> str:
    """What separates the fields of a line: the most frequent of the usual ones, else blanks."""
    best = max(SEPARATORS, key=line.count)
    return best if best in line or len(line.split()) < 2 else BLANKS


def split_line(line: str, separator: str) -> list[str]:
    """The fields of one line."""
    if separator == BLANKS:
        return line.split()
    try:
        return (
            next(csv.reader([line], delimiter=separator, strict=True)) if len(separator) == 1 else line.split(separator)
        )
    except (csv.Error, StopIteration):
        return line.split(separator)


def header_of(line: str, separator: str | None = None) -> tuple[str, list[str]]:
    """Separator and column names of a header line; the types that RecBole writes behind them are left out."""
    separator = separator or separator_of(line)
    names = [re.sub(AROUND_NAME, "", name) for name in split_line(line, separator)]
    typed = [TYPED_NAME.fullmatch(name) for name in names]
    return separator, [match[1] for match in typed if match] if all(typed) else names


def is_header(line: str) -> bool:
    """Whether a first line looks like names of columns: two or more, most of them different, no number or date."""
    separator, names = header_of(line)
    values = any(is_number(name) or parse_date(name) is not None for name in names)
    return separator != BLANKS and len(names) > 1 and 2 * len(set(names)) > len(names) and not values


def is_number(text: str) -> bool:
    """Whether a field reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def listed(names: Sequence[str]) -> str:
    """Names of columns for a refusal, not too many of them."""
    return ", ".join(name[:40] for name in names[:12]) + (", …" if len(names) > 12 else "")


@dataclass(frozen=True)
class Found:
    """The columns of a table.

    Attributes:
        names: all of them, in order.
        roles: index of the column of each role that there is: `user` and `item` always.
    """

    names: list[str]
    roles: dict[str, int]

    @property
    def labels(self) -> dict[str, str]:
        """Name of the column of each role."""
        return {role: self.names[i] for role, i in self.roles.items()}

    @property
    def unused(self) -> list[str]:
        """Names of the other columns; a number from 1 stands for one without a name."""
        return [name or f"column {i + 1}" for i, name in enumerate(self.names) if i not in self.roles.values()]


Find = Callable[[list[str]], Found]
"""Which columns are what, by the names of all."""


def find_columns(names: Sequence[str], path: Path, chosen: Columns | None = None) -> Found:
    """Which columns are there: user and item always, the others perhaps.

    Raises:
        MissingColumnError: no user or item column, or none of the name given.
        AmbiguousColumnError: two columns have a usual name of the same thing.
        BadSettingError: one column is named for two things.
    """
    chosen = chosen or Columns()
    given = {role: getattr(chosen, role) for role in SYNONYMS}
    for name in [*given.values(), *chosen.ignore]:
        if name is not None and name not in names:
            raise MissingColumnError(f"{path} has no column {name!r}", f"its columns are: {listed(names)}")
    taken = {name for name in given.values() if name is not None} | set(chosen.ignore)
    roles: dict[str, int] = {}
    for role, synonyms in SYNONYMS.items():
        if (name := given[role]) is not None:
            hits = [i for i, other in enumerate(names) if other == name]
            _refuse_same_name(hits, names, path)
            roles[role] = hits[0]
            continue
        hits = [i for i, name in enumerate(names) if plain(name) in synonyms and name not in taken]
        # The plainest name wins: `item` before `product_id`, `user` before `session_id`.
        hits = [i for i in hits if plain(names[i]) in (role, f"{role}id")] or hits
        if role == "timestamp":  # Where both stand, a date is the day of the time.
            hits = [i for i in hits if plain(names[i]) != "date"] or hits
        if role in ("behaviour", "title"):
            hits = hits[:1]
        if len(hits) > 1:
            _refuse_same_name(hits, names, path)
            raise AmbiguousColumnError(
                f"{path} has {len(hits)} columns that could be the {role}: {listed([names[i] for i in hits])}",
                f"say which with {OPTIONS[role]}",
            )
        if hits:
            roles[role] = hits[0]
    lacking = [role for role in ("user", "item") if role not in roles]
    if lacking:
        options = " and ".join(f"{OPTIONS[role]} NAME" for role in lacking)
        raise MissingColumnError(
            f"{path} has no column for the {' and the '.join(lacking)}; its columns are: {listed(names)}",
            f"say which with {options}",
        )
    return Found(list(names), _distinct(roles))


def or_no_header(refused: MissingColumnError) -> MissingColumnError:
    """The refusal of a text, whose first line may be an event as well."""
    words = "if the first line is an event and no header, add --no-header and give numbers"
    return MissingColumnError(refused.message, f"{refused.hint}; {words}")


def _refuse_same_name(hits: Sequence[int], names: Sequence[str], path: Path) -> None:
    if len(hits) > 1 and len({names[i] for i in hits}) == 1:
        numbers = " and ".join(str(i + 1) for i in hits)
        raise AmbiguousColumnError(
            f"{path} has {len(hits)} columns called {names[hits[0]]!r}: columns {numbers}",
            "no option tells them apart: give each a name of its own in the file's first line",
        )


def numbered_columns(width: int, path: Path, chosen: Columns) -> Found:
    """The columns of a table without a header, by their numbers from 1.

    Raises:
        MissingColumnError: user or item have no number, or one beyond the width.
        BadSettingError: what is given is no number, or one column is named for two things.
    """
    roles: dict[str, int] = {}
    for role in SYNONYMS:
        text = getattr(chosen, role)
        if text is None:
            continue
        if not text.isdecimal():
            raise BadSettingError(
                f"{OPTIONS[role]} {text}: without a header, columns have numbers", "count them from 1"
            )
        if not 1 <= int(text) <= width:
            raise MissingColumnError(f"{path} has {width} columns, and no column {text}", "count them from 1")
        roles[role] = int(text) - 1
    lacking = [OPTIONS[role] for role in ("user", "item") if role not in roles]
    if lacking:
        raise MissingColumnError(
            f"{path} is read without a header: nothing says which of its {width} columns is which",
            f"give numbers from 1: {' and '.join(lacking)}, and --time-column where there is one",
        )
    return Found([str(i + 1) for i in range(width)], _distinct(roles))


def _distinct(roles: dict[str, int]) -> dict[str, int]:
    if len(set(roles.values())) < len(roles):
        raise BadSettingError("one column is named for two things", "name a column each for user, item, rating, time")
    return roles
