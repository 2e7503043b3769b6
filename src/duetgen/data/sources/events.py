"""The event table in the making: raw columns in, block by block; one typed table out, and what was dropped and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from duetgen.data.errors import BadIdError, BadRatingError, BadSettingError, InputEmptyError
from duetgen.data.sources.header import NAME_MARKS, SYNONYMS, plain
from duetgen.data.sources.ids import AROUND, Ids, first, is_missing, of_alike, of_one_user, shown, text_of
from duetgen.data.sources.lines import with_point
from duetgen.data.sources.log import Note, Reading
from duetgen.data.sources.times import Times
from duetgen.data.sources.titles import tidy
from duetgen.data.spool import IDS, Spool

TABLE: Final = ("user", "item", "rating", "timestamp", "part")
"""Columns of the event table, in this order."""

WORDS: Final = {role: frozenset(names) for role, names in SYNONYMS.items()}
JOIN: Final = 16
"""Blocks after which what is kept of each is joined, so that memory grows with what differs and not with the log."""

TITLES_BYTES: Final = 2**27
"""Titles of items with more text than this are none; nor is there memory for them."""

MOST_BEHAVIOURS: Final = 10_000
"""A column with more values says no behaviour."""

TITLES_DIFFER: Final = 0.1
"""From this share of items on with more than one title, a column holds no titles of items."""


class Headers:
    """The users and items of a log that are names of columns; each is looked at when it comes for the first time.

    Args:
        labels: the file's own names of its columns, by role.

    Attributes:
        every: by role, the categories that are names of any column.
        own: those that are names of the role's own.
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self._words = frozenset().union(*WORDS.values(), map(plain, labels.values()))
        self._own_words = {role: WORDS[role] | {plain(labels.get(role, role))} for role in IDS}
        self._looked = dict.fromkeys(IDS, 0)
        self.every: dict[str, list[int]] = {role: [] for role in IDS}
        self.own: dict[str, list[int]] = {role: [] for role in IDS}

    def look(self, frame: pl.DataFrame) -> None:
        """Look at what is new in a block: `user` and `item` as categories."""
        for role in IDS:
            found = frame[role].drop_nulls().to_physical().to_numpy()
            begin, end = self._looked[role], int(found.max()) + 1 if len(found) else 0
            if end <= begin:
                continue
            new = pl.Series("category", np.arange(begin, end, dtype=np.uint32))
            text = new.cat.to(frame.schema[role]).cast(pl.String).alias("text")
            simple = pl.col("text").str.to_lowercase().str.replace_all(NAME_MARKS, "")
            for category, name in pl.DataFrame([new, text]).filter(simple.is_in(self._words)).iter_rows():
                self.every[role].append(category)
                if plain(name) in self._own_words[role]:
                    self.own[role].append(category)
            self._looked[role] = end


