"""The base model by the defaults, beside the best published figures of its class: what DUET is held against.

    DUETGEN_DATA=/path/to/data python benchmarks/reproduce.py [--sets ml-1m …] [--width 64] [--out out/reproduce]

For each data set it runs `duet prepare`, `duet train --method base` and `duet evaluate`, nothing else given, and prints
`ndcg@10` and `hr@10` (full ranking, leave-one-out, what the device has met hidden where events do not repeat) beside
what others report, with the source. It exits with 1 if a set misses its mark, 95 % of the best published model of the
class SASRec. For MovieLens 1M the measure of the DUET paper follows, one positive among 99 drawn negatives.

Trained runs stay in `--out`, so the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from duetgen.data.store import Dataset
from paper_measure import print_measure

COMMAND: Final = [sys.executable, "-c", "from duetgen.cli import main; main()"]


@dataclass(frozen=True)
class Published:
    """What somebody reports of a model, on the same version of a data set."""

    model: str
    ndcg: float
    hr: float
    hidden: bool
    source: str


@dataclass(frozen=True)
class Mark:
    """A data set, the `ndcg@10` to reach, and what others report."""

    least: float
    published: tuple[Published, ...]


BENCHMARK: Final = "blondered/transformer_benchmark, README"
MARKS: Final = {
    "ml-1m": Mark(
        0.173,
        (
            Published("HSTU, full softmax", 0.1944, 0.3419, True, "NetEase-Media/HSTU-Tensorflow, README"),
            Published("HSTU-large", 0.1893, 0.3294, True, "meta-recsys/generative-recommenders, README"),
            Published("SASRec+", 0.1857, 0.3159, True, "antklen/sasrec-bert4rec-recsys23, README"),
            Published("eSASRec", 0.1772, 0.3133, True, BENCHMARK),
            Published("gSASRec", 0.1726, 0.3003, True, "asash/gSASRec-pytorch, README"),
        ),
    ),
    "amazon-beauty-5core": Mark(
        0.050,
        (
            Published("BSARec", 0.0611, 0.1008, True, "yehjin-shin/BSARec, logs"),
            Published("SASRec, sampled softmax", 0.0531, 0.0921, True, BENCHMARK),
            Published("eSASRec", 0.0523, 0.0928, True, BENCHMARK),
        ),
    ),
    "amazon-sports-5core": Mark(
        0.030,
        (
            Published("eSASRec", 0.0323, 0.0560, True, BENCHMARK),
            Published("SASRec, sampled softmax", 0.0314, 0.0569, True, BENCHMARK),
        ),
    ),
    "yelp-2019-5core": Mark(
        0.028,
        (
            Published("P5-SID", 0.0287, 0.0486, False, "tables of several repositories"),
            Published("LLM-SRec", 0.0274, 0.0526, False, "tables of several repositories"),
            Published("SASRec, BCE", 0.0194, 0.0390, False, "tables of several repositories"),
        ),
    ),
}


def duet(*words: str) -> Any:
    """The JSON that a command prints."""
    return json.loads(subprocess.run([*COMMAND, *words, "--json"], check=True, capture_output=True, text=True).stdout)


def run(name: str, data: Path, out: Path, width: int | None) -> tuple[Dataset, Path, dict[str, Any]]:
    """The dataset folder, the run of the base model that the defaults train, and its full ranking."""
    folder, root = out / "data" / name, out / f"{name}-{width or 'default'}"
    if not (folder / "manifest.json").is_file():
        split = ("--split", "leave-one-out")
        duet("prepare", str(data / name / "interactions.csv.gz"), *split, "--name", name, "--out", str(folder))
    size = () if width is None else ("--width", str(width))
    duet("train", str(folder), "--method", "base", *size, "--out", str(root))
    (full,) = duet("evaluate", str(root), str(folder), "--protocol", "full")
    return Dataset(folder), root, full


def value(evaluation: dict[str, Any], metric: str) -> float:
    """A metric of the global model."""
    found: float = evaluation["conditions"][0]["metrics"][metric]["mean"]
    return found


def line(model: str, ndcg: float, hr: float, note: str) -> str:
    """A line of a table."""
    return f"  {model:<34} {ndcg:.4f}   {hr:.4f}   {note}"


def main() -> None:
    """Print the tables; exit with 1 if a set misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(MARKS), choices=MARKS)
    parser.add_argument("--width", type=int, help="of the device model; 32 is the small device [the default]")
    parser.add_argument("--out", type=Path, default=Path("out/reproduce"))
    options = parser.parse_args()
    if "DUETGEN_DATA" not in os.environ:
        sys.exit("reproduce.py: set DUETGEN_DATA to the folder of the public data sets")
    missed = []
    for name in options.sets:
        mark, data = MARKS[name], Path(os.environ["DUETGEN_DATA"])
        dataset, root, full = run(name, data, options.out, options.width)
        counts, ours = dataset.manifest.counts, value(full, "ndcg@10")
        print(f"\n{name}, leave-one-out: {counts.devices:,} devices, {counts.items:,} items; full, met {full['met']}")
        print(f"  {'':<34} ndcg@10  hr@10")
        print(line("duetgen, base by the defaults", ours, value(full, "hr@10"), f"mark {mark.least}"))
        for other in mark.published:
            print(
                line(
                    other.model,
                    other.ndcg,
                    other.hr,
                    ("hidden" if other.hidden else "not hidden") + f"; {other.source}",
                )
            )
        if name == "ml-1m":
            print()
            print_measure(dataset, [root])
        if ours < mark.least:
            missed.append(f"{name} {ours:.4f} < {mark.least}")
        sys.stdout.flush()
    if missed and options.width is None:
        sys.exit("missed: " + ", ".join(missed))


if __name__ == "__main__":
    main()
