"""Versions come and go: publishing, refusing, rolling back, shares of devices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.signing import KEY, public, sign

from duetgen.cloud.errors import NotReadyError, UnknownModelError
from duetgen.cloud.log import Log
from duetgen.cloud.peers import Peers
from duetgen.cloud.registry import Registry
from duetgen.cloud.rollout import position

from .peers import another_worker
from .versions import describe, make_version


class Lines(Log):
    """A log that remembers."""

    def __init__(self) -> None:
        super().__init__(b"", False)
        self.events: list[tuple[str, dict[str, object]]] = []

    def write(self, level: str, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    def reasons(self, event: str) -> list[object]:
        return [fields["reason"] for name, fields in self.events if name == event]


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "registry"
    made.mkdir()
    return made


Look = Callable[[], Registry]


@pytest.fixture
def look(folder: Path, log: Lines) -> Look:
    """Look at the folder once more, with the same registry."""
    registry = Registry([folder], frozenset([public(KEY)]), log, lambda seconds, rows: None)

    def once() -> Registry:
        registry.adopt(registry.refresh())
        return registry

    return once


def test_empty_folder_serves_nothing_and_says_so(look: Look) -> None:
    with pytest.raises(NotReadyError):
        look().versions.find("latest", None)


def test_newest_is_the_latest_until_it_is_removed(look: Look, folder: Path) -> None:
    first = make_version(folder / "a", 1)
    assert look().versions.latest("d") == first
    second = make_version(folder / "b", 2)
    assert look().versions.latest("d") == second
    assert set(look().versions.served) == {first, second}
    shutil.rmtree(folder / "b")
    versions = look().versions
    assert versions.latest("d") == first
    with pytest.raises(UnknownModelError):
        versions.find(second, "d")


def test_version_that_was_loaded_is_not_loaded_again(look: Look, folder: Path) -> None:
    model_id = make_version(folder / "a", 1)
    before = look().versions.served[model_id]
    make_version(folder / "b", 2)
    assert look().versions.served[model_id] is before


def break_digest(root: Path) -> None:
    content = bytearray((root / "device.onnx").read_bytes())
    content[50] ^= 1
    (root / "device.onnx").write_bytes(content)


def cut(root: Path) -> None:
    (root / "generator.onnx").write_bytes((root / "generator.onnx").read_bytes()[:-1])


def drop(root: Path) -> None:
    (root / "canary.json").unlink()


def break_signature(root: Path) -> None:
    (root / "manifest.json").write_bytes((root / "manifest.json").read_bytes() + b" ")


def other_key(root: Path) -> None:
    sign(root, Ed25519PrivateKey.generate())


def no_graph(root: Path) -> None:
    (root / "generator.onnx").write_bytes(b"no graph")
    describe(root, 5)


def link(root: Path) -> None:
    (root / "items.json").rename(root.parent / ".items")
    (root / "items.json").symlink_to(root.parent / ".items")


def empty_manifest(root: Path) -> None:
    (root / "manifest.json").write_bytes(b"{}")


HARMS = [break_digest, cut, drop, break_signature, other_key, no_graph, link, empty_manifest]


@pytest.mark.parametrize("harm", HARMS)
def test_bad_bundle_refused_with_its_reason_while_others_stay(
    look: Look, folder: Path, log: Lines, harm: Callable[[Path], None]
) -> None:
    good = make_version(folder / "good", 1)
    look()
    make_version(folder / ".aside", 2)
    harm(folder / ".aside")
    (folder / ".aside").replace(folder / "bad")
    for _ in range(3):
        assert set(look().versions.served) == {good}
    assert len(log.reasons("bundle refused")) == 1
    assert look().versions.latest(None) == good


def test_graph_that_does_not_compute_what_was_exported_refused(look: Look, folder: Path, log: Lines) -> None:
    make_version(folder / "lying", 1, lying=True)
    assert not look().versions.served
    assert "does not compute here" in str(log.reasons("bundle refused")[0])


def test_opinions_that_were_not_exported_refused(look: Look, folder: Path, log: Lines) -> None:
    make_version(folder / "misled", 1, parts="both", misled=True)
    assert not look().versions.served
    assert "the generator graph" in str(log.reasons("bundle refused")[0])
    kept = make_version(folder / "honest", 2, parts="both")
    assert set(look().versions.served) == {kept}


def test_refused_bundle_is_looked_at_again_when_it_is_mended(look: Look, folder: Path) -> None:
    model_id = make_version(folder / "a", 1)
    content = (folder / "a/items.json").read_bytes()
    (folder / "a/items.json").unlink()
    assert not look().versions.served
    (folder / "a/items.json").write_bytes(content)
    assert set(look().versions.served) == {model_id}


def test_version_in_service_stays_when_its_files_are_harmed(look: Look, folder: Path, log: Lines) -> None:
    model_id = make_version(folder / "a", 1)
    look()
    break_digest(folder / "a")
    assert look().versions.find(model_id, None).engine.thetas
    assert log.reasons("bundle refused")


def test_latest_names_a_version_and_going_back_is_writing_it_anew(look: Look, folder: Path) -> None:
    first, second = make_version(folder / "a", 1), make_version(folder / "b", 2)
    (folder / "latest").write_text(first + "\n")
    assert look().versions.latest("d") == first
    (folder / "latest").write_text(second)
    assert look().versions.latest("d") == second


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", '{"latest": 5}', '{"latest": "' + "0" * 64 + '"}', '{"canary": {"model_id": "x", "share": 2}}'],
)
def test_rollout_that_makes_no_sense_changes_nothing(look: Look, folder: Path, log: Lines, text: str) -> None:
    first = make_version(folder / "a", 1)
    make_version(folder / "b", 2)
    (folder / "rollout.json").write_text(json.dumps({"latest": first}))
    assert look().versions.latest("d") == first
    (folder / "rollout.json").write_text(text)
    for _ in range(3):
        assert look().versions.latest("d") == first
    assert len(log.reasons("rollout refused")) == 1


@pytest.mark.parametrize("text", ["nonsense", '{"latest": "' + "0" * 64 + '"}'])
def test_a_rollout_that_cannot_be_followed_from_the_start_names_no_version(look: Look, folder: Path, text: str) -> None:
    """The newest may be what was taken back; what is asked for by its id is there."""
    first, second = make_version(folder / "a", 1), make_version(folder / "b", 2)
    (folder / "rollout.json").write_text(text)
    for _ in range(2):
        versions = look().versions
        with pytest.raises(NotReadyError, match="the rollout cannot be followed"):
            versions.latest("d")
        assert versions.find(second, None)
    (folder / "rollout.json").write_text(json.dumps({"latest": first}))
    assert look().versions.latest("d") == first
    (folder / "rollout.json").write_text(text)
    assert look().versions.latest("d") == first


def test_a_registry_that_is_gone_leaves_what_is_in_service(look: Look, folder: Path, log: Lines) -> None:
    first = make_version(folder / "a", 1)
    served = look().versions.find(first, None)
    folder.rename(folder.with_name("away"))
    for _ in range(2):
        assert look().versions.latest(None) == first
    assert len(log.reasons("registry unreadable")) == 1
    folder.with_name("away").rename(folder)
    assert look().versions.find(first, None) is served
    shutil.rmtree(folder / "a")
    with pytest.raises(NotReadyError):
        look().versions.latest(None)


def test_canary_goes_to_its_share_of_devices_and_always_the_same(look: Look, folder: Path) -> None:
    first, second = make_version(folder / "a", 1), make_version(folder / "b", 2)
    (folder / "rollout.json").write_text(json.dumps({"latest": first, "canary": {"model_id": second, "share": 0.1}}))
    versions = look().versions
    chosen = {device for device in map(str, range(5000)) if versions.latest(device) == second}
    assert 400 < len(chosen) < 600
    assert versions.latest(None) == first
    (folder / "rollout.json").write_text(json.dumps({"latest": first, "canary": {"model_id": second, "share": 0.2}}))
    more = {device for device in map(str, range(5000)) if look().versions.latest(device) == second}
    assert chosen < more
    assert 0 <= position(first, "d") < 1 != position(second, "d")


def test_version_is_recommended_only_when_all_workers_have_it(folder: Path, tmp_path: Path, log: Lines) -> None:
    registry = Registry([folder], None, log, lambda seconds, rows: None, Peers(tmp_path))
    first = make_version(folder / "a", 1)
    registry.adopt(registry.refresh())
    with another_worker(tmp_path) as other:
        other.write("loaded", first)
        second = make_version(folder / "b", 2)
        registry.adopt(registry.refresh())
        assert registry.versions.latest(None) == first
        assert registry.versions.find(second, None)
        other.write("loaded", f"{first} {second}")
        registry.adopt(registry.refresh())
        assert registry.versions.latest(None) == second
        other.write("loaded", first)
    # A worker that was killed has no say.
    registry.adopt(registry.refresh())
    assert registry.versions.latest(None) == second


def test_bundle_folders_and_registries_together(folder: Path, version: Path, log: Lines) -> None:
    other = make_version(folder / "b", 2)
    registry = Registry([version, folder], None, log, lambda seconds, rows: None)
    registry.adopt(registry.refresh())
    assert len(registry.versions.served) == 2
    assert registry.versions.latest(None) == other
