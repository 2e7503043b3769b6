"""The figures of docs/capacity.md, from what benchmarks/service_throughput.py measured.

python benchmarks/service_throughput.py --write benchmarks/results/service-32.json
python benchmarks/service_throughput.py --width 64 --history 200 --write benchmarks/results/service-64.json
python benchmarks/service_throughput.py --history 100 --opinions --write benchmarks/results/service-opinions.json
python benchmarks/capacity.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/capacity.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
REQUESTS_A_DAY, PEAK, LOAD = 24, 3.0, 0.7
ROWS = (
    ("single", "in process, one at a time", "single"),
    ("http 1", "HTTP, 1 connection", "single"),
    ("http 32", "HTTP, 32 connections", "single"),
    ("http 256", "HTTP, 256 connections", "single"),
    ("batched", "in process, 256 a call", "batched"),
    ("batch", "batch endpoint, 256 a call", "batched"),
)


def sized(found: dict[str, Any]) -> str:
    """What the generator of a measurement is like."""
    opinions = ", weights and opinions of a SASRec of width 128 and a table" if found["opinions"] else ", weights alone"
    return f"Width {found['width']}, L_g = {found['history']}{opinions}"


def served(found: dict[str, Any]) -> str:
    """The table of what a core serves."""
    sizes = f"request {found['request_bytes']} bytes, answer {found['answer_bytes']} bytes"
    lines = [
        f"{sized(found)}; {sizes} (float16, msgpack, without HTTP headers):\n",
        "| | devices/s of a core | of in process |",
        "|---|---:|---:|",
    ]
    for key, title, base in ROWS:
        core, whole = found["medians"][f"{key} per core"], found["medians"][f"{base} per core"]
        lines.append(f"| {title} | {core:,.0f} | {core / whole:.0%} |")
    lines.append(f"\n{found['date']}, commit {found['commit']}, {found['machine']}, "
                 f"{', '.join(f'{k} {v}' for k, v in found['versions'].items())}: `{found['command']}`\n")  # fmt: skip
    return "\n".join(lines)


def arithmetic(found: dict[str, Any]) -> str:
    """What so many devices need."""
    core = found["medians"]["http 32 per core"]
    lines = [
        "| devices | requests a day | peak, a second | in, at the peak | out, at the peak | cores | core-hours a day |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for devices in (1_000_000, 10_000_000, 100_000_000):
        daily = devices * REQUESTS_A_DAY
        peak = PEAK * daily / 86_400
        coming, going = (8 * peak * found[f"{way}_bytes"] / 1e6 for way in ("request", "answer"))
        lines.append(
            f"| {devices:,} | {daily:,} | {peak:,.0f} | {coming:,.1f} Mbit/s | {going:,.0f} Mbit/s "
            f"| {peak / (LOAD * core):,.1f} | {daily / core / 3600:,.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the figures into the page."""
    measured = [json.loads((HERE / f"results/service-{name}.json").read_text()) for name in ("32", "64", "opinions")]
    assumed = (
        f"With {REQUESTS_A_DAY} requests a device and day, a peak of {PEAK:g} times the mean, and cores loaded to "
        f"{LOAD:.0%} at the peak.\n"
    )
    text = "\n".join([
        *map(served, measured),
        f"## A million devices\n\n{assumed}",
        *(f"{sized(found)}:\n\n{arithmetic(found)}" for found in measured),
    ])  # fmt: skip
    page = PAGE.read_text()
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(before + BEGIN + text + END + after)


if __name__ == "__main__":
    main()
