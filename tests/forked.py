"""Processes of their own that begin with torch imported: a server imports it once, and forks them in milliseconds.

Whether a process is killed, stopped or one of several does not depend on how it began; importing takes three seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

CONTEXT: Final = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["duetgen.comparison.cells.worker", "duetgen.cli.app"])

# A process gets the path of the one that starts it, and has to find the tests there.
if (root := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.append(root)


def start(call: Callable[..., object], *arguments: object, told: Path, **environment: str) -> ForkServerProcess:
    """A process that makes a call.

    Args:
        call: a function of a module.
        arguments: of the call.
        told: the file that gets what the process prints.
        environment: what its environment has besides.
    """
    process = CONTEXT.Process(target=run, args=(call, arguments, told, environment))
    process.start()
    return process


def run(call: Callable[..., object], arguments: tuple[object, ...], told: Path, environment: dict[str, str]) -> None:
    """The life of the process."""
    os.environ.update(environment)
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    call(*arguments)
