"""Readers of labelled images: IDX files, `usps.h5`, and folders or tar archives of picture files.

Whatever their size, images become 32 by 32 pixels: those of 24 pixels and more that are smaller get a black margin,
which keeps every pixel as it was; all others are scaled.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from duetgen.data.errors import (
    InputCorruptError,
    InputEmptyError,
    InputTooLargeError,
    InputTruncatedError,
    WrongSourceError,
)
from duetgen.data.sources.files import open_input, require_file
from duetgen.errors import DuetError, MissingExtraError
from duetgen.files import read_regular
from duetgen.vision.images import SIDE, TEST, TRAIN, Images, Indices, Pixels
from duetgen.wire import limits
from duetgen.wire.pictures import EIGHT_BITS, pillow, turned

KINDS: Final = ("idx", "usps", "image-folder")
"""Names for `duet prepare KIND INPUT`."""

IDX_NAMES: Final = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
IDX_FILES: Final = {name for names in IDX_NAMES for name in names}
IDX_BYTES: Final = b"\0\0\x08"
USPS: Final = "usps.h5"
PADDED_FROM: Final = 24
SCALING: Final = 2
"""Bilinear, with what is scaled down averaged, as Pillow numbers it."""
TEST_SHARE: Final = 0.2
PARTS: Final = {"train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST, "val": TEST, "valid": TEST}
"""Names of folders that divide images, and do not tell a domain."""

PICTURES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
AGAIN: Final = "download or copy it again"


def read_images(path: Path, kind: str, name: str | None = None, seed: int = 0) -> Images:
    """Read labelled images.

    Args:
        path: for `idx` the folder of the four files, for `usps` the file, for `image-folder` a folder `class/picture`
            or `domain/class/picture`, an archive of one, or a folder of archives. Folders called `train` and `test`
            divide the images.
        kind: one of `KINDS`.
        name: of the dataset; None: from the path.
        seed: of the division, where the images do not come divided: a fifth of each class and domain tests.

    Raises:
        DuetError: any refusal of `duetgen.data.errors`.
    """
    path = Path(path)
    others: Counter[str] = Counter()
    readers: dict[str, Callable[[Path], Read]] = {
        "idx": read_idx_folder,
        "usps": read_usps,
        "image-folder": partial(read_folder, others=others),
    }
    pixels, labels, domains, parts, classes, domain_names = readers[kind](path)
    if parts is None:
        parts = divide(labels * len(domain_names) + domains, seed)
    called = name or path.resolve().name.partition(".")[0]
    return Images(called, kind, classes, domain_names, pixels, labels, domains, parts, others)


Read = tuple[
    npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None, tuple[str, ...], tuple[str, ...]
]
"""Pixels, labels, domains and parts, then the names of classes and domains."""


def kind_of(path: Path) -> str | None:
    """Which kind of images a path holds, told by names alone; None where none is seen."""
    names = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    if any(name.removesuffix(".gz") in IDX_FILES for name in names):
        return "idx"
    if USPS in names:
        return "usps"
    with contextlib.suppress(DuetError):
        if path.suffix.lower() in PICTURES or next(pictures(path, Counter()), None):
            return "image-folder"
    return None


def divide(group: Indices, seed: int) -> npt.NDArray[np.uint8]:
    """Parts of images that do not come divided: a share of each group tests."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    counts = np.bincount(group)
    place = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = np.empty(len(group), dtype=np.uint8)
    part[order] = np.where(place < np.repeat(np.floor(counts * TEST_SHARE), counts), TEST, TRAIN)
    return part


def read_idx_folder(folder: Path) -> Read:
    """The four files of MNIST's form, packed or not.

    Raises:
        DuetError: see `read_idx`; a missing file is named.
    """
    pixels, labels, parts = [], [], []
    for part, names in enumerate(IDX_NAMES):
        images, label = (
            read_idx(packed if (packed := folder / f"{name}.gz").is_file() else folder / name) for name in names
        )
        if images.ndim != 3 or label.ndim != 1 or len(images) != len(label):
            raise InputCorruptError(
                f"{folder / names[0]} holds images of {list(images.shape)}, and its labels are {list(label.shape)}",
                "take images and labels of one set",
            )
        pixels.append(fitted(images[:, None]))
        labels.append(label.astype(np.int64))
        parts.append(np.full(len(label), part, dtype=np.uint8))
    label = np.concatenate(labels)
    classes = tuple(str(number) for number in range(int(label.max()) + 1))
    return np.concatenate(pixels), label, np.zeros(len(label), dtype=np.int64), np.concatenate(parts), classes, ("all",)


