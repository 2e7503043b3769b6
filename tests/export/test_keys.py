"""Keys: who may read them, what is refused, and where the development key lies."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duetgen.errors import OutputExistsError, OutputUnwritableError
from duetgen.export.errors import InvalidKeyError
from duetgen.export.keys import default_path, key_to_sign_with, load_key, new_key, public_hex, readable_by_others
from duetgen.wire import ed25519


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("DUETGEN_KEY", raising=False)
    return tmp_path / "home"


def pem(key: Ed25519PrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def test_a_new_key_is_its_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        key = new_key(tmp_path / "deep" / "key.pem")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "deep" / "key.pem").stat().st_mode) == 0o600
    assert not readable_by_others(tmp_path / "deep" / "key.pem")
    assert (tmp_path / "deep" / "key.pem").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert public_hex(load_key(tmp_path / "deep" / "key.pem")) == public_hex(key)


def test_two_keys_differ(tmp_path: Path) -> None:
    assert public_hex(new_key(tmp_path / "a.pem")) != public_hex(new_key(tmp_path / "b.pem"))


def test_its_signatures_are_what_a_device_verifies(tmp_path: Path) -> None:
    key = new_key(tmp_path / "key.pem")
    assert ed25519.verify(bytes.fromhex(public_hex(key)), b"manifest", key.sign(b"manifest"))


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(OutputExistsError):
        new_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "key.pem").symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(OutputExistsError):
        new_key(tmp_path / "key.pem")
    assert not (tmp_path / "elsewhere.pem").exists()


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritableError):
        new_key(tmp_path / "file" / "key.pem")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no private key"),
        (b"\xff" * 100, "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
        (pem(Ed25519PrivateKey.generate(), b"secret"), "no private key"),
        (pem(rsa.generate_private_key(65537, 2048)), "another kind"),
    ],
    ids=["empty", "binary", "damaged", "locked", "rsa"],
)
def test_what_is_no_signing_key_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(InvalidKeyError, match=words):
        load_key(tmp_path / "key.pem")


def test_a_missing_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyError, match="No such file"):
        load_key(tmp_path / "key.pem")
    with pytest.raises(InvalidKeyError, match="Is a directory"):
        load_key(tmp_path)


def test_the_development_key_is_made_once(home: Path) -> None:
    first, place, made = key_to_sign_with()
    again, same, made_again = key_to_sign_with()
    assert (place, made) == (home / ".config/duetgen/development-key.pem", True)
    assert (same, made_again) == (place, False)
    assert public_hex(first) == public_hex(again)


def test_it_lies_where_the_desktop_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert default_path() == tmp_path / "config/duetgen/development-key.pem"


def test_the_variable_names_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUETGEN_KEY", str(tmp_path / "release.pem"))
    with pytest.raises(InvalidKeyError):
        key_to_sign_with()
    key = new_key(tmp_path / "release.pem")
    assert public_hex(key_to_sign_with()[0]) == public_hex(key)


def test_a_key_that_was_named_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyError):
        key_to_sign_with(tmp_path / "key.pem")
    assert not (tmp_path / "key.pem").exists()


def test_a_key_that_others_may_read_is_told(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o640)
    assert readable_by_others(tmp_path / "key.pem")


def test_a_development_key_that_cannot_be_made_is_said_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputUnwritableError, match="no key was named") as refusal:
        key_to_sign_with()
    assert "--key FILE" in refusal.value.hint


def test_a_development_key_that_several_make_at_once_is_one(home: Path) -> None:
    for _ in range(20):
        gate = Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: (gate.wait(), key_to_sign_with())[1], range(8)))  # noqa: B023
        assert len({public_hex(key) for key, _, _ in found}) == 1
        assert sum(made for _, _, made in found) == 1
        default_path().unlink()
