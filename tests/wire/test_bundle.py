"""The bundle against everything that may happen to it: by accident, or on purpose."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.signing import KEY, public, sign

from duetgen.wire.bundle import DEVICE_FILES, FILES, BundleFile, Canary, CanaryOpinion, Opinion, identify, open_bundle
from duetgen.wire.errors import InvalidBundleError
from duetgen.wire.limits import MAX_BUNDLE_FILE_BYTES, MAX_MANIFEST_BYTES

OPINION = {"name": "ease", "items": 100, "bound": 1.5}
TRUST = {"ages": [0, 10], "weights": [1.0, 0.5], "opinions": []}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    """A bundle of its own, to be damaged."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def edit(folder: Path, change: Change) -> None:
    """Change the manifest and sign it anew: what only the holder of a key could do."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    sign(folder)


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Another file content, with a manifest that says so, signed."""
    (folder / name).write_bytes(content)

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest["model_id"] = identify({n: BundleFile(**file) for n, file in manifest["files"].items()})

    edit(folder, change)


def refused(folder: Path, words: str, **options: Any) -> None:
    with pytest.raises(InvalidBundleError, match=words):
        open_bundle(folder, **options)


def test_a_bundle_opens_and_tells_itself(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder, trusted=[public(KEY)], contents=True)
    manifest = bundle.manifest
    assert manifest.size == sum(int(np.prod(entry.shape)) for entry in manifest.layout) == bundle.codec().size
    assert bundle.bounds().shape == (manifest.size,)
    assert (bundle.bounds() > 0).all()
    assert len(bundle.items().ids) == manifest.vocabulary
    assert len(bundle.canary().theta) == manifest.size


def test_a_relative_path_outlives_a_change_of_folder(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle_folder.parent)
    bundle = open_bundle(Path(bundle_folder.name))
    monkeypatch.chdir("/")
    assert bundle.root == Path(bundle_folder.name)
    assert len(bundle.items().ids) == bundle.manifest.vocabulary


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path, "is not a bundle")
    refused(tmp_path / "nowhere", "is not a bundle")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    refused(folder, "changed or cut", contents=True)
    bundle = open_bundle(folder)
    with pytest.raises(InvalidBundleError, match="changed or cut"):
        bundle.read(name)


def test_a_flipped_byte_of_the_manifest(folder: Path) -> None:
    content = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(content.replace(b'"window": 6', b'"window": 7'))
    refused(folder, "not over this manifest")


@pytest.mark.parametrize("name", ["manifest.json", "signature.json"])
def test_a_missing_manifest_or_signature(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, f"cannot read {name}")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, f"{name} is missing")


def test_a_device_needs_no_generator(folder: Path) -> None:
    (folder / "generator.onnx").unlink()
    bundle = open_bundle(folder, files=DEVICE_FILES, contents=True)
    with pytest.raises(InvalidBundleError, match="cannot read"):
        bundle.read("generator.onnx")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_cut_or_longer_by_a_byte(folder: Path, name: str, change: int) -> None:
    content = (folder / name).read_bytes() + b" "
    (folder / name).write_bytes(content[: len(content) - 1 + change])
    refused(folder, "not of the size")


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "device.onnx/../x", "extra.onnx", ""])
def test_a_manifest_that_names_other_files(folder: Path, name: str) -> None:
    edit(folder, lambda manifest: manifest["files"].update({name: manifest["files"]["device.onnx"]}))
    refused(folder, "does not name exactly the files")


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "manifest.json", "..", ""])
def test_reading_climbs_nowhere(bundle_folder: Path, name: str) -> None:
    with pytest.raises(InvalidBundleError, match="has no file"):
        open_bundle(bundle_folder).read(name)


def test_a_manifest_that_leaves_a_file_out(folder: Path) -> None:
    edit(folder, lambda manifest: manifest["files"].pop("canary.json"))
    refused(folder, "does not name exactly the files")


def test_a_link_in_place_of_a_file(folder: Path, tmp_path: Path) -> None:
    (folder / "device.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "device.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    refused(folder, "a link")


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "device.onnx").unlink()
    (folder / "device.onnx").mkdir()
    refused(folder, "no file of a bundle")


