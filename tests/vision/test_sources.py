"""Readers of images: what they make of files, and how they refuse damaged ones."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from duetgen.data.errors import (
    InputCorruptError,
    InputEmptyError,
    InputMissingError,
    InputTooLargeError,
    InputTruncatedError,
    NoTargetsError,
    WrongSourceError,
)
from duetgen.data.store import NotADatasetError
from duetgen.documents import DamagedError
from duetgen.errors import DuetError
from duetgen.vision.images import MARKER, TEST, TRAIN, Images
from duetgen.vision.sources import IDX_NAMES, divide, fitted, read_idx, read_images


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_folder(folder: Path, packed: bool = True) -> Path:
    folder.mkdir()
    for number, (images, labels) in enumerate(IDX_NAMES):
        count = 6 - 2 * number
        arrays = np.full((count, 28, 28), 10 * number, dtype=np.uint8), np.arange(count, dtype=np.uint8) % 3
        for name, array in zip((images, labels), arrays):
            content = idx(array)
            (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_get_a_margin_and_keep_their_division(packed: bool, tmp_path: Path) -> None:
    images = read_images(idx_folder(tmp_path / "digits", packed), "idx")
    assert (images.name, images.classes, images.domains) == ("digits", ("0", "1", "2"), ("all",))
    assert images.pixels.shape == (10, 1, 32, 32)
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert images.part.tolist() == [TRAIN] * 6 + [TEST] * 4
    assert images.pixels[6, 0, 2, 2] == 10
    assert images.pixels[6, 0, 1, 2] == images.pixels[6, 0, 30, 30] == 0


DAMAGE = {
    "no-idx": (b"\x89PNG\r\n\x1a\n", WrongSourceError),
    "floats": (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", WrongSourceError),
    "cut": (idx(np.zeros((3, 2, 2), np.uint8))[:-1], InputTruncatedError),
    "cut-in-its-shape": (b"\0\0\x08\x03\0\0\0\x01", InputTruncatedError),
    "longer": (idx(np.zeros((3, 2, 2), np.uint8)) + b"!", InputCorruptError),
    "huge": (b"\0\0\x08\x03" + b"\xff" * 12, InputTooLargeError),
    "nothing": (b"\0\0\x08\x01\0\0\0\0", InputEmptyError),
    "packed-and-cut": (gzip.compress(idx(np.zeros((3, 9, 9), np.uint8)))[:-9], InputTruncatedError),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_idx_files_are_refused(name: str, tmp_path: Path) -> None:
    content, error = DAMAGE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        read_idx(tmp_path / name)


def test_labels_of_another_set_are_refused(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "digits", packed=False)
    (folder / IDX_NAMES[0][1]).write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(InputCorruptError, match=r"\[6, 28, 28\]"):
        read_images(folder, "idx")


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="train-images"):
        read_images(tmp_path, "idx")


@given(st.binary(max_size=64))
def test_any_bytes_are_an_idx_file_or_refused(content: bytes) -> None:
    path = Path(f"/tmp/duetgen-idx-{os.getpid()}")
    path.write_bytes(content)
    try:
        with contextlib.suppress(DuetError):
            assert read_idx(path).nbytes + 4 * (1 + content[3]) == len(content)
    finally:
        path.unlink()


def picture(colour: tuple[int, int, int], size: int = 40) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, "PNG")
    return file.getvalue()


def write_pictures(folder: Path, places: list[str]) -> Path:
    for number, place in enumerate(places):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(picture((10 * number, 0, 255)))
    return folder


def test_pictures_by_domain_and_class_are_divided_by_seed(tmp_path: Path) -> None:
    places = [f"{d}/{c}/{n}.png" for d in ("photo", "sketch") for c in ("cat", "dog") for n in range(5)]
    images = read_images(write_pictures(tmp_path / "pets", places), "image-folder")
    assert (images.classes, images.domains, images.colours) == (("cat", "dog"), ("photo", "sketch"), 3)
    # A fifth of the five pictures of each class and domain tests.
    assert [int((images.part[first : first + 5] == TEST).sum()) for first in range(0, 20, 5)] == [1, 1, 1, 1]
    assert images.pixels[19, :, 16, 16].tolist() == [190, 0, 255]


def test_an_archive_divided_by_folders_reads_as_the_folder(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", [f"{p}/{c}/1.png" for p in ("train", "test") for c in ("cat", "dog")])
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        archive.add(folder, ".")
    one, other = (read_images(path, "image-folder") for path in (folder, tmp_path / "set.tar.gz"))
    assert sorted(one.part.tolist()) == [TRAIN, TRAIN, TEST, TEST]
    assert one.domains == other.domains == ("all",)
    assert {tuple(image.ravel()[:1]) for image in one.pixels} == {tuple(image.ravel()[:1]) for image in other.pixels}


def test_grey_pictures_have_one_colour(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (32, 32), 7).save(tmp_path / name / "1.png")
    assert read_images(tmp_path, "image-folder").pixels.shape == (2, 1, 32, 32)


def test_a_damaged_picture_is_refused_by_its_place(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", ["cat/1.png", "dog/1.png"])
    (folder / "dog/1.png").write_bytes(picture((1, 2, 3))[:60])
    with pytest.raises(InputCorruptError, match=r"dog/1\.png is no whole picture"):
        read_images(folder, "image-folder")


def put(place: Path, array: np.ndarray, **options: object) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(place, **options)
    return place


@pytest.mark.parametrize("deep", [np.uint16, np.int32, np.float32])
def test_values_that_bytes_cannot_hold_are_refused_and_not_cut_off(deep: type, tmp_path: Path) -> None:
    put(tmp_path / "in/cat/1.tif", np.full((32, 32), 1000, dtype=deep))
    with pytest.raises(InputCorruptError, match=r"in: cat/1\.tif has more than 8 bits a pixel"):
        read_images(tmp_path / "in", "image-folder")


def test_what_is_hidden_is_no_picture_and_other_files_are_counted(tmp_path: Path) -> None:
    root, grey = tmp_path / "in", np.full((32, 32), 9, dtype=np.uint8)
    for place in ("cat/1.png", "dog/1.PNG", "cat/._1.png", ".ipynb_checkpoints/1-checkpoint.png", "dog/.trash/2.png"):
        put(root / place, grey, format="PNG")
    for place in ("cat/2.heic", "dog/3.HEIC", "README", "dog/.DS_Store", ".git/config"):
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).write_bytes(b"x")
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        archive.add(root, "in")
    for source in (root, tmp_path / "in.tar"):
        found = read_images(source, "image-folder")
        assert (found.classes, len(found.labels)) == (("cat", "dog"), 2)
        assert found.others == {".heic": 2, "": 1}


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((32, 32, 3), 200, dtype=np.uint8)).quantize(4)
    (tmp_path / "in/cat").mkdir(parents=True)
    image.save(tmp_path / "in/cat/1.png", transparency=bytes([0, 128, 255, 255]))
    assert (read_images(tmp_path / "in", "image-folder").pixels == 200).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_as_its_camera_was_held(kind: str, tmp_path: Path) -> None:
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    image[:16] = 255  # The upper half.
    held = Image.Exif()
    held[0x0112] = 6  # Its upper edge is on the right.
    place = put(tmp_path / "in/cat/1.png", image, format=kind, exif=held)
    grey_HW = read_images(tmp_path / "in", "image-folder").pixels[0, 0].astype(int)
    assert grey_HW[:, 18:].min() > 200
    assert grey_HW[:, :14].max() < 50
    if kind != "PNG":  # A PNG has a checksum of it.
        raw = bytearray(place.read_bytes())
        raw[raw.index(b"MM\0*")] = 0
        place.write_bytes(raw)
        assert read_images(tmp_path / "in", "image-folder").pixels[0, 0, :14].min() > 200


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(InputCorruptError, match="no whole tar archive"):
        read_images(tmp_path / "set.tar.gz", "image-folder")


@pytest.mark.parametrize("places", [["1.png"], ["cat/1.png", "photo/dog/1.png"], ["train/cat/1.png", "dog/1.png"]])
def test_pictures_that_do_not_say_what_they_are_are_refused(places: list[str], tmp_path: Path) -> None:
    with pytest.raises(WrongSourceError):
        read_images(write_pictures(tmp_path, places), "image-folder")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(InputEmptyError):
        read_images(tmp_path, "image-folder")


def usps(path: Path, data: np.ndarray, target: np.ndarray) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for group in ("train", "test"):
            file[f"{group}/data"], file[f"{group}/target"] = data, target
    return path


def test_usps_is_scaled_to_32_pixels(tmp_path: Path) -> None:
    path = usps(tmp_path / "usps.h5", np.full((3, 256), 0.5, np.float32), np.array([0, 9, 4]))
    images = read_images(path, "usps")
    assert images.pixels.shape == (6, 1, 32, 32)
    assert set(images.pixels.ravel().tolist()) == {128}
    assert images.labels.tolist() == [0, 9, 4] * 2


@pytest.mark.parametrize(
    ("data", "target"),
    [
        (np.full((3, 256), np.nan), np.zeros(3)),
        (np.full((3, 256), 2.0), np.zeros(3)),
        (np.zeros((3, 255)), np.zeros(3)),
        (np.zeros((3, 256)), np.zeros(2)),
        (np.zeros((3, 256)), np.full(3, 10)),
    ],
    ids=["nan", "too-bright", "too-small", "labels-missing", "label-unknown"],
)
def test_usps_with_other_values_is_refused(data: np.ndarray, target: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputCorruptError):
        read_images(usps(tmp_path / "usps.h5", data, target), "usps")


def test_a_cut_usps_is_refused(tmp_path: Path) -> None:
    path = usps(tmp_path / "usps.h5", np.zeros((3, 256)), np.zeros(3))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputCorruptError):
        read_images(path, "usps")


def test_another_hdf5_file_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(WrongSourceError):
        read_images(tmp_path / "other.h5", "usps")


def test_division_takes_a_fifth_of_each_group() -> None:
    part = divide(np.repeat([0, 1], [10, 4]), seed=0)
    assert (int(part[:10].sum()), int(part[10:].sum())) == (2, 0)


def test_large_images_are_scaled_and_middling_ones_padded() -> None:
    assert fitted(np.full((1, 1, 64, 64), 9, np.uint8))[0, 0, 0, 0] == 9
    assert fitted(np.full((1, 1, 24, 24), 9, np.uint8)).sum() == 9 * 24 * 24


def test_an_image_folder_reads_back_and_tells_damage(tmp_path: Path) -> None:
    images = read_images(idx_folder(tmp_path / "digits"), "idx")
    manifest = images.write(tmp_path / "out")
    assert manifest.images == (6, 4)
    again = Images.read(tmp_path / "out")
    assert (again.pixels == images.pixels).all()
    assert again.classes == images.classes
    with (tmp_path / "out/labels.npy").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DamagedError):
        Images.read(tmp_path / "out")
    (tmp_path / "out" / MARKER).unlink()
    with pytest.raises(NotADatasetError):
        Images.read(tmp_path / "out")


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", [f"{part}/cat/1.png" for part in ("train", "test")])
    with pytest.raises(NoTargetsError):
        read_images(folder, "image-folder").write(tmp_path / "out")


@pytest.mark.skipif("DUETGEN_DATA" not in os.environ, reason="needs public data")
def test_public_sets_have_their_published_sizes() -> None:
    data = Path(os.environ["DUETGEN_DATA"])
    digits = read_images(data / "usps/usps.h5", "usps")
    assert ((digits.part == TRAIN).sum(), (digits.part == TEST).sum()) == (7291, 2007)
    mnist = read_images(data / "mnist", "idx")
    assert np.bincount(mnist.part).tolist() == [60_000, 10_000]
