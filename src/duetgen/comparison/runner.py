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

from duetgen.comparison.cells import starts_of
from duetgen.comparison.records import Cell, Failure, Job, cell_folder
from duetgen.comparison.worker import Worker, crashed, start_worker
from duetgen.errors import DuetError
from duetgen.files import write_bytes


class Watcher(Protocol):
    """Hears how the cells go on."""

    def cell_started(self, cell: Cell) -> None:
        """A worker has taken the cell."""

    def cell_told(self, cell: Cell, share: float, what: str) -> None:
        """So much of the cell is done, and this is going on."""

    def cell_ended(self, cell: Cell, failure: Failure | None) -> None:
        """The cell is finished, or has failed."""


@dataclass
class Outcome:
    """How it went: cells that failed, and cells that were not started for want of time."""

    failures: list[Failure] = field(default_factory=list)
    left: list[Cell] = field(default_factory=list)


def run_cells(
    root: Path,
    dataset: Path,
    job: Job,
    cells: Sequence[Cell],
    *,
    jobs: int,
    threads: int,
    deadline: float | None,
    watcher: Watcher,
) -> Outcome:
    """Run the cells that are not finished.

    Args:
        root: folder of the comparison.
        dataset: the dataset folder.
        job: what the cells have in common.
        cells: in the order in which they are started.
        jobs: how many run side by side.
        threads: torch threads of each.
        deadline: on the monotonic clock; after it no cell is started. Those that run go on to their end.
        watcher: hears how it goes.
    """
    outcome, waiting, workers = Outcome(), list(cells), dict[int, Worker]()

    def next_cell() -> Cell | None:
        if deadline is not None and time.monotonic() >= deadline:
            return None
        # What a cell could begin with is not trained twice: it waits while another works on that.
        open_cells = {*waiting, *(worker.cell for worker in workers.values() if worker.cell is not None)}
        for place, cell in enumerate(waiting):
            if not open_cells & set(starts_of(cell).values()):
                return waiting.pop(place)
        return None

    def give_all() -> None:
        for slot in range(jobs):
            if slot in workers and workers[slot].cell is not None:
                continue
            cell = next_cell()
            if cell is None:
                return
            if slot not in workers:
                workers[slot] = start_worker(root, dataset, job, threads, slot)
            give(workers[slot], cell)

    def give(worker: Worker, cell: Cell) -> None:
        worker.cell = cell
        worker.line.send(cell)
        watcher.cell_started(cell)

    def ended(worker: Worker, failure: Failure | None) -> None:
        assert worker.cell is not None
        if failure is not None:
            outcome.failures.append(failure)
            keep_failure(root, worker.cell, failure)
        watcher.cell_ended(worker.cell, failure)
        worker.cell = None

    try:
        give_all()
        while busy := {worker.line: slot for slot, worker in workers.items() if worker.cell is not None}:
            for line in wait(list(busy)):
                assert isinstance(line, Connection)
                slot = busy[line]
                worker = workers[slot]
                cell = worker.cell
                assert cell is not None
                try:
                    told = line.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    ended(worker, crashed(cell, worker.process.exitcode))
                    workers.pop(slot).stop()
                    continue
                if told is not None and not isinstance(told, Failure):
                    watcher.cell_told(cell, *told)
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
