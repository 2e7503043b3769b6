"""The progress of a comparison: one bar over all cells with the time left; a line a cell everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from duetgen.cli import console

if TYPE_CHECKING:
    from duetgen.comparison.cells.records import Failure, Work

MEMORY_SECONDS = 3600.0
"""The time left is told from the speed of this long: cells differ, and a shorter memory would make it jump."""


class CellBar:
    """A `comparison.runner.Watcher`.

    Args:
        total: how many cells there are.
        done: how many of them are finished already.
        quiet: say nothing.
    """

    def __init__(self, total: int, done: int, quiet: bool) -> None:
        self.total, self.done, self.quiet = total, done, quiet
        self.shares: dict[str, float] = {}
        self.bar = Progress(
            TextColumn("{task.fields[cells]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console.notes,
            transient=True,
            speed_estimate_period=MEMORY_SECONDS,
            disable=quiet or not console.notes.is_terminal,
        )
        self.task = self.bar.add_task("", total=total, completed=done, cells=f"{done}/{total}")

    def __enter__(self) -> CellBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def cell_started(self, work: Work) -> None:
        """A worker has taken the cell."""
        self.shares[work.name] = 0.0
        self.show(work, "")

    def cell_told(self, work: Work, share: float, what: str) -> None:
        """So much of the cell is done."""
        self.shares[work.name] = max(share, self.shares.get(work.name, 0.0))
        self.show(work, what)

    def cell_ended(self, work: Work, failure: Failure | None) -> None:
        """The cell is finished, or has failed."""
        self.shares.pop(work.name, None)
        self.done += 1
        self.show(work, "")
        if not self.quiet:
            how = "done" if failure is None else f"failed: {failure.message} [{failure.code}]"
            console.notes.print(f"{self.done:>3}/{self.total}  {work.name}  {how}")

    def show(self, work: Work, what: str) -> None:
        """Move the bar."""
        others = f" and {len(self.shares) - 1} more" if len(self.shares) > 1 else ""
        note = f"{work.name}{f': {what}' if what else ''}{others}"
        self.bar.update(
            self.task,
            description=note,
            completed=self.done + sum(self.shares.values()),
            cells=f"{self.done}/{self.total}",
        )
