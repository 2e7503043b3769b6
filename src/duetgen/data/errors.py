"""Every refusal of reading and preparing logs; each has a page in `docs/errors/`."""

from __future__ import annotations

from duetgen.errors import DuetError


class InputMissingError(DuetError):
    """There is nothing at the path of an input."""

    code = "input-missing"


class InputUnreadableError(DuetError):
    """The operating system does not let an input be read, or it is no regular file."""

    code = "input-unreadable"


class InputIsFolderError(DuetError):
    """A folder was named that is no folder of parts."""

    code = "input-is-folder"


class InputEmptyError(DuetError):
    """An input has no bytes, or no event in it."""

    code = "input-empty"


class InputTooLargeError(DuetError):
    """An input, or what it decompresses to, is above the limits."""

    code = "input-too-large"


class InputTruncatedError(DuetError):
    """A compressed input ends before its end."""

    code = "input-truncated"


class InputCorruptError(DuetError):
    """A compressed or Parquet input is damaged."""

    code = "input-corrupt"


class ArchiveMembersError(DuetError):
    """An archive holds several files, and nothing says which is the log; or one that cannot be opened."""

    code = "archive-members"


class ArchiveUnsafeError(DuetError):
    """An archive holds a link, or a path that leads out of it."""

    code = "archive-unsafe"


class NotTextError(DuetError):
    """A text input is binary: NUL bytes, or a kind of file that is not read."""

    code = "not-text"


class WrongEncodingError(DuetError):
    """A text input is not valid in the encoding of its format."""

    code = "wrong-encoding"


class LineTooLongError(DuetError):
    """A line is longer than the limit, or a quote never closes."""

    code = "line-too-long"


class BadQuotesError(DuetError):
    """Quotes in a CSV file do not pair up."""

    code = "bad-quotes"


class RaggedRowError(DuetError):
    """A line has more or fewer fields than the others."""

    code = "ragged-row"


class BadJsonLineError(DuetError):
    """A line of a JSON-lines file is no JSON object, or a field of it no text or number."""

    code = "bad-json-line"


class MissingColumnError(DuetError):
    """A table has no column for the user or the item, or not the one that was named."""

    code = "missing-column"


class AmbiguousColumnError(DuetError):
    """Two columns of a table could be the same thing."""

    code = "ambiguous-column"


class BadIdError(DuetError):
    """A user or item id is missing, merged with others, too long, or no id."""

    code = "bad-id"


class BadRatingError(DuetError):
    """A rating is no finite number."""

    code = "bad-rating"


class BadTimestampError(DuetError):
    """A timestamp is missing, no number or date, or none that a clock shows."""

    code = "bad-timestamp"


class MixedTimeUnitsError(DuetError):
    """Some timestamps are in seconds and some in a finer unit."""

    code = "mixed-time-units"


class UnknownSourceError(DuetError):
    """No source has the name given."""

    code = "unknown-source"


class SourceUndetectedError(DuetError):
    """The format of an input cannot be told from the file."""

    code = "source-undetected"


class SourceAmbiguousError(DuetError):
    """An input could be of two formats that mean different things."""

    code = "source-ambiguous"


class WrongSourceError(DuetError):
    """An input is not in the format that was named."""

    code = "wrong-source"


class TestInputMissingError(DuetError):
    """A split that is given with the data needs a second file, which is not there."""

    __test__ = False
    code = "test-input-missing"


class BadTextRowError(DuetError):
    """A row of the text format does not say what it must."""

    code = "bad-text-row"


class BadSettingError(DuetError):
    """A setting of preparation is out of its range, or does not go with another."""

    code = "bad-setting"


class NoTimeError(DuetError):
    """A temporal split was asked of a log without time."""

    code = "no-time"


class NoBoundaryError(DuetError):
    """No point in time divides the log: its events are at too few different times."""

    code = "no-boundary"


class NoEventsLeftError(DuetError):
    """The filters left nothing."""

    code = "no-events-left"


class NoTargetsError(DuetError):
    """A part of the dataset holds nothing to learn or to predict."""

    code = "no-targets"


class NotAppendableError(DuetError):
    """A log cannot be appended to a dataset: the dataset is of a form that cannot grow, or the log does not fit it."""

    code = "not-appendable"


class NothingNewError(DuetError):
    """Every event of an appended log stands in the dataset already."""

    code = "nothing-new"


class MemoryLimitError(DuetError):
    """A log needs more memory than is allowed."""

    code = "memory-limit"


class LeakageError(DuetError):
    """A check found that something a model reads depends on what it is to predict; nothing is published."""

    code = "leakage"
