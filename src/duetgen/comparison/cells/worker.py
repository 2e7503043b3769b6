"""A worker of a comparison: a fresh process with a few torch threads that runs one cell after the other.

It ends as soon as the process that started it does, even by a kill, so that two never work on one cell.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

import torch

from duetgen.comparison.cells.cell import run_cell
from duetgen.comparison.cells.records import Cell, Failure, Work, cell_folder
from duetgen.data.store import Dataset
from duetgen.errors import DuetError
from duetgen.machine import use_machine

TELL_SECONDS: Final = 0.25
"""A worker tells how far it is at most this often."""
END_SECONDS: Final = 10.0
"""A worker that has nothing to do is given so long to end by itself."""

CONTEXT: Final = multiprocessing.get_context("spawn")
"""How its process begins."""


class CellCrashedError(DuetError):
    """The process of a cell ended without a word."""

    code = "cell-crashed"


@dataclass
class Worker:
    """A process, the line to it, and what it works on."""

    process: SpawnProcess
    line: Connection
    work: Work | None = None

    def stop(self) -> None:
        """End the process. One that waits for a cell ends by itself and puts away what it made, such as semaphores."""
        self.line.close()
        if self.work is None:
            self.process.join(END_SECONDS)
        self.process.terminate()
        self.process.join()


def crashed(cell: Cell, code: int | None) -> Failure:
    """The failure of a process that ended without a word, killed for want of memory mostly."""
    by = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
    error = CellCrashedError(
        f"the process of the cell ended {by}",
        "often memory: fewer --jobs, or a smaller optimiser.batch_positions; the same command tries again",
    )
    return refused(cell, error)


def refused(cell: Cell, error: DuetError) -> Failure:
    """The failure of a cell that was refused."""
    return Failure(cell=cell.name, code=error.code, message=error.message, hint=error.hint)


def start_worker(threads: int, slot: int) -> Worker:
    """A new process that waits for cells."""
    mine, its = CONTEXT.Pipe()
    process = CONTEXT.Process(target=work, args=(its, threads, gpu_of(slot)))
    process.start()
    its.close()
    return Worker(process, mine)


def gpu_of(slot: int) -> str | None:
    """Which GPU the worker in a slot sees: they take turns; None where there is none to choose from."""
    if not torch.cuda.is_available():
        return None
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
    return gpus[slot % len(gpus)]


def work(line: Connection, threads: int, gpu: str | None) -> None:
    """The worker's life: cells in, shares and ends out."""
    # The keyboard stops the process that started this one, which then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # Nothing has looked for a GPU in this process yet.
    use_machine(threads)
    while True:
        try:
            given: Work = line.recv()
        except (EOFError, OSError):
            return
        line.send(attempt(partial(run_work, given), given.cell, line))


def run_work(work: Work, tell: Callable[[float, str], None]) -> object:
    """Run a cell on its dataset."""
    return run_cell(work.job, work.cell, open_dataset(work.dataset), cell_folder(work.root, work.cell), tell)


@lru_cache(maxsize=1)
def open_dataset(path: Path) -> Dataset:
    """The dataset of a cell, which is mostly that of the cell before."""
    return Dataset(path)


def attempt(call: Callable[[Callable[[float, str], None]], object], cell: Cell, line: Connection) -> Failure | None:
    """Run one cell; whatever it raises becomes a failure."""
    last = 0.0

    def tell(share: float, what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL_SECONDS:
            last = time.monotonic()
            line.send((share, what))

    try:
        call(tell)
    except DuetError as error:
        return refused(cell, error)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Failure(
            cell=cell.name,
            code="internal",
            message=f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})".strip(),
            hint="this is a mistake in duetgen or in the method; the other cells are not touched by it",
        )
    return None


def end_with_parent() -> None:
    """End this process when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
