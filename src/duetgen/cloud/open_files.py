"""The limit of open files: every connection is one."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

UNLIMITED: Final = 1_048_576
"""What is taken for the limit where there is none."""


def raise_limit() -> int:
    """Raise the limit of this process, and of those that it starts, as far as it may: the limit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return UNLIMITED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = UNLIMITED if hard == resource.RLIM_INFINITY else hard
    # A system may refuse even the hard limit that it names.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def none_left() -> bool:
    """Whether this process can open no more files."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as cause:
        return cause.errno in (errno.EMFILE, errno.ENFILE)
    return False