def test_a_model_id_of_other_files(folder: Path) -> None:
    edit(folder, lambda manifest: manifest.update(model_id="0" * 64))
    refused(folder, "not that of its files")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(window=0),
        lambda m: m.update(window=10**6),
        lambda m: m.update(history=10**6),
        lambda m: m.update(vocabulary=2**31),
        lambda m: m.update(window="6"),
        lambda m: m.update(window=6.5),
        lambda m: m.update(layout=[]),
        lambda m: m["layout"][0].update(bound=0),
        lambda m: m["layout"][0].update(bound=-1),
        lambda m: m["layout"][0].update(shape=[]),
        lambda m: m["layout"][0].update(shape=[0, 4]),
        lambda m: m["layout"][0].update(shape=[-1]),
        lambda m: m.update(layout=m["layout"] * 2000),
        lambda m: m.update(embeddings="int4"),
        lambda m: m.update(name="x" * 1000),
        lambda m: m.update(unknown_field=1),
        lambda m: m.pop("layout"),
        lambda m: m.update(parts="nothing"),
        lambda m: m.update(opinions=[OPINION] * 5),
        lambda m: m.update(opinions=[OPINION | {"items": 0}]),
        lambda m: m.update(opinions=[OPINION | {"items": 1001}]),
        lambda m: m.update(opinions=[OPINION | {"bound": 0}]),
        lambda m: m.update(trust=TRUST | {"ages": []}),
        lambda m: m.update(trust=TRUST | {"ages": [1, 10]}),
        lambda m: m.update(trust=TRUST | {"ages": [0, 0]}),
        lambda m: m.update(trust=TRUST | {"ages": [0, 10, 20]}),
        lambda m: m.update(trust=TRUST | {"weights": [0.5, 1.0]}),
        lambda m: m.update(trust=TRUST | {"weights": [101, 1.0]}),
        lambda m: m.update(trust=TRUST | {"weights": [1.0, -0.1]}),
        lambda m: m.update(trust=TRUST | {"opinions": [[1.0]]}),
        lambda m: m["files"]["device.onnx"].update(bytes=MAX_BUNDLE_FILE_BYTES + 1),
        lambda m: m["files"]["device.onnx"].update(bytes=-1),
        lambda m: m["files"]["device.onnx"].update(sha256="ABC"),
    ],
)
def test_a_manifest_with_a_wrong_or_oversized_field(folder: Path, change: Change) -> None:
    edit(folder, change)
    refused(folder, "is no manifest")


def test_a_bundle_with_opinions_tells_them(folder: Path) -> None:
    trust = TRUST | {"opinions": [[2.0, 0.0]]}
    edit(folder, lambda manifest: manifest.update(parts="both", opinions=[OPINION], trust=trust))
    bundle = open_bundle(folder)
    assert bundle.manifest.opinions == [Opinion("ease", 100, 1.5)]
    assert bundle.bias_codec().most == [100]
    assert (bundle.manifest.trust.weights_at(5), bundle.manifest.trust.opinions_at(5)) == (0.75, [1.0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parts": "both"}, "0 opinions, but its answers hold both"),
        ({"parts": "bias"}, "0 opinions, but its answers hold bias"),
        ({"opinions": [OPINION], "trust": TRUST | {"opinions": [[1, 0]]}}, "1 opinions, but its answers hold weights"),
        ({"parts": "bias", "opinions": [OPINION]}, "1 opinions, and trust for 0"),
        ({"trust": TRUST | {"opinions": [[1, 0]]}}, "0 opinions, and trust for 1"),
    ],
)
def test_parts_opinions_and_trust_that_do_not_fit(folder: Path, change: dict[str, Any], words: str) -> None:
    edit(folder, lambda manifest: manifest.update(change))
    refused(folder, words)


@pytest.mark.parametrize("shape", [[2**24, 2], [2**16] * 4, [2**24] * 8])
def test_an_oversized_theta(folder: Path, shape: list[int]) -> None:
    """Some of these shapes overflow 64 bits to a small number."""
    edit(folder, lambda manifest: manifest["layout"][0].update(shape=shape))
    refused(folder, "has a theta of")


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, [1], 1e300])
def test_another_version_of_the_format(folder: Path, version: Any) -> None:
    edit(folder, lambda manifest: manifest.update(format_version=version))
    refused(folder, "bundle format")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"format_version": 2}',
        b'{"a": ' + b"[" * 100_000,
        b'"x' + b"\0" * 50,
    ],
    ids=["empty", "cut", "list", "null", "not-utf-8", "bare", "deep", "nul"],
)
def test_a_malformed_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    sign(folder)
    refused(folder, "no manifest|bundle format")


