"""Signing keys: Ed25519, one PKCS #8 PEM file that its owner alone can read.

Who publishes for others makes a key once (`duet keys new`) and lets devices trust its public half. Without one, exports
are signed with a development key, made on first use; `DUETGEN_KEY` names another file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duetgen.errors import OutputExistsError, OutputUnwritableError
from duetgen.export.errors import InvalidKeyError
from duetgen.files import check_outside, unwritable, write_bytes

VARIABLE: Final = "DUETGEN_KEY"
MAX_KEY_BYTES: Final = 16 * 2**10


def default_path() -> Path:
    """Where the key is that signs when none is named: `$DUETGEN_KEY`, or the development key's place."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "duetgen" / "development-key.pem"


def new_key(path: Path) -> Ed25519PrivateKey:
    """Make a key and write it, mode 0600.

    Raises:
        OutputExistsError: something is at `path`; a key is never overwritten.
        OutputUnwritableError: the file cannot be written.
    """
    check_outside(path)
    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as cause:
        raise unwritable(path, cause) from cause
    write_bytes(path, content, 0o600, replace=False)
    return key


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read a key.

    Raises:
        InvalidKeyError: missing, unreadable, encrypted, or not an Ed25519 key.
    """
    hint = "make one with `duet keys new --out FILE`"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES)
    except OSError as cause:
        raise InvalidKeyError(f"cannot read the key {path}: {cause.strerror}", hint) from cause
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as cause:
        raise InvalidKeyError(f"{path} is no private key in PEM without a password", hint) from cause
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidKeyError(f"{path} is a key of another kind; bundles are signed with Ed25519", hint)
    return key


def key_to_sign_with(path: Path | None = None) -> tuple[Ed25519PrivateKey, Path, bool]:
    """The key at `path`, or the one by default, which is made if it is not there: (key, its file, made now).

    Raises:
        InvalidKeyError: unreadable; a key that was named must be there.
        OutputUnwritableError: the one by default cannot be made.
    """
    chosen = path or default_path()
    if path is not None or os.environ.get(VARIABLE) or chosen.exists():
        return load_key(chosen), chosen, False
    try:
        return new_key(chosen), chosen, True
    except OutputExistsError:  # Another process has made it meanwhile.
        return load_key(chosen), chosen, False
    except OutputUnwritableError as cause:
        raise OutputUnwritableError(
            f"no key was named, and a development key cannot be made: {cause.message}",
            f"give --key FILE, or name one by {VARIABLE}; `duet keys new --out FILE` makes one",
        ) from cause


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public half as a bundle names it: 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def readable_by_others(path: Path) -> bool:
    """Whether somebody but the owner may read the file."""
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)
