"""Whatever is printed beside the log: a line of it is one JSON object all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.cloud.conftest import COMMAND, until
from tests.cloud.test_live import Start
from tests.cloud.versions import describe, make_version

from .sockets import ask, log_lines

PRINTS = """
import os, subprocess, sys, threading, warnings
from duetgen.cli.printed import json_lines
from duetgen.cloud.log import Log

def fail():
    raise ValueError("in a thread")

with json_lines():
    Log(b"", False).write("info", "own", text="a\\nb")
    print("on standard error", file=sys.stderr)
    os.write(2, b"by hand, without an end")
    os.write(2, b" \\xff\\n[1, 2]\\n17\\n\\n  \\n")
    warnings.warn("a warning", stacklevel=1)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'of a child'); os.abort()"])
    os.write(2, b"\\n" + b"x" * 200_000 + b"\\n")
print("plain again", file=sys.stderr)
"""


def test_lines_of_threads_children_and_libraries() -> None:
    made = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True)
    *lines, last = made.stderr.splitlines()
    assert last == "plain again"
    found = [json.loads(line) for line in lines]
    assert {"event": "own", "text": "a\nb"}.items() <= found[0].items()
    printed = [line["text"] for line in found if line["event"] == "printed"]
    assert printed[:3] == ["on standard error", "by hand, without an end \ufffd", "[1, 2]"]
    assert "ValueError: in a thread" in printed
    assert "of a child" in printed
    assert sum(text.count("x") for text in printed if set(text) == {"x"}) == 200_000


def test_log_of_a_service_whose_libraries_print(live: Start, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    make_version(registry / "good", 1)
    make_version(registry / "bad", 2)
    (registry / "bad/generator.onnx").write_bytes(b"no graph")
    describe(registry / "bad", 2)
    service = live(registry, "--open", "--workers", "2", "--log-requests")
    ask(service, b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    children = Path(f"/proc/{service.ready['pid']}/task/{service.ready['pid']}/children").read_text().split()
    workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    for pid in workers:
        # As a library would that prints, on either.
        for handle in (1, 2):
            with open(f"/proc/{pid}/fd/{handle}", "wb", buffering=0) as output:  # noqa: PTH123 - no path of a file
                output.write(b"printed by a library\n")
    os.kill(int(workers[0]), 9)
    until(lambda: any(line.get("reason", "").startswith("Unexpected exit") for line in log_lines(service)))
    assert service.stop() == 0
    texts = [line.get("text") for line in log_lines(service)]
    assert texts.count("printed by a library") == 2 * len(workers) == 4


def test_refusal_before_anything_is_served_is_for_people(tmp_path: Path) -> None:
    made = subprocess.run([*COMMAND, "serve", str(tmp_path), "--open"], capture_output=True, text=True)
    assert made.returncode == 2
    assert "[nothing-to-serve]" in made.stderr
