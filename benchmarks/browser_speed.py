"""A browser as a device: ranking with plain kernels, beside ONNX Runtime in WebAssembly and the Python device.

    python benchmarks/browser_speed.py [--items 12000] [--width 32] [--backbones sasrec,gru4rec,din]

Needs Node and Chromium, and the packages of `web/` (`npm ci` there). A bundle of an untrained model is exported for
each backbone: weights do not change the speed. Before each ranking one event is observed, so that everything but the
list of candidates has changed. Least and median of single calls after warm-up, and the processor time of a call; ratios
are of processor times, which other load of the machine changes least. `first` is from the navigation of a browser
without any cache to the demo page's first ranking drawn, against a cloud on loopback; `empty`, in turn with it, to the
first answer of a worker on a page that does nothing else: what the browser itself takes of that. `heap` is what
JavaScript holds after garbage was collected, along many refreshes against that cloud.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from device_scoring import untrained
from duetgen.device import Device

WEB = Path(__file__).parents[1] / "web"
CANDIDATES = (1_000, 10_000)
LOADS = 15
TURNS, WARM = 500, 200
"""Calls of a series, and those of them that warm up; one that lasts ends earlier, and its first half warms up."""

Series = dict[str, float]


def summary(taken: list[float], processor: float, turns: int) -> Series:
    """Milliseconds of a call: least, median, and of the processor."""
    return {"least": min(taken), "median": statistics.median(taken), "processor": processor / turns}


def python_times(bundle: Path, seconds: float) -> dict[int, Series]:
    """`observe` and `rank` in Python, by number of candidates."""
    found = {}
    with Device(bundle) as device:
        ids = device.model.ids[2:]
        for count in CANDIDATES:
            candidates = ids[:count]
            taken: list[float] = []
            spent: list[float] = []
            end = time.perf_counter() + seconds
            while len(taken) < TURNS and (time.perf_counter() < end or len(taken) < 4):
                begun, before = time.perf_counter(), time.process_time()
                device.observe(ids[len(taken) % len(ids)])
                device.rank(candidates, met="show")
                taken.append(1000 * (time.perf_counter() - begun))
                spent.append(1000 * (time.process_time() - before))
            warm = min(WARM, len(taken) // 2)
            found[count] = summary(taken[warm:], sum(spent[warm:]), len(taken) - warm)
    return found


def browser_times(bundle: Path, dist: Path, seconds: float, refreshes: int) -> dict[str, Any]:
    """What `web/speed.mjs` measures."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), "chromium")
    environment = os.environ | {"DUET_PYTHON": sys.executable, "DUET_CHROMIUM": chromium, "OMP_NUM_THREADS": "1"}
    wanted = {"candidates": CANDIDATES, "turns": TURNS, "warm": WARM, "loads": LOADS}
    wanted |= {"seconds": seconds, "refreshes": refreshes}
    done = subprocess.run(
        ["node", "speed.mjs", str(bundle), str(dist), json.dumps(wanted)],
        cwd=WEB,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def load() -> str:
    """How busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--backbones", default="sasrec,gru4rec,din")
    parser.add_argument("--refreshes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=6.0, help="longest that a series of calls takes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dist = root / "dist"
        build = ["npx", "vite", "build", "--config", "vite.package.ts", "--outDir", str(dist), "--logLevel", "error"]
        subprocess.run(build, cwd=WEB, check=True)
        print(f"width {options.width}, {options.items:,} items simulated; {load()}")
        print("milliseconds of observe and rank: least, median, processor; ratios of processor times")
        print("                      ------ plain ------  ----- wasm ORT -----  ------ Python ------   plain by")
        print("backbone  candidates  least  median   proc   least  median   proc   least  median   proc    ORT  Python")
        for place, name in enumerate(options.backbones.split(",")):
            bundle = untrained(root, options.items, options.width, seed=place, name=name)
            python = python_times(bundle, options.seconds)
            found = browser_times(bundle, dist, options.seconds, options.refreshes if place == 0 else 0)
            for count in CANDIDATES:
                all_of = [found["plain"][str(count)], found["ort"][str(count)], python[count]]
                cells = "  ".join(f"{one['least']:6.2f} {one['median']:7.2f} {one['processor']:6.2f}" for one in all_of)
                plain, ort, other = (one["processor"] for one in all_of)
                print(f"{name:<9} {count:>10,} {cells}  {plain / ort:5.2f}  {plain / other:6.2f}", flush=True)
            for what in ("first", "empty"):
                taken = found[what]
                middle = statistics.median(taken)
                print(f"{name:<9} {what} {min(taken):.0f} ms at least, {middle:.0f} ms median; {load()}")
            if found["heap"]:
                heap = " ".join(f"{number / 1e6:.2f}" for number in found["heap"])
                print(f"{name:<9} heap in MB along {options.refreshes:,} refreshes: {heap}")


if __name__ == "__main__":
    main()
