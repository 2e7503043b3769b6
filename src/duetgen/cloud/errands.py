"""Work that may never end, as on a network disk that hangs: done aside, waited for so long, and then left to itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

MAX_LEFT: Final = 8
"""Errands that may be left to themselves at once; beyond, nothing new is begun."""

T = TypeVar("T")


class UnfinishedError(Exception):
    """An errand that is still under way."""


class Errands:
    """Errands by key, each in a thread of its own that does not keep the process from ending.

    Args:
        seconds: how long one is waited for, from its beginning.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left: dict[Hashable, tuple[Future[Any], float]] = {}

    def keep(self, keys: Collection[Hashable]) -> None:
        """Forget what came of errands of other keys: nobody will ask for it."""
        for key in [key for key, (future, _) in self._left.items() if key not in keys and future.done()]:
            del self._left[key]

    def run(self, key: Hashable, work: Callable[[], T]) -> T:
        """What `work` gives; where an errand of this key was left to itself, what that one gives.

        Raises:
            UnfinishedError: it takes longer; ask again under the same key.
            Exception: what the work raises.
        """
        if key not in self._left:
            if sum(not future.done() for future, _ in self._left.values()) >= MAX_LEFT:
                raise UnfinishedError
            future: Future[Any] = Future()
            threading.Thread(target=perform, args=(future, work), daemon=True).start()
            self._left[key] = (future, time.monotonic() + self._seconds)
        future, deadline = self._left[key]
        try:
            error = future.exception(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise UnfinishedError from None
        del self._left[key]
        if error is not None:
            raise error
        found: T = future.result()
        return found


def perform(future: Future[Any], work: Callable[[], Any]) -> None:
    """Do the work and keep what comes of it."""
    try:
        future.set_result(work())
    except BaseException as cause:
        future.set_exception(cause)