def test_an_endless_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b" " * (MAX_MANIFEST_BYTES + 10))
    sign(folder)
    # What was signed is longer than what is read at most.
    refused(folder, "not over this manifest|at most")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"public_key": "00", "signature": "00"}',
        b'{"public_key": "' + b"G" * 64 + b'", "signature": "' + b"0" * 128 + b'"}',
        b" " * 10_000 + b"{}",
    ],
)
def test_a_malformed_signature(folder: Path, content: bytes) -> None:
    (folder / "signature.json").write_bytes(content)
    refused(folder, "malformed signature")


def test_a_key_that_is_not_trusted(folder: Path) -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    sign(folder, stranger)
    assert open_bundle(folder).signature.public_key == public(stranger)
    refused(folder, "not trusted here", trusted=[public(KEY)])
    refused(folder, "not trusted here", trusted=[])


def test_a_trusted_name_over_a_strangers_signature(folder: Path) -> None:
    sign(folder, Ed25519PrivateKey.from_private_bytes(b"s" * 32))
    signature = json.loads((folder / "signature.json").read_bytes())
    signature["public_key"] = public(KEY)
    (folder / "signature.json").write_text(json.dumps(signature))
    refused(folder, "not over this manifest", trusted=[public(KEY)])


def test_the_signature_of_another_bundle(folder: Path) -> None:
    signature = (folder / "signature.json").read_bytes()
    edit(folder, lambda manifest: manifest.update(name="another"))
    (folder / "signature.json").write_bytes(signature)
    refused(folder, "not over this manifest", trusted=[public(KEY)])


@pytest.mark.parametrize("content", [b"", b"{}", b'{"ids": [], "titles": []}', b'{"ids": [1], "titles": []}', b"\xff"])
def test_items_that_do_not_fit(folder: Path, content: bytes) -> None:
    replace_file(folder, "items.json", content)
    with pytest.raises(InvalidBundleError, match=r"items\.json"):
        open_bundle(folder).items()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(history=[]),
        lambda c: c.update(history=[1] * 21),
        lambda c: c.update(history=[-1]),
        lambda c: c.update(candidates=[10**9] * len(c["scores"])),
        lambda c: c.update(theta=c["theta"][:-1]),
        lambda c: c.update(scores=[]),
        lambda c: c.update(candidates=[], scores=[], fallback_scores=[]),
        lambda c: c.update(scores="many"),
    ],
)
def test_a_canary_that_does_not_fit(folder: Path, change: Change) -> None:
    canary = json.loads((folder / "canary.json").read_bytes())
    change(canary)
    replace_file(folder, "canary.json", json.dumps(canary).encode())
    with pytest.raises(InvalidBundleError, match=r"canary\.json"):
        open_bundle(folder).canary()


@pytest.mark.parametrize(
    ("opinion", "fits"),
    [
        ({"items": [], "values": []}, True),
        ({"items": [2, 5], "values": [0.5, 1e-9]}, True),
        ({"items": [5, 2], "values": [0.5, 1]}, False),
        ({"items": [2, 2], "values": [0.5, 1]}, False),
        ({"items": [1, 2], "values": [0.5, 1]}, False),
        ({"items": [2, 10**6], "values": [0.5, 1]}, False),
        ({"items": [2, 3, 4], "values": [1, 1, 1]}, False),
        ({"items": [2], "values": [0.5, 1]}, False),
        ({"items": [2, 5], "values": [0.5, 0]}, False),
    ],
)
def test_opinions_of_the_canary(folder: Path, opinion: dict[str, Any], fits: bool) -> None:
    canary = json.loads((folder / "canary.json").read_bytes()) | {"opinions": [opinion]}
    replace_file(folder, "canary.json", json.dumps(canary).encode())
    with pytest.raises(InvalidBundleError, match=r"canary\.json"):
        open_bundle(folder).canary()
    trust = TRUST | {"opinions": [[1, 1]]}
    edit(folder, lambda m: m.update(parts="both", opinions=[OPINION | {"items": 2}], trust=trust))
    if fits:
        assert open_bundle(folder).canary().opinions == [CanaryOpinion(**opinion)]
    else:
        with pytest.raises(InvalidBundleError, match=r"canary\.json"):
            open_bundle(folder).canary()


def test_the_model_id_by_hand() -> None:
    files = {"b": BundleFile("1" * 64, 20), "a": BundleFile("0" * 64, 3)}
    content = f"a 3 {'0' * 64}\nb 20 {'1' * 64}\n"
    assert identify(files) == hashlib.sha256(content.encode()).hexdigest()


def test_the_canary_is_what_its_file_says(bundle_folder: Path) -> None:
    content = json.loads((bundle_folder / "canary.json").read_bytes())
    assert Canary(**content) == open_bundle(bundle_folder).canary()
