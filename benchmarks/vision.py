"""Images of devices that see each in its own way: DUET and what it is compared with, on public data.

    DUETGEN_DATA=/path/to/data python benchmarks/vision.py [--settings mnist-rotation …] [--seeds 3] [--jobs 2]
        [--out out/vision] [--before out/old] [--finished] [--write]

A cell is a setting and a seed, some three minutes of one core; finished cells are kept in `--out` and not run again,
and with `--finished` no other is run: the page names the settings that it lacks. The first seed of every setting goes
before the second of any. After a change of the generators alone, `--before` names the cells of before: what no
generator has a part in is taken from there, if base, trained anew, comes to the same on every device. With `--write`
the results go to `benchmarks/results/vision.json` and `vision.md`, without any image.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import torch

import duetgen
from duetgen.comparison.report.numbers import interval, milliseconds
from duetgen.comparison.report.results import Comparison, Estimate
from duetgen.evaluation.provenance import commit_of, cpu_name, usable_cores
from duetgen.files import write_bytes
from duetgen.vision.experiment import COUNTS, Cell, run_cell
from duetgen.vision.fleet import GIVEN, Setting
from duetgen.vision.images import Images, joined
from duetgen.vision.results import ACCURACY, BASE, DUET, WORST, Table, VisionResults, assemble
from duetgen.vision.sources import read_images

INPUTS: Final = {
    "mnist": ("idx", "mnist"),
    "fashion": ("idx", "fashion-mnist"),
    "usps": ("usps", "usps/usps.h5"),
    "cifar": ("image-folder", "cifar-10-jpg"),
    "pacs": ("image-folder", "pacs/pacs_64px_jpg.tar.gz"),
}
READ: Final = 16
COLUMNS: Final = (BASE, "base-wide", "batch-norm", "tent", "arm", DUET, "finetune")
PACS: Final = ("photo", "art_painting", "cartoon", "sketch")
SETTINGS: Final[dict[str, tuple[tuple[str, ...], Setting]]] = {
    "mnist-rotation": (("mnist",), Setting(name="mnist-rotation", world="rotation")),
    "fashion-camera": (("fashion",), Setting(name="fashion-camera", world="camera")),
    "scanner-usps": (("mnist", "usps"), Setting(name="scanner-usps", world="domain", left_out="usps")),
    "cifar-camera": (("cifar",), Setting(name="cifar-camera", world="camera")),
    **{
        f"pacs-{name}": (
            ("pacs",),
            Setting(name=f"pacs-{name}", world="domain", left_out=name, devices=(300, 48)),
        )
        for name in PACS
    },
}


def images_of(names: tuple[str, ...], out: Path) -> Images:
    """The images of a setting, prepared once."""
    found = []
    for name in names:
        folder, (kind, place) = out / "images" / name, INPUTS[name]
        if not folder.is_dir():
            read_images(Path(os.environ["DUETGEN_DATA"]) / place, kind, name).write(folder)
        found.append(Images.read(folder))
    return joined(found) if len(found) > 1 else found[0]


def place_of(name: str, seed: int, out: Path) -> Path:
    """Where a cell is kept."""
    return out / f"{name}-{seed}.json"


def run(name: str, seed: int, out: Path, before: Path | None) -> Path:
    """One cell, in a process with one thread."""
    place = place_of(name, seed, out)
    if not place.is_file():
        torch.set_num_threads(1)
        names, setting = SETTINGS[name]
        old = None if before is None else place_of(name, seed, before)
        earlier = None if old is None or not old.is_file() else msgspec.json.decode(old.read_bytes(), type=Cell)
        cell = run_cell(images_of(names, out), setting, seed, say=print, before=earlier)
        write_bytes(place, msgspec.json.encode(cell))
        print(f"{name}, seed {seed}: {cell.seconds:.0f} s of one core", flush=True)
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/vision"))
    parser.add_argument("--before", type=Path)
    parser.add_argument("--finished", action="store_true")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    wanted = [(name, seed) for seed in range(asked.seeds) for name in asked.settings]
    if asked.finished:
        places = [place for pair in wanted if (place := place_of(*pair, asked.out)).is_file()]
    else:
        for name in asked.settings:
            images_of(SETTINGS[name][0], asked.out)
        with ProcessPoolExecutor(asked.jobs) as pool:
            places = [job.result() for job in [pool.submit(run, *pair, asked.out, asked.before) for pair in wanted]]
    cells = [msgspec.json.decode(place.read_bytes(), type=Cell) for place in places]
    if asked.write:
        write(assemble(cells), " ".join(sys.argv[1:]))


def write(results: VisionResults, command: str) -> None:
    """The record, small, and the page."""
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit_of(Path(duetgen.__file__).parent),
        "machine": f"{cpu_name()}, {usable_cores()} cores",
        "torch": str(torch.__version__),
        "core_minutes": round(results.seconds / 60),
        "verdict": results.verdict,
        "costs": results.costs,
        "tables": [
            {
                "setting": table.setting,
                "part": table.part,
                "seeds": len(table.seeds),
                "shift_cost": round(table.shift_cost, 4),
                "rows": [
                    {
                        "method": row.method,
                        "images": row.images,
                        "accuracy": short(row.accuracy),
                        "worst": short(row.worst),
                    }
                    | ({} if row.another is None else {"another": round(row.another, 4)})
                    | {
                        f"duet_less_it_{metric.replace(' ', '_')}": [short(one), one.outcome]
                        for metric in (ACCURACY, WORST)
                        if row.method != DUET and (one := against(table, row.method, row.images, metric)) is not None
                    }
                    for row in table.rows
                ],
            }
            for table in results.tables
        ],
    }
    folder = Path(__file__).parent / "results"
    write_bytes(folder / "vision.json", msgspec.json.encode(record) + b"\n")
    write_bytes(folder / "vision.md", page(results, record, command).encode())


def short(one: Estimate | Comparison) -> list[float | None]:
    """Mean and bounds."""
    return [None if value is None else round(value, 4) for value in (one.mean, one.low, one.high)]


def against(table: Table, method: str, images: int, metric: str) -> Comparison | None:
    """DUET against a method with as many images, or with 16 against what reads none."""
    return table.against(DUET, method, images or READ, metric)


def page(results: VisionResults, record: dict[str, Any], command: str) -> str:
    """Both measures with 16 images, what came of it, and costs."""
    lines = [
        "# Images",
        "",
        "Accuracy on devices that see each in its own way: [what they do, the methods](../../docs/concepts/images.md).",
        "`unseen` are kinds of shifts that no device in training has. In bold the best without labels. Differences",
        f"are DUET with {READ} images less base, with paired 95 % intervals over devices.",
        f"Fine-tuning has {GIVEN} images with labels.",
        "",
    ]
    if lacking := sorted(set(SETTINGS) - {table.setting for table in results.tables}):
        lines += [f"Not run: {', '.join(lacking)}.", ""]
    for metric in (ACCURACY, WORST):
        lines += [f"## {metric.capitalize()}, {READ} images a device", ""]
        lines += ["| setting | shift costs | " + " | ".join(COLUMNS) + " | another's θ | DUET less base | |"]
        lines += ["|---" * (5 + len(COLUMNS)) + "|"]
        for table in results.tables:
            rows = {n: table.row(n, READ) or table.row(n, 0) or table.row(n, GIVEN) for n in COLUMNS}
            value = {n: (r.accuracy if metric == ACCURACY else r.worst).mean for n, r in rows.items() if r is not None}
            best = max(number for name, number in value.items() if name != "finetune")
            told = [f"**{v:.3f}**" if v == best and n != "finetune" else f"{v:.3f}" for n, v in value.items()]
            own, one = table.row(DUET, READ), table.against(DUET, BASE, READ, metric)
            assert own is not None
            assert one is not None
            other = f"{own.another:.3f}" if metric == ACCURACY and own.another is not None else ""
            seeds = len(table.seeds)
            name = f"{table.setting}, {table.part} ({seeds} seed{'s' if seeds > 1 else ''})"
            told += [other, f"{one.mean:+.3f} ({interval(one.low, one.high)})", one.outcome]
            lines.append(f"| {name} | {table.shift_cost:+.3f} | {' | '.join(told)} |")
        lines.append("")
    lines += ["## DUET by images of a device", "", "| setting | base | " + " | ".join(map(str, COUNTS)) + " |"]
    lines += ["|---" * (2 + len(COUNTS)) + "|"]
    for table in results.tables:
        counted = [table.row(BASE, 0), *(table.row(DUET, count) for count in COUNTS)]
        cells = [f"{row.accuracy.mean:.3f}" for row in counted if row is not None]
        lines.append(f"| {table.setting}, {table.part} | {' | '.join(cells)} |")
    lines += ["", "## What came of it", "", *(f"- {line}" for line in results.verdict)]
    lines += [
        "",
        "## Costs",
        "",
        f"From {READ} images of a device, or {GIVEN} with labels, to its own model: processor time of one thread.",
        "θ comes from the exported generator, as a cloud runs it; all else is torch. The second time is that of",
        "devices of an unseen kind.",
        "",
        "| method | values on the device | θ, bytes | images to a model | training, s of a core |",
    ]
    lines += ["|---" * 5 + "|"]
    for name, cost in results.costs.items():
        delay = "; ".join(map(milliseconds, cost.delays))
        lines.append(
            f"| {name} | {cost.device_values:,} | {cost.theta_bytes or ''} | {delay} | {cost.fit_seconds:.0f} |"
        )
    told = f"{record['machine']}; torch {record['torch']}; {record['core_minutes']} minutes of one core in all"
    lines += [
        "",
        f"Commit {record['commit']}, {record['date']}; {told}. Command: `python benchmarks/vision.py {command}`.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
