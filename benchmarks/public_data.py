"""Prepares every public data set below `DUETGEN_DATA` by its folder, and holds its counts against the published ones.

    DUETGEN_DATA=… python benchmarks/public_data.py [NAME …]

Prints a row a data set: how it was read, events, users and items of the log, what is published, the events, devices and
items of the dataset folder, and seconds. Exits with 1 if a count is not the published one.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from duetgen.data.prepare import prepare
from duetgen.data.store import Dataset

PUBLISHED = {
    "ml-100k": (100_000, 943, 1_682),
    "ml-latest-small": (100_836, 610, 9_724),
    "ml-1m": (999_611, 6_040, 3_416),
    "ml-1m-users-1-2999": (487_650, 2_999, 3_615),
    "amazon-magazine-subscriptions": (89_689, 72_098, 2_428),
    "amazon-fashion-5core": (3_176, 406, 31),
    "amazon-musical-instruments-5core": (10_261, 1_429, 900),
    "amazon-hin": (195_791, 6_170, 2_753),
    "amazon-beauty-5core": (198_502, 22_363, 12_101),
    "amazon-sports-5core": (296_337, 35_598, 18_357),
    "amazon-instruments-2018-5core": (206_153, 24_772, 9_922),
    "amazon-beauty-sasrec": (353_962, 40_226, 54_542),
    "amazon-video-games-sasrec": (287_107, 31_013, 23_715),
    "yelp-2019-5core": (316_354, 30_431, 20_033),
    "yelp-hin": (198_397, 16_239, 14_284),
    "douban-book": (96_041, 2_110, 6_777),
    "lastfm-hetrec": (92_834, 1_892, 17_632),
    "taobao-mclrec": (637_165, 47_703, 53_324),
    "duet-text-ml-100k-30u30i": (87_237, 744, 806),
    "ml-100k/raw": (100_000, 943, 1_682),
    "ml-latest-small/raw": (100_836, 610, 9_724),
    "ml-1m-users-1-2999/raw": (487_650, 2_999, 3_615),
    "amazon-magazine-subscriptions/raw": (89_689, 72_098, 2_428),
    "amazon-fashion-5core/raw": (3_176, 406, 31),
    "amazon-musical-instruments-5core/raw": (10_261, 1_429, 900),
    "lastfm-hetrec/raw": (92_834, 1_892, 17_632),
    "douban-book/raw/ratings.dat.gz": (96_041, 2_110, 6_777),
}
"""Events, users and items of the copies that are described beside the data; folders of the publishers' files last."""

SOURCES = {"douban-book/raw/ratings.dat.gz": "douban-ratings"}
"""Logs that no file tells."""


def main() -> int:
    from duetgen.data.prepare import PrepareConfig

    root = Path(os.environ["DUETGEN_DATA"])
    names = sys.argv[1:] or [name for name in PUBLISHED if (root / name).exists()]
    print(
        f"{'data set':38} {'read as':16} {'events':>9} {'users':>7} {'items':>7}  published  {'dataset folder':>26}  s"
    )
    wrong = 0
    with tempfile.TemporaryDirectory() as aside:
        for name in names:
            begun = time.perf_counter()
            config = PrepareConfig(source=SOURCES.get(name, "auto"), name=name.replace("/", "-"))
            manifest = prepare(root / name, Path(aside) / "data", config, overwrite=True)
            dataset = Dataset(Path(aside) / "data")
            step = manifest.steps[0]
            found = (step.events_in, step.users_in, step.items_in)
            same = found == PUBLISHED.get(name, found)
            wrong += not same
            counts = manifest.counts
            print(
                f"{name:38} {manifest.source.kind:16} {found[0]:>9,} {found[1]:>7,} {found[2]:>7,}  "
                f"{'equal' if same else 'OTHER':8} {counts.events:>9,} {dataset.devices:>8,} {counts.items:>7,}  "
                f"{time.perf_counter() - begun:.1f}",
                flush=True,
            )
    print(f"{len(names)} prepared, {wrong} with other counts than are published")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
