"""Public keys whose signatures are trusted: given as hexadecimal, or in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from duetgen.cloud.errors import InvalidTrustError

KEY: Final = re.compile(r"[0-9a-f]{64}")
MAX_KEY_FILE_BYTES: Final = 65_536


def trusted_keys(given: Sequence[str]) -> frozenset[str] | None:
    """The keys of `--trust`; None where it was not given: any key then.

    Each is 64 hexadecimal digits, or a file with one such key a line; a public key in PEM is read too.

    Raises:
        InvalidTrustError: it is neither.
    """
    if not given:
        return None
    keys: set[str] = set()
    for text in given:
        if KEY.fullmatch(text.lower()):
            keys.add(text.lower())
        else:
            keys.update(keys_of_file(Path(text)))
    return frozenset(keys)


def keys_of_file(path: Path) -> set[str]:
    """The keys in a file.

    Raises:
        InvalidTrustError: there is none, or something else.
    """
    hint = "give 64 hexadecimal digits, or a file with one key a line, or a PEM file"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_FILE_BYTES)
    except OSError as cause:
        raise InvalidTrustError(f"{path} is neither a key nor a file that can be read", hint) from cause
    if b"-----BEGIN" in content:
        return {key_of_pem(path, content)}
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found or not all(KEY.fullmatch(line) for line in found):
        raise InvalidTrustError(f"{path} holds something that is no key", hint)
    return set(found)


def key_of_pem(path: Path, content: bytes) -> str:
    """The Ed25519 public key of a PEM file.

    Raises:
        InvalidTrustError: it holds another kind, or a private key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(content)
    except ValueError as cause:
        raise InvalidTrustError(f"{path} holds no public key", "give the public key, not the private one") from cause
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidTrustError(f"{path} is not an Ed25519 key", "bundles are signed with Ed25519")
    return key.public_bytes_raw().hex()
