"""What every refusal of this project looks like: a stable code, one line of cause, one line of hint.

Each part of the project declares its own errors beside the code that raises them, as subclasses of `DuetError` with a
`code`; `docs/errors/CODE.md` explains each to a reader, and a test holds that the page exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


def printable(text: str) -> str:
    """A text in one line, without what a terminal would obey and not show: control characters, lone surrogates."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest to an unknown one; empty where none is near."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1)), "")


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The same as a question, for the hint of a refusal; `otherwise` follows it, or stands alone where none is near."""
    near = nearest(name, known)
    return f"did you mean {near}? {otherwise}".strip() if near else otherwise


class DuetError(Exception):
    """Base of every error that a user can cause or meet.

    Attributes:
        code: stable, kebab-case name of the error, also the name of its page in `docs/errors/`.
        message: the cause, in one line.
        hint: what to do about it, in one line.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str) -> None:
        # Names of files, fields of a log and answers of a server stand in messages, and may hold anything.
        self.message, self.hint = printable(message), printable(hint)
        super().__init__(self.message)


class OutputExistsError(DuetError):
    """The output folder already holds something that this command did not write."""

    code = "output-exists"


class OutputUnwritableError(DuetError):
    """The output cannot be written: no permission, a file in the way, or no space left."""

    code = "output-unwritable"


class MissingExtraError(DuetError):
    """A part was used whose optional dependencies are not installed."""

    code = "missing-extra"
