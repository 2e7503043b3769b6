"""The service's log: one JSON object a line on standard error.

A device is named by a keyed hash that means nothing after the service ends. Tokens and item indices are never written:
what is written of a refusal is its code, not its message, which may quote what was sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sys
import time
from typing import Final

HANDLERS: Final = {
    "root": {"handlers": ["console"], "level": "WARNING"},
    "formatters": {"json": {"()": "duetgen.cloud.log.LineFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
    "loggers": {"_granian": {"handlers": ["console"], "level": "WARNING", "propagate": False}},
}
"""What granian and other libraries write with."""
LINES_A_SECOND: Final = 50
"""Refusals that are written in a second; beyond, they are counted."""
MAX_TEXT: Final = 2_000
"""Longest text of a field, in characters: lines of several processes must not run into each other."""


class LineFormatter(logging.Formatter):
    """A record of another library as a line like the service's own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {"time": round(record.created, 3), "level": record.levelname.lower(), "event": "server"}
        line["reason"] = record.getMessage()[:MAX_TEXT]
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)[-MAX_TEXT:]
        return json.dumps(line)


class Log:
    """Writes lines.

    Args:
        key: of the hashes of devices; the same for all workers of a service, made when it starts.
        requests: write every request.
    """

    def __init__(self, key: bytes, requests: bool) -> None:
        self._key, self.requests = key, requests
        self._second, self._written, self._skipped = 0, 0, 0

    def device(self, device: str) -> str:
        """What stands for a device."""
        return hashlib.blake2b(device.encode(), key=self._key, digest_size=8).hexdigest()

    def write(self, level: str, event: str, **fields: object) -> None:
        """Write a line."""
        line = {"time": round(time.time(), 3), "level": level, "event": event, **fields}
        line = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in line.items()}
        with contextlib.suppress(OSError):  # whoever read it has gone
            sys.stderr.write(json.dumps(line) + "\n")
            sys.stderr.flush()

    def request(self, endpoint: str, status: int, code: str | None, device: str | None, begun: float) -> None:
        """Write of a request, if requests are written or it was refused."""
        if code is None and not self.requests:
            return
        if not self.requests:
            second = int(time.monotonic())
            if second != self._second:
                if self._skipped:
                    self.write("warning", "refusals not written", count=self._skipped)
                self._second, self._written, self._skipped = second, 0, 0
            self._written += 1
            if self._written > LINES_A_SECOND:
                self._skipped += 1
                return
        fields: dict[str, object] = {"endpoint": endpoint, "status": status}
        if code is not None:
            fields["code"] = code
        if device is not None:
            fields["device"] = self.device(device)
        fields["ms"] = round((time.perf_counter() - begun) * 1000, 3)
        self.write("error" if status >= 500 else "info", "request", **fields)
