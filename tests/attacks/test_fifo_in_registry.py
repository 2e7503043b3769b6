"""Pipes, devices, folders, links and further files where a registry's files should be: refused, and nobody waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cloud.conftest import until
from tests.cloud.test_live import Start
from tests.cloud.versions import make_version

from duetgen.cloud.log import Log
from duetgen.cloud.registry import Registry
from duetgen.cloud.rollout import read_rollout
from duetgen.wire.bundle import open_bundle
from duetgen.wire.errors import InvalidBundleError

from .sockets import log_lines

NAMES = ("manifest.json", "signature.json", "device.onnx", "generator.onnx", "items.json", "canary.json")


def within(work: Callable[[], None], seconds: float = 10) -> None:
    """Do it in a thread, so that what waits for ever fails the test and does not hold it up."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits"


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path.parent.parent / "pipe")
    path.symlink_to(path.parent.parent / "pipe")


def link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [pipe, link_to_pipe, link, device, folder])
@pytest.mark.parametrize("name", NAMES)
def test_no_regular_file_in_a_bundle(tmp_path: Path, name: str, harm: Callable[[Path], None]) -> None:
    make_version(tmp_path / "bundle")
    harm(tmp_path / "bundle" / name)

    def refused() -> None:
        for contents in (False, True):
            with pytest.raises(InvalidBundleError):
                open_bundle(tmp_path / "bundle", contents=contents)

    within(refused)


@pytest.mark.parametrize("name", ["more.txt", ".hidden", "device.onnx.data", "generator.onnx~"])
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("items.json")])
def test_something_further_in_a_bundle(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make_version(tmp_path / "bundle")
    make(tmp_path / "bundle" / name)
    with pytest.raises(InvalidBundleError, match="no file of a bundle"):
        open_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["rollout.json", "latest"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_no_regular_file_as_rollout(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make_version(tmp_path / "v1")
    registry = Registry([tmp_path], None, Log(b"", False), lambda seconds, rows: None)
    registry.adopt(registry.refresh())
    before = registry.versions.latest(None)
    make(tmp_path / name)

    def looked() -> None:
        registry.adopt(registry.refresh())
        assert registry.versions.latest(None) == before
        with pytest.raises(Exception, match="cannot be used"):
            read_rollout(tmp_path)

    within(looked)


def test_watch_goes_on_beside_pipes(live: Start, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    make_version(registry / "v1", 1)
    for name in ("manifest.json", "signature.json", "generator.onnx"):
        make_version(registry / f"v0-{name}", 5)
        pipe(registry / f"v0-{name}" / name)
    service = live(registry, "--open", "--poll", "0.1")
    os.mkfifo(registry / "rollout.json")
    second = make_version(registry / "v2", 2)

    def latest() -> object:
        with service.client() as client:
            return client.get("/v1/models").json()["latest"]

    until(lambda: latest() == second)
    events = [line["event"] for line in log_lines(service)]
    # Once by `duet serve`, that names what it refuses at the start, and once by the worker.
    assert events.count("bundle refused") == 6
    assert "rollout refused" in events
