"""Encoded images, from a model made personal over a registry of versions to a device that runs."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image
from tests.e2e.test_duet import QUICK, Cloud, duet, wait_for
from tests.wire.test_pictures import BOMBS, DAMAGED, encoded
from torch import nn

import duetgen
from duetgen.core import Duet, GeneratorConfig, PooledEncoder
from duetgen.device import Always, PersonalModel
from duetgen.export import export_model
from duetgen.vision import make_digits
from duetgen.vision.training import to_float
from duetgen.wire.bundle import Bundle
from duetgen.wire.errors import InvalidSampleError

KEY = Ed25519PrivateKey.generate()
DIGITS = make_digits(40).pixels
PICTURES = [encoded(pixels[0], "PNG") for pixels in DIGITS]
SEEN = {"image": DIGITS[20:24].astype(np.float32) / 255}


def made_personal(seed: int) -> Duet:
    """A small classifier of digits, whose encoder reads pixels."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    encoder = PooledEncoder(nn.Sequential(nn.Flatten(2), nn.Linear(32 * 32, 8)), 8)
    config = GeneratorConfig(decoder_scale=0.5)
    return duetgen.personalise(model, {"0": "full", "4": "scale"}, encoder=encoder, generator=config).eval()


def publish(seed: int, folder: Path) -> Bundle:
    return export_model(
        made_personal(seed),
        folder,
        key=KEY,
        name=f"digits {seed}",
        inputs={"image": torch.from_numpy(SEEN["image"])},
        histories=[PICTURES[first : first + 5] for first in range(0, 40, 5)],
        samples="image",
        scale=1 / 255,
        length=8,
        overwrite=True,
    )


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    root = tmp_path_factory.mktemp("versions")
    return [publish(seed, root / str(seed)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def cloud(versions: list[Bundle]) -> Iterator[Cloud]:
    cloud = Cloud(versions[0].root, "--open")
    yield cloud
    cloud.stop()


def test_a_device_shows_what_it_sees_and_runs_with_its_own_theta(versions: list[Bundle], cloud: Cloud) -> None:
    whole = made_personal(0)
    history, images = to_float(DIGITS[:6])[None], torch.from_numpy(SEEN["image"])
    manifest = versions[0].manifest
    assert msgspec.to_builtins(manifest.model)["history"] == {"dtype": "image", "shape": [1, 32, 32], "scale": 1 / 255}
    with PersonalModel(versions[0].root, cloud=cloud.url, background=False, policy=Always()) as device:
        plain = device.run(SEEN)
        device.observe(*PICTURES[:6])
        assert device.refresh(wait=True), device.status()
        personal = device.run(SEEN)
    with torch.no_grad():
        np.testing.assert_allclose(plain, whole.personal(None, images), atol=1e-4)
        np.testing.assert_allclose(personal, whole.personal(whole.generate(history)[0], images), atol=2e-3)
    assert np.abs(personal - plain).max() > 0.05


def test_pictures_outlive_a_restart(versions: list[Bundle], cloud: Cloud, tmp_path: Path) -> None:
    options: Any = {"cloud": cloud.url, "state": tmp_path, "background": False}
    with PersonalModel(versions[0].root, **options) as device:
        device.observe(*PICTURES[:12])
    with PersonalModel(versions[0].root, **options) as again:
        assert (len(again._log), again._log.count) == (8, 12)
        assert again.refresh(wait=True)
        assert again.status().source == "theta"


def test_what_is_no_picture_of_the_model_is_not_noted(versions: list[Bundle]) -> None:
    for content in (*BOMBS.values(), PICTURES[0][:20], DIGITS[0], "text"):
        with PersonalModel(versions[0].root) as device, pytest.raises(InvalidSampleError):
            device.observe(content)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*BOMBS, *DAMAGED])
def test_a_hostile_picture_is_refused_with_a_code_and_the_cloud_goes_on(
    versions: list[Bundle], cloud: Cloud, name: str
) -> None:
    def ask(content: bytes) -> httpx.Response:
        history = len(content).to_bytes(4, "little") + content
        body = {"model_id": versions[0].manifest.model_id, "device": "attacker", "history": history}
        return httpx.post(f"{cloud.url}/v1/parameters", content=msgspec.json.encode(body), timeout=20)

    content = {**BOMBS, **DAMAGED}[name]
    if len(content) < 4096:  # of the size that the version reads, where it is not the size that is wrong
        content = content.replace((6).to_bytes(4, "big") + (4).to_bytes(4, "big"), bytes([0, 0, 0, 32, 0, 0, 0, 32]))
    refused = ask(content)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid-history"), refused.text
    assert ask(PICTURES[0]).status_code == 200


