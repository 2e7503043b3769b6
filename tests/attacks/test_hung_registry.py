"""A disk that hangs, a folder that cannot be read, a graph that never ends: the watch goes on, and its age is told."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.cloud.conftest import TestClient, until
from tests.cloud.test_metrics import samples
from tests.cloud.test_registry import Lines
from tests.cloud.versions import P, describe, make_version

from duetgen.cloud import ServiceConfig, create_app
from duetgen.cloud import registry as registry_module
from duetgen.cloud.errands import MAX_LEFT, Errands, UnfinishedError
from duetgen.cloud.registry import Registry


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names of folders that hang from when they are added until they are removed."""
    names: set[str] = set()
    look_into, open_bundle = registry_module.look_into, registry_module.open_bundle

    def hang(path: Path) -> None:
        while path.name in names:
            time.sleep(0.01)

    def slow_look(source: Path) -> Any:
        hang(source)
        return look_into(source)

    def slow_open(root: Path, **options: Any) -> Any:
        hang(root)
        return open_bundle(root, **options)

    monkeypatch.setattr(registry_module, "look_into", slow_look)
    monkeypatch.setattr(registry_module, "open_bundle", slow_open)
    monkeypatch.setattr(registry_module, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(registry_module, "LOAD_SECONDS", 0.5)
    yield names
    names.clear()


def watched(sources: list[Path], log: Lines) -> Registry:
    registry = Registry(sources, None, log, lambda seconds, rows: None)
    until(lambda: bool(registry.adopt(registry.refresh()) or registry.versions.served))
    return registry


def test_source_that_hangs_stays_as_it_was_and_others_are_watched(tmp_path: Path, hung: set[str]) -> None:
    first = make_version(tmp_path / "a/v1", 1)
    (tmp_path / "b").mkdir()
    log = Lines()
    registry = watched([tmp_path / "a", tmp_path / "b"], log)
    looked = registry.looked
    hung.add("a")
    make_version(tmp_path / "a/v2", 2)
    third = make_version(tmp_path / "b/v3", 3)
    until(lambda: registry.adopt(registry.refresh()) or third in registry.versions.served)
    for _ in range(3):
        registry.adopt(registry.refresh())
    assert set(registry.versions.served) == {first, third}
    assert registry.looked == looked
    assert log.reasons("registry unreadable") == ["it does not answer"]
    hung.clear()

    def whole() -> bool:
        registry.adopt(registry.refresh())
        return len(registry.versions.served) == 3

    until(whole)
    assert registry.looked > looked


def test_version_that_hangs_keeps_no_other_waiting(tmp_path: Path, hung: set[str]) -> None:
    hung.add("v1")
    make_version(tmp_path / "v1", 1)
    second = make_version(tmp_path / "v2", 2)
    log = Lines()
    registry = watched([tmp_path], log)
    begun = time.monotonic()
    registry.adopt(registry.refresh())
    assert set(registry.versions.served) == {second}
    assert len(log.reasons("bundle slow")) == 1
    assert registry.looked >= begun
    hung.clear()
    until(lambda: registry.adopt(registry.refresh()) or len(registry.versions.served) == 2)


def test_folder_that_cannot_be_read_takes_nothing_out_of_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version(tmp_path / "v1", 1)
    log = Lines()
    registry = watched([tmp_path], log)

    def unreadable(path: Path) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(registry_module, "look_into", unreadable)
    for _ in range(3):
        registry.adopt(registry.refresh())
    assert len(registry.versions.served) == 1
    assert log.reasons("registry unreadable") == ["[Errno 5] Input/output error"]


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_registry_that_is_no_folder_any_more_takes_nothing_out_of_service(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    make_version(root / "v1", 1)
    log = Lines()
    registry = watched([root], log)
    root.rename(tmp_path / "aside")
    make(root)
    for _ in range(3):
        registry.adopt(registry.refresh())
    assert len(registry.versions.served) == 1
    assert log.reasons("registry unreadable") == [f"[Errno 20] Not a directory: '{root}'"]
    assert log.reasons("rollout refused") == []


def test_age_of_the_last_look_is_a_metric_and_counts_for_readiness(
    tmp_path: Path, hung: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duetgen.cloud.health.STALE_SECONDS", 0.5)
    make_version(tmp_path / "registry/v1", 1)
    config = ServiceConfig(sources=(str(tmp_path / "registry"),), poll_seconds=0.05, rate=0)
    with TestClient(create_app(config)) as client:

        def age() -> float:
            return samples(client.get("/metrics").text)["duet_registry_age_seconds", ()]

        until(lambda: client.get("/readyz").status_code == 200)
        hung.add("registry")
        until(lambda: age() > 0.6)
        response = client.get("/readyz")
        assert (response.status_code, response.json()["code"]) == (503, "not-ready")
        assert client.get("/v1/models").status_code == 200
        hung.clear()
        until(lambda: age() < 0.5)
        until(lambda: client.get("/readyz").json().get("registry_age", 1.0) < 0.5)


def endless_graph() -> bytes:
    """A generator whose loop never ends."""
    condition = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            condition,
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["history"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Loop", ["", "true", "floats"], ["theta"], body=body),
        ],
        "endless",
        [helper.make_tensor_value_info("history", TensorProto.INT64, ["B", "L"])],
        [helper.make_tensor_value_info("theta", TensorProto.FLOAT, ["B", P])],
        [numpy_helper.from_array(np.array(True), "true")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def test_graph_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duetgen.cloud.engine.LOAD_SECONDS", 0.3)
    make_version(tmp_path / "endless", 1)
    (tmp_path / "endless/generator.onnx").write_bytes(endless_graph())
    describe(tmp_path / "endless", 1)
    second = make_version(tmp_path / "good", 2)
    log = Lines()
    registry = watched([tmp_path], log)
    assert set(registry.versions.served) == {second}
    assert [fields["code"] for event, fields in log.events if event == "bundle refused"] == ["canary-failed"]


def test_errands_that_never_end_are_bounded() -> None:
    errands, done = Errands(0.01), threading.Event()
    for key in range(MAX_LEFT + 3):
        with pytest.raises(UnfinishedError):
            errands.run(key, done.wait)
    assert sum("perform" in thread.name for thread in threading.enumerate()) == MAX_LEFT
    done.set()

    def goes_on() -> bool:
        with contextlib.suppress(UnfinishedError):
            return errands.run(MAX_LEFT + 2, lambda: 7) == 7
        return False

    until(goes_on)
    assert errands.run(0, lambda: False) is True
    errands.keep(())
    assert errands.run(1, lambda: 7) == 7
