"""What the verbs print with: messages and progress for people on standard error, results on standard output."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from duetgen.training import Losses

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What moves a terminal's cursor, or worse; line ends are meant."""


class Plain(Console):
    """Prints text as it stands: names and titles are no markup, no emoji and no commands to the terminal, and a pipe
    gets a line as one line, however long.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """Print, on lines of the terminal's width where there is one."""
        of_text = all(isinstance(one, str | Text) for one in objects)
        if soft_wrap is None and of_text and not self.is_terminal:
            soft_wrap = True
        super().print(*objects, soft_wrap=soft_wrap, **options)

    def on_broken_pipe(self) -> None:
        """Nobody reads on: the process ends as any other does then."""
        raise

    def render_str(self, text: str, **options: Any) -> Text:
        """Text to print."""
        return super().render_str(shown(text), **options)


def shown(text: str) -> str:
    """A text without what commands a terminal."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def styled(text: str, style: str, rest: str = "") -> Text:
    """One line: a text in a style, and what follows it."""
    return Text.assemble((shown(text).replace("\n", " "), style), shown(rest))


notes = Plain(stderr=True, soft_wrap=True)
"""Where people read what is going on."""

results = Plain(width=None if sys.stdout.isatty() else 160)
"""Where results go; a pipe or a file gets whole lines, whatever its width is thought to be."""


def refuse(code: str, message: str, hint: str, as_json: bool) -> None:
    """Print one refusal: cause and hint, or the same as JSON on standard output."""
    message = without_password(message)
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
    else:
        print(f"duet: {message} [{code}]\n  hint: {hint}", file=sys.stderr)


def without_password(text: str) -> str:
    """What was typed may hold a URL with a password, even where no URL belongs, and a message may quote it."""
    text = re.sub(r"(:/{1,2}[^\s/:@]*):\S*@", r"\1:***@", text)
    return re.sub(r"(password=)[^\s&'\"]*", r"\1***", text)


def print_json(value: Any) -> None:
    """Print a result for machines, indented, to standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def spinner(what: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on, while a terminal is there; gives the function that changes it."""
    if quiet or not notes.is_terminal:
        yield lambda line: None
        return
    with notes.status(Text(shown(what))) as status:
        yield lambda line: status.update(Text(shown(f"{what}: {line}")))


@contextlib.contextmanager
def counting(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for work that is counted; gives a function of what is going on, how much is done and how much there is."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=notes,
        transient=True,
        disable=quiet or not notes.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


@contextlib.contextmanager
def downloading(name: str, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for a download; gives a function of how many bytes are there and how many there will be."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=notes,
        transient=True,
        disable=quiet or not notes.is_terminal,
    )
    with bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def told(losses: Losses) -> str:
    """The loss; behind it DUET's two apart."""
    apart = "" if losses.own is None else f" (own theta {losses.own:.3f}, theta = 0 {losses.zero:.3f})"
    return f"loss {losses.total:.3f}{apart}"


class TrainingBar:
    """Progress of a training run: a bar with loss, throughput and time left; a line an epoch elsewhere."""

    def __init__(self, title: str, quiet: bool = False) -> None:
        self.title, self.quiet = title, quiet
        self.epochs = self.steps = self.epoch = 0
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TextColumn("at most"),
            TimeRemainingColumn(),
            console=notes,
            transient=True,
            disable=quiet or not notes.is_terminal,
        )
        self.task = self.bar.add_task(title, total=None, note="")

    def __enter__(self) -> TrainingBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def turned(self, model: str) -> None:
        """The run trains the next of its models."""
        self.title = model
        self.bar.update(self.task, description=model)

    def started(self, epochs: int, steps: int, resumed_epoch: int) -> None:
        """A run begins or goes on."""
        self.epochs, self.steps, self.epoch = epochs, steps, resumed_epoch
        self.bar.update(self.task, total=epochs * steps, completed=resumed_epoch * steps)
        if resumed_epoch and not self.quiet:
            notes.print(f"{self.title}: goes on after epoch {resumed_epoch}")

    def stepped(self, step: int, losses: Losses, positions_per_second: float) -> None:
        """A step is done."""
        note = f"{told(losses)}  {positions_per_second:,.0f} positions/s"
        self.bar.update(self.task, completed=self.epoch * self.steps + step, note=note)

    def measured(self, epoch: int, losses: Losses, ndcg: float, best: float) -> None:
        """An epoch is done."""
        self.epoch = epoch
        mark = "  best so far" if ndcg == best else ""
        if not self.quiet:
            notes.print(f"{self.title}  epoch {epoch:>3}  {told(losses)}  validation ndcg@10 {ndcg:.4f}{mark}")

    def tried(self, done: int, total: int, steps: int, learning_rate: float, ndcg: float) -> None:
        """Settings of fine-tuning are measured."""
        self.bar.update(self.task, total=total, completed=done, note="choosing steps and rate")
        if not self.quiet:
            notes.print(f"fine-tuning  {steps:>3} steps at {learning_rate:g}  validation ndcg@10 {ndcg:.4f}")