def test_what_is_above_a_body_is_refused_as_that(versions: list[Bundle], cloud: Cloud) -> None:
    body = {"model_id": versions[0].manifest.model_id, "device": "attacker", "history": bytes(2**20)}
    refused = httpx.post(f"{cloud.url}/v1/parameters", content=msgspec.json.encode(body), timeout=20)
    assert (refused.status_code, refused.json()["code"]) == (413, "body-too-large")


def test_pictures_of_several_devices_are_generated_together(versions: list[Bundle], tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    batch = duet("tokens", "add", "--scope", "batch", "--store", tokens).strip()
    served = Cloud(versions[0].root, "--tokens", tokens)
    try:
        devices = [
            {
                "device": f"d{row}",
                "history": b"".join(len(p).to_bytes(4, "little") + p for p in PICTURES[row : 3 * row]),
            }
            for row in range(1, 5)
        ]
        body = {"model_id": "latest", "devices": devices, "dtype": "float32"}
        answer = httpx.post(
            f"{served.url}/v1/parameters:batch",
            content=msgspec.msgpack.encode(body),
            headers={"authorization": f"Bearer {batch}", "content-type": "application/msgpack"},
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        found = msgspec.msgpack.decode(answer.content)["answers"]
    finally:
        served.stop()
    alone = made_personal(0)
    for row, one in enumerate(found, start=1):
        with torch.no_grad():
            wanted = alone.generate(to_float(DIGITS[row : 3 * row])[None])[0]
        np.testing.assert_allclose(np.frombuffer(one["theta"], np.float32), wanted, atol=1e-4)


def test_a_version_is_tried_by_some_devices_published_to_all_and_withdrawn(
    versions: list[Bundle], tmp_path: Path
) -> None:
    registry, (first, second) = tmp_path / "registry", versions
    one, two = first.manifest.model_id, second.manifest.model_id
    shutil.copytree(first.root, registry / "one")
    shutil.copytree(second.root, registry / "two")

    def roll_out(**said: Any) -> None:
        aside = registry / ".rollout"
        aside.write_text(json.dumps(said))
        aside.rename(registry / "rollout.json")

    roll_out(latest=one)
    cloud = Cloud(registry, "--open", "--poll", "0.1")
    options: Any = {"cloud": cloud.url, "update_seconds": 0.2, "policy": Always(), "patience": QUICK}
    try:
        with PersonalModel(first.root, state=tmp_path / "device", **options) as device:
            device.observe(*PICTURES[:4])
            wait_for(lambda: device.status().source == "theta")
            before = device.run(SEEN)
            assert device.status().model_id == one
            # A canary of all devices, for the test to be sure that this is one of them.
            roll_out(latest=one, canary={"model_id": two, "share": 1.0})
            wait_for(lambda: device.status().model_id == two)
            wait_for(lambda: device.status().source == "theta")
            assert np.abs(device.run(SEEN) - before).max() > 0.01
            roll_out(latest=one, canary={"model_id": two, "share": 0.0})
            wait_for(lambda: device.status().model_id == one)
            np.testing.assert_allclose(device.run(SEEN), before, atol=1e-6)
            roll_out(latest=two)
            wait_for(lambda: device.status().model_id == two)
            # Withdrawn: the folder is gone, and devices that have it go back to what is there.
            roll_out(latest=one)
            (registry / "two").rename(tmp_path / "gone")
            wait_for(lambda: device.status().model_id == one)
            device.observe(PICTURES[5])
            wait_for(lambda: device.theta_age == 0)
            status = device.status()
            assert (status.previous, status.source, status.refused) == (two, "theta", {})
            assert device.rollback() == two
            assert device.run(SEEN).shape == (4, 10)
    finally:
        cloud.stop()


@pytest.mark.slow
def test_a_version_with_other_inputs_is_left_alone(versions: list[Bundle], tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    other = export_model(
        made_personal(2),
        registry / "other",
        key=KEY,
        name="other",
        inputs={"picture": torch.from_numpy(SEEN["image"])},
        histories=[PICTURES[:3]],
        samples="image",
        scale=1 / 255,
    )
    cloud = Cloud(registry, "--open")
    try:
        with PersonalModel(versions[0].root, cloud=cloud.url, state=tmp_path / "s", background=False) as device:
            assert not device.update()
            status = device.status()
            assert status.model_id == versions[0].manifest.model_id != other.manifest.model_id
            assert status.failures == {"update-invalid-bundle": 1}
            assert device.run(SEEN).shape == (4, 10)
    finally:
        cloud.stop()


def test_jpegs_too(versions: list[Bundle], cloud: Cloud) -> None:
    file = io.BytesIO()
    Image.fromarray(DIGITS[3, 0]).convert("RGB").save(file, "JPEG")
    with PersonalModel(versions[0].root, cloud=cloud.url, background=False) as device:
        device.observe(file.getvalue())
        assert device.refresh(wait=True)
