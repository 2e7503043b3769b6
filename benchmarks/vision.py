"""Images of devices that see each in its own way: DUET and what it is compared with, on public data.

    DUETGEN_DATA=/path/to/data python benchmarks/vision.py [--settings mnist-rotation …] [--seeds 3] [--jobs 2]
        [--out out/vision] [--write]

A cell is a setting and a seed, some two minutes of one core; finished cells are kept in `--out` and not run again. With
`--write` the results go to `benchmarks/results/vision.json` and `vision.md`, without any image.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
import torch

from duetgen.files import write_bytes
from duetgen.vision.experiment import Cell, run_cell
from duetgen.vision.fleet import Setting
from duetgen.vision.images import Images, joined
from duetgen.vision.sources import read_images

INPUTS: Final = {
    "mnist": ("idx", "mnist"),
    "fashion": ("idx", "fashion-mnist"),
    "usps": ("usps", "usps/usps.h5"),
    "cifar": ("image-folder", "cifar-10-jpg"),
    "pacs": ("image-folder", "pacs/pacs_64px_jpg.tar.gz"),
}
PACS: Final = ("photo", "art_painting", "cartoon", "sketch")
SETTINGS: Final[dict[str, tuple[tuple[str, ...], Setting]]] = {
    "mnist-rotation": (("mnist",), Setting(name="mnist-rotation", world="rotation")),
    "fashion-camera": (("fashion",), Setting(name="fashion-camera", world="camera")),
    "scanner-usps": (("mnist", "usps"), Setting(name="scanner-usps", world="domain", left_out="usps", epochs=8)),
    "cifar-camera": (("cifar",), Setting(name="cifar-camera", world="camera")),
    **{
        f"pacs-{name}": (
            ("pacs",),
            Setting(name=f"pacs-{name}", world="domain", left_out=name, devices=(300, 48), epochs=8),
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


def run(name: str, seed: int, out: Path) -> Path:
    """One cell, in a process with one thread."""
    place = out / f"{name}-{seed}.json"
    if not place.is_file():
        torch.set_num_threads(1)
        names, setting = SETTINGS[name]
        cell = run_cell(images_of(names, out), setting, seed)
        write_bytes(place, msgspec.json.encode(cell))
        print(f"{name}, seed {seed}: {cell.seconds:.0f} s of one core", flush=True)
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/vision"))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.settings:
        images_of(SETTINGS[name][0], asked.out)
    with ProcessPoolExecutor(asked.jobs) as pool:
        jobs = [pool.submit(run, name, seed, asked.out) for name in asked.settings for seed in range(asked.seeds)]
        cells = [msgspec.json.decode(job.result().read_bytes(), type=Cell) for job in jobs]
    if asked.write:
        from duetgen.vision.results import assemble

        results = assemble(cells)
        write_bytes(Path(__file__).parent / "results" / "vision.json", results.to_json())


if __name__ == "__main__":
    main()
