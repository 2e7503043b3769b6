"""Another worker of the service: a process that leaves what it is told to."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

PROGRAM = """
import sys
from pathlib import Path
from duetgen.cloud.peers import Peers
peers = Peers(Path(sys.argv[1]))
for line in sys.stdin:
    kind, _, content = line.rstrip("\\n").partition(" ")
    peers.write(kind, content.encode())
    print(flush=True)
"""


class Worker(NamedTuple):
    """The process."""

    given: IO[str]
    done: IO[str]

    def write(self, kind: str, content: str) -> None:
        """Have it leave something."""
        self.given.write(f"{kind} {content}\n")
        self.given.flush()
        self.done.readline()


@contextlib.contextmanager
def another_worker(folder: Path) -> Iterator[Worker]:
    """A worker that is killed when the block ends."""
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Worker(process.stdin, process.stdout)
        finally:
            process.kill()