class EventTable:
    """Takes raw columns and gives the event table.

    Every event that is taken in and not given out is counted in a note.

    Args:
        reading: how the log is read.
        spool: takes the events; None: one of its own.
        numbers: see `Times`.
    """

    def __init__(self, reading: Reading | None = None, spool: Spool | None = None, *, numbers: bool = True) -> None:
        self.reading, self._spool = reading or Reading(), spool or Spool()
        self.remarks: list[str] = []
        self._users, self._items = (Ids(name, self._spool.kind(name)) for name in IDS)
        self._headers: dict[tuple[tuple[str, str], ...], Headers] = {}
        self._times = Times(self.reading.time_unit, drop=self.reading.drop_missing, numbers=numbers)
        self._titles: list[pl.DataFrame] = []
        self._overflowed = False
        self._read = 0
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._behaviours: Counter[str] = Counter()
        self._unrated = 0
        self._columns: tuple[str, list[str]] | None = None
        self._paths: list[tuple[Path, str]] = []

    def add(
        self,
        frame: pl.DataFrame,
        path: Path,
        where: str = "line",
        *,
        labels: dict[str, str] | None = None,
        part: int | None = None,
    ) -> None:
        """Take in raw columns.

        Args:
            frame: columns `user`, `item`, `line`, perhaps `rating`, `timestamp`, `behaviour`, `title`, as they stand.
            path: of the file, for refusals.
            where: what `line` counts.
            labels: the file's own names of these columns, by which a header inside the file is known.
            part: 0 for training and 2 for test events, where the log came divided.

        Raises:
            BadIdError, BadRatingError, BadTimestampError: naming the first line that is wrong.
            BadSettingError: the columns are others than before.
        """
        self._same_columns(frame, path)
        self._read += len(frame)
        both = (self._users, self._items)
        frame = frame.cast({ids.name: ids.kind for ids in both if frame.schema[ids.name] == pl.String})
        if all(frame.schema[ids.name] == ids.kind for ids in both):
            frame = self._without_headers(frame, path, where, labels or {})
        frame = self._of_behaviours(frame)
        for ids in both:
            frame = self._present(frame.with_columns(ids.read(frame, path, where)), ids.name, path, where)
        if "rating" in frame.columns:
            frame = self._rated(frame, path, where)
        if "timestamp" in frame.columns:
            frame = frame.with_columns(self._times.read(frame, path, where))
            frame = self._present(frame, "timestamp", path, where)
        if "title" in frame.columns and not self._overflowed:
            self._add_titles(frame.select("item", text_of(frame["title"])))
        if part is not None:
            frame = frame.with_columns(part=pl.lit(part, pl.UInt8))
        if not self._paths or self._paths[-1][0] != path:
            self._paths.append((path, where))
        source = pl.lit(len(self._paths) - 1, pl.UInt32).alias("source")
        self._spool.add(frame.select(*(name for name in TABLE if name in frame.columns), "line", source))

    def _add_titles(self, titles: pl.DataFrame) -> None:
        self._titles.append(titles.unique(maintain_order=True))
        if len(self._titles) < JOIN and sum(some.estimated_size() for some in self._titles) < TITLES_BYTES:
            return
        self._titles = [pl.concat(self._titles).unique(maintain_order=True)]
        if self._titles[0].estimated_size() >= TITLES_BYTES:
            self._overflowed = True
            self._titles.clear()
            self.remark("the column of titles has more text than titles of items would, so it is not taken for them")

    def finish(self) -> tuple[Spool, list[Note]]:
        """The events in the order of the file, and notes of what was dropped; `remarks` has the rest.

        Raises:
            InputEmptyError: there is no event.
            BadTimestampError, MixedTimeUnitsError: the times make no sense together.
            BadSettingError: a behaviour to keep does not occur, or a unit is for times that there are not.
        """
        self._check_behaviours()
        if self.reading.time_unit and self._columns is not None and "timestamp" not in self._columns[1]:
            raise BadSettingError(
                f"the log has no column of times, and the time unit {self.reading.time_unit} is for one",
                "say which with --time-column",
            )
        spool = self._spool
        spool.flush()
        if spool.size and "timestamp" in spool.columns:
            self._settle(spool)
        if not spool.size:
            names = ", ".join(sorted({path.name for path, _ in self._paths})[:3])
            why = f" ({self._read:,} dropped)" if self._read else ""
            raise InputEmptyError(f"{names or 'the input'} holds no event{why}", "check how the file was exported")
        counts = dict[str, pl.DataFrame]()
        for ids in (self._users, self._items):
            counts[ids.name] = spool.counts(ids.name)
            self.remark(ids.remark(counts[ids.name]))
            self.remark(of_alike(counts[ids.name]["id"], ids.name))
        self.remark(of_one_user(counts["user"]))
        if self._unrated:
            self.remark(f"{self._unrated:,} events have no rating")
        return spool, self._notes()

    def titles(self) -> pl.DataFrame | None:
        """Titles by item from a column of the log: `item`, `title`; None if none are, or of something else."""
        if not self._titles:
            return None
        titles = pl.concat(self._titles).unique(maintain_order=True).filter(~is_missing(pl.col("title")))
        titles = titles.with_columns(pl.col("item").cast(pl.String))
        different = titles.group_by("item").agg(pl.col("title").n_unique())
        if len(different) and float((different["title"] > 1).mean() or 0) >= TITLES_DIFFER:  # type: ignore[arg-type]
            self.remark("the column of titles has several for one item, so it is not taken for the items' title")
            return None
        return tidy([titles])

    def remark(self, text: str | None) -> None:
        """Keep a line that the output is to show, once."""
        if text and text not in self.remarks:
            self.remarks.append(text)

    def _notes(self) -> list[Note]:
        left, notes = self._read, []
        for (name, reason), count in self._dropped.items():
            notes.append(Note(name, reason, left, left - count))
            left -= count
        if self._times.remark:
            notes.append(Note("time", self._times.remark, left, left))
        return notes

    def _drop(self, frame: pl.DataFrame, wrong: pl.Expr, name: str, reason: str) -> pl.DataFrame:
        kept = frame.filter(~wrong)
        if len(kept) < len(frame):
            self._dropped[name, reason] += len(frame) - len(kept)
        return kept

    def _same_columns(self, frame: pl.DataFrame, path: Path) -> None:
        columns: list[str] = [name for name in (*TABLE, "behaviour") if name in frame.columns]
        if self._columns is None:
            self._columns = (path.name, columns)
        elif self._columns[1] != columns:
            raise BadSettingError(
                f"{self._columns[0]} has {', '.join(self._columns[1])} and {path.name} {', '.join(columns)}",
                "the files must have the same columns",
            )

    def _without_headers(self, frame: pl.DataFrame, path: Path, where: str, labels: dict[str, str]) -> pl.DataFrame:
        """Drop the header of another export inside the file; refuse one whose columns are in another order."""
        # A column that is known by its number has no name that could stand in a header.
        labels = {role: label for role, label in labels.items() if not label.isdecimal()}
        words = self._headers.setdefault(tuple(sorted(labels.items())), Headers(labels))
        words.look(frame)
        if not all(words.every.values()):
            return frame

        def among(ids: dict[str, list[int]]) -> pl.Expr:
            found = (pl.col(role).to_physical().is_in(some) for role, some in ids.items())
            return pl.all_horizontal(found).fill_null(False)

        both = among(words.own)
        if hit := first(frame, "user", among(words.every) & ~both):
            raise BadIdError(
                f"{path} {where} {hit[0]} is a header in the middle of the log, with its columns in another order",
                "divide the file there",
            )
        return self._drop(frame, both, "header", "a header in the middle of the log is no event")

    def _of_behaviours(self, frame: pl.DataFrame) -> pl.DataFrame:
        if "behaviour" not in frame.columns:
            return frame
        value = pl.col("behaviour").cast(pl.String).str.replace_all(AROUND, "").fill_null("")
        frame = frame.with_columns(behaviour=value)
        for name, count in frame.group_by("behaviour").len().iter_rows():
            self._behaviours[name] += count
        if len(self._behaviours) > MOST_BEHAVIOURS:
            raise BadSettingError(
                f"the column of behaviours has more than {MOST_BEHAVIOURS:,} different values",
                "name another with --behaviour-column, or leave it out with --ignore-columns",
            )
        keep = self.reading.keep_behaviours
        if not keep:
            return frame
        reason = f"another behaviour than {', '.join(keep)}"
        return self._drop(frame, ~pl.col("behaviour").is_in(keep), "behaviours", reason)

    def _check_behaviours(self) -> None:
        keep, found = self.reading.keep_behaviours, self._behaviours
        most = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:8]
        there_are = ", ".join(f"{name[:30] or 'none'} {count:,}" for name, count in most)
        there_are += ", …" if len(found) > len(most) else ""
        if keep and not found:
            raise BadSettingError("the log has no column of behaviours", "say which with --behaviour-column")
        lacking = [name for name in keep if name not in found]
        if lacking:
            raise BadSettingError(f"no event has the behaviour {', '.join(lacking)}", f"there are: {there_are}")
        if keep:
            self.remark(f"behaviours kept: {', '.join(keep)}; there are: {there_are}")
        elif len(found) > 1:
            self.remark(f"behaviours that count alike: {there_are}; --keep-behaviours chooses")

    def _present(self, frame: pl.DataFrame, name: str, path: Path, where: str) -> pl.DataFrame:
        """The rows with a value; without one they are refused, or dropped and counted."""
        missing = pl.col(name).is_null()
        word = "time" if name == "timestamp" else f"{name} id"
        # A missing time was refused by `Times`.
        if not self.reading.drop_missing and (hit := first(frame, name, missing)):
            raise BadIdError(
                f"{path} {where} {hit[0]} has no {word}",
                "mend it, or leave such events out, counted, with --drop-missing",
            )
        return self._drop(frame, missing, "missing", f"no {word}")

    def _rated(self, frame: pl.DataFrame, path: Path, where: str) -> pl.DataFrame:
        """Ratings as numbers; null where there is none."""
        rating, kind = pl.col("rating"), frame.schema["rating"]
        if kind == pl.String:
            number = rating.str.strip_chars().cast(pl.Float64, strict=False)
            # With decimal commas only where they are: looking for them takes longer than all else.
            if not frame.select(number.is_not_null().all()).item():
                number = with_point(rating).str.strip_chars().cast(pl.Float64, strict=False)
            missing = is_missing(rating)
        elif kind.is_numeric() or kind in (pl.Boolean, pl.Null):
            number = rating.cast(pl.Float64)
            missing = rating.is_null() | number.is_nan().fill_null(False)
        else:
            raise BadRatingError(
                f"{path}: the rating column holds {kind}", "name another with --rating-column, or --ignore-columns it"
            )
        numbers = frame.select(number.alias("rating")).to_series()
        if numbers.is_finite().all(ignore_nulls=False):  # The common case, at little cost.
            return frame.with_columns(numbers)
        if hit := first(frame, "rating", ~missing & ~number.is_finite().fill_null(False)):
            raise BadRatingError(
                f"{path} {where} {hit[0]}: the rating is {shown(hit[1])}, not a finite number",
                "mend the line, or leave the column out with --ignore-columns",
            )
        frame = frame.with_columns(rating=pl.when(~missing).then(number))
        self._unrated += frame["rating"].null_count()
        return frame

    def _settle(self, spool: Spool) -> None:
        """Times as seconds; events whose time turns out to be none are dropped."""
        before = spool.size
        spool.settle(self._times.settle(spool.events, self._paths))
        self.remark(self._times.remark)
        if spool.size < before:
            self._dropped["missing", "no time"] += before - spool.size
