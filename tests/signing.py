"""Manifests of bundles and their signatures, for bundles of every kind that tests make; needs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duetgen.wire.bundle import FORMAT_VERSION, BundleFile, Manifest, Signature, identify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
"""Signs every bundle of the tests."""


def public(key: Ed25519PrivateKey) -> str:
    """The public half, as `open_bundle(trusted=…)` takes it."""
    return key.public_key().public_bytes_raw().hex()


def sign(folder: Path, key: Ed25519PrivateKey = KEY) -> None:
    """Sign what `manifest.json` holds now."""
    content = (folder / "manifest.json").read_bytes()
    (folder / "signature.json").write_bytes(msgspec.json.encode(Signature(public(key), key.sign(content).hex())))


def describe(folder: Path, **fields: Any) -> str:
    """Write the manifest of the files that are there now, with some fields of its own, and sign it: the model_id."""
    files = {}
    for name in ("device.onnx", "generator.onnx", "items.json", "canary.json"):
        content = (folder / name).read_bytes()
        files[name] = BundleFile(hashlib.sha256(content).hexdigest(), len(content))
    model_id = identify(files)
    common = {"format_version": FORMAT_VERSION, "model_id": model_id, "name": "tiny", "backbone": "sasrec", "opset": 20}
    common |= {"embeddings": "float32", "metrics": {}, "provenance": {}, "files": files}
    (folder / "manifest.json").write_bytes(msgspec.json.encode(Manifest(**(common | fields))))
    sign(folder)
    return model_id
