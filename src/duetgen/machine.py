"""How a process that trains or measures uses the machine: its processor threads and its memory.

Both hold for the whole process, so commands and workers choose them, never the library.
"""

from __future__ import annotations

import ctypes
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Options of glibc's `mallopt`, by their names and values in malloc.h."""


def use_machine(threads: int | None = None) -> None:
    """Make this process one that trains or measures.

    Args:
        threads: torch's processor threads; None for all.
    """
    if threads is not None:
        torch.set_num_threads(max(1, threads))
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Keep what is freed for the next step, where the C library is glibc; False elsewhere.

    By default glibc hands a tensor of more than 32 MiB back to the kernel when it is freed, and the next one comes
    page by page, zeroed: two fifths of the time of measuring a model on a catalogue of 12,000 items, where keeping it
    is worth 1.6x (`benchmarks/freed_memory.py`). The process stays as large as its largest step, which is hardly larger
    than before.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # One heap for all threads, which never shrinks, and nothing beside it: the other heaps are too small for a tensor.
    wanted = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))
    return all(mallopt(option, value) == 1 for option, value in wanted)
