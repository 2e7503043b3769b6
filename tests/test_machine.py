"""Tests of `duetgen.machine`: what it changes holds for a whole process, so each runs in one of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ALLOCATE = """
import resource, torch
from duetgen.machine import use_machine
{choose}
def faults():
    for _ in range(20):
        torch.ones(64 << 18)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(torch.get_num_threads(), -faults() + faults())
"""


def run(choose: str) -> tuple[int, int]:
    """Threads of a process that chose so, and its page faults for 20 tensors of 64 MiB after a first 20."""
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATE.format(choose=choose)], check=True, capture_output=True, text=True
    )
    threads, faults = done.stdout.split()
    return int(threads), int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told anything")
def test_freed_memory_is_kept_and_threads_are_set() -> None:
    _, by_default = run("")
    threads, kept = run("use_machine(0)")  # Nobody can do with less than one.
    assert threads == 1
    assert by_default > 20 * 31  # About one a page, were they huge pages of 2 MiB.
    assert kept < by_default / 10
