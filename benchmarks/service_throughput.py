"""What one core of the service serves: in process, over HTTP with 1, 32 and 256 connections, and by the batch endpoint.

    python benchmarks/service_throughput.py [--bundle BUNDLE] [--width 32] [--history 50] [--opinions] [--seconds 3]
        [--rounds 3] [--server-core 0] [--load-core 1]

The service (tokens, codes of answers, float16) has one core and the load generator another. In process is the generator
alone, on the service's core: one history at a time, and its best number in a call. All are measured in turn,
several times over, in one run. Medians are printed, by the clock and by processor time: `per core` is what a core
serves that nobody else uses, one second divided by the processor time that a device costs. Ratios are of the like.
Without `--bundle` an untrained model of the given size is exported for the purpose; with `--opinions` it has a
cloud model, a SASRec of width 128 that reads as many events as the generator and a table, without the GRU4Rec that
the default has beside them, and answers hold both parts.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
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

import httpx
import msgspec
import numpy as np

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-c", "from duetgen.cli import main; main()"]
DEVICES = 256


def make_bundle(folder: Path, width: int, history: int, opinions: bool) -> Path:
    """An untrained model of a synthetic log, in a process of its own: this one stays without torch."""
    code = (
        "import sys; from pathlib import Path; from tests.bundles import synthetic_dataset, tiny_bundle; "
        "root, w, h, cloud = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]; "
        "tiny_bundle(root / 'bundle', synthetic_dataset(root / 'data', people=600), "
        "backbone={'width': 32, 'window': 10}, generator={'width': 32}, "
        "history={'encoder': 'gru', 'length': h, 'width': w, 'embedding_width': w}, cloud={'kind': cloud})"
    )
    kind = "blend" if opinions else "none"
    subprocess.run([sys.executable, "-c", code, folder, str(width), str(history), kind], check=True, cwd=HERE.parent,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    return folder / "bundle"


def in_process(bundle: Path, seconds: float) -> dict[str, float]:
    """Devices a second of the engine alone, by the clock and by processor time."""
    from duetgen.cloud.engine import Engine
    from duetgen.wire.bundle import open_bundle

    engine = Engine(open_bundle(bundle), ["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    histories = list(rng.integers(1, engine.vocabulary, (DEVICES, engine.length)))
    found = {"rows": float(engine.rows)}
    for name, step in (("single", 1), ("batched", engine.rows)):
        done, begun, used = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - begun < seconds:
            for begin in range(0, DEVICES, step):
                engine.thetas(histories[begin : begin + step])
            done += DEVICES
        found[name] = done / (time.perf_counter() - begun)
        found[f"{name} per core"] = done / (time.process_time() - used)
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


def processor_time(parent: int) -> float:
    """Seconds that a process and its children have used."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    ticks = 0
    for process in [str(parent), *children]:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_name() -> str:
    """What the processor calls itself."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def load(url: str, requests: Path, core: int | None, *options: str) -> dict[str, Any]:
    """What the load generator found."""
    pin = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pin, sys.executable, str(HERE / "load_generator.py"), "--url", url, "--requests", str(requests)]
    found: dict[str, Any] = json.loads(subprocess.run([*command, *options], check=True, capture_output=True).stdout)
    return found


def write_requests(folder: Path, bundle: Path) -> tuple[Path, Path, Path]:
    """A store of tokens, and the requests of 256 devices, each with its own token; and those of the batch endpoint."""
    from duetgen.cloud.sqlite_tokens import SQLiteTokens
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
    parser.add_argument("--opinions", action="store_true", help="answers hold the opinions of a cloud model too")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--write", type=Path, help="JSON file of the figures, for benchmarks/capacity.py")
    parser.add_argument("--only-in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_in_process:
        print(json.dumps(in_process(options.bundle, options.seconds)))
        return
    seconds = str(options.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = options.bundle or make_bundle(folder, options.width, options.history, options.opinions)
        tokens, single, batch = write_requests(folder, bundle)
        rates: dict[str, list[float]] = {}
        last: dict[str, dict[str, Any]] = {}
        pinned = ["taskset", "-c", str(options.server_core), sys.executable, __file__, "--only-in-process"]
        for _ in range(options.rounds):
            command = [*pinned, "--bundle", bundle, "--seconds", seconds]
            for key, value in json.loads(subprocess.run(command, check=True, capture_output=True).stdout).items():
                rates.setdefault(key, []).append(value)
            with Server(bundle, tokens, options.server_core) as server:
                url, parent = server.ready["url"], server.ready["pid"]
                ways = [(f"http {count}", single, count, 1) for count in (1, 32, 256)]
                for key, requests, connections, devices in [*ways, ("batch", batch, 2, DEVICES)]:
                    used = processor_time(parent)
                    found = load(url, requests, options.load_core, "--connections", str(connections), "--seconds",
                                 seconds, "--warm", "0")  # fmt: skip
                    used = processor_time(parent) - used
                    rates.setdefault(key, []).append(found["rate"] * devices)
                    rates.setdefault(f"{key} per core", []).append(found["statuses"]["200"] * devices / used)
                    last[key] = found
                offered = str(0.7 * rates["http 32"][-1])
                last["open"] = load(url, single, options.load_core, "--connections", "32", "--seconds", seconds,
                                    "--rate", offered)  # fmt: skip
        middle = {key: statistics.median(values) for key, values in rates.items()}
        print(f"load average {os.getloadavg()[0]:.1f}; medians of {options.rounds} rounds of {seconds} s; "
              f"{middle['rows']:.0f} devices a run of the generator\n")  # fmt: skip
        print(f"| {'':<27} | devices/s | of in process | per core | of in process | p50 ms | p99 ms |")
        print(f"|{'-' * 29}|---:|---:|---:|---:|---:|---:|")
        for key, title, base in (
            ("single", "in process, one at a time", "single"),
            ("http 1", "HTTP, 1 connection", "single"),
            ("http 32", "HTTP, 32 connections", "single"),
            ("http 256", "HTTP, 256 connections", "single"),
            ("batched", f"in process, {DEVICES} a call", "batched"),
            ("batch", f"batch endpoint, {DEVICES} a call", "batched"),
        ):
            clock, core = middle[key], middle[f"{key} per core"]
            of_clock, of_core = clock / middle[base], core / middle[f"{base} per core"]
            times = last[key]["ms"] if key in last else {"p50": "", "p99": ""}
            print(f"| {title:<27} | {clock:,.0f} | {of_clock:.1%} | {core:,.0f} | {of_core:.1%} "
                  f"| {times['p50']} | {times['p99']} |")  # fmt: skip
        if options.write:
            path, token, body = msgspec.msgpack.decode(single.read_bytes(), type=list[tuple[str, str, bytes]])[0]
            with Server(bundle, tokens, None) as server:
                headers = {"authorization": f"Bearer {token}", "accept": "application/msgpack"}
                answer = httpx.post(server.ready["url"] + path, content=body, headers=headers, trust_env=False)
            written = {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                                         check=True, cwd=HERE).stdout.strip(),
                "machine": f"{cpu_name()}, {os.cpu_count()} cores, shared; load average {os.getloadavg()[0]:.1f}",
                "versions": {k: importlib.metadata.version(k) for k in ("granian", "onnxruntime", "starlette")},
                "command": " ".join(["python", "benchmarks/service_throughput.py", *sys.argv[1:]]),
                "width": options.width,
                "history": options.history,
                "opinions": options.opinions,
                "request_bytes": len(body),
                "answer_bytes": len(answer.content),
                "medians": middle,
                "ms": {key: found["ms"] for key, found in last.items()},
            }  # fmt: skip
            options.write.write_text(json.dumps(written, indent=2) + "\n")
        print(f"\nopen load at 70 % of HTTP, 32 connections: {json.dumps(last['open'])}")


if __name__ == "__main__":
    main()
