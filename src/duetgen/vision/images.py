"""The image folder: what `duet prepare` makes of labelled images, each of 32 by 32 pixels.

```
images.json   where they came from, names of classes and domains, counts, digests
pixels.npy    uint8 [N, C, 32, 32], C being 1 (grey) or 3 (colour)
labels.npy    int64 [N]: index of the class
domains.npy   int64 [N]: index of the domain, the scanner or the style that an image is of; 0 where there is but one
parts.npy     uint8 [N]: 0 training, 1 test
```

Shapes: N images, C colours, H and W the 32 pixels of a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from duetgen.data.errors import NoTargetsError
from duetgen.data.store import NotADatasetError
from duetgen.documents import check_digest, damaged, digest_of, encode_sealed, read_sealed
from duetgen.files import new_folder, write_bytes

SIDE: Final = 32
MARKER: Final = "images.json"
FORMAT_VERSION: Final = 1
TRAIN, TEST = 0, 1
ARRAYS: Final = ("pixels", "labels", "domains", "parts")
AGAIN: Final = "prepare the images again"

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


class ImageManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an image folder holds.

    Attributes:
        format_version: of this folder.
        name: of the dataset.
        source: kind of files that they were read from.
        classes: names of the classes, in the order of the labels.
        domains: names of the domains.
        colours: C.
        images: how many are in the training part and in the test part.
        sha256: digest of each array.
    """

    format_version: int
    name: str
    source: str
    classes: list[str]
    domains: list[str]
    colours: int
    images: tuple[int, int]
    sha256: dict[str, str]


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        name: of the dataset.
        source: kind of files that they were read from.
        classes: names of the classes.
        domains: names of the domains.
        pixels: uint8 [N, C, H, W].
        labels: int64 [N].
        domain: int64 [N].
        part: uint8 [N], `TRAIN` or `TEST`.
        others: files among the pictures that are none, counted by their endings; not written.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    domains: tuple[str, ...]
    pixels: Pixels
    labels: Indices
    domain: Indices
    part: npt.NDArray[np.uint8]
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def colours(self) -> int:
        """C."""
        return int(self.pixels.shape[1])

    def write(self, out: Path, overwrite: bool = False) -> ImageManifest:
        """Make the image folder: it appears whole or not at all.

        Raises:
            NoTargetsError: there is nothing to learn from, nothing to test on, or nothing to tell apart.
            OutputExistsError, OutputUnwritableError: see `files.new_folder`.
        """
        counts = (int((self.part == TRAIN).sum()), int((self.part == TEST).sum()))
        if min(counts) == 0 or len(self.classes) < 2:
            raise NoTargetsError(
                f"{self.name} has {counts[0]:,} images to learn from, {counts[1]:,} to test on, "
                f"and {len(self.classes)} classes",
                "give images of two classes at least, and more of them",
            )
        with new_folder(out, marker=MARKER, own=[f"{name}.npy" for name in ARRAYS], overwrite=overwrite) as folder:
            digests = {}
            arrays: list[npt.NDArray[Any]] = [self.pixels, self.labels, self.domain, self.part]
            for name, array in zip(ARRAYS, arrays):
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
                digests[name] = digest_of(folder / f"{name}.npy")
            manifest = ImageManifest(
                format_version=FORMAT_VERSION,
                name=self.name,
                source=self.source,
                classes=list(self.classes),
                domains=list(self.domains),
                colours=self.colours,
                images=counts,
                sha256=digests,
            )
            write_bytes(folder / MARKER, encode_sealed(manifest))
        return manifest

    @classmethod
    def read(cls, folder: Path) -> Images:
        """The images of a folder.

        Raises:
            NotADatasetError: it is no image folder, or one of another version.
            DamagedError: it is not as it was written.
        """
        if not (folder / MARKER).is_file():
            raise NotADatasetError(
                f"{folder} is no image folder", "make one with `duet prepare image-folder PICTURES --out DIR`"
            )
        refuse = damaged(folder, AGAIN)
        manifest = read_sealed(folder / MARKER, ImageManifest, refuse)
        if manifest.format_version != FORMAT_VERSION:
            raise NotADatasetError(
                f"{folder} has format {manifest.format_version}; this version reads {FORMAT_VERSION}", AGAIN
            )
        arrays = []
        for name in ARRAYS:
            try:
                check_digest(digest_of(folder / f"{name}.npy"), manifest.sha256.get(name, ""), refuse)
                arrays.append(np.load(folder / f"{name}.npy", allow_pickle=False))
            except (OSError, ValueError) as cause:
                raise refuse(f"{name}.npy: {cause}") from cause
        return cls(manifest.name, manifest.source, tuple(manifest.classes), tuple(manifest.domains), *arrays)


def joined(those: list[Images]) -> Images:
    """Sets of the same classes as the domains of one."""
    domain = np.concatenate([np.full(len(one.labels), number) for number, one in enumerate(those)])
    pixels, labels, part = (
        np.concatenate([getattr(one, name) for one in those]) for name in ("pixels", "labels", "part")
    )
    names = tuple(one.name for one in those)
    return Images(" and ".join(names), those[0].source, those[0].classes, names, pixels, labels, domain, part)
