"""New versions: fetched, verified, swapped in, rolled back; bad ones refused and remembered."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, numpy_helper
from tests.signing import sign

from duetgen.device import Always, Device, NothingToRollBackError, PatienceConfig, load_model
from duetgen.device.updates import REFUSED_SECONDS
from duetgen.wire.bundle import BundleFile, Manifest
from duetgen.wire.errors import InvalidBundleError

from .cloud import FakeCloud, Server, wait_until
from .conftest import Tiny, describe
from .test_device import expect, sent

MakeTiny = Callable[..., Tiny]
QUICK = PatienceConfig(first=0.0, longest=0.0, failures=1000)


def publish(cloud: FakeCloud, tiny: Tiny) -> None:
    cloud.tinies[tiny.model_id] = tiny
    cloud.latest = tiny.model_id


def make(tiny: Tiny, cloud: Any, state: Path, **options: Any) -> Device:
    settled = {"token": "secret", "device_id": "d1", "policy": Always(), "background": False, "patience": QUICK}
    return Device(tiny.root, cloud=cloud, state=state, **{**settled, **options})


def test_a_new_version_is_fetched_in_the_background_and_swapped_in_with_its_theta(
    tiny: Tiny, new_tiny: MakeTiny, server: Server, tmp_path: Path
) -> None:
    second = new_tiny(seed=1, vocabulary=40)
    with make(tiny, server.url, tmp_path / "state", background=True, update_seconds=0.2) as device:
        device.observe("item-3", "item-35")
        wait_until(lambda: device.status().source == "theta")
        expect(device, tiny, [3, 1], sent(tiny, [3, 1]))
        publish(server.cloud, second)
        wait_until(lambda: device.status().model_id == second.model_id)
        # Item 35 was unknown to the first version; the log holds ids, so the second knows it.
        expect(device, second, [3, 35], sent(second, [3, 35]))
        assert device.status().previous == tiny.model_id
        assert len(device.recommend(100, met="show")) == 38
    assert "/v1/models/" + second.model_id + "/generator.onnx" not in server.cloud.paths


def test_a_version_that_is_looked_for_never_is_found_when_told(
    tiny: Tiny, new_tiny: MakeTiny, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = new_tiny(seed=1)
    publish(server.cloud, second)
    with make(tiny, server.url, tmp_path / "state", update_seconds=math.inf) as device:
        monkeypatch.setattr("duetgen.device.upkeep.time", SimpleNamespace(monotonic=lambda: 1e12))
        device.keep_up()
        monkeypatch.undo()
        assert device.status().model_id == tiny.model_id
        assert device.update()
        assert device.status().model_id == second.model_id


def test_ranking_never_stops_while_versions_change(
    tiny: Tiny, new_tiny: MakeTiny, server: Server, tmp_path: Path
) -> None:
    versions = [tiny, new_tiny(seed=1), new_tiny(seed=2)]
    for version in versions:
        publish(server.cloud, version)
    stop, failures = threading.Event(), []
    # All versions know the same items: each ranking must be wholly that of one version, with its theta or without.
    possible = []
    for version in versions:
        for theta_P in (None, sent(version, [3, 7])):
            possible.append(version.scores([3, 7], range(2, 30), theta_P))

    def work(device: Device) -> None:
        while not stop.is_set():
            ranked = dict(device.rank(tiny.ids(range(2, 30)), met="show"))
            found = np.array([ranked[item] for item in tiny.ids(range(2, 30))])
            if not any(np.allclose(found, scores, atol=1e-4) for scores in possible):
                failures.append(found)

    with make(tiny, server.url, tmp_path / "state") as device:
        device.observe("item-3", "item-7")
        threads = [threading.Thread(target=work, args=(device,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(9):
            server.cloud.latest = versions[number % 3].model_id
            device.update()
            device.keep_up()
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_the_next_start_begins_with_the_version_in_use(
    tiny: Tiny, new_tiny: MakeTiny, cloud: FakeCloud, tmp_path: Path
) -> None:
    second = new_tiny(seed=1)
    publish(cloud, second)
    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        assert device.update()
    with make(tiny, None, tmp_path / "state") as device:
        assert device.status().model_id == second.model_id
        expect(device, second, [3], sent(second, [3]))


def test_rollback_returns_to_the_version_and_theta_before_and_the_one_left_is_not_fetched_again(
    tiny: Tiny, new_tiny: MakeTiny, cloud: FakeCloud, tmp_path: Path
) -> None:
    second, third = new_tiny(seed=1), new_tiny(seed=2)
    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        assert device.keep_up()
        publish(cloud, second)
        assert device.update()
        assert device.rollback() == tiny.model_id
        expect(device, tiny, [3], sent(tiny, [3]))
        assert not device.update()
        assert device.status().refused_versions == {second.model_id: "rolled back"}
        with pytest.raises(NothingToRollBackError):
            device.rollback()
    with make(tiny, cloud, tmp_path / "state") as device:
        assert device.status().model_id == tiny.model_id
        assert not device.update()
        publish(cloud, third)
        assert device.update()
        assert device.rollback() == tiny.model_id


def test_a_device_shipped_with_another_bundle_begins_with_that(
    tiny: Tiny, new_tiny: MakeTiny, cloud: FakeCloud, tmp_path: Path
) -> None:
    second, third = new_tiny(seed=1), new_tiny(seed=2)
    publish(cloud, second)
    with make(tiny, cloud, tmp_path / "state") as device:
        assert device.update()
    with make(third, None, tmp_path / "state") as device:
        assert device.status().model_id == third.model_id


def test_old_versions_are_removed(tiny: Tiny, new_tiny: MakeTiny, cloud: FakeCloud, tmp_path: Path) -> None:
    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        for seed in (1, 2, 3):
            publish(cloud, new_tiny(seed=seed))
            assert device.update()
        kept = {device.status().model_id, device.status().previous}
    assert {path.name for path in (tmp_path / "state/versions").iterdir()} == kept
    assert {path.stem for path in (tmp_path / "state/theta").iterdir()} <= kept


def damage(tiny: Tiny, name: str, change: Callable[[bytes], bytes]) -> None:
    (tiny.root / name).write_bytes(change((tiny.root / name).read_bytes()))


def flipped(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


def resign(tiny: Tiny, **changes: Any) -> str:
    return describe(tiny.root, vocabulary=tiny.vocabulary, **changes)


def renamed(manifest: Manifest, old: str, new: str) -> dict[str, BundleFile]:
    return {(new if name == old else name): entry for name, entry in manifest.files.items()}


def read_manifest(tiny: Tiny) -> Manifest:
    return msgspec.json.decode((tiny.root / "manifest.json").read_bytes(), type=Manifest)


def rewrite_manifest(tiny: Tiny, **changes: Any) -> None:
    content = msgspec.to_builtins(read_manifest(tiny))
    (tiny.root / "manifest.json").write_bytes(msgspec.json.encode({**content, **changes}))
    sign(tiny.root)


def a_flipped_byte_in_the_graph(tiny: Tiny) -> None:
    damage(tiny, "device.onnx", flipped)


def a_flipped_byte_in_the_items(tiny: Tiny) -> None:
    damage(tiny, "items.json", flipped)


def a_flipped_byte_in_the_manifest(tiny: Tiny) -> None:
    damage(tiny, "manifest.json", flipped)


def a_file_cut(tiny: Tiny) -> None:
    damage(tiny, "canary.json", lambda content: content[:-1])


def another_key(tiny: Tiny) -> None:
    sign(tiny.root, Ed25519PrivateKey.from_private_bytes(bytes(32)))


def no_signature(tiny: Tiny) -> None:
    (tiny.root / "signature.json").write_bytes(b"{}")


def a_signature_of_something_else(tiny: Tiny) -> None:
    content = (tiny.root / "manifest.json").read_bytes()
    (tiny.root / "manifest.json").write_bytes(content + b" ")
    sign(tiny.root)
    (tiny.root / "manifest.json").write_bytes(content)


def a_manifest_of_another_version(tiny: Tiny) -> None:
    damage(tiny, "items.json", lambda content: content + b" ")
    resign(tiny)


def a_path_that_climbs_out(tiny: Tiny) -> None:
    files = renamed(read_manifest(tiny), "device.onnx", "../../device.onnx")
    rewrite_manifest(tiny, files=msgspec.to_builtins(files))


def an_absolute_path(tiny: Tiny) -> None:
    files = renamed(read_manifest(tiny), "items.json", "/etc/passwd")
    rewrite_manifest(tiny, files=msgspec.to_builtins(files))


def a_file_larger_than_any_device_takes(tiny: Tiny) -> None:
    manifest = read_manifest(tiny)
    files = {**manifest.files, "device.onnx": BundleFile(manifest.files["device.onnx"].sha256, 3 * 2**30)}
    from duetgen.wire.bundle import identify

    rewrite_manifest(tiny, files=msgspec.to_builtins(files), model_id=identify(files))
    object.__setattr__(tiny, "model_id", identify(files))


def another_format(tiny: Tiny) -> None:
    rewrite_manifest(tiny, format_version=1)


def changed(tiny: Tiny, name: str, content: bytes) -> None:
    """A file that its manifest and signature vouch for."""
    (tiny.root / name).write_bytes(content)
    object.__setattr__(tiny, "model_id", resign(tiny))


def a_graph_that_is_none(tiny: Tiny) -> None:
    changed(tiny, "device.onnx", b"not a graph")


def a_graph_that_computes_something_else(tiny: Tiny) -> None:
    model = onnx.load(tiny.root / "device.onnx")
    for entry in model.graph.initializer:
        if entry.name == "b":
            entry.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(entry) + np.float32(0.01), "b"))
    changed(tiny, "device.onnx", model.SerializeToString())


def a_graph_with_other_inputs(tiny: Tiny) -> None:
    model = onnx.load(tiny.root / "device.onnx")
    model.graph.input[0].name = "weights"
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            if name == "theta":
                node.input[at] = "weights"
    changed(tiny, "device.onnx", model.SerializeToString())


def an_oversized_tensor(tiny: Tiny) -> None:
    model = onnx.load(tiny.root / "device.onnx")
    for entry in model.graph.initializer:
        if entry.name == "E":
            entry.dims[0] = 2**40
    changed(tiny, "device.onnx", model.SerializeToString())


def a_tensor_in_a_file_outside(tiny: Tiny) -> None:
    model = onnx.load(tiny.root / "device.onnx")
    for entry in model.graph.initializer:
        if entry.name == "E":
            entry.ClearField("raw_data")
            entry.data_location = TensorProto.EXTERNAL
            entry.external_data.append(onnx.StringStringEntryProto(key="location", value="../../../../etc/passwd"))
    changed(tiny, "device.onnx", model.SerializeToString())


def a_graph_that_fails_when_it_runs(tiny: Tiny) -> None:
    model = onnx.load(tiny.root / "device.onnx")
    for entry in model.graph.initializer:
        if entry.name == "square":
            entry.CopyFrom(numpy_helper.from_array(np.array([-1, 7, 7]), "square"))
    changed(tiny, "device.onnx", model.SerializeToString())


def items_of_another_vocabulary(tiny: Tiny) -> None:
    changed(tiny, "items.json", msgspec.json.encode({"ids": ["", "", "a"], "titles": []}))


BAD = [
    a_flipped_byte_in_the_graph,
    a_flipped_byte_in_the_items,
    a_flipped_byte_in_the_manifest,
    a_file_cut,
    another_key,
    no_signature,
    a_signature_of_something_else,
    a_manifest_of_another_version,
    a_path_that_climbs_out,
    an_absolute_path,
    a_file_larger_than_any_device_takes,
    another_format,
    a_graph_that_is_none,
    a_graph_that_computes_something_else,
    a_graph_with_other_inputs,
    an_oversized_tensor,
    a_tensor_in_a_file_outside,
    a_graph_that_fails_when_it_runs,
    items_of_another_vocabulary,
]


@pytest.mark.parametrize("fault", BAD, ids=lambda fault: fault.__name__)
def test_bundle_with(
    tiny: Tiny, new_tiny: MakeTiny, server: Server, tmp_path: Path, fault: Callable[[Tiny], None]
) -> None:
    """Refused, remembered, over a restart too; the device ranks on as it did, and takes a good one afterwards."""
    bad, good, now = new_tiny(seed=1), new_tiny(seed=2), 1000.0
    fault(bad)
    cloud = server.cloud
    publish(cloud, bad)
    with make(tiny, server.url, tmp_path / "state", clock=lambda: now) as device:
        cloud.clock = lambda: now
        device.observe("item-3")
        assert device.keep_up()
        assert not device.update()
        expect(device, tiny, [3], sent(tiny, [3]))
        assert device.status().failures == {"update-invalid-bundle": 1}
        assert list(device.status().refused_versions) == [bad.model_id]
        asked = len(cloud.paths)
        assert not device.update()
        assert cloud.paths[asked:] == ["/v1/models?device=d1"]
    with make(tiny, server.url, tmp_path / "state", clock=lambda: now) as device:
        asked = len(cloud.paths)
        assert not device.update()
        assert cloud.paths[asked:] == ["/v1/models?device=d1"]
        now += REFUSED_SECONDS + 1
        assert not device.update()
        assert len(cloud.paths) > asked + 2
        publish(cloud, good)
        assert device.update()
        expect(device, good, [3], sent(good, [3]))
    assert [path.name for path in tmp_path.glob("device.onnx")] == []


@pytest.mark.parametrize("latest", ["../../../etc", "latest", "", "A" * 64, "0" * 65, "x" * 10_000])
def test_a_version_of_a_name_that_is_none_is_not_asked_for(
    tiny: Tiny, server: Server, tmp_path: Path, latest: str
) -> None:
    server.cloud.latest = latest
    with make(tiny, server.url, tmp_path / "state") as device:
        assert not device.update()
    assert server.cloud.paths == ["/v1/models?device=d1"]


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "device.onnx", "items.json", "canary.json"])
def test_bundle_with_a_missing_file_is_tried_again_later(
    tiny: Tiny, new_tiny: MakeTiny, server: Server, tmp_path: Path, name: str
) -> None:
    second = new_tiny(seed=1)
    content = (second.root / name).read_bytes()
    (second.root / name).unlink()
    publish(server.cloud, second)
    with make(tiny, server.url, tmp_path / "state") as device:
        device.observe("item-3")
        assert not device.update()
        expect(device, tiny, [3], None)
        assert device.status().refused_versions == {}
        (second.root / name).write_bytes(content)
        assert device.update()
        expect(device, second, [3], sent(second, [3]))


def test_a_download_larger_than_said_is_not_read(
    tiny: Tiny, new_tiny: MakeTiny, server: Server, tmp_path: Path
) -> None:
    second = new_tiny(seed=1)
    publish(server.cloud, second)
    server.cloud.file_bytes = lambda name, content: content + b"\0" * 10**7 if name == "items.json" else content
    with make(tiny, server.url, tmp_path / "state") as device:
        assert not device.update()
        assert device.status().failures == {"update-bad-answer": 1}
        assert device.status().bytes_received < 10**6


def test_the_disk_is_full_while_a_version_is_fetched(
    tiny: Tiny, new_tiny: MakeTiny, cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = new_tiny(seed=1)
    publish(cloud, second)

    def full(model_id: str, name: str, limit: int, into: Any) -> None:
        raise OSError(28, "No space left on device")

    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        with monkeypatch.context() as patch:
            patch.setattr(cloud, "file", full)
            assert not device.update()
        expect(device, tiny, [3], None)
        assert device.status().disk_errors == 1
        assert list((tmp_path / "state/versions").iterdir()) == []
        assert device.update()


def test_a_version_damaged_on_the_device_is_not_started_with(
    tiny: Tiny, new_tiny: MakeTiny, cloud: FakeCloud, tmp_path: Path
) -> None:
    second = new_tiny(seed=1)
    publish(cloud, second)
    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        assert device.update()
    path = tmp_path / "state/versions" / second.model_id / "device.onnx"
    path.write_bytes(flipped(path.read_bytes()))
    with make(tiny, None, tmp_path / "state") as device:
        assert device.status().model_id == tiny.model_id
        expect(device, tiny, [3], None)
        assert second.model_id in device.status().refused_versions


@pytest.mark.parametrize("content", [b"", b"{}", b'{"shipped": 1}', b"\xff", b'{"shipped":"%s","current":"../../x"}'])
def test_versions_json_that_is_damaged_means_the_shipped_bundle(tiny: Tiny, tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "versions.json").write_bytes(content.replace(b"%s", tiny.model_id.encode()))
    with make(tiny, None, state) as device:
        assert device.status().model_id == tiny.model_id


def test_a_bundle_that_is_a_link_is_refused(tiny: Tiny, new_tiny: MakeTiny, tmp_path: Path) -> None:
    linked = new_tiny()
    (linked.root / "items.json").unlink()
    (linked.root / "items.json").symlink_to(tiny.root / "items.json")
    with pytest.raises(InvalidBundleError):
        load_model(linked.root)


def test_trusted_keys(tiny: Tiny) -> None:
    key = msgspec.json.decode((tiny.root / "signature.json").read_bytes())["public_key"]
    Device(tiny.root, trusted={key}).close()
    with pytest.raises(InvalidBundleError, match="not trusted"):
        Device(tiny.root, trusted={"0" * 64})
