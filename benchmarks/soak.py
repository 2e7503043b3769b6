"""A soak: some minutes at 70 % of what the service serves, then five times as much as it serves.

    python benchmarks/soak.py [--bundle BUNDLE] [--minutes 10] [--share 0.7] [--server-core 0] [--load-core 1]

Prints each step's rate, errors, percentiles and the service's memory; then what happens under overload, and how long
after its end a request is answered within 50 ms again. Fails if the soak has an error, or if memory grows by more than
a twentieth after the first fifth of the time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx
import msgspec

sys.path.insert(0, str(Path(__file__).parent))
from service_throughput import Server, load, make_bundle, write_requests


def memory(server: Server) -> float:
    """Proportional memory of the service's processes, in MiB."""
    parent = server.ready["pid"]
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    total = 0
    for process in [str(parent), *children]:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def recovery(url: str, requests: Path) -> float:
    """Seconds until a request is answered within 50 ms."""
    path, token, body = msgspec.msgpack.decode(requests.read_bytes(), type=list[tuple[str, str, bytes]])[0]
    begun = time.perf_counter()
    with httpx.Client(base_url=url, trust_env=False, headers={"authorization": f"Bearer {token}"}) as client:
        while True:
            sent = time.perf_counter()
            answer = client.post(path, content=body)
            if answer.status_code == 200 and time.perf_counter() - sent < 0.05:
                return time.perf_counter() - begun


def main() -> None:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = options.bundle or make_bundle(folder, 32, 50)
        tokens, single, _ = write_requests(folder, bundle)
        with Server(bundle, tokens, options.server_core) as server:
            url, core = server.ready["url"], options.load_core
            most = load(url, single, core, "--connections", "32", "--seconds", "5")["rate"]
            rate = str(options.share * most)
            print(f"serves {most:,.0f}/s with 32 connections; soak at {options.share:.0%} of it", flush=True)
            used: list[float] = []
            errors = 0
            for step in range(options.steps):
                seconds = str(60 * options.minutes / options.steps)
                found = load(url, single, core, "--connections", "64", "--seconds", seconds, "--rate", rate)
                used.append(memory(server))
                errors += found["broken"] + sum(n for status, n in found["statuses"].items() if status != "200")
                print(f"step {step + 1}: {found['rate']:,.0f}/s, statuses {found['statuses']}, "
                      f"ms {json.dumps(found['ms'])}, {used[-1]:.1f} MiB", flush=True)  # fmt: skip
            settled = used[max(1, options.steps // 5) - 1]
            growth = max(used) / settled - 1
            print(f"errors {errors}; memory {settled:.1f} MiB after a fifth, {used[-1]:.1f} MiB at the end", flush=True)
            flood = load(url, single, core, "--connections", "512", "--seconds", "5", "--rate", str(5 * most))
            back = recovery(url, single)
            print(f"five times as much: {flood['rate']:,.0f}/s answered, statuses {flood['statuses']}, "
                  f"broken {flood['broken']}, ms {json.dumps(flood['ms'])}; back within {back:.2f} s")  # fmt: skip
        if errors or growth > 0.05:
            sys.exit(1)


if __name__ == "__main__":
    main()
