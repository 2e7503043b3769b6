"""Runs cells in processes of their own, side by side, within a budget; whatever happens to one, the others go on.

What a cell gives does not depend on how many run side by side: see `worker`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

import msgspec

from duetgen.comparison.cells.cell import starts_of
from duetgen.comparison.cells.records import Cell, Failure, Work, cell_folder
from duetgen.comparison.cells.worker import Worker, crashed, start_worker
from duetgen.errors import DuetError
from duetgen.files import write_bytes


class Watcher(Protocol):
    """Hears how the cells go on."""

    def cell_started(self, work: Work) -> None:
        """A worker has taken the cell."""

    def cell_told(self, work: Work, share: float, what: str) -> None:
        """So much of the cell is done, and this is going on."""

    def cell_ended(self, work: Work, failure: Failure | None) -> None:
        """The cell is finished, or has failed."""


@dataclass
class Outcome:
    """How it went: cells that failed, and cells that were not started for want of time."""

    failed: list[tuple[Work, Failure]] = field(default_factory=list)
    left: list[Work] = field(default_factory=list)

    def failures(self, root: Path) -> list[Failure]:
        """The cells of a comparison that failed."""
        return [failure for work, failure in self.failed if work.root == root]


def run_cells(
    works: Sequence[Work],
    *,
    jobs: int,
    threads: int,
    deadline: float | None,
    watcher: Watcher,
) -> Outcome:
    """Run the cells that are not finished.

    Args:
        works: in the order in which they are started.
        jobs: how many run side by side.
        threads: torch threads of each.
        deadline: on the monotonic clock; after it no cell is started. Those that run go on to their end.
        watcher: hears how it goes.
    """
    outcome, waiting, workers = Outcome(), list(works), dict[int, Worker]()

    def next_work() -> Work | None:
        if deadline is not None and time.monotonic() >= deadline:
            return None
        # What a cell could begin with is not trained twice: it waits while another works on that.
        unfinished = [*waiting, *(worker.work for worker in workers.values() if worker.work is not None)]
        open_cells = {(work.root, work.cell) for work in unfinished}
        for place, work in enumerate(waiting):
            if not open_cells & {(work.root, cell) for cell in starts_of(work.cell).values()}:
                return waiting.pop(place)
        return None

    def give_all() -> None:
        for slot in range(jobs):
            if slot in workers and workers[slot].work is not None:
                continue
            work = next_work()
            if work is None:
                return
            if slot not in workers:
                workers[slot] = start_worker(threads, slot)
            give(workers[slot], work)

    def give(worker: Worker, work: Work) -> None:
        worker.work = work
        worker.line.send(work)
        watcher.cell_started(work)

    def ended(worker: Worker, failure: Failure | None) -> None:
        assert worker.work is not None
        if failure is not None:
            outcome.failed.append((worker.work, failure))
            keep_failure(worker.work.root, worker.work.cell, failure)
        watcher.cell_ended(worker.work, failure)
        worker.work = None

    try:
        give_all()
        while busy := {worker.line: slot for slot, worker in workers.items() if worker.work is not None}:
            for line in wait(list(busy)):
                assert isinstance(line, Connection)
                slot = busy[line]
                worker = workers[slot]
                work = worker.work
                assert work is not None
                try:
                    told = line.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    ended(worker, crashed(work.cell, worker.process.exitcode))
                    workers.pop(slot).stop()
                    continue
                if told is not None and not isinstance(told, Failure):
                    watcher.cell_told(work, *told)
                    continue
                ended(worker, told)
            give_all()
    finally:
        for worker in workers.values():
            worker.stop()
    outcome.left = waiting
    return outcome


def keep_failure(root: Path, cell: Cell, failure: Failure) -> None:
    """Write `failed.json`, where that can be written at all."""
    folder = cell_folder(root, cell)
    with contextlib.suppress(OSError, DuetError):
        folder.root.mkdir(parents=True, exist_ok=True)
        write_bytes(folder.failed, msgspec.json.encode(failure))
