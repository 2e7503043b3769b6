"""Verification of signatures: RFC 8032's own vectors, and agreement with a proper library."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from duetgen.wire.ed25519 import ORDER, P, verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()

# RFC 8032, section 7.1, tests 1 to 3: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2"
            "4655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
            "b00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
            "c027beceea1ec40a"
        ),
    ),
]


def library_accepts(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_vectors_of_the_standard(public: str, message: str, signature: str) -> None:
    key, text, signed = (bytes.fromhex(part) for part in (public, message, signature))
    assert verify(key, text, signed)
    assert not verify(key, text + b"\0", signed)


@settings(max_examples=25, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200))
def test_what_the_library_signs_is_valid(seed: bytes, message: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    assert verify(key.public_key().public_bytes_raw(), message, key.sign(message))


@settings(max_examples=40, deadline=None)
@given(bit=st.integers(0, 64 * 8 - 1))
def test_one_flipped_bit_of_the_signature_is_refused(bit: int) -> None:
    signature = bytearray(KEY.sign(b"manifest"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(PUBLIC, b"manifest", bytes(signature))
    assert not library_accepts(PUBLIC, b"manifest", bytes(signature))


@settings(max_examples=25, deadline=None)
@given(bit=st.integers(0, 32 * 8 - 1))
def test_one_flipped_bit_of_the_key_is_refused(bit: int) -> None:
    public = bytearray(PUBLIC)
    public[bit // 8] ^= 1 << bit % 8
    assert not verify(bytes(public), b"manifest", KEY.sign(b"manifest"))


def test_the_same_signature_with_a_scalar_beyond_the_order_is_refused() -> None:
    """S + ℓ passes the equation too; taking it would give every signature a second form."""
    signature = KEY.sign(b"manifest")
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert scalar < 2**256
    malleable = signature[:32] + scalar.to_bytes(32, "little")
    assert not verify(PUBLIC, b"manifest", malleable)
    assert not library_accepts(PUBLIC, b"manifest", malleable)


@pytest.mark.parametrize("y", [P, P + 1, 2**255 - 1])
def test_a_key_that_is_no_reduced_coordinate_is_refused(y: int) -> None:
    assert not verify(y.to_bytes(32, "little"), b"manifest", KEY.sign(b"manifest"))


def test_a_key_that_is_no_point_of_the_curve_is_refused() -> None:
    """y = 2 has no x: (4 - 1) / (4 d + 1) is no square."""
    assert not verify((2).to_bytes(32, "little"), b"manifest", KEY.sign(b"manifest"))


@pytest.mark.parametrize(("key", "signature"), [(b"", 64), (b"x" * 31, 64), (b"x" * 33, 64)])
def test_keys_of_wrong_length_are_refused(key: bytes, signature: int) -> None:
    assert not verify(key, b"manifest", b"s" * signature)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_signatures_of_wrong_length_are_refused(length: int) -> None:
    assert not verify(PUBLIC, b"manifest", (KEY.sign(b"manifest") + b"\0")[:length])
