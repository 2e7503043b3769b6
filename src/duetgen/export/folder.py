"""Writing a bundle's folder: signed, aside, verified, then under its name."""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duetgen.export.keys import public_hex
from duetgen.files import new_folder
from duetgen.wire.bundle import MANIFEST, SIGNATURE, Bundle, Manifest, Signature, open_bundle


def write_bundle(
    out: Path, manifest: Manifest, contents: dict[str, bytes], key: Ed25519PrivateKey, overwrite: bool
) -> Bundle:
    """Write a bundle whole, or nothing.

    Raises:
        OutputExistsError: something is at `out`.
        OutputUnwritableError: it cannot be written.
    """
    with new_folder(out, marker=MANIFEST, overwrite=overwrite) as folder:
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
