"""What one core of the service serves: in process, over HTTP with 1, 32 and 256 connections, and by the batch endpoint.

    python benchmarks/service_throughput.py [--bundle BUNDLE] [--width 32] [--history 50] [--seconds 3] [--rounds 3]
        [--server-core 0] [--load-core 1]

The service (tokens, codes of answers, float16) has one core and the load generator another. In process is the generator
alone, on the service's core: one history at a time, and 256 in one call of the engine. All are measured in turn, several
times over, in one run, and the ratios of medians are printed: a machine that others use makes absolute figures a guide.
Without `--bundle` an untrained model of the given size is exported for the purpose.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-c", "from duetgen.cli import main; main()"]
DEVICES = 256


def make_bundle(folder: Path, width: int, history: int) -> Path:
    """An untrained model of a synthetic log, in a process of its own: this one stays without torch."""
    code = (
        "import sys; from pathlib import Path; from tests.bundles import synthetic_dataset, tiny_bundle; "
        "root, w, h = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]); "
        "tiny_bundle(root / 'bundle', synthetic_dataset(root / 'data', people=600), "
        "backbone={'width': 32, 'window': 10}, history={'length': h, 'width': w, 'embedding_width': w}, "
        "generator={'width': 32})"
    )
    subprocess.run([sys.executable, "-c", code, folder, str(width), str(history)], check=True, cwd=HERE.parent,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    return folder / "bundle"


def in_process(bundle: Path, seconds: float) -> dict[str, float]:
    """Devices a second of the engine alone."""
    from duetgen.cloud.engine import Engine
    from duetgen.wire.bundle import open_bundle

    engine = Engine(open_bundle(bundle), ["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    histories = list(rng.integers(1, engine.vocabulary, (DEVICES, engine.length)))
    found = {"rows": float(engine.rows)}
    for name, step in (("single", 1), ("batched", DEVICES)):
        done, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < seconds:
            for begin in range(0, DEVICES, step):
                engine.generate(histories[begin : begin + step])
            done += DEVICES
        found[name] = done / spent
    return found


class Server:
    """`duet serve` on one core."""

    def __init__(self, bundle: Path, tokens: Path | None, core: int | None, *extra: str) -> None:
        access = ["--open"] if tokens is None else ["--tokens", str(tokens)]
        pin = [] if core is None else ["taskset", "-c", str(core)]
        command = [*pin, *COMMAND, "serve", str(bundle), *access, "--port", "0", "--json", "--rate", "0", *extra]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def load(url: str, requests: Path, core: int | None, *options: str) -> dict[str, Any]:
    """What the load generator found."""
    pin = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pin, sys.executable, str(HERE / "load_generator.py"), "--url", url, "--requests", str(requests)]
    found: dict[str, Any] = json.loads(subprocess.run([*command, *options], check=True, capture_output=True).stdout)
    return found


def write_requests(folder: Path, bundle: Path) -> tuple[Path, Path, Path]:
    """A store of tokens, and the requests of 256 devices, each with its own token; and those of the batch endpoint."""
    from duetgen.cloud.tokens import SQLiteTokens
    from duetgen.wire.bundle import open_bundle
    from duetgen.wire.messages import BatchDevice, BatchRequest, ParametersRequest

    manifest = open_bundle(bundle).manifest
    rng = np.random.default_rng(0)
    store = SQLiteTokens(folder / "tokens.sqlite", write=True)
    histories = rng.integers(1, manifest.vocabulary, (DEVICES, manifest.history)).tolist()
    names = [f"device-{number}" for number in range(DEVICES)]
    single = [
        (
            "/v1/parameters",
            store.add("device", name),
            msgspec.msgpack.encode(ParametersRequest("latest", name, history)),
        )
        for name, history in zip(names, histories)
    ]
    together = BatchRequest("latest", [BatchDevice(name, history) for name, history in zip(names, histories)])
    batch = [("/v1/parameters:batch", store.add("batch", None), msgspec.msgpack.encode(together))]
    store.close()
    (folder / "single").write_bytes(msgspec.msgpack.encode(single))
    (folder / "batch").write_bytes(msgspec.msgpack.encode(batch))
    return folder / "tokens.sqlite", folder / "single", folder / "batch"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--only-in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_in_process:
        print(json.dumps(in_process(options.bundle, options.seconds)))
        return
    seconds = str(options.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = options.bundle or make_bundle(folder, options.width, options.history)
        tokens, single, batch = write_requests(folder, bundle)
        rates: dict[str, list[float]] = {}
        last: dict[str, dict[str, Any]] = {}
        pinned = ["taskset", "-c", str(options.server_core), sys.executable, __file__, "--only-in-process"]
        for _ in range(options.rounds):
            output = subprocess.run(
                [*pinned, "--bundle", bundle, "--seconds", seconds], check=True, capture_output=True
            )
            for key, value in json.loads(output.stdout).items():
                rates.setdefault(key, []).append(value)
            with Server(bundle, tokens, options.server_core) as server:
                url = server.ready["url"]
                for connections in (1, 32, 256):
                    found = load(
                        url, single, options.load_core, "--connections", str(connections), "--seconds", seconds
                    )
                    rates.setdefault(f"http {connections}", []).append(found["rate"])
                    last[f"http {connections}"] = found
                found = load(url, batch, options.load_core, "--connections", "2", "--seconds", seconds)
                rates.setdefault("batch", []).append(found["rate"] * DEVICES)
                last["batch"] = found
                offered = str(0.7 * rates["http 32"][-1])
                last["open, 70 %"] = load(url, single, options.load_core, "--connections", "32", "--seconds", seconds,
                                          "--rate", offered)  # fmt: skip
        middle = {key: statistics.median(values) for key, values in rates.items()}
        print(f"load average {os.getloadavg()[0]:.1f}, {options.rounds} rounds of {seconds} s; medians")
        print(f"in process, one at a time     {middle['single']:>10,.0f} devices/s")
        print(
            f"in process, {DEVICES} a call       {middle['batched']:>10,.0f} devices/s ({middle['rows']:.0f} rows a run)"
        )
        for key in ("http 1", "http 32", "http 256"):
            times = last[key]["ms"]
            print(f"{key:<29} {middle[key]:>10,.0f} devices/s   {middle[key] / middle['single']:>6.1%} of one at a time"
                  f"   p50 {times['p50']} ms, p99 {times['p99']} ms")  # fmt: skip
        print(f"batch endpoint, {DEVICES} a call   {middle['batch']:>10,.0f} devices/s   "
              f"{middle['batch'] / middle['batched']:>6.1%} of batched in process")  # fmt: skip
        print(f"open load at 70 % of http 32  {json.dumps(last['open, 70 %'])}")


if __name__ == "__main__":
    main()
