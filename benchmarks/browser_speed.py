"""A browser as a device: ranking with plain kernels, beside ONNX Runtime in WebAssembly and the Python device.

    python benchmarks/browser_speed.py [--items 12000] [--width 32] [--backbones sasrec,gru4rec,din]

Needs Node and Chromium, and the packages of `web/` (`npm ci` there). A bundle of an untrained model is exported for
each backbone: weights do not change the speed. Before each ranking one event is observed, so that everything but the
list of candidates has changed. `first page` is from the navigation of a browser without any cache to the demo page's
first ranking drawn, against a cloud on loopback; `heap` is what JavaScript holds after garbage was collected, along
many refreshes against that cloud. Medians of single calls; other load of the machine counts.
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


def python_times(bundle: Path) -> dict[int, float]:
    """Median milliseconds of `observe` and `rank` in Python, by number of candidates."""
    found = {}
    with Device(bundle) as device:
        ids = device.model.ids[2:]
        for count in CANDIDATES:
            candidates, taken = ids[:count], []
            for number in range(220):
                begun = time.perf_counter()
                device.observe(ids[number % len(ids)])
                device.rank(candidates, met="show")
                taken.append(time.perf_counter() - begun)
            found[count] = 1000 * statistics.median(taken[20:])
    return found


def browser_times(bundle: Path, dist: Path, refreshes: int) -> dict[str, Any]:
    """What `web/speed.mjs` measures."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), "chromium")
    environment = os.environ | {"DUET_PYTHON": sys.executable, "DUET_CHROMIUM": chromium, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["node", "speed.mjs", str(bundle), str(dist), json.dumps(CANDIDATES), str(refreshes)],
        cwd=WEB,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--backbones", default="sasrec,gru4rec,din")
    parser.add_argument("--refreshes", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dist = root / "dist"
        build = ["npx", "vite", "build", "--config", "vite.package.ts", "--outDir", str(dist), "--logLevel", "error"]
        subprocess.run(build, cwd=WEB, check=True)
        print(f"width {options.width}, {options.items:,} items simulated; median ms of observe and rank")
        print("backbone   candidates   plain  wasm ORT  Python   first page   heap MB")
        for place, name in enumerate(options.backbones.split(",")):
            bundle = untrained(root, options.items, options.width, seed=place, name=name)
            python = python_times(bundle)
            found = browser_times(bundle, dist, options.refreshes if place == 0 else 0)
            for count in CANDIDATES:
                plain, ort = found["plain"][str(count)], found["ort"][str(count)]
                row = f"{name:<10} {count:>10,}  {plain:6.3f}  {ort:8.3f}  {python[count]:6.3f}"
                if count == CANDIDATES[0]:
                    heap = " ".join(f"{number / 1e6:.1f}" for number in found["heap"])
                    row += f"   {found['first']:7.0f} ms   {heap}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
