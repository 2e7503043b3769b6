"""Images on devices that see each in its own way: devices, methods, one experiment and its report.

The flow, one file each:

- `sources`, `images`: labelled images of any kind to an image folder; `made`: images that need no data
- `devices`, `fleet`: what devices do to images, and the fleets that train, validate and test
- `model`, `training`: the device model, base, and generators of each device's own parameters
- `adapting`: what adapts on the device: statistics, entropy, labels
- `experiment`, `results`, `report`: one setting with one seed, all of them together, the page

Reading images needs no torch, so what needs it is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from duetgen.late import late
from duetgen.vision.images import Images
from duetgen.vision.sources import read_images

if TYPE_CHECKING:
    from duetgen.vision.experiment import Cell, run_cell
    from duetgen.vision.fleet import Fleet, Setting, make_fleet
    from duetgen.vision.made import make_digits
    from duetgen.vision.results import VisionResults, assemble

__all__ = [
    "Cell",
    "Fleet",
    "Images",
    "Setting",
    "VisionResults",
    "assemble",
    "make_digits",
    "make_fleet",
    "read_images",
    "run_cell",
]

__getattr__ = late(
    __name__,
    {
        "Cell": "experiment",
        "Fleet": "fleet",
        "Setting": "fleet",
        "VisionResults": "results",
        "assemble": "results",
        "make_digits": "made",
        "make_fleet": "fleet",
        "run_cell": "experiment",
    },
)