def read_idx(path: Path) -> Pixels:
    """One IDX file of bytes, packed or not: uint8 of the shape that it tells.

    Raises:
        WrongSourceError: it is no IDX file of bytes.
        InputEmptyError, InputTooLargeError, InputTruncatedError, InputCorruptError: it holds nothing, too much, less
            than it says, or more.
    """
    with open_input(path) as file:
        head = file.read(4)
        if len(head) < 4 or head[:3] != IDX_BYTES or not 1 <= head[3] <= 4:
            raise WrongSourceError(f"{path} is no IDX file of bytes", "name the kind of images that it is")
        told = file.read(4 * head[3])
        shape = tuple(int.from_bytes(told[at : at + 4], "big") for at in range(0, len(told), 4))
        size = int(np.prod(shape, dtype=object))
        if size > limits.MAX_IMAGE_VALUES:
            raise InputTooLargeError(
                f"{path} says that it holds {size:,} values; at most {limits.MAX_IMAGE_VALUES:,} are read",
                "cut it in parts",
            )
        content = file.read(size + 1)
    if len(told) < 4 * head[3] or len(content) < size:
        raise InputTruncatedError(f"{path} ends before the {size:,} values that it says it holds", AGAIN)
    if len(content) > size:
        raise InputCorruptError(f"{path} holds more than the {size:,} values that it says it holds", AGAIN)
    if size == 0:
        raise InputEmptyError(f"{path} holds no image", AGAIN)
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def read_usps(path: Path) -> Read:
    """`usps.h5`: groups `train` and `test`, each with `data` [N, 256] from 0 to 1 and `target` [N].

    Raises:
        MissingExtraError: h5py is not here.
        WrongSourceError: it is another kind of file.
        InputCorruptError: its arrays are not as they should be.
    """
    try:
        import h5py
    except ImportError as cause:
        raise MissingExtraError("usps.h5 needs h5py", "pip install 'duetgen[vision]'") from cause
    path = path / USPS if path.is_dir() else path
    require_file(path)
    pixels, labels, parts = [], [], []
    try:
        with h5py.File(path, "r") as file:
            for part, group in enumerate(("train", "test")):
                data, target = file[group]["data"], file[group]["target"]
                if data.ndim != 2 or data.shape[1] != 256 or target.shape != data.shape[:1]:
                    raise InputCorruptError(f"{path}: {group} is {data.shape}, its labels {target.shape}", AGAIN)
                if data.size > limits.MAX_IMAGE_VALUES:
                    raise InputTooLargeError(f"{path} holds {data.size:,} values", "cut it in parts")
                values, label = np.asarray(data, dtype=np.float64), np.asarray(target)
                if not ((values >= 0) & (values <= 1)).all() or not np.isin(label, range(10)).all():
                    raise InputCorruptError(f"{path}: {group} has values out of their range", AGAIN)
                pixels.append(fitted(np.round(values * 255).astype(np.uint8).reshape(-1, 1, 16, 16)))
                labels.append(label.astype(np.int64))
                parts.append(np.full(len(label), part, dtype=np.uint8))
    except KeyError as cause:
        raise WrongSourceError(
            f"{path} is no usps.h5: {cause.args[0]}", "name the kind of images that it is"
        ) from cause
    except (OSError, RuntimeError, TypeError, AttributeError) as cause:
        raise InputCorruptError(f"{path} is no whole HDF5 file: {cause}", AGAIN) from cause
    label = np.concatenate(labels)
    classes = tuple(str(number) for number in range(10))
    return np.concatenate(pixels), label, np.zeros(len(label), dtype=np.int64), np.concatenate(parts), classes, ("all",)


