"""`duet prepare` on images and `duet demo --vision`."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duetgen.vision import Images

from .test_cli import duet_here, refused


def pictures(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 90)):
        for name in ("dark", "light"):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                values = random.integers(0, 100, (32, 32), dtype=np.uint8) + (120 if name == "light" else 0)
                Image.fromarray(values.astype(np.uint8)).save(folder / part / name / f"{number}.png")
    return folder


@pytest.mark.slow
def test_images_are_prepared_and_shown(tmp_path: Path) -> None:
    made = duet_here("prepare", "image-folder", pictures(tmp_path / "set"), "--out", tmp_path / "images")
    assert made.returncode == 0, made.stderr
    assert "80 grey images to train, 180 to test, 2 classes" in made.stdout
    assert Images.read(tmp_path / "images").classes == ("dark", "light")
    options = ("--vision", "--epochs", "1", "--threads", "1", "--out", tmp_path / "demo", "--json")
    shown = duet_here("demo", tmp_path / "images", *options)
    assert shown.returncode == 0, shown.stderr
    assert {table["part"] for table in json.loads(shown.stdout)["tables"]} == {"seen", "unseen"}
    assert "What each device sees" in (tmp_path / "demo/report.html").read_text("utf-8")


def test_options_of_logs_do_not_go_with_images(tmp_path: Path) -> None:
    prepared = duet_here("prepare", "idx", tmp_path, "--out", tmp_path / "out", "--min-rating", "3")
    assert "--out, --name and --seed" in refused(prepared, "usage")
    shown = duet_here("demo", "--vision", "--split", "temporal", "--out", tmp_path / "out")
    assert "no source" in refused(shown, "usage")


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("idx", "train-images-idx3-ubyte", bytes((0, 0, 8, 3))),
        ("usps", "usps.h5", b"\x89HDF\r\n\x1a\n"),
        ("image-folder", "cat/1.png", b"\x89PNG\r\n\x1a\n\0\0"),
    ],
)
def test_images_without_their_kind_are_told_which_they_are(
    kind: str, name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "set" / name).parent.mkdir(parents=True)
    (tmp_path / "set" / name).write_bytes(content)
    prepared = duet_here("prepare", tmp_path / "set", "--out", tmp_path / "out")
    refused(prepared, "not-text")
    assert prepared.stderr.endswith(f"it holds images: write `duet prepare {kind} {tmp_path / 'set'} --out DIR`\n")


def test_pictures_in_an_archive_are_told_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        archive.add(pictures(tmp_path / "set"), "set")
    prepared = duet_here("prepare", tmp_path / "set.tar.gz", "--out", tmp_path / "out")
    refused(prepared, "archive-members")
    assert "duet prepare image-folder" in prepared.stderr


def test_files_beside_pictures_are_told_and_images_are_no_dataset(tmp_path: Path) -> None:
    source = pictures(tmp_path / "set")
    for name in ("1.HEIC", "2.heic", "notes"):
        (source / "train/dark" / name).write_text("x")
    made = duet_here("prepare", "image-folder", source, "--out", tmp_path / "images")
    assert "left out, being no pictures: 1 without an ending, 2 .heic" in made.stdout, made.stderr
    trained = duet_here("train", tmp_path / "images", "--out", tmp_path / "run")
    assert "is an image folder" in refused(trained, "not-a-dataset")
    assert "--vision` reads it" in trained.stderr


def test_a_demo_of_images_without_vision_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    source, images, demo = pictures(tmp_path / "set"), tmp_path / "images", tmp_path / "demo"
    shown = duet_here("demo", source, "--out", demo)
    refused(shown, "not-text")
    assert shown.stderr.endswith(f"it holds images: write `duet prepare image-folder {source} --out DIR`\n")
    assert shown.stdout == ""
    assert duet_here("prepare", "image-folder", source, "--out", images).returncode == 0
    for words in (("demo", images, "--out", demo), ("prepare", images, "--out", demo)):
        assert f"`duet demo {images} --vision` reads it" in duet_here(*words).stderr
    assert "duet prepare image-folder" in duet_here("demo", source, "--vision", "--out", demo).stderr
    assert not demo.exists()


def test_a_log_that_is_refused_begins_no_demo_and_replaces_none(tmp_path: Path) -> None:
    refused(duet_here("demo", tmp_path / "typo.csv", "--out", tmp_path / "new"), "input-missing")
    assert not (tmp_path / "new").exists()
    old = tmp_path / "old"
    old.mkdir()
    for name in ("demo.json", "results.json"):
        (old / name).write_text("{}")
    refused(duet_here("demo", tmp_path / "typo.csv", "--out", old, "--overwrite"), "input-missing")
    assert sorted(path.name for path in old.iterdir()) == ["demo.json", "results.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
