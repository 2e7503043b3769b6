"""Keys and codes: an answer is the cloud's own, for this device, and as it left.

A device's token never travels back. Both sides derive from it the key of the answers' codes; a code of 32 bytes takes
microseconds, where a signature for each answer would cost more than generating theta.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import msgspec

from duetgen.wire.messages import ParametersAnswer

DOMAIN: Final = "duetgen/parameters/2"


def answer_key(token: str) -> bytes:
    """The key of the answers to the bearer of a token: 32 bytes. An empty token is the open development mode."""
    return hmac.digest(token.encode(), b"duetgen/answer-key/1", "sha256")


def token_digest(token: str) -> str:
    """What is stored of a token: SHA-256, in hexadecimal. Tokens are random, so no salt or slow hash is needed."""
    return hashlib.sha256(b"duetgen/token/1" + token.encode()).hexdigest()


def answer_mac(key: bytes, device: str, answer: ParametersAnswer) -> bytes:
    """HMAC-SHA256 over the msgpack array of domain, device and all fields of the answer but the code itself."""
    content = (
        DOMAIN,
        device,
        answer.model_id,
        answer.sequence,
        answer.issued,
        answer.expires,
        answer.dtype,
        answer.scale,
        answer.theta,
        answer.bias,
    )
    return hmac.digest(key, msgspec.msgpack.encode(content), "sha256")


def verify(key: bytes, device: str, answer: ParametersAnswer) -> bool:
    """Whether the answer's code is right, in constant time."""
    return hmac.compare_digest(answer_mac(key, device, answer), answer.mac)