def read_folder(path: Path, others: Counter[str]) -> Read:
    """Picture files in folders that say what they are.

    Args:
        path: see `read_images`.
        others: see `pictures`.

    Raises:
        InputEmptyError: there is no picture.
        WrongSourceError: folders are not of one depth.
        InputCorruptError, InputTooLargeError: see `decoded`.
    """
    places: list[PurePosixPath] = []
    pixels = []
    for place, content in pictures(path, others):
        if len(places) == limits.MAX_IMAGES:
            raise InputTooLargeError(f"{path} holds more than {limits.MAX_IMAGES:,} pictures", "take fewer")
        places.append(place)
        pixels.append(decoded(content, f"{path}: {place}"))
    if not places:
        raise InputEmptyError(f"{path} holds no picture", f"pictures end in {', '.join(PICTURES)}")
    divided = [place.parts[0] if place.parts[0].lower() in PARTS else None for place in places]
    kept = [place.parts[1:-1] if first else place.parts[:-1] for place, first in zip(places, divided)]
    depth = {len(folders) for folders in kept}
    if depth not in ({1}, {2}):
        raise WrongSourceError(
            f"{path} has pictures {' and '.join(str(d) for d in sorted(depth))} folders deep",
            "put them in class/picture or domain/class/picture, below train/ and test/ if they are divided",
        )
    classes, label = np.unique([folders[-1] for folders in kept], return_inverse=True)
    domains, domain = np.unique([folders[0] if len(folders) == 2 else "all" for folders in kept], return_inverse=True)
    parts = None
    if any(divided):
        if not all(divided):
            raise WrongSourceError(
                f"{path} divides some of its pictures only", "put all of them below train/ and test/"
            )
        parts = np.array([PARTS[first.lower()] for first in divided if first], dtype=np.uint8)
    colours = 3 if any((image != image[:1]).any() for image in pixels) else 1
    stacked = np.stack([image[:colours] for image in pixels])
    return (
        stacked,
        label.astype(np.int64),
        domain.astype(np.int64),
        parts,
        tuple(map(str, classes)),
        tuple(map(str, domains)),
    )


def is_picture(place: PurePosixPath, others: Counter[str]) -> bool:
    """Whether a file is a picture by its name; else it is counted. What is hidden, or in a hidden folder, is not."""
    if any(part.startswith(".") for part in place.parts):
        return False
    ending = place.suffix.lower()
    if ending not in PICTURES:
        others[ending] += 1
    return ending in PICTURES


def pictures(path: Path, others: Counter[str]) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Every picture below a folder, in its archives, or in an archive, in order, with its place in there.

    Args:
        path: the folder or archive.
        others: of other files, how many there are by their endings.

    Raises:
        InputCorruptError: an archive is damaged.
        DuetError: see `files.require_file`.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            place = PurePosixPath(file.relative_to(path).as_posix())
            if file.name.endswith(ARCHIVES):
                yield from pictures(file, others)
            elif (place.suffix.lower() in PICTURES or not file.is_dir()) and is_picture(place, others):
                require_file(file)
                yield place, io.BytesIO(read_regular(file, limits.MAX_IMAGE_BYTES + 1))
        return
    require_file(path)
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                if member.isreg() and is_picture(place, others):
                    found = archive.extractfile(member)
                    assert found is not None
                    yield place, io.BytesIO(found.read(limits.MAX_IMAGE_BYTES + 1))
    except (tarfile.TarError, EOFError, OSError) as cause:
        raise InputCorruptError(f"{path} is no whole tar archive: {cause}", AGAIN) from cause


def decoded(content: IO[bytes], what: str) -> Pixels:
    """One picture as uint8 [3, H, W].

    Raises:
        MissingExtraError: Pillow is not here.
        InputTooLargeError: it has too many bytes or pixels.
        InputCorruptError: it is damaged, no picture, or of values that bytes cannot hold.
    """
    image_type = pillow()
    try:
        # What matters of what Pillow warns of is refused here.
        with warnings.catch_warnings(action="ignore"), image_type.open(content) as image:
            if (
                image.width * image.height > limits.MAX_IMAGE_PIXELS
                or content.seek(0, io.SEEK_END) > limits.MAX_IMAGE_BYTES
            ):
                raise InputTooLargeError(f"{what} is larger than pictures are", "scale it down")
            if image.mode.startswith(("I", "F")):
                raise InputCorruptError(f"{what} has more than 8 bits a pixel ({image.mode})", EIGHT_BITS)
            content.seek(0)
            array: Pixels = np.asarray(turned(image).convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, image_type.DecompressionBombError) as cause:
        raise InputCorruptError(f"{what} is no whole picture: {cause}", AGAIN) from cause
    found: Pixels = fitted(array[None])[0]
    return found


def fitted(pixels: Pixels) -> Pixels:
    """Images of any size as uint8 [N, C, H, W]."""
    high, wide = pixels.shape[2:]
    if (high, wide) == (SIDE, SIDE):
        return pixels
    if min(high, wide) >= PADDED_FROM and max(high, wide) <= SIDE:
        above, left = (SIDE - high) // 2, (SIDE - wide) // 2
        margin = ((0, 0), (0, 0), (above, SIDE - high - above), (left, SIDE - wide - left))
        return np.pad(pixels, margin)
    image_type = pillow()
    planes = [image_type.fromarray(plane).resize((SIDE, SIDE), SCALING) for plane in pixels.reshape(-1, high, wide)]
    scaled: Pixels = np.stack([np.asarray(plane) for plane in planes])
    return scaled.reshape(*pixels.shape[:2], SIDE, SIDE)
