"""How much memory preparing may use, and what fits into it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from duetgen.data.errors import BadSettingError, MemoryLimitError
from duetgen.data.partitions import WORKERS
from duetgen.data.sources.files import on_disk, open_input, parts_of
from duetgen.data.sources.parquet import scan
from duetgen.data.sources.raw import form_of
from duetgen.data.spool import Spool
from duetgen.errors import DuetError

MIB: Final = 2**20
FIXED: Final = 480 * MIB
"""The process itself, with a block of a log being read and one of the streams that go over all of it."""

EVENT: Final = 120
"""Bytes for an event of a partition that is worked on."""

ID: Final = 250
"""Bytes for a user or an item, with its id in several tables."""

DEFAULT: Final = 3 * 2**30
SHARE: Final = 0.7
"""Of the memory that there is, where no limit is given."""

SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG])i?B?\s*", re.IGNORECASE)
UNITS: Final = {"K": 2**10, "M": 2**20, "G": 2**30}

FEWEST_EVENTS: Final = 2**16
MOST_EVENTS: Final = 2**20
"""Events of a partition where memory is there for more: larger ones are no faster."""

CGROUP: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Memory(msgspec.Struct, frozen=True):
    """A limit in bytes."""

    limit: int

    @classmethod
    def within(cls, limit: int | None) -> Memory:
        """A limit that was given, or one that suits the machine.

        Raises:
            MemoryLimitError: nothing can be prepared within it.
        """
        chosen = limit if limit is not None else min(DEFAULT, int(SHARE * there_is()))
        if chosen < FIXED + WORKERS * FEWEST_EVENTS * EVENT:
            raise MemoryLimitError(
                f"preparing needs at least {FIXED // MIB + 50:,} MB of memory, and {chosen // MIB:,} MB are allowed",
                "give more with --memory-limit",
            )
        return cls(chosen)

    @property
    def most_ids(self) -> int:
        """Users and items that there is room for."""
        return (self.limit - FIXED) // ID

    def most_events(self, log: Spool) -> int:
        """Events of one partition, beside the ids of the log."""
        return min(max((self.limit - FIXED - log.known_ids * ID) // (EVENT * WORKERS), FEWEST_EVENTS), MOST_EVENTS)

    def needed(self, input: Path, standing: int = 0) -> str | None:
        """One line on the memory that a log will need, as far as that can be told before it is read.

        Args:
            input: the log.
            standing: events that it is appended to.
        """
        with contextlib.suppress(DuetError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
            events = standing + sum(events_in(path) for path in parts_of(input))
            need = FIXED + min(WORKERS * EVENT * min(events, MOST_EVENTS), self.limit - FIXED)
            return (
                f"about {events:,} events: some {need // MIB:,} MB of memory, with {ID * 10**6 // MIB:,} MB more for "
                f"each million users and items ({self.limit // MIB:,} MB allowed)"
            )
        return None


def events_in(path: Path) -> int:
    """About how many events a file holds: rows of Parquet, or lines as long as its first."""
    if form_of(path) == "parquet":
        rows: int = scan(path).select(pl.len()).collect().item()
        return rows
    with open_input(path) as stream:
        start = stream.read(2**16)
    file = on_disk(path)[0]
    with file.open("rb") as raw:
        # A packed stream does not say how long it is; it is taken to shrink as other logs do, to a third.
        shrunk = 1 if raw.read(4) == start[:4] else 3
    return int(file.stat().st_size * shrunk * max(start.count(b"\n"), 1) / len(start))


def size_of(text: str) -> int:
    """The bytes of a size such as `2GB`, `1.5 GiB` or `800MB`.

    Raises:
        BadSettingError: it is none.
    """
    found = SIZE.fullmatch(text)
    if found is None:
        raise BadSettingError(f"{text!r} is no size of memory", "write it as 2GB or 800MB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def there_is() -> int:
    """Bytes of memory that this process may have: what the machine has free, its group and its own limits allow."""
    found = [2**40]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    for path in CGROUP:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    with contextlib.suppress(ImportError):  # Only POSIX has it.
        import resource

        limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS))
        found += [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min(found)
