"""Lines on standard error that are JSON objects, all of them, whoever prints them.

Imports nothing that prints: what is imported within may.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

MAX_LINE_BYTES: Final = 65_536
"""Where a longer line is divided."""
END: Final = b"\x00end\n"
"""A line that nobody prints."""


@contextlib.contextmanager
def json_lines() -> Iterator[None]:
    """Make every line on standard error one JSON object, whoever prints it: this process, its children, a library.

    What is no JSON object becomes the `text` of one.
    """
    sys.stderr.flush()
    real = os.dup(2)
    source, sink = os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    passing = threading.Thread(target=pass_lines, args=(source, real), daemon=True)
    passing.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.write(2, END)
        passing.join()
        os.dup2(real, 2)
        os.close(real)
        os.close(source)


def pass_lines(source: int, real: int) -> None:
    """Pass lines on until `END`."""
    rest = b""
    while part := os.read(source, MAX_LINE_BYTES):
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            if line == END.strip(b"\n"):
                return
            if line.strip():
                with contextlib.suppress(OSError):  # nobody reads it any more
                    write_all(real, as_json(line) + b"\n")


def as_json(line: bytes) -> bytes:
    """A line that is a JSON object, or one made of it."""
    with contextlib.suppress(ValueError):
        if isinstance(json.loads(line), dict):
            return line
    text = line.decode("utf-8", "replace").rstrip()
    return json.dumps({"time": round(time.time(), 3), "level": "warning", "event": "printed", "text": text}).encode()


def write_all(handle: int, content: bytes) -> None:
    """Write everything."""
    while content:
        content = content[os.write(handle, content) :]
