"""Standard streams as the command finds them: closed by whoever started it, without a buffer, or read by nobody."""

from __future__ import annotations

import io
import os
import sys


def open_closed() -> None:
    """Let a stream that is closed lead nowhere: another file would have its number, and what libraries print would go
    there.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def keep_whole() -> None:
    """Buffer standard output where PYTHONUNBUFFERED does not: of what a disk takes in part the rest is lost there."""
    out = sys.__stdout__
    # What somebody else has put in its place is theirs.
    if out is not None and sys.stdout is out and isinstance(out.buffer, io.RawIOBase):
        sys.stdout = open(  # noqa: SIM115
            out.fileno(), "w", buffering=1, encoding=out.encoding, errors=out.errors, closefd=False
        )


def drop_the_rest() -> None:
    """Forget what is left of standard output: writing it would fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
