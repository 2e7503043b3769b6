"""What all bundles have in common: what the manifest says of files and origin, and the folder, signed and verified."""

from __future__ import annotations

import datetime
import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duetgen.export.errors import NotExportableError
from duetgen.export.keys import public_hex
from duetgen.files import new_folder
from duetgen.wire.bundle import FILES, MANIFEST, SIGNATURE, Bundle, BundleFile, Manifest, Signature, open_bundle
from duetgen.wire.limits import MAX_BUNDLE_FILE_BYTES


def entries_of(contents: Mapping[str, bytes], hint: str) -> dict[str, BundleFile]:
    """What the manifest says of each file.

    Args:
        contents: by name.
        hint: what to do where one is too large.

    Raises:
        NotExportableError: nobody would read a file so large.
    """
    for name, content in contents.items():
        if len(content) > MAX_BUNDLE_FILE_BYTES:
            raise NotExportableError(f"{name} has {len(content)} bytes, at most {MAX_BUNDLE_FILE_BYTES} are read", hint)
    return {name: BundleFile(hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()}


def now() -> str:
    """When a bundle is made, as the manifest says it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of what makes a bundle."""
    packages = ("duetgen", "torch", "onnx", "onnxscript", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def write_bundle(
    out: Path, manifest: Manifest, contents: dict[str, bytes], key: Ed25519PrivateKey, overwrite: bool
) -> Bundle:
    """Write a bundle whole, or nothing.

    Raises:
        OutputExistsError: something is at `out`.
        OutputUnwritableError: it cannot be written.
    """
    with new_folder(out, marker=MANIFEST, own=(*FILES, SIGNATURE), overwrite=overwrite) as folder:
        fill(folder, manifest, contents, key)
    return open_bundle(out)


def fill(folder: Path, manifest: Manifest, contents: dict[str, bytes], key: Ed25519PrivateKey) -> None:
    """Write and verify a bundle's files.

    Raises:
        InvalidBundleError: what was written is no bundle.
    """
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    signature = Signature(public_key=public_hex(key), signature=key.sign(content).hex())
    signed = msgspec.json.encode(signature) + b"\n"
    for name, file in {**contents, MANIFEST: content, SIGNATURE: signed}.items():
        (folder / name).write_bytes(file)
    open_bundle(folder, trusted=[public_hex(key)], contents=True)
