"""What an id is: the one place that decides it, for users and items of every source.

- An id is text, as the file has it, without blanks around it. `7` and `07` are two ids.
- A whole number that was kept as a float is that number: `12.0` is `12`.
- A word that programs write for a missing value (`NULL`, `NaN`, `None`, `\\N`, …) is no id.
- Floats of 2^53 and more are refused, for neighbours among them have merged; so are numbers in scientific notation.
- No id holds a line break or another control character, or is longer than `limits.MAX_ID_BYTES`.

Nothing is joined in silence: `Ids` counts what it changed. Nothing is split in silence, either: ids that differ only in
leading zeros, in marks that nobody sees or in the form of their Unicode stay apart, and are told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from duetgen.data.errors import BadIdError
from duetgen.data.spool import NONE, grown
from duetgen.wire import limits

MISSING: Final = (
    *("", "null", "none", "nan", "-nan", "na", "n/a", "nil", "nat", "undefined", "\\n", "(null)"),
    *("<na>", "<null>", "<none>", "#n/a", "#na", "#null!", "1.#qnan", "-1.#ind"),
)
"""What programs write for a missing value, in lower case."""

UNSEEN: Final = r"\u{ad}\u{200b}-\u{200f}\u{202a}-\u{202e}\u{2060}-\u{2069}\u{feff}"
BLANK: Final = rf"[\s{UNSEEN}]+"
"""Blanks, and marks without width that nobody sees."""

AROUND: Final = rf"^{BLANK}|{BLANK}$"
WHOLE: Final = r"^(-?[0-9]+)\.0*$"
ROUNDED: Final = r"^-?[0-9](\.[0-9]+)?[eE]\+[0-9]+$|^-?[0-9]\.[0-9]+[eE][0-9]+$"
ALIKE: Final = r"^0+([0-9])"
STANDS_OUT: Final = 50
"""A user with so many times the events of the median one, and `STANDS_OUT_SHARE` of all, may be a word for nobody."""

STANDS_OUT_SHARE: Final = 0.05
NEW: Final = NONE - 1
"""As the id of a form: it was not looked at."""

CONTROL: Final = r"[\p{Cc}\u{2028}\u{2029}]"
EXACT_BITS: Final[dict[pl.DataType, int]] = {pl.Float32(): 24, pl.Float64(): 53}
MERGED: Final = "write the ids as text or as integers where the log is made: what has merged cannot be told apart"


def is_missing(text: pl.Expr) -> pl.Expr:
    """Whether text is null, blank, or a word for a missing value."""
    bare = text.str.replace_all(AROUND, "").str.to_lowercase()
    return (text.is_null() | bare.is_in(MISSING)).fill_null(True)


def text_of(column: pl.Series) -> pl.Series:
    """A column as text; null where it holds lists, bytes and the like."""
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object, pl.Duration):
        return pl.repeat(None, len(column), dtype=pl.String, eager=True).alias(column.name)
    return column.cast(pl.String)


def canonical(ids: pl.Series) -> pl.Series:
    """Ids of text as this project writes them; null where one is missing."""
    text = pl.col("id")
    bare = text.str.replace_all(AROUND, "").str.replace(WHOLE, "${1}")
    return ids.to_frame("id").select(pl.when(~is_missing(text)).then(bare)).to_series()


class Ids:
    """Reads the users or the items of a log, a block at a time, and remembers what it changed.

    Each form in which an id stands is looked at once, when it comes for the first time.

    Args:
        name: `user` or `item`.
        kind: of the ids that are given out; None: one of its own.
    """

    def __init__(self, name: str, kind: pl.Categorical | None = None) -> None:
        self.name = name
        self.kind = kind or pl.Categorical(pl.Categories.random(name, pl.UInt32))
        self._held = pl.Series(dtype=self.kind)
        # By the category of a form: that of its id, NEW before it is looked at, NONE where it is no id.
        self._id_of_form = np.zeros(0, dtype=np.uint32)
        self._changed_events = np.zeros(0, dtype=np.int64)

    def read(self, frame: pl.DataFrame, path: Path, where: str) -> pl.Series:
        """The column of this name as ids, of this `kind`; null where one is missing.

        Args:
            frame: the column and `line`.
            path: of the file, for refusals.
            where: what `line` counts.

        Raises:
            BadIdError: naming the first line that is wrong.
        """
        raw = self._as_text(frame, path, where).cast(self.kind)
        forms = raw.to_physical()
        form = forms.drop_nulls().to_numpy()
        self._id_of_form = grown(self._id_of_form, form, NEW)
        new = pl.Series("form", form[self._id_of_form[form] == NEW]).unique(maintain_order=True)
        if len(new):
            text = new.cat.to(self.kind).cast(pl.String)
            table = pl.DataFrame({"raw": text, "id": canonical(text)})
            self._refuse(table, raw, frame, path, where)
            id = table["id"].cast(self.kind).to_physical().fill_null(NONE)
            self._id_of_form[new.to_numpy()] = id.to_numpy()
        id = self._id_of_form[form]
        changed = form[id != form]
        if not len(changed):
            return raw
        kept = changed[self._id_of_form[changed] != NONE]
        self._changed_events = grown(self._changed_events, kept, 0)
        np.add.at(self._changed_events, kept, 1)
        found = np.full(len(raw), NONE, dtype=np.uint32)
        found[forms.is_not_null().to_numpy()] = id
        numbers = pl.Series(self.name, found)
        return numbers.set(numbers == NONE, None).cat.to(self.kind)

    def _as_text(self, frame: pl.DataFrame, path: Path, where: str) -> pl.Series:
        raw, name = frame[self.name], self.name
        kind = raw.dtype
        if kind in (pl.String, self.kind):
            return raw
        if kind == pl.Null:
            return raw.cast(pl.String)
        if kind.is_nested() or kind.is_temporal() or kind in (pl.Binary, pl.Object, pl.Boolean):
            raise BadIdError(f"{path}: the {name} column holds {kind}, not ids", "name a column of text or integers")
        if not kind.is_float():
            return raw.cast(pl.String)
        number = pl.col(name)
        bits = EXACT_BITS.get(kind, 11)
        if hit := first(frame, name, number.is_finite() & (number.abs() >= 2**bits)):
            raise BadIdError(
                f"{path} {where} {hit[0]}: the {name} id {hit[1]:.0f} is a float of 2^{bits} or more, "
                "where neighbours have merged",
                MERGED,
            )
        if hit := first(frame, name, number.is_infinite() | (number.is_finite() & (number != number.floor()))):
            raise BadIdError(
                f"{path} {where} {hit[0]}: the {name} id {hit[1]} is no whole number",
                f"say which column has the ids with --{name}-column",
            )
        whole = pl.when(number.is_finite()).then(number).cast(pl.Int64).cast(pl.String)
        return frame.select(whole.alias(name)).to_series()

    def _refuse(self, table: pl.DataFrame, raw: pl.Series, frame: pl.DataFrame, path: Path, where: str) -> None:
        """Refuse the ids that are none; the table has each form that is new once."""
        name, text = self.name, pl.col("id")
        an = f"{'an' if name == 'item' else 'a'} {name}"
        whole = pl.col("raw").str.replace_all(AROUND, "").str.extract(WHOLE)
        long = text.str.len_bytes() > limits.MAX_ID_BYTES
        merged = whole.cast(pl.Float64, strict=False).abs() >= 2.0**53
        for wrong, what, hint in (
            (long, f"{an} id longer than {limits.MAX_ID_BYTES} bytes", "shorten the ids, for example by hashing"),
            (text.str.contains(CONTROL), f"{an} id with a line break or another control character", ""),
            (merged, f"{an} id that is a float of 2^53 or more, where neighbours have merged", MERGED),
            (text.str.to_lowercase().is_in(["inf", "-inf"]), f"{an} id that is no number", "mend it"),
            (text.str.contains(ROUNDED), f"{an} id in scientific notation, which rounds", MERGED),
        ):
            found = table.filter(wrong.fill_null(False))["raw"]
            if len(found):
                rows = frame.select("line").with_columns(raw=raw.cast(pl.String))
                line, value = first(rows, "raw", pl.col("raw").is_in(found.implode())) or (0, "")
                raise BadIdError(
                    f"{path} {where} {line}: {what}: {shown(value)}",
                    hint or "remove it from the id, and check the quotes",
                )

    def _changed(self) -> pl.DataFrame:
        """Each form that is not its id, `raw`, with the `id` and its `events`."""
        form = np.flatnonzero(self._changed_events).astype(np.uint32)
        raw, id = (pl.Series(some).cat.to(self.kind).cast(pl.String) for some in (form, self._id_of_form[form]))
        return pl.DataFrame({"raw": raw, "id": id, "events": self._changed_events[form]})

    def remark(self, counts: pl.DataFrame) -> str | None:
        """One line on what was changed and how many ids have become one, or None.

        Args:
            counts: `id`, and how many `events` have it, of the whole log.
        """
        changed = self._changed()
        if not len(changed):
            return None
        whole = counts.rename({"events": "all"}).join(changed, on="id")
        forms = whole.group_by("id").agg(
            pl.len().alias("forms"), pl.col("all").first(), pl.col("events").sum(), pl.col("raw").min()
        )
        # An id joins others if it stands in two changed forms, or in one that changed and one that did not.
        joined = forms.filter((pl.col("forms") > 1) | (pl.col("all") > pl.col("events"))).sort("id")
        text = f"blanks around the {self.name} id, or .0 behind it, left out in {int(changed['events'].sum()):,} events"
        if not len(joined):
            return text
        example = joined.row(0, named=True)
        return f"{text}; this joined {len(joined):,} ids, as {shown(example['raw'])} with {shown(example['id'])}"


def of_alike(ids: pl.Series, name: str) -> str | None:
    """One line on distinct ids that look alike, or None."""
    table = pl.DataFrame({"id": ids}).with_columns(seen=_seen(pl.col("id")))
    alike = table.filter(pl.col("seen").is_duplicated())
    groups = alike.group_by("seen").agg(pl.len(), pl.col("id").sort()).sort("seen")
    if not len(groups):
        return None
    one, other, *_ = groups["id"][0].to_list()
    return (
        f"{int(groups['len'].sum()):,} {name} ids differ only in leading zeros or in signs that look the same, "
        f"as {ascii(one)[:40]} and {ascii(other)[:40]}: they stay apart"
    )


def in_another_form(ids: pl.Series, known: pl.Series) -> pl.DataFrame:
    """Those ids that are known but for leading zeros, capitals and signs that look the same: `id`, `known`."""
    tables = (pl.DataFrame({name: some}) for name, some in (("id", ids), ("known", known)))
    one, other = (
        table.with_columns(seen=_seen(pl.col(table.columns[0])).str.to_lowercase()).unique("seen", maintain_order=True)
        for table in tables
    )
    return one.join(other, on="seen", maintain_order="left").select("id", "known")


def _seen(id: pl.Expr) -> pl.Expr:
    """What is seen of an id, without leading zeros."""
    return id.str.normalize("NFC").str.replace_all(rf"[{UNSEEN}]", "").str.replace(ALIKE, "${1}")


def of_one_user(counts: pl.DataFrame) -> str | None:
    """One line on a user who has far more events than others, or None.

    Args:
        counts: `id`, and how many `events` the user has.
    """
    counts = counts.sort("events", "id", descending=[True, False])
    events, median = counts["events"], float(counts["events"].median() or 0)  # type: ignore[arg-type]
    share = int(events[0]) / int(events.sum())
    if share < STANDS_OUT_SHARE or int(events[0]) < STANDS_OUT * median:
        return None
    return f"the user {shown(counts['id'][0])} has {share:.0%} of the events: a word for nobody, perhaps"


def first(frame: pl.DataFrame, name: str, wrong: pl.Expr) -> tuple[int, object] | None:
    """Line and value of the first row where `wrong` holds, or None."""
    hit = frame.filter(wrong).select("line", name).head(1)
    return hit.row(0) if len(hit) else None


def shown(value: object) -> str:
    """A value for a refusal, short and on one line."""
    text = "an empty field" if value is None or value == "" else repr(value)
    return text if len(text) <= 40 else text[:37] + "…'"
