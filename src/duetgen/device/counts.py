"""What a device counts of itself: what it refused, what failed, what it did not know; and what went wrong last.

Nothing that is counted ends anything: whoever counts goes on.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

from duetgen.errors import DuetError, printable
from duetgen.wire.limits import MAX_TOLD

HIDDEN: Final = "…"


def told(text: str, *secrets: str) -> str:
    """A text of somebody else's, fit to be shown: one line, no control characters, no secret, not endless."""
    text = printable(text)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text[:MAX_TOLD]


def survivable(cause: BaseException) -> bool:
    """Whether what somebody else's code raised is counted and survived.

    All is, but Ctrl-C and `sys.exit` in the main thread, which mean the application. In any other thread nobody pressed
    a key, and an exit would end that thread alone, unseen.
    """
    return not isinstance(cause, (KeyboardInterrupt, SystemExit)) or (
        threading.current_thread() is not threading.main_thread()
    )


class Counts:
    """Counters of one device. Thread-safe.

    Args:
        token: of the device, which no text shows.

    Attributes:
        refused: thetas refused, by reason.
        failures: what failed, by code.
        last_error: of the last failure, in one line; empty after a request that went well.
        unknown_events: observed ids that the version in use did not know.
        unknown_candidates: ranked ids that it did not know.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._lock = threading.Lock()
        self.refused: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.last_error = ""
        self.unknown_events = self.unknown_candidates = 0

    def refuse(self, reason: str, cause: BaseException | None = None) -> None:
        """A theta was not used."""
        with self._lock:
            self.refused[reason] += 1
            if cause is not None:
                self.last_error = self._tell(cause)

    def fail(self, code: str, cause: BaseException) -> None:
        """Something went wrong, and was survived."""
        with self._lock:
            self.failures[code] += 1
            self.last_error = self._tell(cause)

    def well(self) -> None:
        """A request went well."""
        self.last_error = ""

    def unknown(self, *, events: int = 0, candidates: int = 0) -> None:
        """Ids were met that the version in use does not know."""
        if events or candidates:
            with self._lock:
                self.unknown_events += events
                self.unknown_candidates += candidates

    def show(self, text: str) -> str:
        """A text, fit to be shown."""
        return told(text, self._token)

    def _tell(self, cause: BaseException) -> str:
        try:
            text = f"{cause} [{cause.code}]" if isinstance(cause, DuetError) else f"{type(cause).__name__}: {cause}"
        except Exception:  # an exception of somebody else's need not even have a text
            text = type(cause).__name__
        return told(text, self._token)
