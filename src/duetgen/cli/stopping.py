"""What ends a command from outside, by the keyboard or by a signal: it stops alike, and leaves nothing half-written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """A signal ends the command as the keyboard does.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def told(stop: KeyboardInterrupt) -> tuple[str, int]:
    """What stopped a command, and its exit code."""
    if isinstance(stop, Terminated):
        return signal.Signals(stop.number).name, 128 + stop.number
    return "the keyboard", 128 + signal.SIGINT


@contextlib.contextmanager
def by_signals() -> Iterator[None]:
    """Stop at the first signal as at the keyboard; the second one ends the process at once. Ignored ones stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated(number)

    for number in held:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, signal.SIG_DFL)
