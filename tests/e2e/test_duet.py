"""The whole duet: prepare, train, export, a cloud in processes of its own, and devices that live their log with it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from tests.cli.test_cli import duet_here
from tests.signing import sign

from duetgen.cli.device import run_replay
from duetgen.data.store import Dataset
from duetgen.device import Always, Device, EveryEvents, PatienceConfig, load_model
from duetgen.export.keys import load_key
from duetgen.replay import LIVELY
from duetgen.training import load_run
from duetgen.wire.bundle import BundleFile, Manifest, identify

QUICK = PatienceConfig(first=0.02, longest=0.1, failures=1000)


def duet(*arguments: str | Path) -> str:
    """Run the command: its standard output."""
    done = duet_here(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Cloud:
    """`duet serve` in a process of its own."""

    def __init__(self, *arguments: str | Path, port: int = 0) -> None:
        script = "from duetgen.cli import main; main()"
        command = [sys.executable, "-c", script, "serve", *map(str, arguments), "--port", str(port), "--json"]
        # A group of its own, so that its workers can be killed with it.
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = json.loads(line)
            if "url" in found:
                self.url: str = found["url"]
                self.port = int(self.url.rpartition(":")[2])
                return
        raise AssertionError("the cloud did not start")

    def kill(self) -> None:
        """SIGKILL, to it and its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> None:
        """SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass(frozen=True)
class Duet:
    data: Path
    run: Path
    bundle: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Duet:
    """A log of 200 people, a DUET run of three epochs, its bundle."""
    root = tmp_path_factory.mktemp("e2e")
    duet("prepare", "synthetic", "--people", "200", "--out", root / "data")
    quick = ("--epochs", "3", "--cloud-model", "none", "--threads", "1", "--quiet")
    duet("train", root / "data", *quick, "--out", root / "run")
    duet("keys", "new", "--out", root / "key")
    duet("export", root / "run", root / "data", "--key", root / "key", "--no-measure", "--out", root / "bundle")
    return Duet(root / "data", root / "run", root / "bundle")


@pytest.fixture(scope="module")
def cloud(made: Duet) -> Iterator[Cloud]:
    cloud = Cloud(made.bundle, "--open")
    yield cloud
    cloud.stop()


@pytest.fixture(scope="module")
def offline(made: Duet) -> dict[str, float]:
    """What `duet evaluate` measures with fresh theta."""
    found = json.loads(duet("evaluate", made.run, made.data, "--bootstrap", "0", "--staleness", "0", "--json"))
    conditions = {condition["name"]: condition["metrics"] for condition in found[0]["conditions"]}
    return {
        **{name: value["mean"] for name, value in conditions["own"].items()},
        **{f"global {name}": value["mean"] for name, value in conditions["zero"].items()},
    }


def test_scores_on_the_device_are_those_of_torch(made: Duet, cloud: Cloud) -> None:
    run, dataset = load_run(made.run).device_model, Dataset(made.data)
    model = load_model(made.bundle)
    worst = 0.0
    for device_index in range(0, dataset.devices, 37):
        events = dataset.events[dataset.offsets[device_index] : dataset.offsets[device_index + 1]].tolist()
        with Device(model, cloud=cloud.url, device_id="d1", encoding="float32", background=False) as device:
            device.observe(*(model.ids[item] for item in events))
            assert device.refresh(wait=True), device.status().last_error
            found_V = device.score()
        with torch.inference_mode():
            theta = run.trusted(run.generate(torch.tensor([events[-run.generator_history :]])), 0)
            want_V = run.score_catalogue(torch.tensor([events[-run.window :]]), theta)[0].numpy()
        assert np.isneginf(found_V[0])
        worst = max(worst, float(np.abs(found_V[1:] - want_V[1:]).max()))
    assert worst < 1e-4


@pytest.mark.parametrize(("encoding", "within"), [("float32", 1e-6), ("float16", 0.005), ("int8", 0.01)])
def test_quality_through_the_wire_is_that_of_evaluation(
    made: Duet, cloud: Cloud, offline: dict[str, float], encoding: Any, within: float
) -> None:
    report = run_replay(made.bundle, made.data, LIVELY.changed(cloud=cloud.url, encoding=encoding), quiet=True)
    assert (report.failures, report.refused, report.with_theta) == ({}, {}, 1.0)
    assert report.requests == report.answered == report.targets
    for name in ("ndcg@10", "hr@10", "user_auc"):
        assert report.quality[name] == pytest.approx(offline[name], rel=within), name
        assert report.quality_global[name] == pytest.approx(offline[f"global {name}"], rel=1e-6), name
    assert report.bytes_received / report.requests < report.bytes_weights + report.bytes_bias + 600


def test_the_command_replays(made: Duet, cloud: Cloud) -> None:
    arguments = ("device", made.bundle, "--cloud", cloud.url, "--replay", made.data, "--limit-devices", "10")
    found = json.loads(duet(*arguments, "--policy", "every:5", "--budget", "50", "--json"))
    assert found["devices"] == 10
    assert found["requests"] < found["targets"]
    assert 0 < found["quality"]["ndcg@10"] <= 1
    printed = duet(*arguments, "--speed-up", "1e8", "--encoding", "int8")
    for word in ("as the devices ranked", "with theta = 0", "requests", "bytes", "late"):
        assert word in printed


def test_a_replay_with_tokens(made: Duet, tmp_path: Path) -> None:
    store = tmp_path / "tokens.sqlite"
    batch = duet("tokens", "add", "--scope", "batch", "--store", store).strip()
    own = duet("tokens", "add", "d1", "--store", store).strip()
    cloud = Cloud(made.bundle, "--tokens", store)
    try:
        report = run_replay(made.bundle, made.data, LIVELY.changed(cloud=cloud.url, token=batch), devices=5, quiet=True)
        assert report.answered == report.requests > 0
        for token, device_id, answered in ((own, "d1", 1), (own, "d2", 0), ("wrong", "d1", 0), ("", "d1", 0)):
            with Device(made.bundle, cloud=cloud.url, token=token, device_id=device_id, background=False) as device:
                device.observe("i001")
                device.refresh(wait=True)
                status = device.status()
                assert status.answered == answered
                assert status.failures == ({} if answered else {"cloud-refused": 1})
    finally:
        cloud.stop()


def test_the_cloud_is_killed_with_sigkill_under_a_fleet_and_restarted(made: Duet) -> None:
    cloud = Cloud(made.bundle, "--open")
    model = load_model(made.bundle)
    ids = model.ids[2:12]
    options = {"cloud": cloud.url, "policy": Always(), "patience": QUICK}
    devices = [Device(model, device_id=f"d{n}", **options) for n in range(8)]
    try:
        for device, item in zip(devices, ids):
            device.observe(item)
        wait_for(lambda: all(device.status().source == "theta" for device in devices))
        held = [device._runtime.store.current for device in devices]
        cloud.kill()
        for device, theta in zip(devices, held):
            device.observe(ids[3])
            assert theta is not None
            window = model.indices(device._log.last(model.window))
            want = model.score(theta.values_P, window, list(range(2, 50)))
            np.testing.assert_array_equal(device.score(list(range(2, 50))), want)
        wait_for(lambda: all(device.status().failures for device in devices))
        cloud = Cloud(made.bundle, "--open", port=cloud.port)
        wait_for(lambda: all(device.theta_age == 0 for device in devices))
        assert all(device.status().refused == {} for device in devices)
    finally:
        for device in devices:
            device.close()
        cloud.stop()


def test_a_new_version_published_in_a_registry_reaches_a_running_device(made: Duet, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    shutil.copytree(made.bundle, registry / "one")
    cloud = Cloud(registry, "--open", "--poll", "0.1")
    try:
        with Device(
            made.bundle,
            cloud=cloud.url,
            state=tmp_path / "state",
            policy=EveryEvents(1),
            update_seconds=0.3,
            patience=QUICK,
        ) as device:
            first = device.status().model_id
            device.observe("i001", "i002")
            wait_for(lambda: device.status().source == "theta")
            republish(made, tmp_path / "two")
            (tmp_path / "two").rename(registry / "two")
            wait_for(lambda: device.status().model_id != first)
            status = device.status()
            assert (status.source, status.previous, status.refused) == ("theta", first, {})
            assert len(device.recommend(5)) == 5
            assert not (tmp_path / "state/versions" / status.model_id / "generator.onnx").exists()
    finally:
        cloud.stop()


def republish(made: Duet, folder: Path) -> None:
    """A version of its own: the same graphs, items without titles, signed by the same key."""
    shutil.copytree(made.bundle, folder)
    items = json.loads((folder / "items.json").read_bytes())
    content = json.dumps({**items, "titles": []}).encode()
    (folder / "items.json").write_bytes(content)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    files = {**manifest.files, "items.json": BundleFile(hashlib.sha256(content).hexdigest(), len(content))}
    later = "2099-01-01T00:00:00+00:00"
    changed = msgspec.structs.replace(manifest, files=files, model_id=identify(files), created=later)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(changed))
    sign(folder, load_key(made.bundle.parent / "key"))


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.01)
